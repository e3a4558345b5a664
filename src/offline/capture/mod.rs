//! Captured logs: committed entries of a primary in a file of our own. Pure.
//!
//! ```text
//!  file   magic frame*             the first frame holds the header, each other one an entry
//!  frame  length check payload checksum padding
//! ```
//!
//! - `length` is that of the payload in 4 bytes, `check` a CRC-32C over it, so that a damaged
//!   length is told from a file that ends early. Numbers are little-endian.
//! - `checksum` is a CRC-32C over the payloads of all frames so far: none can be missing, twice or
//!   of another file.
//! - Frames begin at multiples of 8, so that they can be found behind a damaged one.
//!
//! A file grows at its end only. If writing was interrupted, its last frame is short, or sectors of
//! it are zero, and nothing stands behind it; reading ends before it. Anything else is damage.

mod reader;
mod writer;

#[cfg(test)]
mod tests;

pub use reader::{CaptureEnd, Captured, Problem, ReadError, Reader};
pub use writer::{WriteError, Writer};

use crate::ids::{ClusterId, MemberId, RaftIndex, Term};
use crate::learner::{Membership, conf_state_to_raft};
use crate::pb::{capturepb, raftpb};

/// What a captured log begins with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Header {
    /// The cluster whose log it is.
    pub primary: ClusterId,
    /// The learner that captured it.
    pub member: MemberId,
    /// The primary's release when the capture began.
    pub etcd_version: String,
    /// The entry before the first one; 0 if the log begins with the cluster.
    pub index: RaftIndex,
    /// The term of that entry.
    pub term: Term,
    /// The primary's members as of that entry.
    pub conf_state: raftpb::ConfState,
}

/// Where in the log a file has come.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    /// The last entry.
    index: RaftIndex,
    term: Term,
    /// Checksum of all payloads so far.
    chain: u32,
}

const MAGIC: &[u8; 8] = b"etcdsynL";
/// The layout this version writes, and the only one it reads.
const FORMAT: u32 = 1;
const ALIGNMENT: u64 = 8;
const FRAME_HEAD_BYTES: u64 = 8;
const CHECKSUM_BYTES: u64 = 4;

impl Header {
    /// The members as of the beginning. Of them only the ids are known.
    #[must_use]
    pub fn membership(&self) -> Membership {
        Membership::new([], &conf_state_to_raft(&self.conf_state))
    }

    fn to_message(&self) -> capturepb::Header {
        capturepb::Header {
            format: FORMAT,
            primary_cluster_id: self.primary.0,
            member_id: self.member.0,
            etcd_version: self.etcd_version.clone(),
            index: self.index.0,
            term: self.term.0,
            conf_state: Some(self.conf_state.clone()),
        }
    }

    fn of_message(message: capturepb::Header) -> Self {
        Self {
            primary: ClusterId(message.primary_cluster_id),
            member: MemberId(message.member_id),
            etcd_version: message.etcd_version,
            index: RaftIndex(message.index),
            term: Term(message.term),
            conf_state: message.conf_state.unwrap_or_default(),
        }
    }
}

/// The check of a length.
fn check_of(length: [u8; 4]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(MAGIC), &length)
}

/// Zeros behind a frame with this payload.
fn padding(payload: u64) -> u64 {
    (ALIGNMENT - (payload + CHECKSUM_BYTES) % ALIGNMENT) % ALIGNMENT
}
