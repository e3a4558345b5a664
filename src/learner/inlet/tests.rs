//! The learner's buffers against a simulated leader.

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::ids::MemberId;
use crate::learner::Cut;
use crate::pb::raftpb::Entry;

const US: MemberId = MemberId(9);
const LEADER: u64 = 1;
const ENTRY_BYTES: usize = 1000;

#[test]
fn what_is_not_durable_is_counted_by_index() {
    let mut undurable = Undurable {
        first: RaftIndex(5),
        ..Undurable::default()
    };
    undurable.note(&[(4, 1), (5, 10), (6, 20), (7, 30)], RaftIndex(7));
    assert_eq!(undurable.bytes, 60);
    undurable.note(&[(6, 21), (7, 30)], RaftIndex(7));
    assert_eq!(undurable.bytes, 61, "sent again");
    undurable.note(&[(6, 5)], RaftIndex(6));
    assert_eq!(undurable.bytes, 15, "the rest was overwritten");
    undurable.note(&[(9, 99)], RaftIndex(6));
    assert_eq!(undurable.bytes, 15, "rejected");
    undurable.release(RaftIndex(5));
    assert_eq!((undurable.bytes, undurable.first), (5, RaftIndex(6)));
}

/// A leader with a log of plain entries and etcd's view of one follower: probe or replicate, a
/// window of unacknowledged messages, and a network that may turn a burst around.
struct Leader {
    last: u64,
    matched: u64,
    next: u64,
    probing: bool,
    in_flight: u64,
    sent_entries: u64,
}

const WINDOW: u64 = 64;
const ENTRIES_PER_MESSAGE: u64 = 4;

impl Leader {
    fn new(last: u64) -> Self {
        Self {
            last,
            matched: 0,
            next: last + 1,
            probing: true,
            in_flight: 0,
            sent_entries: 0,
        }
    }

    /// What the leader sends now.
    fn send(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        while (self.probing && self.in_flight == 0)
            || (!self.probing && self.next <= self.last && self.in_flight < WINDOW)
        {
            let end = (self.next + ENTRIES_PER_MESSAGE - 1).min(self.last);
            let entries: Vec<_> = (self.next..=end)
                .map(|index| {
                    let data = Bytes::from(vec![b'x'; ENTRY_BYTES]);
                    Entry {
                        r#type: 0,
                        term: 1,
                        index,
                        data,
                    }
                })
                .collect();
            self.sent_entries += entries.len() as u64;
            messages.push(Message {
                r#type: kind::APPEND,
                to: US.0,
                from: LEADER,
                term: 1,
                log_term: u64::from(self.next > 1),
                index: self.next - 1,
                entries,
                commit: self.last,
                ..Message::default()
            });
            self.in_flight += 1;
            if self.probing {
                break;
            }
            self.next = end + 1;
        }
        messages
    }

    fn receive(&mut self, answer: &Message) {
        if answer.reject {
            if self.probing && answer.index == self.next - 1 {
                self.next = answer
                    .index
                    .min(answer.reject_hint + 1)
                    .max(self.matched + 1);
                self.in_flight = 0;
            } else if !self.probing && answer.index > self.matched {
                self.next = self.matched + 1;
                self.probing = true;
                self.in_flight = 0;
            }
        } else if answer.index > self.matched {
            self.matched = answer.index;
            self.in_flight = self.in_flight.saturating_sub(1);
            if self.probing {
                self.probing = false;
                self.next = self.matched + 1;
                self.in_flight = 0;
            }
        }
    }

    /// A heartbeat was answered: one slot of a stuck window is freed, a probe goes out again.
    fn heartbeat(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }
}

struct World {
    leader: Leader,
    inlet: Inlet,
    now: Instant,
    handed_out: Vec<u64>,
    most_held: usize,
    rejects: u64,
}

impl World {
    fn new(last: u64, limit_bytes: usize) -> Self {
        let node = Node::new(US, Cut::default(), []).unwrap();
        Self {
            leader: Leader::new(last),
            inlet: Inlet::new(node, limit_bytes),
            now: Instant::now(),
            handed_out: Vec::new(),
            most_held: 0,
            rejects: 0,
        }
    }

    /// One round trip: a burst of the leader, answers, and a standby that takes in `durable` more
    /// entries.
    fn round(&mut self, backwards: bool, durable: u64) {
        let mut burst = self.leader.send();
        if backwards {
            burst.reverse();
        }
        for message in burst {
            self.inlet.handle_message(self.now, message).unwrap();
            self.collect();
        }
        let front = (self.inlet.node.durable().0 + durable).min(self.inlet.node.committed().0);
        self.inlet
            .handle_durable(self.now, RaftIndex(front))
            .unwrap();
        self.collect();
        self.now += Duration::from_millis(100);
        self.leader.heartbeat();
        if self.inlet.poll_timeout().is_some_and(|at| at <= self.now) {
            self.inlet.handle_timeout(self.now).unwrap();
            self.collect();
        }
    }

    fn collect(&mut self) {
        while let Some(answer) = self.inlet.node.poll_message() {
            assert!(answer.reject || answer.index <= self.inlet.node.durable().0);
            self.rejects += u64::from(answer.reject);
            self.leader.receive(&answer);
        }
        while let Some(handout) = self.inlet.node.poll_handout() {
            self.handed_out.push(handout.entry.index.0);
        }
        self.most_held = self.most_held.max(self.inlet.held_bytes());
    }

    /// Rounds until everything is durable.
    fn finish(&mut self, backwards: bool, durable: u64) {
        for _ in 0..5_000 {
            self.round(backwards, durable);
            if self.inlet.node.durable().0 == self.leader.last {
                let all: Vec<u64> = (1..=self.leader.last).collect();
                assert_eq!(self.handed_out, all, "each entry once, in order");
                return;
            }
        }
        panic!(
            "stuck at durable {}, received {}, of {}",
            self.inlet.node.durable(),
            self.inlet.node.last_index(),
            self.leader.last
        );
    }
}

#[test]
fn a_burst_that_arrives_backwards_costs_no_second_copy() {
    let mut world = World::new(400, 10 << 20);
    world.finish(true, 1000);
    assert!(world.leader.sent_entries <= 400 + 2 * ENTRIES_PER_MESSAGE);
    assert!(world.rejects <= 2, "{} rejects", world.rejects);
}

#[test]
fn memory_stays_bounded_however_slow_the_standby_is() {
    for backwards in [false, true] {
        for durable in [1, 7, 50] {
            let limit_bytes = 40 * (ENTRY_BYTES + ENTRY_OVERHEAD_BYTES);
            let mut world = World::new(600, limit_bytes);
            world.finish(backwards, durable);
            let one_message = 4 * (ENTRY_BYTES + ENTRY_OVERHEAD_BYTES);
            assert!(
                world.most_held <= limit_bytes + one_message,
                "held {} of {limit_bytes}",
                world.most_held
            );
            assert!(
                world.inlet.counts().dropped > 0,
                "the limit was never reached"
            );
        }
    }
}

#[test]
fn a_message_larger_than_the_limit_still_passes_alone() {
    let mut world = World::new(40, ENTRY_BYTES);
    world.finish(false, 4);
}

/// The last entry held is not committed as far as we know, and the message is lost that says it is:
/// the leader, which hears of the entry only once it is durable, must be told of the gap.
#[test]
fn a_gap_behind_an_uncommitted_entry_is_told() {
    let node = Node::new(US, Cut::default(), []).unwrap();
    let mut inlet = Inlet::new(node, 1 << 20);
    let now = Instant::now();
    let mut leader = Leader::new(6);
    leader.next = 1;
    let mut first = leader.send().remove(0);
    first.commit = 3;
    assert_eq!(first.entries.len(), 4);
    inlet.handle_message(now, first).unwrap();
    inlet.handle_durable(now, RaftIndex(3)).unwrap();
    let far = Message {
        r#type: kind::APPEND,
        to: US.0,
        from: LEADER,
        term: 1,
        log_term: 1,
        index: 6,
        commit: 6,
        ..Message::default()
    };
    inlet.handle_message(now, far).unwrap();
    while inlet.node.poll_message().is_some() {}
    let later = inlet.poll_timeout().unwrap();
    inlet.handle_timeout(later).unwrap();
    let answers: Vec<_> = std::iter::from_fn(|| inlet.node.poll_message()).collect();
    assert!(answers.iter().any(|answer| answer.reject), "{answers:?}");
}
