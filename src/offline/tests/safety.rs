//! Whatever a cluster committed is in the log that is chosen, whichever members are lost.

use std::collections::{BTreeSet, HashSet};

use super::model::{Cluster, Limits, Set, majority};
use crate::ids::{MemberId, RaftIndex, Term};
use crate::offline::{Candidate, decide};

fn ids(set: Set) -> BTreeSet<MemberId> {
    let bits = (0..8).filter(|bit| set & (1 << bit) != 0);
    bits.map(|bit| MemberId(bit + 1)).collect()
}

fn candidate(cluster: &Cluster, at: usize, known: usize) -> Candidate {
    let log = &cluster.nodes[at].log;
    let tail = log.iter().enumerate().skip(known);
    Candidate {
        member: MemberId(at as u64 + 1),
        last: (
            Term(log.last().map_or(0, |entry| entry.term).into()),
            RaftIndex(log.len() as u64),
        ),
        changes: tail
            .filter_map(|(at, entry)| Some((RaftIndex(at as u64 + 1), ids(entry.voters?))))
            .collect(),
    }
}

/// How often the question was put, and answered with a log.
#[derive(Debug, Default)]
struct Tally {
    asked: usize,
    decided: usize,
    beyond_known: usize,
    cut_short: usize,
}

/// Takes the members in `present`, of which one knows `known` entries to be committed.
fn check(cluster: &Cluster, present: Set, known: usize, tally: &mut Tally) {
    let there: Vec<usize> = (0..cluster.nodes.len())
        .filter(|at| present & (1 << at) != 0)
        .collect();
    let candidates: Vec<Candidate> = there
        .iter()
        .map(|at| candidate(cluster, *at, known))
        .collect();
    let voters = ids(cluster.voters(&cluster.committed[..known]));
    let decision = decide(RaftIndex(known as u64), &voters, &candidates);
    tally.asked += 1;
    let bound = usize::try_from(decision.bound.0).unwrap();
    let Some(winner) = decision.winner else {
        assert_eq!(bound, known);
        assert!(!majority(
            present,
            cluster.voters(&cluster.committed[..known])
        ));
        return;
    };
    tally.decided += 1;
    let log = &cluster.nodes[there[winner]].log;
    assert!(bound <= log.len() && bound >= known);
    // What counts is what was committed, or goes on from all of it.
    let shared = bound.min(cluster.committed.len());
    assert_eq!(
        log[..shared],
        cluster.committed[..shared],
        "{cluster:?} {present:b}"
    );
    if bound == log.len() {
        assert!(bound >= cluster.committed.len(), "{cluster:?} {present:b}");
        tally.beyond_known += usize::from(bound > known);
    } else {
        assert!(log[bound - 1].voters.is_some());
        tally.cut_short += 1;
    }
}

fn check_all(cluster: &Cluster, tally: &mut Tally) {
    for present in 1..1 << cluster.nodes.len() {
        let there = (0..cluster.nodes.len()).filter(|at| present & (1 << at) != 0);
        let most = there.map(|at| cluster.nodes[at].commit).max().unwrap();
        // What a member wrote down of its knowledge may be old.
        for known in 0..=most {
            check(cluster, present, known, tally);
        }
    }
}

/// Every state that three voters can come to, with three elections and three entries.
#[test]
fn every_state_of_three_voters() {
    let limits = Limits { term: 3, log: 3 };
    let first = Cluster::new(3, 0b111);
    let mut seen = HashSet::from([first.clone()]);
    let mut open = vec![first];
    let mut tally = Tally::default();
    while let Some(cluster) = open.pop() {
        check_all(&cluster, &mut tally);
        for step in cluster.steps(limits, false) {
            let mut next = cluster.clone();
            next.take(step);
            if seen.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    assert!(seen.len() > 10_000 && tally.beyond_known > 10_000);
}

/// Random ways of up to five members that come and go.
#[test]
fn long_ways_with_changing_voters() {
    let limits = Limits { term: 12, log: 14 };
    let mut random = fastrand::Rng::with_seed(1);
    let mut tally = Tally::default();
    let mut changed = 0;
    for _ in 0..2_000 {
        let initial = [0b1, 0b11, 0b111, 0b1111][random.usize(..4)];
        let mut cluster = Cluster::new(5, initial);
        for _ in 0..60 {
            let steps = cluster.steps(limits, true);
            let Some(step) = random.choice(&steps) else {
                break;
            };
            cluster.take(*step);
        }
        changed += usize::from(cluster.voters(&cluster.committed) != initial);
        check_all(&cluster, &mut tally);
    }
    assert!(changed > 100 && tally.beyond_known > 1000 && tally.cut_short > 100);
}

#[test]
fn a_minority_decides_nothing() {
    let log = |member, term, index| Candidate {
        member: MemberId(member),
        last: (Term(term), RaftIndex(index)),
        changes: Vec::new(),
    };
    let known = RaftIndex(5);
    let of = |voters: Set, logs: &[Candidate]| {
        let decision = decide(known, &ids(voters), logs);
        (decision.winner, decision.bound.0)
    };
    assert_eq!(of(0b111, &[log(1, 2, 9)]), (None, 5));
    assert_eq!(of(0b11, &[log(1, 2, 9)]), (None, 5));
    // A learner's log does not count, and does not win.
    assert_eq!(of(0b111, &[log(1, 2, 9), log(7, 2, 9)]), (None, 5));
    let logs = [log(1, 2, 9), log(2, 3, 6), log(7, 4, 20)];
    assert_eq!(of(0b111, &logs), (Some(1), 6));
    assert_eq!(of(0b1, &[log(1, 2, 9)]), (Some(0), 9));
    assert_eq!(of(0b1, &[]), (None, 5));
}
