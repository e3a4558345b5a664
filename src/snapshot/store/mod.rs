//! What the records of etcd's buckets say: bytes of a key and a value to typed facts. Pure.
//!
//! Unknown fields of messages are passed over, as every etcd does with what a later one stored.
//! Whatever else is not as etcd writes it is refused, because a record that is read wrongly would
//! end as a wrong key in the standby.
//!
//! # Source
//! etcd `server/storage/schema/*.go`, `server/storage/mvcc/revision.go`, 3.6;
//! `mvcc/kvstore.go`, `lease/lessor.go`, `auth/store.go`, `etcdserver/membership/store.go`, 3.4.

mod auth;
mod cluster;
mod lease;
mod record;
mod revision;

pub(super) use auth::{role, user};
pub use cluster::{ConfState, Downgrade, Member};
pub(super) use cluster::{conf_state, downgrade, member, removed_member};
pub use lease::Lease;
pub(super) use lease::{alarm, lease};
pub(super) use record::Record;
pub(super) use revision::RecordKey;

use crate::wire;

/// What is wrong with a record.
#[derive(Debug, thiserror::Error)]
pub enum Flaw {
    /// Something has another length than it always has.
    #[error("{what} has {bytes} bytes")]
    Length {
        /// What.
        what: &'static str,
        /// How many it has.
        bytes: usize,
    },
    /// The value is no protobuf message.
    #[error("its value cannot be read: {0}")]
    Wire(#[from] wire::Flaw),
    /// A field in a form that it does not have.
    #[error("field {0} of its value has another form than it should")]
    Form(u64),
    /// A number that is too large for what it stands for.
    #[error("{0} is out of range")]
    Range(&'static str),
    /// No text.
    #[error("{0} is not UTF-8 text")]
    Text(&'static str),
    /// No JSON, or not of this kind.
    #[error("its value cannot be read: {0}")]
    Json(#[source] serde_json::Error),
    /// Key and value of the record do not belong together.
    #[error("its key and its value name different {0}")]
    Mismatch(&'static str),
    /// Bytes that etcd never writes.
    #[error("{0}")]
    Unknown(&'static str),
}

/// The number in a field.
fn number(field: u64, wire: wire::Wire<'_>) -> Result<u64, Flaw> {
    match wire {
        wire::Wire::Varint(number) => Ok(number),
        wire::Wire::Delimited(_) | wire::Wire::Fixed => Err(Flaw::Form(field)),
    }
}

/// The signed number in a field.
fn signed(field: u64, wire: wire::Wire<'_>) -> Result<i64, Flaw> {
    number(field, wire).map(u64::cast_signed)
}

/// The number of an enumeration, which may be one that is not defined.
fn open_enum(field: u64, wire: wire::Wire<'_>) -> Result<i32, Flaw> {
    i32::try_from(signed(field, wire)?).map_err(|_| Flaw::Range("an enumeration"))
}

/// The bytes in a field.
fn bytes(field: u64, wire: wire::Wire<'_>) -> Result<&[u8], Flaw> {
    match wire {
        wire::Wire::Delimited(bytes) => Ok(bytes),
        wire::Wire::Varint(_) | wire::Wire::Fixed => Err(Flaw::Form(field)),
    }
}

/// Text, which is called `what`.
///
/// # Errors
/// [`Flaw::Text`] if it is none.
pub(super) fn text(what: &'static str, bytes: &[u8]) -> Result<String, Flaw> {
    let text = std::str::from_utf8(bytes).map_err(|_| Flaw::Text(what))?;
    Ok(text.to_owned())
}

/// An eight-byte number, which is called `what`.
///
/// # Errors
/// [`Flaw::Length`] if it is none.
pub(super) fn u64_be(what: &'static str, bytes: &[u8]) -> Result<u64, Flaw> {
    let length = |_| Flaw::Length {
        what,
        bytes: bytes.len(),
    };
    bytes.try_into().map(u64::from_be_bytes).map_err(length)
}
