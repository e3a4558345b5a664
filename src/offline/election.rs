//! Which of several logs is the truth. Pure.
//!
//! An entry is committed when a majority of the voters has it. So every majority of them includes
//! one that has it, and of the logs of a majority the best one, by last term and then by length,
//! holds all that was committed: this is why raft elects the owner of that log. What else it holds
//! may have been committed, and a cluster that started from these members would commit it.
//!
//! Voters change by entries in the log. A log counts up to the first such change whose voters are
//! not a majority here: what was committed under it may lie in logs that are not.
//!
//! # Source
//! raft `log.go`, `isUpToDate`; `raft.go`, `becomeLeader` and `maybeCommit`.

use std::collections::BTreeSet;

use crate::ids::{MemberId, RaftIndex, Term};

/// One member's log, as far as an election looks at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Whose it is.
    pub member: MemberId,
    /// Term and index of its last entry.
    pub last: (Term, RaftIndex),
    /// The voters after each change of the membership behind the known commit index, ascending.
    pub changes: Vec<(RaftIndex, BTreeSet<MemberId>)>,
}

/// Which entries count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The candidate whose log holds everything up to `bound`; None if there are too few to tell
    /// more than what is known.
    pub winner: Option<usize>,
    /// The last entry that counts.
    pub bound: RaftIndex,
}

/// Decides which log counts, and how far. All that lies up to `known` is committed, and `voters`
/// are those as of that index.
#[must_use]
pub fn decide(known: RaftIndex, voters: &BTreeSet<MemberId>, candidates: &[Candidate]) -> Decision {
    let present: BTreeSet<MemberId> = candidates.iter().map(|log| log.member).collect();
    let is_majority =
        |voters: &BTreeSet<MemberId>| voters.intersection(&present).count() * 2 > voters.len();
    let undecided = Decision {
        winner: None,
        bound: known,
    };
    if !is_majority(voters) {
        return undecided;
    }
    let mut electorate = voters.clone();
    loop {
        let entitled = candidates.iter().enumerate();
        let entitled = entitled.filter(|(_, log)| electorate.contains(&log.member));
        let Some((winner, log)) = entitled.max_by_key(|(_, log)| log.last) else {
            return undecided;
        };
        // The best log may name voters whose logs are better still.
        let before = electorate.len();
        electorate.extend(log.changes.iter().flat_map(|(_, voters)| voters));
        if electorate.len() > before {
            continue;
        }
        let mut changes = log.changes.iter();
        let lost = changes.find(|(_, voters)| !is_majority(voters));
        return Decision {
            winner: Some(winner),
            bound: lost.map_or(log.last.1, |(index, _)| *index),
        };
    }
}
