//! Entries from data directories, in the form in which the learner hands them out. Pure, but for
//! reading logs.

use std::collections::VecDeque;

use bytes::Bytes;
use prost::Message as _;

use super::error::Error;
use super::member::DataDir;
use crate::entry::Committed;
use crate::ids::{RaftIndex, Term};
use crate::learner::{Handout, MemberChange, Membership, MembershipError};
use crate::pb::raftpb;
use crate::wal::{Directory, Entries};

/// Entries that are taken from one directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) dir: usize,
    pub(super) first: RaftIndex,
    pub(super) last: RaftIndex,
}

/// Committed entries, in order and without a gap. It ends with the first error.
#[derive(Debug)]
pub struct Handouts<'a> {
    dirs: &'a [DataDir],
    pieces: VecDeque<Piece>,
    open: Option<(&'a DataDir, Entries<'a, Directory>)>,
    membership: Membership,
}

impl<'a> Handouts<'a> {
    pub(super) fn new(
        dirs: &'a [DataDir],
        pieces: impl IntoIterator<Item = Piece>,
        membership: Membership,
    ) -> Self {
        Self {
            dirs,
            pieces: pieces.into_iter().collect(),
            open: None,
            membership,
        }
    }

    fn advance(&mut self) -> Result<Option<Handout>, Error> {
        loop {
            if let Some((dir, entries)) = &mut self.open
                && let Some(entry) = entries.next()
            {
                let entry = entry.map_err(|source| dir.wal_error(source))?;
                let handout = hand_out(&mut self.membership, committed(entry))?;
                return Ok(Some(handout));
            }
            let Some(piece) = self.pieces.pop_front() else {
                return Ok(None);
            };
            let dir = self.dirs.get(piece.dir).ok_or(Error::NoDirectory)?;
            self.open = Some((dir, dir.entries(piece.first, piece.last)?));
        }
    }
}

impl Iterator for Handouts<'_> {
    type Item = Result<Handout, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance().transpose();
        if !matches!(next, Some(Ok(_))) {
            self.pieces.clear();
            self.open = None;
        }
        next
    }
}

/// An entry of a log as one that was committed.
#[must_use]
pub fn committed(entry: raftpb::Entry) -> Committed {
    Committed {
        index: RaftIndex(entry.index),
        term: Term(entry.term),
        kind: entry.r#type,
        data: entry.data,
    }
}

/// Makes a handout of an entry, and follows the members through it.
///
/// # Errors
/// A conf change that cannot be understood.
pub fn hand_out(membership: &mut Membership, entry: Committed) -> Result<Handout, MembershipError> {
    let members = if entry.kind == CONF_CHANGE {
        let change = conf_change(entry.index, entry.data.clone())?;
        match membership.apply(entry.index, &change)? {
            MemberChange::Added(_) | MemberChange::Promoted(_) | MemberChange::Removed(_) => {
                Some(membership.conf_state())
            }
            MemberChange::Updated(..) | MemberChange::Refused(_) => None,
        }
    } else {
        None
    };
    Ok(Handout { entry, members })
}

/// Raft's entry type of a conf change.
pub(super) const CONF_CHANGE: u32 = 1;

/// The conf change in an entry of that type.
pub(super) fn conf_change(
    index: RaftIndex,
    data: Bytes,
) -> Result<raftpb::ConfChange, MembershipError> {
    raftpb::ConfChange::decode(data).map_err(|_| MembershipError::Bytes { index })
}
