//! Data directories of one cluster taken together: which entries count. Pure, but for reading logs.

use std::collections::BTreeSet;

use super::election::{Candidate, Decision, decide};
use super::error::Error;
use super::files::Database;
use super::handouts::{Handouts, Piece, committed};
use super::member::{DataDir, restored_at};
use crate::checkpoint::{Checkpoint, Phase};
use crate::entry::Committed;
use crate::ids::{ClusterId, MemberId, RaftIndex, Term};
use crate::learner::{Membership, conf_state_to_raft};
use crate::pb::raftpb;

/// Why the entries that count do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Basis {
    /// Some member knew that they were committed. What lies beyond is undetermined: only some of
    /// the voters are here.
    Known {
        /// The voters as of the last entry known to be committed.
        voters: BTreeSet<MemberId>,
        /// Those of them whose directories are here.
        present: BTreeSet<MemberId>,
    },
    /// A majority of the voters is here, and this is the best of their logs.
    Elected {
        /// Whose log it is.
        member: MemberId,
    },
}

/// Entries that may have been committed, or not: they are in one member's log, and whoever could
/// tell is not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undetermined {
    /// Whose log they are in.
    pub member: MemberId,
    /// The first one.
    pub first: RaftIndex,
    /// The last one.
    pub last: RaftIndex,
}

/// What is left of a primary.
#[derive(Debug)]
pub struct Recovery {
    dirs: Vec<DataDir>,
    /// The one whose log counts.
    source: usize,
    known: RaftIndex,
    bound: RaftIndex,
    basis: Basis,
}

impl Recovery {
    /// Takes directories of one cluster together.
    ///
    /// # Errors
    /// If they do not belong together, contradict each other, or who the voters were is not known.
    pub fn of(dirs: Vec<DataDir>) -> Result<Self, Error> {
        check_identities(&dirs)?;
        // The longest log among those that know the most.
        let best = dirs.iter().enumerate();
        let best = best.max_by_key(|(_, dir)| (dir.commit(), dir.last()));
        let (reference, dir) = best.ok_or(Error::NoDirectory)?;
        let known = dir.commit();
        let members = dir.membership_at(known)?.ok_or_else(|| Error::NoMembers {
            dir: dir.name(),
            index: known,
        })?;
        let voters = voters(&members);
        let candidates = dirs.iter().map(|dir| candidate(dir, known, &members));
        let candidates = candidates.collect::<Result<Vec<_>, _>>()?;
        let Decision { winner, bound } = decide(known, &voters, &candidates);
        let source = winner.unwrap_or(reference);
        let recovery = Self {
            basis: match candidates.get(source) {
                Some(elected) if winner.is_some() => Basis::Elected {
                    member: elected.member,
                },
                _ => Basis::Known {
                    present: candidates
                        .iter()
                        .map(|candidate| candidate.member)
                        .filter(|member| voters.contains(member))
                        .collect(),
                    voters,
                },
            },
            dirs,
            source,
            known,
            bound,
        };
        recovery.check_agreement()?;
        Ok(recovery)
    }

    /// Each log must hold what another one says is committed, as far as it reaches.
    fn check_agreement(&self) -> Result<(), Error> {
        let Some(source) = self.dirs.get(self.source) else {
            return Ok(());
        };
        for dir in &self.dirs {
            let index = dir.commit();
            let contradiction = || Error::Contradiction {
                first: source.name(),
                second: dir.name(),
                index,
            };
            if index > source.last().1 {
                return Err(contradiction());
            }
            let terms = (source.wal().term_of(index), dir.wal().term_of(index));
            if let (Some(one), Some(other)) = terms
                && one != other
            {
                return Err(contradiction());
            }
        }
        Ok(())
    }

    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.dirs.first().map_or(ClusterId(0), DataDir::cluster)
    }

    /// The directories.
    #[must_use]
    pub fn dirs(&self) -> &[DataDir] {
        &self.dirs
    }

    /// The last entry that some member knew to be committed.
    #[must_use]
    pub fn known(&self) -> RaftIndex {
        self.known
    }

    /// The last entry that counts.
    #[must_use]
    pub fn bound(&self) -> RaftIndex {
        self.bound
    }

    /// Why it does.
    #[must_use]
    pub fn basis(&self) -> &Basis {
        &self.basis
    }

    /// What lies beyond the bound and may have been committed.
    #[must_use]
    pub fn undetermined(&self) -> Vec<Undetermined> {
        let is_elected = matches!(self.basis, Basis::Elected { .. });
        let dirs = self.dirs.iter().enumerate();
        // The tails of those that were not elected are lost.
        let open = dirs.filter(|(at, _)| !is_elected || *at == self.source);
        open.map(|(_, dir)| Undetermined {
            member: dir.member(),
            first: self.bound.next(),
            last: dir.last().1,
        })
        .filter(|tail| tail.first <= tail.last)
        .collect()
    }

    /// Takes what is undetermined for committed, too: of several logs the one that would be elected
    /// if nobody else had a better one.
    ///
    /// # Errors
    /// If the logs contradict each other then.
    pub fn with_undetermined(mut self) -> Result<Self, Error> {
        if matches!(self.basis, Basis::Known { .. }) {
            let dirs = self.dirs.iter().enumerate();
            let best = dirs.max_by_key(|(_, dir)| dir.last());
            self.source = best.map_or(self.source, |(at, _)| at);
        }
        let source = self.dirs.get(self.source);
        self.bound = source.map_or(self.bound, |dir| dir.last().1);
        self.check_agreement()?;
        Ok(self)
    }

    /// The entries of one member's log that may have been committed.
    ///
    /// # Errors
    /// If the log does not hold them.
    pub fn tail(
        &self,
        tail: Undetermined,
    ) -> Result<impl Iterator<Item = Result<Committed, Error>>, Error> {
        let mut dirs = self.dirs.iter();
        let dir = dirs.find(|dir| dir.member() == tail.member);
        let dir = dir.ok_or(Error::NoDirectory)?;
        let entries = dir.entries(tail.first, tail.last)?;
        Ok(entries.map(|entry| entry.map(committed).map_err(|error| dir.wal_error(error))))
    }

    /// The newest database of no later than `until`, with the directory that it is in.
    #[must_use]
    pub fn database(&self, until: RaftIndex) -> Option<(&DataDir, &Database)> {
        let until = until.min(self.bound);
        let held = self.dirs.iter();
        let held = held.filter_map(|dir| Some((dir, dir.database()?)));
        // 0 is that of a member that has applied nothing.
        let usable = held.filter(|(_, database)| {
            let index = database.position.index;
            index > RaftIndex(0) && index <= until
        });
        usable.max_by_key(|(_, database)| database.position.index)
    }

    /// Makes sure that each directory is one of a member that the cluster still has.
    ///
    /// # Errors
    /// [`Error::NotAMember`], or if a log cannot be read.
    pub fn check_members(&self) -> Result<(), Error> {
        let Some(source) = self.dirs.get(self.source) else {
            return Ok(());
        };
        let index = self.known;
        let known = source.membership_at(index)?;
        let latest = source.membership_at(self.bound)?;
        let (Some(known), Some(latest)) = (known, latest) else {
            return Ok(());
        };
        for dir in &self.dirs {
            let member = dir.member();
            let mut members = known.members().chain(latest.members());
            if members.all(|listed| listed.id != member) {
                let dir = dir.name();
                return Err(Error::NotAMember { dir, member, index });
            }
        }
        Ok(())
    }

    /// The member whose log counts.
    #[must_use]
    pub fn source_member(&self) -> MemberId {
        self.dirs
            .get(self.source)
            .map_or(MemberId(0), DataDir::member)
    }

    /// The entries that count behind a checkpoint, in order.
    ///
    /// # Errors
    /// If the checkpoint is of another history or ahead, the standby is not consistent there, or
    /// entries behind it are missing.
    pub fn behind(&self, checkpoint: &Checkpoint) -> Result<Handouts<'_>, Error> {
        let dir = self.dirs.get(self.source).ok_or(Error::NoDirectory)?;
        let (index, ours) = (checkpoint.index, checkpoint.term);
        if checkpoint.primary != self.cluster() {
            return Err(Error::OtherCluster {
                dir: dir.name(),
                found: self.cluster(),
                wanted: checkpoint.primary,
            });
        }
        match checkpoint.phase {
            Phase::Streaming => {}
            Phase::Installing { .. } => return Err(Error::Installing),
        }
        for dir in &self.dirs {
            let restored = restored_at(dir.wal()).map_err(|error| dir.wal_error(error))?;
            if let Some(restored) = restored.filter(|restored| index < *restored) {
                let dir = dir.name();
                return Err(Error::Restored { dir, restored });
            }
        }
        if index > self.bound {
            return Err(Error::NothingNew {
                checkpoint: index,
                bound: self.bound,
            });
        }
        for (at, dir) in self.dirs.iter().enumerate() {
            let is_decided = index <= dir.commit() || at == self.source;
            if let Some(theirs) = dir.wal().term_of(index).filter(|_| is_decided)
                && theirs != ours
            {
                return Err(Error::HistoryConflict {
                    dir: dir.name(),
                    index,
                    theirs,
                    ours,
                });
            }
        }
        let pieces = self.pieces(index.next())?;
        let membership = self.membership_behind(checkpoint)?;
        Ok(Handouts::new(&self.dirs, pieces, membership))
    }

    /// From which directory each entry is taken: what the chosen log does not reach back to is
    /// committed, and any other log that holds it as such will do.
    fn pieces(&self, first: RaftIndex) -> Result<Vec<Piece>, Error> {
        let mut pieces = Vec::new();
        let mut next = first;
        let source = self.dirs.get(self.source).ok_or(Error::NoDirectory)?;
        let begins = source.wal().first();
        while next < begins && next <= self.bound {
            let holders = self.dirs.iter().enumerate();
            let holders = holders.filter(|(_, dir)| dir.wal().first() <= next);
            let farthest = holders.max_by_key(|(_, dir)| dir.commit());
            let held = farthest.filter(|(_, dir)| dir.commit() >= next);
            let Some((dir, holder)) = held else {
                let firsts = self.dirs.iter().map(|dir| dir.wal().first());
                let first = firsts.filter(|first| *first > next).min();
                let first = first.unwrap_or(begins);
                return Err(Error::NotHeld {
                    wanted: next,
                    first,
                });
            };
            let last = holder.commit().min(RaftIndex(begins.0 - 1));
            pieces.push(Piece {
                dir,
                first: next,
                last,
            });
            next = last.next();
        }
        if next <= self.bound {
            pieces.push(Piece {
                dir: self.source,
                first: next,
                last: self.bound,
            });
        }
        Ok(pieces)
    }

    /// The members at a checkpoint: from a directory that can tell, with URLs; else only who they
    /// are, from the checkpoint itself.
    fn membership_behind(&self, checkpoint: &Checkpoint) -> Result<Membership, Error> {
        for (at, dir) in self.dirs.iter().enumerate() {
            // Behind what it knows of, only the log that counts has nothing that was replaced.
            if (dir.commit() >= checkpoint.index || at == self.source)
                && let Some(membership) = dir.membership_at(checkpoint.index)?
            {
                return Ok(membership);
            }
        }
        let ids = |members: &[MemberId]| members.iter().map(|member| member.0).collect();
        let group = raftpb::ConfState {
            voters: ids(&checkpoint.voters),
            learners: ids(&checkpoint.learners),
            ..raftpb::ConfState::default()
        };
        Ok(Membership::new([], &conf_state_to_raft(&group)))
    }
}

fn check_identities(dirs: &[DataDir]) -> Result<(), Error> {
    let Some(first) = dirs.first() else {
        return Err(Error::NoDirectory);
    };
    for (at, dir) in (1..).zip(dirs) {
        if dir.cluster() != first.cluster() {
            return Err(Error::OtherCluster {
                dir: dir.name(),
                found: dir.cluster(),
                wanted: first.cluster(),
            });
        }
        let others = dirs.get(at..).unwrap_or_default();
        if let Some(same) = others.iter().find(|other| other.member() == dir.member()) {
            return Err(Error::SameMember {
                first: dir.name(),
                second: same.name(),
                member: dir.member(),
            });
        }
    }
    Ok(())
}

fn voters(members: &Membership) -> BTreeSet<MemberId> {
    let voters = members.members().filter(|member| !member.is_learner);
    voters.map(|member| member.id).collect()
}

/// A directory as a candidate: its last entry, and how the voters change behind `known`.
fn candidate(dir: &DataDir, known: RaftIndex, members: &Membership) -> Result<Candidate, Error> {
    let last: (Term, RaftIndex) = dir.last();
    let mut changes = Vec::new();
    if last.1 > known {
        let mut members = members.clone();
        let mut before = voters(&members);
        dir.conf_changes(known.next(), last.1, |index, change| {
            members.apply(index, change)?;
            let after = voters(&members);
            if after != before {
                changes.push((index, after.clone()));
                before = after;
            }
            Ok(())
        })?;
    }
    Ok(Candidate {
        member: dir.member(),
        last,
        changes,
    })
}
