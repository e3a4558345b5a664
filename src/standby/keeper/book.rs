//! What is to be granted, held and revoked. Pure: times are counted from the keeper's start.
//!
//! ```text
//!   hold ---> wanted --granted--> held --release--> ending --revoked--> forgotten
//!                                  ^                   |
//!                                  +------- hold ------+  if its revoke was never sent
//! ```
//!
//! A revoke without an answer may still be done later, when its id is in use again, and would then
//! delete keys. So an id is granted again only when its revoke was answered, and if any attempt was
//! not, only some time after the last such attempt: longer than etcd and TCP deliver what was sent.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::rota::Rota;
use crate::ids::LeaseId;

/// How long after a revoke without an answer its id is not granted again.
const QUARANTINE: Duration = Duration::from_secs(120);

/// What came of the attempt to revoke a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Revoked {
    /// It is gone.
    Done,
    /// It was not done and will not be.
    NotDone,
    /// It may have been done, or may be done later.
    Unknown,
}

/// The leases of a stream.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) rota: Rota,
    /// To be granted, those under way included.
    wanted: BTreeSet<LeaseId>,
    granting: BTreeSet<LeaseId>,
    /// To be revoked, those under way included.
    ending: BTreeSet<LeaseId>,
    revoking: BTreeSet<LeaseId>,
    /// Of some revoke the outcome is unknown: until when the id rests.
    resting: BTreeMap<LeaseId, Duration>,
}

impl Book {
    pub(super) fn new(ttl: Duration) -> Self {
        Self {
            rota: Rota::new(ttl),
            wanted: BTreeSet::new(),
            granting: BTreeSet::new(),
            ending: BTreeSet::new(),
            revoking: BTreeSet::new(),
            resting: BTreeMap::new(),
        }
    }

    /// These leases must exist from now on.
    pub(super) fn hold(&mut self, ids: impl IntoIterator<Item = LeaseId>, now: Duration) {
        for id in ids {
            if self.rota.holds(id) {
                continue;
            }
            let was_sent = self.revoking.contains(&id) || self.resting.contains_key(&id);
            if !was_sent && self.ending.remove(&id) {
                self.rota.add(id, now);
            } else {
                self.wanted.insert(id);
            }
        }
    }

    /// These leases are not needed any more.
    pub(super) fn release(&mut self, ids: impl IntoIterator<Item = LeaseId>) {
        for id in ids {
            self.rota.remove(id);
            self.wanted.remove(&id);
            self.ending.insert(id);
        }
    }

    /// True if the lease is held, or will be, or is being ended.
    pub(super) fn knows(&self, id: LeaseId) -> bool {
        self.rota.holds(id) || self.wanted.contains(&id) || self.ending.contains(&id)
    }

    /// True while a lease is wanted and not there.
    pub(super) fn is_waiting(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// How many leases are to be revoked.
    pub(super) fn ending(&self) -> usize {
        self.ending.len()
    }

    /// When the first id has rested that is wanted and only has to rest.
    pub(super) fn rested_at(&self) -> Option<Duration> {
        let resting = self.resting.iter();
        let wanted =
            resting.filter(|(id, _)| self.wanted.contains(id) && !self.ending.contains(id));
        wanted.map(|(_, until)| *until).min()
    }

    /// Leases to grant now, under way from here on.
    pub(super) fn take_grants(&mut self, now: Duration, max: usize) -> Vec<LeaseId> {
        self.resting.retain(|_, until| *until > now);
        let ready = self.wanted.iter().filter(|id| {
            let is_busy = self.granting.contains(id) || self.ending.contains(id);
            !is_busy && !self.resting.contains_key(id)
        });
        let ready: Vec<LeaseId> = ready.copied().take(max).collect();
        self.granting.extend(&ready);
        ready
    }

    /// What came of a grant: the TTL in seconds, or none if it must be tried again.
    pub(super) fn granted(&mut self, id: LeaseId, ttl: Option<i64>, now: Duration) {
        self.granting.remove(&id);
        if let Some(ttl) = ttl
            && self.wanted.remove(&id)
        {
            let due = self.rota.due_after(now, ttl);
            self.rota.add(id, due);
        }
    }

    /// Nobody waits for leases any more.
    pub(super) fn give_up_wanted(&mut self) {
        self.wanted.clear();
    }

    /// Leases to revoke now, under way from here on.
    pub(super) fn take_revokes(&mut self, max: usize) -> Vec<LeaseId> {
        let ready = self.ending.iter().filter(|id| {
            let is_busy = self.revoking.contains(id) || self.granting.contains(id);
            !is_busy
        });
        let ready: Vec<LeaseId> = ready.copied().take(max).collect();
        self.revoking.extend(&ready);
        ready
    }

    /// What came of a revoke.
    pub(super) fn revoked(&mut self, id: LeaseId, outcome: Revoked, now: Duration) {
        self.revoking.remove(&id);
        match outcome {
            Revoked::Done => {
                self.ending.remove(&id);
            }
            Revoked::NotDone => {}
            Revoked::Unknown => {
                self.resting.insert(id, now + QUARANTINE);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: i64 = 3600;
    const NOW: Duration = Duration::from_secs(1000);
    const A: LeaseId = LeaseId(1);
    const B: LeaseId = LeaseId(2);

    fn book() -> Book {
        Book::new(Duration::from_secs(3600))
    }

    /// Grants all that can be granted now.
    fn grant(book: &mut Book, now: Duration) -> Vec<LeaseId> {
        let ids = book.take_grants(now, usize::MAX);
        for id in &ids {
            book.granted(*id, Some(TTL), now);
        }
        ids
    }

    #[test]
    fn a_lease_is_granted_held_and_revoked() {
        let mut book = book();
        book.hold([A, B], NOW);
        assert!(book.is_waiting());
        assert_eq!(book.take_grants(NOW, 1), [A]);
        assert_eq!(book.take_grants(NOW, 9), [B]);
        assert_eq!(book.take_grants(NOW, 9), [], "both are under way");
        book.granted(A, Some(TTL), NOW);
        book.granted(B, None, NOW);
        assert!(book.is_waiting());
        assert_eq!(grant(&mut book, NOW), [B]);
        assert!(!book.is_waiting());
        assert_eq!(book.rota.len(), 2);
        book.hold([A], NOW);
        assert!(!book.is_waiting(), "held already");

        book.release([A]);
        assert_eq!((book.rota.len(), book.ending()), (1, 1));
        assert_eq!(book.take_revokes(9), [A]);
        assert_eq!(book.take_revokes(9), [], "under way");
        book.revoked(A, Revoked::NotDone, NOW);
        assert_eq!(book.take_revokes(9), [A]);
        book.revoked(A, Revoked::Done, NOW);
        assert_eq!(book.ending(), 0);
    }

    #[test]
    fn an_id_is_used_again_only_when_its_revoke_is_settled() {
        let mut book = book();
        book.hold([A], NOW);
        grant(&mut book, NOW);

        // Not sent yet: it just goes on.
        book.release([A]);
        book.hold([A], NOW);
        assert_eq!((book.is_waiting(), book.ending()), (false, 0));
        assert_eq!(book.rota.take(NOW), [A], "renewed at once");

        // Under way, and then not done: it must be revoked first.
        book.release([A]);
        assert_eq!(book.take_revokes(9), [A]);
        book.hold([A], NOW);
        assert_eq!(grant(&mut book, NOW), []);
        book.revoked(A, Revoked::NotDone, NOW);
        assert_eq!(grant(&mut book, NOW), []);
        assert_eq!(book.take_revokes(9), [A]);
        book.revoked(A, Revoked::Done, NOW);
        assert_eq!(grant(&mut book, NOW), [A]);
    }

    #[test]
    fn an_id_whose_revoke_had_no_answer_rests() {
        let mut book = book();
        book.hold([A], NOW);
        grant(&mut book, NOW);
        book.release([A]);
        book.take_revokes(9);
        book.revoked(A, Revoked::Unknown, NOW);
        book.hold([A], NOW);
        assert_eq!(grant(&mut book, NOW), [], "the revoke is not settled");
        assert_eq!(book.rested_at(), None);
        book.take_revokes(9);
        let later = NOW + Duration::from_secs(5);
        book.revoked(A, Revoked::Done, later);
        assert_eq!(grant(&mut book, later), []);
        let rested = book.rested_at().unwrap();
        assert_eq!(rested, NOW + QUARANTINE);
        assert_eq!(grant(&mut book, rested - Duration::from_millis(1)), []);
        assert!(book.is_waiting());
        assert_eq!(grant(&mut book, rested), [A]);
        assert_eq!(book.rested_at(), None);
    }

    #[test]
    fn what_nobody_waits_for_is_not_held() {
        let mut book = book();
        book.hold([A, B], NOW);
        assert_eq!(book.take_grants(NOW, 1), [A]);
        book.give_up_wanted();
        book.granted(A, Some(TTL), NOW);
        assert_eq!((book.rota.len(), book.is_waiting()), (0, false));
        // Released while its grant is under way: revoked after it.
        book.hold([A], NOW);
        assert_eq!(book.take_grants(NOW, 1), [A]);
        book.release([A]);
        assert_eq!(book.take_revokes(9), []);
        book.granted(A, Some(TTL), NOW);
        assert_eq!(book.take_revokes(9), [A]);
        assert_eq!(book.rota.len(), 0);
    }
}
