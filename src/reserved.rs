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

/// The key of a stream's checkpoint.
#[must_use]
pub fn checkpoint_key(stream: &str) -> Bytes {
    format!("{PREFIX}{stream}/checkpoint").into()
}
