//! Turns the bytes of committed entries into typed operations. Pure.
//!
//! What is not understood completely is refused: see [`decode`].

mod decode;
mod error;
mod op;
mod schema;

#[cfg(test)]
mod tests;

pub use decode::decode;
pub use error::{Error, Problem};
pub use op::{Entry, Header, Op};

use bytes::Bytes;

use crate::ids::{RaftIndex, Term};

/// A committed entry as the learner hands it out, not yet understood.
#[derive(Clone, PartialEq, Eq)]
pub struct Committed {
    /// Its place in the log; consecutive entries have consecutive indexes.
    pub index: RaftIndex,
    /// Never falls from one entry to the next.
    pub term: Term,
    /// The entry type as logged: 0 normal, 1 conf change, anything else is refused by the decoder.
    pub kind: u32,
    /// The payload.
    pub data: Bytes,
}

impl std::fmt::Debug for Committed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            index,
            term,
            kind,
            data,
        } = self;
        write!(
            f,
            "entry {index} (term {term}, type {kind}, {} bytes)",
            data.len()
        )
    }
}
