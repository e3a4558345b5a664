//! What the keeper learns of each piece of work.

use std::collections::BTreeSet;
use std::time::Duration;

use super::book::Revoked;
use super::work::{Done, Inspected, Outcome};
use super::{CENSUS_PER_LEASE, CENSUS_PERIOD, DOUBT, Keeper, Strangers};
use crate::ids::LeaseId;
use crate::standby::{Compaction, Failure, Leases, Standby};

impl<S: Standby + Leases + Compaction + 'static> Keeper<S> {
    /// Takes in what came of a piece of work.
    pub(super) fn settle(&mut self, done: Done<S>) {
        let now = self.now();
        let failure = match done.outcome {
            Outcome::Granted(granted) => self.settle_grants(granted, now),
            Outcome::Revoked(revoked) => self.settle_revokes(revoked, now),
            Outcome::Renewed(renewed) => self.settle_renewals(renewed, now),
            Outcome::Listed(mark, listed) => self.settle_census(mark, listed, now),
            Outcome::Inspected(inspected) => self.settle_inspection(inspected),
            Outcome::Compacted(revision, result) => self.settle_compaction(revision, result),
        };
        self.lane(done.kind).put_back(done.standby, failure, now);
    }

    fn settle_grants(
        &mut self,
        granted: Vec<(LeaseId, Result<i64, Failure>)>,
        now: Duration,
    ) -> Option<Failure> {
        let mut last = None;
        for (id, result) in granted {
            match result {
                Ok(ttl) => {
                    self.book.granted(id, Some(ttl), now);
                    self.view.send_modify(|view| view.granted += 1);
                }
                Err(failure) => {
                    self.book.granted(id, None, now);
                    last = Some(failure);
                }
            }
        }
        match &last {
            Some(failure) if !is_worth_another_try(failure) => {
                self.book.give_up_wanted();
                if let Some(holding) = self.holding.take() {
                    let _nobody_waits = holding.send(Err(failure.clone()));
                }
            }
            Some(_) | None => self.answer_hold(),
        }
        last
    }

    pub(super) fn answer_hold(&mut self) {
        if !self.book.is_waiting()
            && let Some(holding) = self.holding.take()
        {
            let _nobody_waits = holding.send(Ok(()));
        }
    }

    fn settle_revokes(
        &mut self,
        revoked: Vec<(LeaseId, Result<(), Failure>)>,
        now: Duration,
    ) -> Option<Failure> {
        let mut last = None;
        for (id, result) in revoked {
            let outcome = match &result {
                Ok(()) => Revoked::Done,
                Err(Failure::Unknown(_) | Failure::NoSpace(_)) => Revoked::Unknown,
                Err(_) => Revoked::NotDone,
            };
            self.book.revoked(id, outcome, now);
            let is_over = result
                .as_ref()
                .map_or_else(|failure| !is_worth_another_try(failure), |()| true);
            if is_over && let Some((_, waiting)) = self.awaiting_end.take_if(|(end, _)| *end == id)
            {
                let _nobody_waits = waiting.send(result.clone());
            }
            match result {
                Ok(()) => self.view.send_modify(|view| view.revoked += 1),
                Err(failure) => last = Some(failure),
            }
        }
        last
    }

    fn settle_renewals(
        &mut self,
        renewed: Result<Vec<(LeaseId, Option<i64>)>, Failure>,
        now: Duration,
    ) -> Option<Failure> {
        let renewed = match renewed {
            Ok(renewed) => renewed,
            Err(failure) => return Some(failure),
        };
        let mut count = 0;
        let mut gone = Vec::new();
        for (id, ttl) in renewed {
            let due = match ttl {
                Some(ttl) => {
                    count += 1;
                    self.book.rota.due_after(now, ttl)
                }
                None if !self.book.rota.holds(id) => continue,
                None if !self.has_lists => {
                    gone.push(id);
                    continue;
                }
                None => {
                    // The list of leases has the last word.
                    self.census_at = now;
                    now + DOUBT
                }
            };
            self.book.rota.put_off(id, due);
        }
        self.lose(&gone);
        if !gone.is_empty() {
            let _nobody_listens = self.gone.send(gone);
        }
        self.view.send_modify(|view| view.renewed += count);
        None
    }

    fn settle_census(
        &mut self,
        mark: u64,
        listed: Result<BTreeSet<LeaseId>, Failure>,
        now: Duration,
    ) -> Option<Failure> {
        let listed = match listed {
            Ok(listed) => listed,
            Err(failure) => {
                if !is_worth_another_try(&failure) {
                    for asking in self.asking.drain(..) {
                        let _nobody_waits = asking.send(Err(failure.clone()));
                    }
                    self.census_at = now + CENSUS_PERIOD;
                    self.has_lists = false;
                }
                return Some(failure);
            }
        };
        self.meet_strangers(&listed);
        let leases = u32::try_from(listed.len()).unwrap_or(u32::MAX);
        self.census_at = now + CENSUS_PERIOD.max(CENSUS_PER_LEASE.saturating_mul(leases));
        self.has_lists = true;
        let missing = self.book.rota.missing(&listed, mark);
        self.lose(&missing);
        let mut told = false;
        for asking in self.asking.drain(..) {
            told |= asking.send(Ok(missing.clone())).is_ok();
        }
        if !told && !missing.is_empty() {
            let _nobody_listens = self.gone.send(missing);
        }
        None
    }

    /// These leases are gone on the standby.
    fn lose(&mut self, gone: &[LeaseId]) {
        for id in gone {
            self.book.rota.remove(*id);
        }
        let count = u64::try_from(gone.len()).unwrap_or(u64::MAX);
        self.view.send_modify(|view| view.lost += count);
    }

    /// The first list of all leases shows what a process before left behind.
    fn meet_strangers(&mut self, listed: &BTreeSet<LeaseId>) {
        let Strangers::Ended(ended) = &self.strangers else {
            return;
        };
        let strangers = listed.iter().filter(|id| !self.book.knows(**id));
        let (left, unknown): (BTreeSet<LeaseId>, _) = strangers.partition(|id| ended.contains(id));
        if !left.is_empty() {
            tracing::info!(
                leases = left.len(),
                "ending leases that were left on the standby"
            );
        }
        self.book.release(left);
        self.strangers = Strangers::Unknown(unknown);
    }

    fn settle_inspection(&mut self, inspected: Vec<Inspected>) -> Option<Failure> {
        let (mut last, mut found) = (None, Vec::new());
        for (id, result) in inspected {
            if self
                .inspecting
                .as_ref()
                .is_some_and(|(asked, _)| *asked == id)
            {
                match &result {
                    Err(failure) if is_worth_another_try(failure) => {
                        last = Some(failure.clone());
                        continue;
                    }
                    Ok(_) | Err(_) => {}
                }
                if let Some((_, asking)) = self.inspecting.take() {
                    let _nobody_waits = asking.send(result);
                }
                continue;
            }
            match result {
                Ok(Some(keys)) => found.push((id, keys)),
                // That is for the census to say.
                Ok(None) => {}
                Err(failure) => {
                    if is_worth_another_try(&failure) {
                        self.unseen.push_back(id);
                    }
                    last = Some(failure);
                }
            }
        }
        if !found.is_empty() {
            // There was room when this was begun, and nobody else takes it.
            let _nobody_listens = self.found.try_send(found);
        }
        last
    }

    fn settle_compaction(&mut self, revision: i64, result: Result<(), Failure>) -> Option<Failure> {
        match &result {
            Ok(()) => self.view.send_modify(|view| view.compacted = revision),
            Err(failure) if is_worth_another_try(failure) => return result.err(),
            // It only costs space, and the next one comes.
            Err(failure) => tracing::warn!(revision, standby_says = %failure, "not compacted"),
        }
        self.compact_to = self.compact_to.filter(|newer| *newer > revision);
        None
    }
}

fn is_worth_another_try(failure: &Failure) -> bool {
    match failure {
        Failure::NotApplied(_) | Failure::Unknown(_) | Failure::NoSpace(_) => true,
        Failure::TooLarge(_)
        | Failure::TooManyOps(_)
        | Failure::Diverged(_)
        | Failure::LeaseNotFound(_)
        | Failure::Already(_)
        | Failure::Refused(_) => false,
    }
}
