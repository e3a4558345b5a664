//! Entries from data directories, in the form in which the learner hands them out. Pure, but for
//! reading logs.

use std::collections::VecDeque;

use super::error::Error;
use super::member::{DataDir, conf_change, is_conf_change};
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
                return Ok(Some(hand_out(&mut self.membership, entry)?));
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

/// Makes a handout of an entry, and follows the members through it.
pub(super) fn hand_out(
    membership: &mut Membership,
    entry: raftpb::Entry,
) -> Result<Handout, MembershipError> {
    let index = RaftIndex(entry.index);
    let members = if is_conf_change(&entry) {
        match membership.apply(index, &conf_change(&entry)?)? {
            MemberChange::Added(_) | MemberChange::Promoted(_) | MemberChange::Removed(_) => {
                Some(membership.conf_state())
            }
            MemberChange::Updated(..) | MemberChange::Refused(_) => None,
        }
    } else {
        None
    };
    Ok(Handout {
        entry: Committed {
            index,
            term: Term(entry.term),
            kind: entry.r#type,
            data: entry.data,
        },
        members,
    })
}
