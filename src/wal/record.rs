//! The five kinds of records. Pure.

use bytes::Bytes;
use prost::Message as _;

use super::error::Problem;
use crate::ids::{ClusterId, MemberId, RaftIndex, Term};
use crate::pb::{raftpb, storagepb};

/// Whose log this is. The same in every file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// The member.
    pub member: MemberId,
    /// Its cluster.
    pub cluster: ClusterId,
}

/// What raft remembers besides the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The last term that the member saw.
    pub term: Term,
    /// For whom it voted in that term, 0 for nobody.
    pub vote: MemberId,
    /// How far it knew the log to be committed when it last wrote it down.
    pub commit: RaftIndex,
}

/// A raft snapshot that the member made or received: the log before it may be gone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// The last entry in it.
    pub index: RaftIndex,
    /// Term of that entry.
    pub term: Term,
    /// Voters and learners there; written since 3.5.
    pub conf_state: Option<raftpb::ConfState>,
}

/// A record whose checksum is right.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Record {
    Metadata(Metadata),
    Entry(raftpb::Entry),
    State(HardState),
    /// Opens a file with the checksum of everything before it.
    Crc,
    Snapshot(Snapshot),
}

const METADATA: i64 = 1;
const ENTRY: i64 = 2;
const STATE: i64 = 3;
/// The only kind that its own checksum does not cover.
pub(super) const CRC: i64 = 4;
const SNAPSHOT: i64 = 5;

/// Indexes and terms beyond this are no numbers that counting from 1 has led to.
const NUMBER_MAX: u64 = u64::MAX >> 1;

impl Record {
    /// Reads the content of a record whose checksum is right.
    ///
    /// # Errors
    /// What no etcd has written.
    pub(super) fn of(envelope: storagepb::Record) -> Result<Self, Problem> {
        let data = envelope.data;
        match envelope.r#type {
            METADATA => {
                let message: storagepb::Metadata = decode("the metadata", data)?;
                Ok(Self::Metadata(Metadata {
                    member: MemberId(message.node_id),
                    cluster: ClusterId(message.cluster_id),
                }))
            }
            ENTRY => {
                let entry: raftpb::Entry = decode("the entry", data)?;
                counted("an entry's index", entry.index)?;
                counted("an entry's term", entry.term)?;
                if entry.index == 0 {
                    return Err(Problem::Number("an entry's index", 0));
                }
                Ok(Self::Entry(entry))
            }
            STATE => {
                let message: storagepb::HardState = decode("the state", data)?;
                Ok(Self::State(HardState {
                    term: Term(counted("a term", message.term)?),
                    vote: MemberId(message.vote),
                    commit: RaftIndex(counted("a commit index", message.commit)?),
                }))
            }
            CRC => Ok(Self::Crc),
            SNAPSHOT => {
                let message: storagepb::WalSnapshot = decode("the snapshot record", data)?;
                Ok(Self::Snapshot(Snapshot {
                    index: RaftIndex(counted("a snapshot's index", message.index)?),
                    term: Term(counted("a snapshot's term", message.term)?),
                    conf_state: message.conf_state,
                }))
            }
            unknown => Err(Problem::RecordType(unknown)),
        }
    }
}

fn decode<M: prost::Message + Default>(what: &'static str, data: Bytes) -> Result<M, Problem> {
    M::decode(data).map_err(|error| Problem::Undecodable {
        what,
        why: error.to_string(),
    })
}

fn counted(what: &'static str, number: u64) -> Result<u64, Problem> {
    if number > NUMBER_MAX {
        return Err(Problem::Number(what, number));
    }
    Ok(number)
}

/// Reads the envelope of a record.
pub(super) fn envelope(bytes: Bytes) -> Result<storagepb::Record, Problem> {
    storagepb::Record::decode(bytes).map_err(|error| Problem::Undecodable {
        what: "a record",
        why: error.to_string(),
    })
}
