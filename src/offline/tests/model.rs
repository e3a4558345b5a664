//! Raft without a network: every step that a cluster can take, at once.
//!
//! As in etcd, a change of the voters counts for a member once it knows that the change is
//! committed, and a leader waits for one before it proposes the next.

use std::collections::BTreeSet;

/// A set of members as bits.
pub(super) type Set = u8;

pub(super) fn majority(of: Set, in_: Set) -> bool {
    (of & in_).count_ones() * 2 > in_.count_ones()
}

/// An entry: its term, and the voters behind it if it changes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Entry {
    pub(super) term: u8,
    pub(super) voters: Option<Set>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Node {
    pub(super) term: u8,
    pub(super) log: Vec<Entry>,
    /// How many entries it knows to be committed.
    pub(super) commit: usize,
    pub(super) leads: bool,
    /// Before this many entries are committed it proposes no change.
    pending: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Cluster {
    pub(super) nodes: Vec<Node>,
    /// The voters before the first entry.
    pub(super) initial: Set,
    /// What any leader ever committed.
    pub(super) committed: Vec<Entry>,
}

/// How far the model goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) term: u8,
    pub(super) log: usize,
}

/// A step that a cluster can take.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// A member is elected by these.
    Elect(usize, Set),
    /// A leader proposes something, a change of the voters perhaps.
    Propose(usize, Option<Set>),
    /// A leader's log comes to a member, so much of it.
    Replicate(usize, usize, usize),
    /// A leader finds so much of its log with a majority.
    Commit(usize, usize),
}

impl Cluster {
    pub(super) fn new(nodes: usize, initial: Set) -> Self {
        Self {
            nodes: vec![Node::default(); nodes],
            initial,
            committed: Vec::new(),
        }
    }

    /// The voters behind these entries.
    pub(super) fn voters(&self, log: &[Entry]) -> Set {
        let changes = log.iter().rev().find_map(|entry| entry.voters);
        changes.unwrap_or(self.initial)
    }

    fn applied(&self, node: usize) -> Set {
        let node = &self.nodes[node];
        self.voters(&node.log[..node.commit])
    }

    /// Every step that can be taken. `changes`: the voters may change.
    pub(super) fn steps(&self, limits: Limits, changes: bool) -> Vec<Step> {
        let mut steps = Vec::new();
        let all = self.nodes.len();
        for at in 0..all {
            self.elections(at, limits, &mut steps);
            let node = &self.nodes[at];
            if !node.leads {
                continue;
            }
            if node.log.len() < limits.log {
                steps.push(Step::Propose(at, None));
                let now = self.applied(at);
                if changes && node.commit >= node.pending {
                    let flipped = (0..all).map(|other| now ^ (1 << other));
                    let proposals = flipped.filter(|voters| *voters != 0);
                    steps.extend(proposals.map(|voters| Step::Propose(at, Some(voters))));
                }
            }
            for other in (0..all).filter(|other| *other != at) {
                if self.nodes[other].term <= node.term {
                    let lengths = 1..=node.log.len();
                    steps.extend(lengths.map(|length| Step::Replicate(at, other, length)));
                }
            }
            for length in node.commit + 1..=node.log.len() {
                if node.log[length - 1].term == node.term
                    && majority(self.holders(at, length), self.applied(at))
                {
                    steps.push(Step::Commit(at, length));
                }
            }
        }
        steps
    }

    fn elections(&self, at: usize, limits: Limits, steps: &mut Vec<Step>) {
        let voters = self.applied(at);
        let known = self.voters(&self.committed);
        // raft itself is safe only while nobody is two changes behind.
        let close = (voters ^ known).count_ones() <= 1;
        if voters & (1 << at) == 0 || !close {
            return;
        }
        let last = |node: &Node| (node.log.last().map_or(0, |e| e.term), node.log.len());
        let mine = last(&self.nodes[at]);
        for set in 0..1 << self.nodes.len() {
            let set: Set = set;
            let ids = (0..self.nodes.len()).filter(|id| set & (1 << id) != 0);
            let all_would = ids.clone().all(|id| last(&self.nodes[id]) <= mine);
            let term = ids.map(|id| self.nodes[id].term).max().unwrap_or(0);
            if set & (1 << at) != 0
                && set & !voters == 0
                && majority(set, voters)
                && all_would
                && term < limits.term
                && self.nodes[at].log.len() < limits.log
            {
                steps.push(Step::Elect(at, set));
            }
        }
    }

    /// The members that hold so much of a leader's log and follow it.
    fn holders(&self, leader: usize, length: usize) -> Set {
        let node = &self.nodes[leader];
        let holds = |other: &Node| {
            other.term == node.term && other.log.get(..length) == node.log.get(..length)
        };
        let ids = (0..self.nodes.len()).filter(|id| holds(&self.nodes[*id]));
        ids.fold(0, |set, id| set | 1 << id)
    }

    pub(super) fn take(&mut self, step: Step) {
        match step {
            Step::Elect(at, set) => {
                let voters = (0..self.nodes.len()).filter(|id| set & (1 << id) != 0);
                let voters: BTreeSet<usize> = voters.collect();
                let term = voters.iter().map(|id| self.nodes[*id].term).max().unwrap() + 1;
                for id in voters {
                    self.nodes[id].term = term;
                    self.nodes[id].leads = false;
                }
                let node = &mut self.nodes[at];
                node.leads = true;
                node.pending = node.log.len();
                node.log.push(Entry { term, voters: None });
            }
            Step::Propose(at, voters) => {
                let node = &mut self.nodes[at];
                let term = node.term;
                node.log.push(Entry { term, voters });
                if voters.is_some() {
                    node.pending = node.log.len();
                }
            }
            Step::Replicate(from, to, length) => {
                let leader = self.nodes[from].clone();
                let node = &mut self.nodes[to];
                if node.term < leader.term {
                    node.leads = false;
                    node.term = leader.term;
                }
                if node.log.get(..length) != Some(&leader.log[..length]) {
                    node.log = leader.log[..length].to_vec();
                }
                node.commit = node.commit.max(leader.commit.min(length));
            }
            Step::Commit(at, length) => {
                let node = &mut self.nodes[at];
                node.commit = length;
                let log = &node.log[..length];
                let shared = log.len().min(self.committed.len());
                assert_eq!(
                    log[..shared],
                    self.committed[..shared],
                    "the model is unsafe"
                );
                if log.len() > shared {
                    self.committed = log.to_vec();
                }
            }
        }
    }
}
