//! Holds acknowledgements back until what they speak of is durable in the standby. Pure.
//!
//! raft acknowledges an append as soon as it holds the entries. We hold them in memory only, and a
//! leader of 3.6 or later never recovers from a member that lost what it acknowledged. So each
//! acknowledgement passes this gate, which lowers it to the durable index, and whenever the durable
//! index moves the gate yields the acknowledgement that was held back.

use crate::ids::{MemberId, RaftIndex, Term};

/// An acknowledgement that may be sent: everything up to `index` is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The leader it goes to.
    pub to: MemberId,
    /// The term in which it is said.
    pub term: Term,
    /// Never above the durable index.
    pub index: RaftIndex,
}

/// The gate. One leader at a time: a new term or another leader forgets what the last one matched.
#[derive(Debug)]
pub struct AckGate {
    durable: RaftIndex,
    acknowledged: RaftIndex,
    matched: Option<Matched>,
}

#[derive(Debug)]
struct Matched {
    leader: MemberId,
    term: Term,
    /// Highest index at which our log is known to agree with this leader's.
    index: RaftIndex,
    /// Highest index that this leader was told.
    told: RaftIndex,
}

impl AckGate {
    /// A gate for a learner whose standby holds everything up to `durable`.
    #[must_use]
    pub fn new(durable: RaftIndex) -> Self {
        Self {
            durable,
            acknowledged: RaftIndex(0),
            matched: None,
        }
    }

    /// The highest index that the standby holds durably.
    #[must_use]
    pub fn durable(&self) -> RaftIndex {
        self.durable
    }

    /// The highest index ever acknowledged by this process, to whichever leader.
    #[must_use]
    pub fn acknowledged(&self) -> RaftIndex {
        self.acknowledged
    }

    /// raft wants to tell `leader` that our log agrees with its log up to `index`; returns what may
    /// be said now.
    pub fn hold(&mut self, leader: MemberId, term: Term, index: RaftIndex) -> Ack {
        let durable = self.durable;
        let matched = match &mut self.matched {
            Some(known) if known.leader == leader && known.term == term => known,
            slot => slot.insert(Matched {
                leader,
                term,
                index,
                told: RaftIndex(0),
            }),
        };
        matched.index = matched.index.max(index);
        let ack = Ack {
            to: leader,
            term,
            index: index.min(durable),
        };
        matched.told = matched.told.max(ack.index);
        self.note(ack)
    }

    /// The standby now holds everything up to `index`; returns the acknowledgement this sets free.
    ///
    /// # Panics
    /// If the durable index would fall.
    pub fn release(&mut self, index: RaftIndex) -> Option<Ack> {
        assert!(
            index >= self.durable,
            "the durable index fell from {} to {index}",
            self.durable
        );
        self.durable = index;
        let matched = self.matched.as_mut()?;
        let free = matched.index.min(index);
        if free <= matched.told {
            return None;
        }
        matched.told = free;
        let ack = Ack {
            to: matched.leader,
            term: matched.term,
            index: free,
        };
        Some(self.note(ack))
    }

    fn note(&mut self, ack: Ack) -> Ack {
        assert!(
            ack.index <= self.durable,
            "an acknowledgement runs ahead of the durable index"
        );
        self.acknowledged = self.acknowledged.max(ack.index);
        ack
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: MemberId = MemberId(1);
    const B: MemberId = MemberId(2);

    fn ack(to: MemberId, term: u64, index: u64) -> Ack {
        Ack {
            to,
            term: Term(term),
            index: RaftIndex(index),
        }
    }

    #[test]
    fn nothing_above_the_durable_index_is_acknowledged() {
        let mut gate = AckGate::new(RaftIndex(5));
        assert_eq!(gate.hold(A, Term(2), RaftIndex(9)), ack(A, 2, 5));
        assert_eq!(gate.release(RaftIndex(7)), Some(ack(A, 2, 7)));
        assert_eq!(
            gate.release(RaftIndex(12)),
            Some(ack(A, 2, 9)),
            "only what the leader has"
        );
        assert_eq!(gate.release(RaftIndex(13)), None, "said before");
        assert_eq!(gate.acknowledged(), RaftIndex(9));
    }

    #[test]
    fn a_new_leader_starts_from_what_it_matched_itself() {
        let mut gate = AckGate::new(RaftIndex(5));
        gate.hold(A, Term(2), RaftIndex(9));
        assert_eq!(gate.hold(B, Term(3), RaftIndex(6)), ack(B, 3, 5));
        assert_eq!(gate.release(RaftIndex(9)), Some(ack(B, 3, 6)));
    }

    #[test]
    fn before_any_leader_there_is_nothing_to_say() {
        let mut gate = AckGate::new(RaftIndex(0));
        assert_eq!(gate.release(RaftIndex(3)), None);
    }

    #[test]
    #[should_panic(expected = "the durable index fell")]
    fn the_durable_index_never_falls() {
        AckGate::new(RaftIndex(5)).release(RaftIndex(4));
    }
}
