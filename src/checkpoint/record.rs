//! The checkpoint: the record in the standby that says up to which entry the standby holds the
//! primary's effects. Pure.

use prost::Message as _;

use crate::ids::{ClusterId, MemberId, RaftIndex, Revision, Term};
use crate::pb::checkpointpb;

/// The layout this version writes, and the only one it reads.
const FORMAT: u32 = 1;

/// What a standby says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The cluster that is replicated.
    pub primary: ClusterId,
    /// Our member in it.
    pub member: MemberId,
    /// The standby holds the effects of exactly the entries up to here; 0 before the first.
    pub index: RaftIndex,
    /// Term of the entry there.
    pub term: Term,
    /// The primary's voters at that index.
    pub voters: Vec<MemberId>,
    /// The primary's learners at that index.
    pub learners: Vec<MemberId>,
    /// The primary's revision at that index.
    pub revision: Revision,
    /// The primary's compact revision there, -1 before the first compaction.
    pub compact_revision: Revision,
    /// What is going on.
    pub phase: Phase,
    /// The process that wrote this record, drawn at random when it started.
    pub writer: u64,
    /// Number of the batch among those of that writer, from 1; 0 for the first contact.
    pub batch: u64,
}

/// What a stream is doing with its standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Following the log: the standby is consistent at the checkpoint's index.
    Streaming,
}

/// Why a record cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes are no record.
    #[error("the checkpoint does not decode; it was damaged or written by something else")]
    Bytes,
    /// A layout of another version of this program.
    #[error("the checkpoint has format {0}, this version reads format {FORMAT} only")]
    Format(u32),
    /// A phase that this version does not know.
    #[error("the checkpoint is in phase {0}, which this version does not know")]
    Phase(u32),
    /// A field that this version does not know.
    #[error("the checkpoint holds fields that this version does not know")]
    Unknown,
}

impl Checkpoint {
    /// The record as it is stored.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let ids = |members: &[MemberId]| members.iter().map(|id| id.0).collect();
        checkpointpb::Checkpoint {
            format: FORMAT,
            primary_cluster_id: self.primary.0,
            member_id: self.member.0,
            index: self.index.0,
            term: self.term.0,
            members: Some(checkpointpb::Members {
                voters: ids(&self.voters),
                learners: ids(&self.learners),
            }),
            revision: self.revision.0,
            compact_revision: self.compact_revision.0,
            phase: match self.phase {
                Phase::Streaming => 1,
            },
            writer: self.writer,
            batch: self.batch,
        }
        .encode_to_vec()
    }

    /// Reads a stored record.
    ///
    /// # Errors
    /// [`Error`] for anything that this version did not write.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let record = checkpointpb::Checkpoint::decode(bytes).map_err(|_| Error::Bytes)?;
        if record.format != FORMAT {
            return Err(Error::Format(record.format));
        }
        if record.encoded_len() != bytes.len() {
            return Err(Error::Unknown);
        }
        let phase = match record.phase {
            1 => Phase::Streaming,
            other => return Err(Error::Phase(other)),
        };
        let members = record.members.ok_or(Error::Bytes)?;
        let ids = |members: Vec<u64>| members.into_iter().map(MemberId).collect();
        Ok(Self {
            primary: ClusterId(record.primary_cluster_id),
            member: MemberId(record.member_id),
            index: RaftIndex(record.index),
            term: Term(record.term),
            voters: ids(members.voters),
            learners: ids(members.learners),
            revision: Revision(record.revision),
            compact_revision: Revision(record.compact_revision),
            phase,
            writer: record.writer,
            batch: record.batch,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            primary: ClusterId(u64::MAX),
            member: MemberId(2),
            index: RaftIndex(3),
            term: Term(4),
            voters: vec![MemberId(1), MemberId(u64::MAX)],
            learners: vec![MemberId(2)],
            revision: Revision(5),
            compact_revision: Revision(-1),
            phase: Phase::Streaming,
            writer: 6,
            batch: 7,
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(Checkpoint::decode(&checkpoint().encode()), Ok(checkpoint()));
    }

    #[test]
    fn what_another_version_wrote_is_refused() {
        let mut record = checkpointpb::Checkpoint::decode(&*checkpoint().encode()).unwrap();
        record.phase = 9;
        assert_eq!(
            Checkpoint::decode(&record.encode_to_vec()),
            Err(Error::Phase(9))
        );
        record.format = 2;
        assert_eq!(
            Checkpoint::decode(&record.encode_to_vec()),
            Err(Error::Format(2))
        );
        let mut longer = checkpoint().encode();
        longer.extend([0xf8, 0x07, 0x01]);
        assert_eq!(Checkpoint::decode(&longer), Err(Error::Unknown));
        assert_eq!(Checkpoint::decode(b"\xff"), Err(Error::Bytes));
        assert_eq!(Checkpoint::decode(b""), Err(Error::Format(0)));
    }
}
