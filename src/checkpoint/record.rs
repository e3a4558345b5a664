//! The checkpoint: the record in the standby that says up to which entry the standby holds the
//! primary's effects. Pure.

use prost::Message as _;

use super::Place;
use crate::ids::{ClusterId, LeaseId, MemberId, RaftIndex, Revision, Term};
use crate::pb::checkpointpb;
use crate::scope::{Prefixes, Rewrite};

/// The layout this version writes, and the only one it reads.
const FORMAT: u32 = 3;

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
    /// Where the primary's state at the index is kept.
    pub ledger: Place,
    /// The lease that the entry behind the index ends, 0 for none. It has more keys than one
    /// transaction takes, so the standby revokes it whole: it and its keys may be gone already,
    /// and but for that the standby is at the index.
    pub ending_lease: LeaseId,
    /// Which keys are replicated, and under which names.
    pub scope: Prefixes,
}

/// What a stream is doing with its standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Following the log: the standby is consistent at the checkpoint's index.
    Streaming,
    /// A snapshot of the primary is being installed, or must be: the standby is somewhere between
    /// the checkpoint's index and the snapshot's, and not consistent.
    Installing {
        /// The snapshot's index; 0 if none is known yet.
        index: RaftIndex,
        /// Term of the entry there.
        term: Term,
        /// What to compare the snapshot with.
        basis: Basis,
    },
}

/// Where it is known from what a standby holds while a snapshot is being installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The ledger, which is kept up to date with each key that is written.
    Ledger,
    /// The standby's own keys: of some the ledger knows nothing.
    Content,
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

const STREAMING: u32 = 1;
const INSTALLING_BY_LEDGER: u32 = 2;
const INSTALLING_BY_CONTENT: u32 = 3;

impl Checkpoint {
    /// True if a snapshot is to be compared with the standby's own keys.
    #[must_use]
    pub fn is_by_content(&self) -> bool {
        match self.phase {
            Phase::Installing { basis, .. } => basis == Basis::Content,
            Phase::Streaming => false,
        }
    }

    /// The record as it is stored.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let ids = |members: &[MemberId]| members.iter().map(|id| id.0).collect();
        let target = match self.phase {
            Phase::Streaming => (RaftIndex(0), Term(0)),
            Phase::Installing { index, term, .. } => (index, term),
        };
        let record = checkpointpb::Checkpoint {
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
                Phase::Streaming => STREAMING,
                Phase::Installing { basis, .. } => match basis {
                    Basis::Ledger => INSTALLING_BY_LEDGER,
                    Basis::Content => INSTALLING_BY_CONTENT,
                },
            },
            writer: self.writer,
            batch: self.batch,
            ledger: Some(self.ledger.encode()),
            target_index: target.0.0,
            target_term: target.1.0,
            ending_lease: self.ending_lease.0,
            scope: encode_scope(&self.scope),
            crc: 0,
        };
        let crc = checksum(&record);
        checkpointpb::Checkpoint { crc, ..record }.encode_to_vec()
    }

    /// Reads a stored record.
    ///
    /// # Errors
    /// [`Error`] for anything that this version did not write.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut record = checkpointpb::Checkpoint::decode(bytes).map_err(|_| Error::Bytes)?;
        if record.format != FORMAT {
            return Err(Error::Format(record.format));
        }
        if record.encoded_len() != bytes.len() {
            return Err(Error::Unknown);
        }
        let crc = std::mem::take(&mut record.crc);
        if checksum(&record) != crc {
            return Err(Error::Bytes);
        }
        let installing = |basis| Phase::Installing {
            index: RaftIndex(record.target_index),
            term: Term(record.target_term),
            basis,
        };
        let phase = match record.phase {
            STREAMING => Phase::Streaming,
            INSTALLING_BY_LEDGER => installing(Basis::Ledger),
            INSTALLING_BY_CONTENT => installing(Basis::Content),
            other => return Err(Error::Phase(other)),
        };
        let ledger = Place::decode(&record.ledger.ok_or(Error::Bytes)?)?;
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
            ledger,
            ending_lease: LeaseId(record.ending_lease),
            scope: record.scope.map(decode_scope).unwrap_or_default(),
        })
    }
}

/// Of a record without one.
fn checksum(record: &checkpointpb::Checkpoint) -> u32 {
    crc32c::crc32c(&record.encode_to_vec())
}

fn encode_scope(scope: &Prefixes) -> Option<checkpointpb::Scope> {
    let Prefixes {
        include,
        exclude,
        rewrite,
    } = scope;
    let rewrite = rewrite.iter().map(|Rewrite { from, to }| {
        let (from, to) = (from.clone(), to.clone());
        checkpointpb::Rewrite { from, to }
    });
    (*scope != Prefixes::default()).then(|| checkpointpb::Scope {
        include: include.clone(),
        exclude: exclude.clone(),
        rewrite: rewrite.collect(),
    })
}

fn decode_scope(scope: checkpointpb::Scope) -> Prefixes {
    let rewrite = scope.rewrite.into_iter();
    Prefixes {
        include: scope.include,
        exclude: scope.exclude,
        rewrite: rewrite
            .map(|checkpointpb::Rewrite { from, to }| Rewrite { from, to })
            .collect(),
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
            ledger: Place {
                generation: 8,
                base_chunks: 9,
                first_journal: 10,
                next_journal: 11,
                digest_key: [12; 32],
            },
            ending_lease: LeaseId(-15),
            scope: Prefixes::default(),
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut written = checkpoint();
        assert_eq!(Checkpoint::decode(&written.encode()), Ok(written.clone()));
        for basis in [Basis::Ledger, Basis::Content] {
            written.phase = Phase::Installing {
                index: RaftIndex(13),
                term: Term(14),
                basis,
            };
            assert_eq!(Checkpoint::decode(&written.encode()), Ok(written.clone()));
        }
        let record = checkpointpb::Checkpoint::decode(&*written.encode()).unwrap();
        assert_eq!(record.scope, None, "every key");
        written.scope = Prefixes {
            include: vec!["a/".into(), "b/".into()],
            exclude: vec!["a/tmp".into()],
            rewrite: vec![Rewrite {
                from: "b/".into(),
                to: vec![0xff].into(),
            }],
        };
        assert_eq!(Checkpoint::decode(&written.encode()), Ok(written.clone()));
    }

    #[test]
    fn what_another_version_wrote_is_refused() {
        let mut record = checkpointpb::Checkpoint::decode(&*checkpoint().encode()).unwrap();
        record.phase = 9;
        record.crc = 0;
        record.crc = checksum(&record);
        assert_eq!(
            Checkpoint::decode(&record.encode_to_vec()),
            Err(Error::Phase(9))
        );
        record.format = 1;
        assert_eq!(
            Checkpoint::decode(&record.encode_to_vec()),
            Err(Error::Format(1))
        );
        let mut longer = checkpoint().encode();
        longer.extend([0xf8, 0x07, 0x01]);
        assert_eq!(Checkpoint::decode(&longer), Err(Error::Unknown));
        assert_eq!(Checkpoint::decode(b"\xff"), Err(Error::Bytes));
        assert_eq!(Checkpoint::decode(b""), Err(Error::Format(0)));
    }

    #[test]
    fn no_bit_may_change() {
        let whole = checkpoint().encode();
        for bit in 0..whole.len() * 8 {
            let mut changed = whole.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(Checkpoint::decode(&changed).is_err(), "bit {bit}");
        }
    }
}
