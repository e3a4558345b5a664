//! Which leases to renew when. Pure: times are counted from the keeper's start.
//!
//! Each lease is renewed about once in a period, a third of its TTL. Renewals are spread evenly
//! however the leases came: with `n` leases one falls due every `period / n`, the one first that
//! has waited longest. So leases that were all made at once drift apart in the first period. A
//! lease that has waited for its period is due whatever the others do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::ids::LeaseId;

/// The leases that are held, in the order of their next renewal.
#[derive(Debug)]
pub(super) struct Rota {
    period: Duration,
    order: BTreeSet<(Duration, LeaseId)>,
    leases: BTreeMap<LeaseId, Held>,
    /// Time that passed, once for each lease: each `period` of it is worth a renewal.
    credit_nanos: u128,
    looked: Duration,
    epoch: u64,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    due: Duration,
    epoch: u64,
}

/// How many renewals one turn may catch up with, and so how large the burst is after an outage.
const CATCH_UP_MAX: usize = 2_000;
/// A renewal out of turn comes no sooner than this, whatever TTL the standby names.
const SHORTEST: Duration = Duration::from_millis(500);

impl Rota {
    /// Without leases; `ttl` is what leases are granted with.
    pub(super) fn new(ttl: Duration) -> Self {
        Self {
            period: (ttl / 3).max(SHORTEST),
            order: BTreeSet::new(),
            leases: BTreeMap::new(),
            credit_nanos: 0,
            looked: Duration::ZERO,
            epoch: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.leases.len()
    }

    pub(super) fn holds(&self, id: LeaseId) -> bool {
        self.leases.contains_key(&id)
    }

    /// A lease is held from now on and to be renewed at `due` at the latest.
    pub(super) fn add(&mut self, id: LeaseId, due: Duration) {
        self.remove(id);
        self.epoch += 1;
        let epoch = self.epoch;
        self.leases.insert(id, Held { due, epoch });
        self.order.insert((due, id));
    }

    /// A lease is not held any more.
    pub(super) fn remove(&mut self, id: LeaseId) {
        if let Some(held) = self.leases.remove(&id) {
            self.order.remove(&(held.due, id));
        }
    }

    /// When a lease is to be renewed that has `ttl` seconds from now on.
    pub(super) fn due_after(&self, now: Duration, ttl: i64) -> Duration {
        let ttl = Duration::from_secs(u64::try_from(ttl).unwrap_or(0));
        now + (ttl / 3).max(SHORTEST).min(self.period)
    }

    /// A lease is next to be renewed at `due`; nothing happens if it is not held.
    pub(super) fn put_off(&mut self, id: LeaseId, due: Duration) {
        if let Some(held) = self.leases.get_mut(&id) {
            self.order.remove(&(held.due, id));
            held.due = due;
            self.order.insert((due, id));
        }
    }

    /// The leases to renew now. Until they are put off or removed they stay due.
    pub(super) fn take(&mut self, now: Duration) -> Vec<LeaseId> {
        let passed = now.saturating_sub(self.looked).as_nanos();
        self.looked = now;
        let period = self.period.as_nanos();
        let leases = self.leases.len() as u128;
        // What a second is worth, or more, so that a pause makes no burst.
        let most = (leases * 1_000_000_000).max(CATCH_UP_MAX as u128 * period);
        self.credit_nanos = self.credit_nanos.saturating_add(leases * passed).min(most);
        let earned = usize::try_from(self.credit_nanos / period).unwrap_or(usize::MAX);
        self.credit_nanos %= period;
        let overdue = self.order.iter().take_while(|(due, _)| *due <= now);
        let count = earned.max(overdue.take(CATCH_UP_MAX).count());
        let first = self.order.iter().take(count);
        first.map(|(_, id)| *id).collect()
    }

    /// A mark in time: leases added later are newer than it.
    pub(super) fn mark(&self) -> u64 {
        self.epoch
    }

    /// The leases that were held at `mark` and ever since, and are not in `listed`.
    pub(super) fn missing(&self, listed: &BTreeSet<LeaseId>, mark: u64) -> Vec<LeaseId> {
        let old = self.leases.iter().filter(|(_, held)| held.epoch <= mark);
        let missing = old.filter(|(id, _)| !listed.contains(id));
        missing.map(|(id, _)| *id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(24 * 3600);
    const PERIOD: Duration = Duration::from_secs(8 * 3600);
    const SECOND: Duration = Duration::from_secs(1);

    fn ids(count: i64) -> impl Iterator<Item = LeaseId> {
        (1..=count).map(LeaseId)
    }

    /// Runs a rota second by second: how many were renewed in each, and the most that any was late,
    /// those included that still wait.
    fn run(
        rota: &mut Rota,
        from: Duration,
        lasting: Duration,
        mut each_second: impl FnMut(&mut Rota, Duration),
    ) -> (Vec<usize>, Duration) {
        let (mut counts, mut latest) = (Vec::new(), Duration::ZERO);
        let mut now = from;
        while now < from + lasting {
            now += SECOND;
            let taken = rota.take(now);
            counts.push(taken.len());
            for id in taken {
                latest = latest.max(now.saturating_sub(rota.leases[&id].due));
                rota.put_off(id, rota.due_after(now, TTL.as_secs().try_into().unwrap()));
            }
            each_second(rota, now);
        }
        let waiting = rota.order.first().map_or(now, |(due, _)| *due);
        (counts, latest.max(now.saturating_sub(waiting)))
    }

    #[test]
    fn a_hundred_thousand_leases_made_at_once_are_renewed_evenly() {
        let mut rota = Rota::new(TTL);
        for id in ids(100_000) {
            rota.add(id, PERIOD);
        }
        let (counts, late) = run(&mut rota, Duration::ZERO, 2 * PERIOD, |_, _| {});
        // 100,000 in 28,800 seconds: 3.5 a second.
        let largest = counts.iter().max().unwrap();
        assert!(*largest <= 4, "{largest} in one second");
        assert!(late <= SECOND, "{late:?}");
        assert!(counts.iter().sum::<usize>() >= 199_000);
    }

    #[test]
    fn after_a_start_all_are_renewed_soon_and_no_burst_follows() {
        let mut rota = Rota::new(TTL);
        for id in ids(100_000) {
            rota.add(id, Duration::ZERO);
        }
        let (counts, _) = run(
            &mut rota,
            Duration::ZERO,
            Duration::from_secs(60),
            |_, _| {},
        );
        let sum: usize = counts.iter().sum();
        assert!((100_000..100_100).contains(&sum), "{sum}");
        assert_eq!(counts.iter().max(), Some(&CATCH_UP_MAX));
        let from = Duration::from_secs(60);
        let (counts, late) = run(&mut rota, from, 2 * PERIOD, |_, _| {});
        let largest = counts.iter().max().unwrap();
        assert!(*largest <= 4, "{largest} in one second");
        assert!(late <= SECOND, "{late:?}");
    }

    #[test]
    fn nobody_waits_longer_for_others_that_end_or_begin() {
        let mut rota = Rota::new(TTL);
        for id in ids(10_000) {
            rota.add(id, PERIOD);
        }
        let mut last = 10_000;
        let (counts, late) = run(&mut rota, Duration::ZERO, 3 * PERIOD, |rota, now| {
            // The youngest ends again and again, and for a while many begin.
            if now.as_secs() % 8 == 0 && last > 5 {
                rota.remove(LeaseId(last));
                last -= 1;
            }
            if (40_000..50_000).contains(&now.as_secs()) {
                let id = LeaseId(1_000_000 + i64::try_from(now.as_secs()).unwrap());
                rota.add(id, now + PERIOD);
            }
        });
        assert!(late <= SECOND, "{late:?}");
        assert!(counts.iter().all(|count| *count <= 20), "a burst");
    }

    #[test]
    fn a_shorter_ttl_is_renewed_more_often() {
        let mut rota = Rota::new(TTL);
        rota.add(LeaseId(1), Duration::ZERO);
        rota.add(LeaseId(2), PERIOD);
        assert_eq!(rota.take(SECOND), [LeaseId(1)]);
        let soon = rota.due_after(SECOND, 30);
        assert_eq!(soon, SECOND + Duration::from_secs(10));
        rota.put_off(LeaseId(1), soon);
        assert_eq!(rota.take(soon - SECOND), []);
        assert_eq!(rota.take(soon), [LeaseId(1)]);
        assert_eq!(rota.due_after(SECOND, 0), SECOND + SHORTEST);
        assert_eq!(rota.due_after(SECOND, i64::MAX), SECOND + PERIOD);
    }

    #[test]
    fn what_was_added_after_the_mark_is_not_missing() {
        let mut rota = Rota::new(TTL);
        for id in ids(4) {
            rota.add(id, PERIOD);
        }
        let mark = rota.mark();
        rota.add(LeaseId(5), PERIOD);
        rota.remove(LeaseId(4));
        rota.add(LeaseId(3), PERIOD);
        rota.put_off(LeaseId(2), PERIOD);
        let listed = BTreeSet::from([LeaseId(1), LeaseId(77)]);
        assert_eq!(rota.missing(&listed, mark), [LeaseId(2)]);
        assert_eq!(rota.missing(&listed, rota.mark()).len(), 3);
        assert_eq!(rota.len(), 4);
    }
}
