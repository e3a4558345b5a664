//! The envelope of a record: what it is, and that it is whole. Pure.
//!
//! ```text
//! 0   format, 1
//! 1   kind: 1 chunk of a base, 2 journal
//! 2   packing of the body: 0 none, 1 lz4 block
//! 3   zero
//! 4   u64 generation of the base; 0 for a journal
//! 12  u64 number of the chunk or journal
//! 20  u32 length of the body unpacked
//! 24  u32 CRC-32C of bytes 0..24 and the body
//! 28  body
//! ```
//! Numbers are little-endian.

use bytes::Bytes;

const FORMAT: u8 = 1;
const HEADER_BYTES: usize = 28;
const CRC_AT: usize = 24;
/// A body below this is not worth packing.
const PACK_BYTES_MIN: usize = 256;
/// No body is larger unpacked: a journal has at most what a request to the standby holds.
const BODY_BYTES_MAX: usize = 64 << 20;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A piece of the base of this generation.
    Chunk { generation: u64, number: u64 },
    /// What a batch changed.
    Journal { number: u64 },
}

/// Why bytes are not the record that they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Shorter than a header, or the checksum differs.
    #[error("it is damaged")]
    Damaged,
    /// Of another version of this program.
    #[error("it has format {0}, this version reads format {FORMAT} only")]
    Format(u8),
    /// A whole record in the wrong place.
    #[error("it is another record")]
    Misplaced,
    /// The checksum holds, and yet the body means nothing.
    #[error("its content is malformed ({0})")]
    Malformed(&'static str),
}

/// The record of a body.
pub(super) fn seal(kind: Kind, body: &[u8]) -> Bytes {
    let packed = (body.len() >= PACK_BYTES_MIN).then(|| lz4_flex::block::compress(body));
    let packed = packed.filter(|packed| packed.len() < body.len());
    let (packing, content) = match &packed {
        Some(packed) => (1, packed.as_slice()),
        None => (0, body),
    };
    let (kind, generation, number) = numbers(kind);
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let mut record = Vec::with_capacity(HEADER_BYTES + content.len());
    record.extend([FORMAT, kind, packing, 0]);
    record.extend(generation.to_le_bytes());
    record.extend(number.to_le_bytes());
    record.extend(length.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&record), content);
    record.extend(crc.to_le_bytes());
    record.extend(content);
    record.into()
}

/// The body of a record, which must be `kind`.
pub(super) fn open(kind: Kind, record: &[u8]) -> Result<Vec<u8>, Error> {
    let (header, content) = record
        .split_at_checked(HEADER_BYTES)
        .ok_or(Error::Damaged)?;
    let (described, crc) = header.split_at_checked(CRC_AT).ok_or(Error::Damaged)?;
    if crc32c::crc32c_append(crc32c::crc32c(described), content).to_le_bytes() != crc {
        return Err(Error::Damaged);
    }
    let (Some(format), Some(packing)) = (described.first(), described.get(2)) else {
        return Err(Error::Damaged);
    };
    if *format != FORMAT {
        return Err(Error::Format(*format));
    }
    let (number, generation, index) = numbers(kind);
    let mut expected = vec![FORMAT, number, *packing, 0];
    expected.extend(generation.to_le_bytes());
    expected.extend(index.to_le_bytes());
    if described.get(..20) != Some(expected.as_slice()) {
        return Err(Error::Misplaced);
    }
    let length = described.get(20..).and_then(|bytes| bytes.try_into().ok());
    let length = length.map_or(usize::MAX, |bytes| {
        usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(usize::MAX)
    });
    if length > BODY_BYTES_MAX {
        return Err(Error::Malformed("too long"));
    }
    match packing {
        0 if content.len() == length => Ok(content.to_vec()),
        1 => {
            let mut body = vec![0; length];
            match lz4_flex::block::decompress_into(content, &mut body) {
                Ok(written) if written == length => Ok(body),
                Ok(_) | Err(_) => Err(Error::Malformed("packed wrongly")),
            }
        }
        _ => Err(Error::Malformed("unknown packing")),
    }
}

fn numbers(kind: Kind) -> (u8, u64, u64) {
    match kind {
        Kind::Chunk { generation, number } => (1, generation, number),
        Kind::Journal { number } => (2, 0, number),
    }
}
