//! Writes a captured log. Pure: it makes bytes.

use prost::Message as _;

use super::{Header, MAGIC, Place, check_of, padding};
use crate::entry::Committed;
use crate::ids::RaftIndex;
use crate::pb::{capturepb, raftpb};
use crate::wal::RECORD_BYTES_MAX;

/// Makes the bytes of a captured log. They must be written in order, each once.
#[derive(Debug)]
pub struct Writer {
    place: Place,
    /// A release that is still to be written down.
    etcd_version: String,
}

/// What is no log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Entries must come one after the other.
    #[error("entry {given} was given to the capture, and {expected} comes next")]
    OutOfOrder {
        /// What comes next.
        expected: RaftIndex,
        /// What came.
        given: RaftIndex,
    },
    /// Terms must not fall.
    #[error("the term falls at entry {0}")]
    TermFalls(RaftIndex),
    /// Longer than raft can carry.
    #[error("entry {0} is too long for a capture")]
    TooLong(RaftIndex),
}

impl Writer {
    /// Begins a log, and puts its beginning into `out`.
    #[must_use]
    pub fn begin(header: &Header, out: &mut Vec<u8>) -> Self {
        out.extend(MAGIC);
        let mut place = Place {
            index: header.index,
            term: header.term,
            chain: 0,
        };
        let payload = header.to_message().encode_to_vec();
        place.chain = frame(place.chain, &payload, out);
        Self {
            place,
            etcd_version: String::new(),
        }
    }

    /// Goes on where a reader came to the end.
    pub(super) fn resume(place: Place) -> Self {
        Self {
            place,
            etcd_version: String::new(),
        }
    }

    /// From the next entry on the primary runs this release.
    pub fn set_etcd_version(&mut self, version: &str) {
        version.clone_into(&mut self.etcd_version);
    }

    /// The last entry that was written.
    #[must_use]
    pub fn last(&self) -> RaftIndex {
        self.place.index
    }

    /// Puts the next entry into `out`.
    ///
    /// # Errors
    /// What is not the next entry; `out` is unchanged.
    pub fn entry(&mut self, entry: &Committed, out: &mut Vec<u8>) -> Result<(), WriteError> {
        let expected = self.place.index.next();
        if entry.index != expected {
            return Err(WriteError::OutOfOrder {
                expected,
                given: entry.index,
            });
        }
        if entry.term < self.place.term {
            return Err(WriteError::TermFalls(entry.index));
        }
        let record = capturepb::Record {
            entry: Some(raftpb::Entry {
                r#type: entry.kind,
                term: entry.term.0,
                index: entry.index.0,
                data: entry.data.clone(),
            }),
            etcd_version: self.etcd_version.clone(),
        };
        let payload = record.encode_to_vec();
        if payload.len() as u64 > RECORD_BYTES_MAX {
            return Err(WriteError::TooLong(entry.index));
        }
        self.etcd_version.clear();
        self.place = Place {
            index: entry.index,
            term: entry.term,
            chain: frame(self.place.chain, &payload, out),
        };
        Ok(())
    }
}

/// Adds a frame to `out`, and returns the checksum behind it. The payload's length fits.
fn frame(chain: u32, payload: &[u8], out: &mut Vec<u8>) -> u32 {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let length_bytes = length.to_le_bytes();
    let chain = crc32c::crc32c_append(chain, payload);
    out.extend(length_bytes);
    out.extend(check_of(length_bytes).to_le_bytes());
    out.extend(payload);
    out.extend(chain.to_le_bytes());
    let padding = usize::try_from(padding(u64::from(length))).unwrap_or(0);
    out.resize(out.len() + padding, 0);
    chain
}
