//! Keys with their metadata, column by column, each key without what it shares with the last. Pure.

use bytes::Bytes;

use super::record::Error;
use crate::ids::{LeaseId, Revision};
use crate::pb::ledgerpb;
use crate::resolve::{Digest, KeyMeta};

/// Bytes of all keys of one record when written out: a bound for records of any origin.
const KEYS_BYTES_MAX: usize = 256 << 20;
const DIGEST_BYTES: usize = 16;

/// The columns of `rows`.
pub(super) fn encode<'a>(rows: impl Iterator<Item = (&'a [u8], &'a KeyMeta)>) -> ledgerpb::Keys {
    let mut keys = ledgerpb::Keys::default();
    let mut rests = Vec::new();
    let mut digests = Vec::new();
    let mut last: &[u8] = &[];
    let mut last_modified = 0_i64;
    for (key, meta) in rows {
        let shared = key.iter().zip(last).take_while(|(a, b)| a == b).count();
        let rest = key.get(shared..).unwrap_or_default();
        keys.shared.push(u32::try_from(shared).unwrap_or(u32::MAX));
        keys.rest
            .push(u32::try_from(rest.len()).unwrap_or(u32::MAX));
        rests.extend_from_slice(rest);
        let (created, modified) = (meta.created.0, meta.modified.0);
        keys.modified.push(modified.wrapping_sub(last_modified));
        keys.created.push(modified.wrapping_sub(created));
        keys.version.push(meta.version);
        keys.lease.push(meta.lease.0);
        digests.extend(meta.digest.to_bytes());
        last = key;
        last_modified = modified;
    }
    if keys.lease.iter().all(|lease| *lease == 0) {
        keys.lease.clear();
    }
    keys.rests = rests.into();
    keys.digests = digests.into();
    keys
}

/// The rows of the columns.
pub(super) fn decode(keys: &ledgerpb::Keys) -> Result<Vec<(Bytes, KeyMeta)>, Error> {
    let count = keys.shared.len();
    let columns = [
        keys.rest.len(),
        keys.modified.len(),
        keys.created.len(),
        keys.version.len(),
    ];
    let has_leases = !keys.lease.is_empty();
    if columns.iter().any(|column| *column != count)
        || (has_leases && keys.lease.len() != count)
        || keys.digests.len() != count * DIGEST_BYTES
    {
        return Err(Error::Malformed("columns differ in length"));
    }
    let mut rows = Vec::with_capacity(count);
    let mut rests = keys.rests.clone();
    let mut last = Bytes::new();
    let (mut last_modified, mut total) = (0_i64, 0_usize);
    let lengths = keys.shared.iter().zip(&keys.rest);
    let numbers = keys.modified.iter().zip(&keys.created).zip(&keys.version);
    let digests = keys.digests.chunks_exact(DIGEST_BYTES);
    let rows_of_columns = lengths.zip(numbers).zip(digests).enumerate();
    for (row, (((shared, rest), ((modified, created), version)), digest)) in rows_of_columns {
        let shared = usize::try_from(*shared).unwrap_or(usize::MAX);
        let rest = usize::try_from(*rest).unwrap_or(usize::MAX);
        if shared > last.len() || rest > rests.len() {
            return Err(Error::Malformed("a key runs over its end"));
        }
        total += shared + rest;
        if total > KEYS_BYTES_MAX {
            return Err(Error::Malformed("too many keys"));
        }
        let rest = rests.split_to(rest);
        let key: Bytes = if shared == 0 {
            rest
        } else {
            [last.get(..shared).unwrap_or_default(), &rest]
                .concat()
                .into()
        };
        if row > 0 && key <= last {
            return Err(Error::Malformed("keys are out of order"));
        }
        last_modified = last_modified.wrapping_add(*modified);
        let meta = KeyMeta {
            created: Revision(last_modified.wrapping_sub(*created)),
            modified: Revision(last_modified),
            version: *version,
            lease: LeaseId(keys.lease.get(row).copied().unwrap_or_default()),
            digest: Digest::from_bytes(digest.try_into().unwrap_or_default()),
        };
        last = key.clone();
        rows.push((key, meta));
    }
    if !rests.is_empty() {
        return Err(Error::Malformed("bytes of keys are left over"));
    }
    Ok(rows)
}
