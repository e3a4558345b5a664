//! The keys of bucket `key`: revisions.

use super::Flaw;
use crate::ids::Revision;

/// Which change of the keyspace a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::snapshot) struct RecordKey {
    /// The revision that made it.
    pub(in crate::snapshot) main: Revision,
    /// Its place among the changes of that revision, from 0.
    pub(in crate::snapshot) sub: u32,
    /// It deleted a key.
    pub(in crate::snapshot) is_tombstone: bool,
}

impl RecordKey {
    /// Reads the 17 bytes of a put or the 18 of a tombstone.
    ///
    /// # Errors
    /// If it is neither.
    ///
    /// # Source
    /// etcd `server/storage/mvcc/revision.go`, `BytesToBucketKey`.
    pub(in crate::snapshot) fn parse(key: &[u8]) -> Result<Self, Flaw> {
        let (revision, mark) = key.split_at_checked(REVISION_BYTES).unwrap_or((key, &[]));
        let is_tombstone = match mark {
            [] => false,
            [b't'] => true,
            [_] => return Err(Flaw::Unknown("its revision ends with an unknown mark")),
            [_, _, ..] => return Err(length(key)),
        };
        let (main, sub) = parse(revision).ok_or_else(|| length(key))??;
        // A revision changes less keys than there are, or than a request has operations.
        let sub = u32::try_from(sub).map_err(|_| Flaw::Range("its sub revision"))?;
        Ok(Self {
            main,
            sub,
            is_tombstone,
        })
    }

    /// Reads the revision that stands in a value of bucket `meta`.
    ///
    /// # Errors
    /// If it is none.
    pub(in crate::snapshot) fn parse_main(value: &[u8]) -> Result<Revision, Flaw> {
        let (main, _) = parse(value).ok_or_else(|| length(value))??;
        Ok(main)
    }
}

fn length(revision: &[u8]) -> Flaw {
    Flaw::Length {
        what: "its revision",
        bytes: revision.len(),
    }
}

/// Main and sub revision; None unless there are 17 bytes.
fn parse(bytes: &[u8]) -> Option<Result<(Revision, i64), Flaw>> {
    let (main, rest) = bytes.split_first_chunk()?;
    let (&separator, sub) = rest.split_first()?;
    let sub = sub.try_into().ok()?;
    let (main, sub) = (i64::from_be_bytes(*main), i64::from_be_bytes(sub));
    if separator != b'_' {
        return Some(Err(Flaw::Unknown("its revision has no underscore")));
    }
    if main < 0 || sub < 0 {
        return Some(Err(Flaw::Range("its revision")));
    }
    Some(Ok((Revision(main), sub)))
}

const REVISION_BYTES: usize = 17;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(main: i64, sub: i64, mark: &[u8]) -> Vec<u8> {
        [&main.to_be_bytes()[..], b"_", &sub.to_be_bytes(), mark].concat()
    }

    #[test]
    fn revisions_are_read() {
        let record = |main, sub, is_tombstone| RecordKey {
            main: Revision(main),
            sub,
            is_tombstone,
        };
        assert_eq!(
            RecordKey::parse(&key(3, 0, b"")).unwrap(),
            record(3, 0, false)
        );
        assert_eq!(
            RecordKey::parse(&key(430, 7, b"t")).unwrap(),
            record(430, 7, true)
        );
        let stored = b"\0\0\0\0\0\0\x01\xae_\0\0\0\0\0\0\0\0t";
        assert_eq!(RecordKey::parse(stored).unwrap(), record(430, 0, true));
        let most = key(i64::MAX, u32::MAX.into(), b"");
        assert_eq!(
            RecordKey::parse(&most).unwrap(),
            record(i64::MAX, u32::MAX, false)
        );
        assert_eq!(RecordKey::parse_main(&key(9, 0, b"")).unwrap(), Revision(9));
    }

    #[test]
    fn what_is_none_is_refused() {
        for (bytes, problem) in [
            (b"".to_vec(), "0 bytes"),
            (key(3, 0, b"")[..16].to_vec(), "16 bytes"),
            (key(3, 0, b"tt"), "19 bytes"),
            (key(3, 0, b"u"), "unknown mark"),
            (key(-1, 0, b""), "out of range"),
            (key(3, -1, b"t"), "out of range"),
            (key(3, 1 << 32, b""), "sub revision is out of range"),
            ([&[0; 8][..], b"-", &[0; 8]].concat(), "no underscore"),
        ] {
            let error = RecordKey::parse(&bytes).unwrap_err().to_string();
            assert!(error.contains(problem), "{bytes:?}: {error}");
        }
        assert!(RecordKey::parse_main(&key(3, 0, b"t")).is_err());
    }
}
