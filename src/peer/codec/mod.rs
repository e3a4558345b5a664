//! Bytes of the two peer streams to raft messages and back. Pure.
//!
//! ```text
//! chunks of any size --push--> Buffer --next--> Frame | Error
//! ```
//!
//! Invariants: nothing is allocated by a length that the other side merely claims; a frame and
//! what it becomes in memory stay below the decoder's limit; entry payloads are slices of the
//! received bytes; a field we do not know is [`Error::Unknown`], never dropped in silence.
//!
//! # Source
//! etcd 3.3 to 3.7 `rafthttp/msg_codec.go`, `rafthttp/msgappv2_codec.go`.

mod buffer;
mod message;
mod msgapp;
#[cfg(test)]
mod tests;
mod wire;

use bytes::Bytes;
use prost::Message as _;

use crate::pb::raftpb::Message;

pub use message::{LINK_HEARTBEAT_MESSAGE, MessageDecoder, encode_message};
pub use msgapp::{LINK_HEARTBEAT_MSGAPP, MsgAppDecoder};

/// The protocol's own limit on one message of the message stream, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 512 << 20;

/// What an entry costs in memory beside its bytes, for limits and budgets.
pub(crate) const ENTRY_COST_BYTES: usize = 64;

/// One frame of a stream.
// Nearly all frames are messages: boxing them would save nothing.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// Nothing but a sign of life of the connection.
    LinkHeartbeat,
    /// A raft message.
    Message(Message),
}

/// Why a stream cannot be read on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Well-formed, but with a field that this version does not know. Reading on could lose
    /// something that matters, so this must stop the replication and not merely redial.
    #[error(
        "unknown field {field} in raftpb.{message}: \
         the primary runs a release this version was not made for"
    )]
    Unknown {
        /// Name of the message type that has the field.
        message: &'static str,
        /// Number of the field.
        field: u32,
    },
    /// A frame is longer than the limit, or would be in memory.
    #[error("a frame of {claimed_bytes} bytes exceeds the limit of {limit_bytes}")]
    TooLong {
        /// What the frame's own length says, or would cost.
        claimed_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// First byte of a msgapp frame that is not 0, 1 or 2.
    #[error("unknown kind {kind} of a msgapp frame")]
    FrameKind {
        /// The byte.
        kind: u8,
    },
    /// Not a message at all.
    #[error("corrupt frame: {what}")]
    Corrupt {
        /// What does not hold.
        what: &'static str,
    },
    /// Not a message at all, as the protobuf decoder sees it.
    #[error("decode a raft message")]
    Decode(#[from] prost::DecodeError),
}

/// Decodes one `raftpb.Message`.
///
/// `bytes`: exactly the message. `limit_bytes`: what it may cost, its own length and
/// 64 bytes for each entry. Payloads of the result are slices of `bytes`.
///
/// # Errors
/// Any of [`Error`] but [`Error::FrameKind`].
pub fn decode_message(bytes: Bytes, limit_bytes: usize) -> Result<Message, Error> {
    let tally = wire::check(&bytes, wire::Shape::Message)?;
    check_cost(bytes.len(), tally.entries, limit_bytes)?;
    Ok(Message::decode(bytes)?)
}

/// What a message holds in memory, in bytes, for budgets.
#[must_use]
pub fn message_cost_bytes(message: &Message) -> usize {
    let snapshot = message.snapshot.as_ref().map_or(0, |s| s.data.len());
    let entries: usize = message
        .entries
        .iter()
        .map(|entry| entry.data.len().saturating_add(ENTRY_COST_BYTES))
        .sum();
    entries
        .saturating_add(snapshot)
        .saturating_add(message.context.len())
        .saturating_add(ENTRY_COST_BYTES)
}

fn check_cost(frame_bytes: usize, entries: usize, limit_bytes: usize) -> Result<(), Error> {
    let cost = frame_bytes.saturating_add(entries.saturating_mul(ENTRY_COST_BYTES));
    if cost > limit_bytes {
        return Err(too_long(wide(cost), limit_bytes));
    }
    Ok(())
}

/// Reads a length the other side claims, once it is known to be within the limit.
fn check_length(claimed: u64, limit_bytes: usize) -> Result<usize, Error> {
    usize::try_from(claimed)
        .ok()
        .filter(|length| *length <= limit_bytes)
        .ok_or_else(|| too_long(claimed, limit_bytes))
}

fn too_long(claimed_bytes: u64, limit_bytes: usize) -> Error {
    Error::TooLong {
        claimed_bytes,
        limit_bytes: wide(limit_bytes),
    }
}

fn wide(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
