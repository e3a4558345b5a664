//! `.snap` files: what a raft snapshot says of the cluster. The keys are not in them. Pure.
//!
//! # Source
//! etcd `server/etcdserver/api/snap/snapshotter.go`, `Read`.

use bytes::Bytes;
use prost::Message as _;

use super::store;
use crate::ids::{MemberId, RaftIndex, Term};
use crate::learner::{Membership, conf_state_to_raft};
use crate::pb::{raftpb, storagepb};
use crate::peer::Member;

/// What a file's name says: `<term>-<index>.snap`, each in 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapName {
    /// Term of the last entry.
    pub term: Term,
    /// The last entry in the snapshot.
    pub index: RaftIndex,
}

/// The content of a `.snap` file.
#[derive(Clone, Debug, PartialEq)]
pub struct SnapFile {
    /// The last entry in the snapshot.
    pub index: RaftIndex,
    /// Its term.
    pub term: Term,
    /// Voters and learners.
    pub conf_state: raftpb::ConfState,
    /// The members, as the v2 store has them.
    pub members: Vec<Member>,
    /// Members of the past, whose ids never come back.
    pub removed: Vec<MemberId>,
}

/// Why a file is no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapError {
    /// The bytes are no message.
    #[error("{0} does not decode: {1}")]
    Undecodable(&'static str, String),
    /// The file holds nothing.
    #[error("it is empty")]
    Empty,
    /// The bytes are not those that were written.
    #[error("checksum {computed:08x} instead of {stated:08x}")]
    Checksum {
        /// What the file says.
        stated: u32,
        /// What comes out.
        computed: u32,
    },
    /// The name is of another snapshot.
    #[error("it holds the snapshot of index {0}, term {1}")]
    OtherThanNamed(RaftIndex, Term),
    /// The tree of members cannot be read.
    #[error("{0}")]
    Tree(String),
}

impl SnapName {
    /// Reads a name; None for every other file, such as one that etcd has put aside (`.broken`) or
    /// a database (`.snap.db`).
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (term, index) = name.strip_suffix(".snap")?.split_once('-')?;
        let digits = |text: &str| MemberId::parse_hex(text).filter(|_| text.len() == 16);
        Some(Self {
            term: Term(digits(term)?.0),
            index: RaftIndex(digits(index)?.0),
        })
    }
}

impl std::fmt::Display for SnapName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}-{:016x}.snap", self.term.0, self.index.0)
    }
}

impl SnapFile {
    /// Reads a file of this name.
    ///
    /// # Errors
    /// [`SnapError`].
    pub fn decode(name: SnapName, file: Bytes) -> Result<Self, SnapError> {
        let undecodable = |what: &'static str| {
            move |error: prost::DecodeError| SnapError::Undecodable(what, error.to_string())
        };
        let file = storagepb::SnapFile::decode(file).map_err(undecodable("the file"))?;
        if file.data.is_empty() || file.crc == 0 {
            return Err(SnapError::Empty);
        }
        let computed = crc32c::crc32c(&file.data);
        if computed != file.crc {
            let stated = file.crc;
            return Err(SnapError::Checksum { stated, computed });
        }
        let snapshot = raftpb::Snapshot::decode(file.data).map_err(undecodable("the snapshot"))?;
        let metadata = snapshot.metadata.ok_or(SnapError::Empty)?;
        let (index, term) = (RaftIndex(metadata.index), Term(metadata.term));
        if (index, term) != (name.index, name.term) {
            return Err(SnapError::OtherThanNamed(index, term));
        }
        let tree = store::parse(&snapshot.data).map_err(SnapError::Tree)?;
        Ok(Self {
            index,
            term,
            conf_state: metadata.conf_state.unwrap_or_default(),
            members: tree.members,
            removed: tree.removed,
        })
    }

    /// The members as of this snapshot. Who they are is what raft says; the tree adds the URLs.
    #[must_use]
    pub fn membership(&self) -> Membership {
        let state = &self.conf_state;
        let is_member =
            |id: MemberId| state.voters.contains(&id.0) || state.learners.contains(&id.0);
        let members = self.members.iter().filter(|member| is_member(member.id));
        Membership::new(members.cloned(), &conf_state_to_raft(state))
            .without(self.removed.iter().copied())
    }
}
