use super::*;
use crate::pb::raftpb::Entry;
use bytes::Bytes;
use proptest::prelude::*;

const BIG: usize = 1 << 30;
const MS: Duration = Duration::from_millis(1);

/// Entries `index + 1 ..= index + count` of term 2, each with `data_bytes` of payload.
fn append(index: u64, count: u64, data_bytes: usize) -> Message {
    let entries = (index + 1..=index + count).map(|index| Entry {
        term: 2,
        index,
        data: Bytes::from(vec![0; data_bytes]),
        ..Entry::default()
    });
    Message {
        r#type: 3,
        from: 7,
        to: 9,
        term: 2,
        log_term: 2,
        index,
        entries: entries.collect(),
        ..Message::default()
    }
}

/// Steps everything there is; returns (index, entries) of what was delivered, and the last index.
fn drain(buffer: &mut Reorder, now: Instant, mut last: u64) -> (Vec<(u64, usize)>, u64) {
    let mut delivered = Vec::new();
    while let Some(step) = buffer.poll(now, last) {
        match step {
            Step::Deliver(message) => {
                assert!(message.index <= last, "{} is beyond {last}", message.index);
                delivered.push((message.index, message.entries.len()));
                last = message.entries.last().map_or(last, |e| e.index.max(last));
            }
            Step::Probe(probe) => panic!("probe at {}", probe.index),
        }
    }
    (delivered, last)
}

#[test]
fn a_descending_burst_comes_out_ascending() {
    let now = Instant::now();
    let mut buffer = Reorder::new(QUIET, BIG);
    for index in (11..=20).rev() {
        assert_eq!(buffer.offer(now, append(index, 1, 10), 10), None);
    }
    assert_eq!(buffer.held_count(), 10);
    let first = buffer.offer(now, append(10, 1, 10), 10).unwrap();
    assert_eq!(first.index, 10);
    let (delivered, last) = drain(&mut buffer, now, 11);
    assert_eq!(delivered, (11..=20).map(|i| (i, 1)).collect::<Vec<_>>());
    assert_eq!(
        (last, buffer.held_bytes(), buffer.poll_timeout()),
        (21, 0, None)
    );
}

/// Every order in which five messages may arrive.
#[test]
fn all_orders_of_five_are_delivered_in_order() {
    let mut orders = vec![Vec::new()];
    for _ in 0..5 {
        orders = orders
            .into_iter()
            .flat_map(|order: Vec<u64>| {
                (0..5)
                    .filter(|i| !order.contains(i))
                    .map(|i| [order.as_slice(), &[i]].concat())
                    .collect::<Vec<_>>()
            })
            .collect();
    }
    assert_eq!(orders.len(), 120);
    for order in orders {
        let now = Instant::now();
        let mut buffer = Reorder::new(QUIET, BIG);
        let mut last = 100;
        let mut seen = Vec::new();
        for position in &order {
            let message = append(100 + 2 * position, 2, 10);
            if let Some(message) = buffer.offer(now, message, last) {
                seen.push(message.index);
                last = last.max(message.index + 2);
            }
            let (delivered, after) = drain(&mut buffer, now, last);
            seen.extend(delivered.iter().map(|(index, _)| index));
            last = after;
        }
        assert_eq!(seen, [100, 102, 104, 106, 108], "{order:?}");
        assert_eq!(buffer.held_bytes(), 0);
    }
}

#[test]
fn entries_win_over_an_empty_message_of_the_same_index() {
    let now = Instant::now();
    for empty_first in [true, false] {
        let mut buffer = Reorder::new(QUIET, BIG);
        let mut empty = append(20, 0, 0);
        empty.commit = 19;
        let full = append(20, 3, 10);
        let order = if empty_first {
            [empty, full]
        } else {
            [full, empty]
        };
        for message in order {
            assert_eq!(buffer.offer(now, message, 10), None);
        }
        let Some(Step::Deliver(message)) = buffer.poll(now, 20) else {
            panic!("nothing is delivered");
        };
        assert_eq!((message.entries.len(), message.commit), (3, 19));
        assert_eq!(buffer.held_bytes(), 0);
    }
}

#[test]
fn a_gap_that_nothing_fills_is_probed_and_nothing_is_lost() {
    let start = Instant::now();
    let mut buffer = Reorder::new(QUIET, BIG);
    assert_eq!(buffer.offer(start, append(50, 2, 10), 0), None);
    assert_eq!(buffer.poll_timeout(), Some(start + QUIET));
    assert_eq!(buffer.poll(start + QUIET - MS, 0), None);
    let probe = append(50, 0, 0);
    assert_eq!(buffer.poll(start + QUIET, 0), Some(Step::Probe(probe)));
    assert_eq!(buffer.poll(start + QUIET, 0), None);
    // The leader sends what is missing; what was held is of use still.
    let filler = append(0, 50, 10);
    assert!(buffer.offer(start + QUIET, filler, 0).is_some());
    let (delivered, last) = drain(&mut buffer, start + QUIET, 50);
    assert_eq!((delivered, last), (vec![(50, 2)], 52));
}

#[test]
fn a_probe_that_changes_nothing_is_repeated_but_rarely() {
    let start = Instant::now();
    let mut buffer = Reorder::new(QUIET, BIG);
    assert_eq!(buffer.offer(start, append(50, 2, 10), 0), None);
    let mut probes = 0;
    for ms in 0..3000 {
        while let Some(step) = buffer.poll(start + ms * MS, 0) {
            assert!(matches!(step, Step::Probe(_)));
            probes += 1;
        }
    }
    assert_eq!(probes, 3);
}

#[test]
fn a_long_burst_is_not_interrupted_and_arrivals_do_not_postpone() {
    let start = Instant::now();
    let mut buffer = Reorder::new(QUIET, BIG);
    // 100 messages 50 ms apart, descending: 5 s in all.
    let mut now = start;
    for index in (11..=110).rev() {
        now += 50 * MS;
        assert_eq!(buffer.offer(now, append(index, 1, 10), 10), None);
        assert_eq!(buffer.poll(now, 10), None, "at {index}");
    }
    // From here the lowest stays, while empty messages arrive with every heartbeat.
    let lowest_at = now;
    let mut probed_after = None;
    for _ in 0..20 {
        now += 100 * MS;
        assert_eq!(buffer.offer(now, append(111, 0, 0), 10), None);
        if buffer.poll(now, 10).is_some() && probed_after.is_none() {
            probed_after = Some(now - lowest_at);
        }
    }
    assert_eq!(probed_after, Some(200 * MS));
}

#[test]
fn a_slow_link_gets_more_patience() {
    let mut now = Instant::now();
    let mut buffer = Reorder::new(QUIET, BIG);
    for index in (11..=30).rev() {
        assert_eq!(buffer.offer(now, append(index, 1, 10), 10), None);
        now += 190 * MS;
    }
    now -= 190 * MS;
    assert_eq!(buffer.poll(now + 700 * MS, 10), None);
    assert!(buffer.poll(now + 760 * MS, 10).is_some());
}

#[test]
fn a_gap_that_is_being_filled_is_not_quiet() {
    let mut now = Instant::now();
    let mut buffer = Reorder::new(QUIET, BIG);
    assert_eq!(buffer.offer(now, append(100, 1, 10), 0), None);
    for index in 0..100 {
        assert_eq!(buffer.poll(now, index), None);
        assert!(buffer.offer(now, append(index, 1, 10), index).is_some());
        now += QUIET - MS;
    }
    assert!(matches!(buffer.poll(now, 100), Some(Step::Deliver(_))));
}

#[test]
fn beyond_the_limit_the_highest_goes_and_is_told_once_drained() {
    let now = Instant::now();
    let mut buffer = Reorder::new(QUIET, 3000);
    for index in [40, 35, 30, 25, 20] {
        assert_eq!(buffer.offer(now, append(index, 5, 150), 15), None);
        assert!(buffer.held_bytes() <= 3000);
    }
    assert_eq!((buffer.held_count(), buffer.dropped_count()), (2, 3));
    assert!(buffer.offer(now, append(15, 5, 150), 15).is_some());
    assert!(matches!(buffer.poll(now, 20), Some(Step::Deliver(m)) if m.index == 20));
    assert!(matches!(buffer.poll(now, 25), Some(Step::Deliver(m)) if m.index == 25));
    // The last entry that was given up.
    assert_eq!(buffer.poll(now, 30), Some(Step::Probe(append(45, 0, 0))));
    assert_eq!(buffer.poll(now + QUIET * 100, 30), None);
    assert_eq!(buffer.poll_timeout(), None);
}

#[test]
fn what_was_dropped_and_came_again_is_not_told() {
    let now = Instant::now();
    let mut buffer = Reorder::new(QUIET, 500);
    assert_eq!(buffer.offer(now, append(20, 5, 150), 10), None);
    assert_eq!((buffer.held_count(), buffer.dropped_count()), (0, 1));
    assert_eq!(buffer.poll_timeout(), Some(now + QUIET));
    assert_eq!(buffer.poll(now + QUIET, 25), None);
    assert_eq!(buffer.poll_timeout(), None);
}

#[test]
fn a_new_term_clears_and_an_old_one_passes() {
    let now = Instant::now();
    let mut buffer = Reorder::new(QUIET, BIG);
    assert_eq!(buffer.offer(now, append(20, 5, 10), 10), None);
    let mut newer = append(30, 1, 10);
    newer.term = 3;
    assert_eq!(buffer.offer(now, newer, 10), None);
    assert_eq!(buffer.held_count(), 1);
    assert!(buffer.offer(now, append(20, 5, 10), 10).is_some());
    buffer.observe_term(4);
    assert_eq!(
        (
            buffer.held_count(),
            buffer.held_bytes(),
            buffer.poll_timeout()
        ),
        (0, 0, None)
    );
}

#[test]
fn a_lower_limit_applies_at_once() {
    let now = Instant::now();
    let mut buffer = Reorder::new(QUIET, BIG);
    for index in [40, 35, 30] {
        assert_eq!(buffer.offer(now, append(index, 5, 1000), 15), None);
    }
    buffer.set_limit(now, 6000);
    assert_eq!((buffer.held_count(), buffer.dropped_count()), (1, 2));
    buffer.set_limit(now, 0);
    assert_eq!((buffer.held_count(), buffer.held_bytes()), (0, 0));
    assert!(matches!(buffer.poll(now + QUIET, 15), Some(Step::Probe(p)) if p.index == 45));
}

/// A leader as etcd has it, as far as one follower is concerned, with the bursts of 3.7.
///
/// # Source
/// raft v3.7.0 `raft.go` stepLeader, `tracker/progress.go`; etcd 3.7.1
/// `server/etcdserver/raft.go` processMessages.
struct Leader {
    last: u64,
    matched: u64,
    next: u64,
    is_probing: bool,
    is_paused: bool,
    data_bytes: usize,
    entries_per_message: u64,
    sent_bytes: usize,
}

impl Leader {
    /// All that can be sent now, highest index first.
    fn burst(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        while self.next <= self.last && !(self.is_probing && self.is_paused) {
            let index = self.next - 1;
            let count = self.entries_per_message.min(self.last - index);
            messages.push(append(index, count, self.data_bytes));
            if self.is_probing {
                self.is_paused = true;
            } else {
                self.next += count;
            }
            // The window.
            if messages.len() == 512 {
                break;
            }
        }
        messages.reverse();
        self.sent_bytes += messages.iter().map(message_cost_bytes).sum::<usize>();
        messages
    }

    fn take_ack(&mut self, index: u64) {
        if index > self.matched || self.is_probing {
            self.matched = self.matched.max(index);
            self.next = self.next.max(self.matched + 1);
            if self.is_probing {
                self.next = self.matched + 1;
                self.is_probing = false;
            }
        }
    }

    fn take_reject(&mut self, index: u64, hint: u64) {
        if self.is_probing {
            if self.next - 1 == index {
                self.next = index.min(hint + 1).max(self.matched + 1);
                self.is_paused = false;
            }
        } else if index > self.matched {
            self.next = self.matched + 1;
            self.is_probing = true;
            self.is_paused = false;
        }
    }
}

struct Outcome {
    rejects: usize,
    sent_bytes: usize,
    elapsed: Duration,
}

/// A learner with this buffer catches up with a leader that has `entries` and gets more.
fn catch_up(entries: u64, more: u64, limit_bytes: usize, entries_per_message: u64) -> Outcome {
    let start = Instant::now();
    let mut now = start;
    let mut leader = Leader {
        last: entries,
        matched: 0,
        next: entries,
        is_probing: true,
        is_paused: false,
        data_bytes: 1000,
        entries_per_message,
        sent_bytes: 0,
    };
    let mut buffer = Reorder::new(QUIET, limit_bytes);
    let (mut last, mut rejects) = (0, 0);
    let mut wire: std::collections::VecDeque<Message> = Default::default();
    let mut written = 0;
    while last < entries + more {
        now += MS;
        let elapsed = now - start;
        assert!(
            elapsed < Duration::from_secs(600),
            "stuck at {last}, {rejects} rejects"
        );
        assert!(buffer.held_bytes() <= limit_bytes);
        if elapsed.as_millis().is_multiple_of(100) {
            leader.is_paused = false;
        }
        if written < more {
            leader.last += 1;
            written += 1;
        }
        wire.extend(leader.burst());
        let arrived = wire.pop_front();
        let mut steps: Vec<Message> = arrived
            .and_then(|message| buffer.offer(now, message, last))
            .into_iter()
            .collect();
        loop {
            for message in steps.drain(..) {
                if message.index <= last {
                    let end = message.index + message.entries.len() as u64;
                    last = last.max(end);
                    leader.take_ack(end);
                } else {
                    rejects += 1;
                    leader.take_reject(message.index, last);
                }
            }
            match buffer.poll(now, last) {
                Some(Step::Deliver(message) | Step::Probe(message)) => steps.push(message),
                None => break,
            }
        }
    }
    Outcome {
        rejects,
        sent_bytes: leader.sent_bytes,
        elapsed: now - start,
    }
}

#[test]
fn with_room_enough_there_is_one_reject_and_nothing_comes_twice() {
    let outcome = catch_up(3000, 200, BIG, 10);
    assert_eq!(outcome.rejects, 1);
    let least = 3200 * 1064;
    assert!(
        outcome.sent_bytes < least + least / 10,
        "{}",
        outcome.sent_bytes
    );
}

#[test]
fn a_small_buffer_converges() {
    for limit_bytes in [1_000_000, 300_000, 50_000] {
        let outcome = catch_up(3000, 200, limit_bytes, 10);
        assert!(
            outcome.elapsed < Duration::from_secs(120),
            "{:?}",
            outcome.elapsed
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_burst_and_any_buffer_converge(
        entries in 1_u64..400, more in 0_u64..100, limit_messages in 1_usize..60,
        entries_per_message in 1_u64..12,
    ) {
        let room = limit_messages * (64 + 1064 * entries_per_message as usize);
        catch_up(entries, more, room, entries_per_message);
    }

    /// Whatever arrives: what is delivered fits, what is held is counted, and nothing waits
    /// without a time at which it is looked at again.
    #[test]
    fn whatever_arrives_the_books_balance(
        arrivals in proptest::collection::vec((0_u64..40, 0_u64..4, 1_u64..4, 0_u32..300), 1..60),
        limit_bytes in 0_usize..3000,
    ) {
        let mut now = Instant::now();
        let mut buffer = Reorder::new(QUIET, limit_bytes);
        let mut last = 5;
        for (index, count, term, pause) in arrivals {
            now += pause * MS;
            let mut message = append(index, count, 50);
            message.term = term;
            if let Some(message) = buffer.offer(now, message, last) {
                prop_assert!(message.index <= last || message.term < buffer.term);
            }
            while let Some(step) = buffer.poll(now, last) {
                match step {
                    Step::Deliver(message) => {
                        prop_assert!(message.index <= last);
                        last = last.max(message.index + message.entries.len() as u64);
                    }
                    Step::Probe(message) => prop_assert!(message.index > last),
                }
            }
            let held: usize = buffer.held.values().map(message_cost_bytes).sum();
            prop_assert_eq!(buffer.held_bytes(), held);
            prop_assert!(held <= limit_bytes);
            let waits = !buffer.held.is_empty() || buffer.dropped.is_some();
            prop_assert_eq!(buffer.poll_timeout().is_some(), waits);
            prop_assert!(buffer.poll_timeout().is_none_or(|at| at > now));
        }
    }
}
