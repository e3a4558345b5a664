//! The part of the standby's keyspace that is ours. Pure.
//!
//! It is never replicated from a primary that has such keys itself, never deleted by a replayed
//! range delete, and no part of a comparison.

use bytes::Bytes;

use crate::range::KeyRange;

/// Everything that we keep in a standby begins with this.
pub const PREFIX: &str = "-etcd-syncer-meta-/";

/// The reserved range.
#[must_use]
pub fn range() -> KeyRange {
    KeyRange::prefix(&Bytes::from_static(PREFIX.as_bytes()))
}

/// Everything of a stream begins with this.
#[must_use]
pub fn stream_prefix(stream: &str) -> String {
    format!("{PREFIX}{stream}/")
}

/// The name of the stream that a reserved key belongs to, if it belongs to one.
#[must_use]
pub fn stream_of(key: &[u8]) -> Option<&str> {
    let rest = key.strip_prefix(PREFIX.as_bytes())?;
    let end = rest.iter().position(|byte| *byte == b'/')?;
    std::str::from_utf8(rest.get(..end)?).ok()
}

/// The key of a stream's checkpoint.
#[must_use]
pub fn checkpoint_key(stream: &str) -> Bytes {
    format!("{PREFIX}{stream}/checkpoint").into()
}

/// The chunks of the bases of all generations.
#[must_use]
pub fn ledger_bases(stream: &str) -> KeyRange {
    KeyRange::prefix(&format!("{PREFIX}{stream}/ledger/base/").into())
}

/// The chunks of one generation's base.
#[must_use]
pub fn ledger_base(stream: &str, generation: u64) -> KeyRange {
    KeyRange::prefix(&format!("{PREFIX}{stream}/ledger/base/{generation:016x}/").into())
}

/// The key of one chunk of a base.
#[must_use]
pub fn ledger_chunk(stream: &str, generation: u64, chunk: u32) -> Bytes {
    format!("{PREFIX}{stream}/ledger/base/{generation:016x}/{chunk:08x}").into()
}

/// The key of one journal.
#[must_use]
pub fn ledger_journal(stream: &str, number: u64) -> Bytes {
    format!("{PREFIX}{stream}/ledger/journal/{number:016x}").into()
}
