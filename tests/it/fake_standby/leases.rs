//! The fake's leases and history. Time is tokio's, so that tests can let it run.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use etcd_syncer::ids::LeaseId;
use etcd_syncer::standby::{Compaction, Failure, Granted, LeaseStatus, Leases};
use tokio::time::Instant;

use super::{FakeStandby, State, no_answer};

/// What happens to a call about leases or history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LeaseFault {
    /// The request is lost, and nobody says so.
    Lost,
    /// It is done; the answer is lost.
    LostAnswer,
    /// A revoke looks lost, and is done after this time.
    Late(Duration),
    /// It is not done, with this answer.
    Fails(Failure),
    /// A grant or revoke is done for every second lease, and the others have no answer.
    Half,
}

/// A lease of the fake.
#[derive(Clone, Debug)]
pub(crate) struct FakeLease {
    pub(crate) ttl: i64,
    pub(crate) expires: Instant,
}

/// The fake's leases, and what happens to calls about them.
#[derive(Debug, Default)]
pub(crate) struct FakeLeases {
    pub(crate) leases: BTreeMap<LeaseId, FakeLease>,
    pub(crate) compacted: i64,
    /// Each call, in order: its name and the leases.
    pub(crate) calls: Vec<(&'static str, Vec<LeaseId>)>,
    /// Faults of the calls of one name, in order.
    pub(crate) faults: BTreeMap<&'static str, Vec<LeaseFault>>,
    late: Vec<(Instant, Vec<LeaseId>)>,
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(ttl.try_into().unwrap_or(0))
}

fn refused(what: &str) -> Failure {
    Failure::Refused(what.to_owned())
}

impl State {
    /// What time has brought about since the last call: revokes that were late, leases that expired.
    pub(crate) fn let_time_pass(&mut self) {
        let now = Instant::now();
        let (due, later) = std::mem::take(&mut self.leases.late)
            .into_iter()
            .partition(|(at, _)| *at <= now);
        self.leases.late = later;
        let late = due.into_iter().flat_map(|(_, ids): (_, Vec<_>)| ids);
        let leases = self.leases.leases.iter();
        let expired = leases.filter(|(_, lease)| lease.expires <= now);
        let gone: Vec<LeaseId> = late.chain(expired.map(|(id, _)| *id)).collect();
        for id in gone {
            self.revoke_lease(id);
        }
    }

    /// Ends a lease, as its holder or its TTL would.
    pub(crate) fn revoke_lease(&mut self, id: LeaseId) {
        if self.leases.leases.remove(&id).is_none() {
            return;
        }
        let before = self.keys.len();
        self.keys.retain(|_, kept| kept.lease != id);
        if self.keys.len() < before {
            self.revision += 1;
            self.remember();
        }
    }

    pub(crate) fn has_lease(&self, id: LeaseId) -> bool {
        id == LeaseId(0) || self.leases.leases.contains_key(&id)
    }

    fn grant_lease(&mut self, id: LeaseId, ttl: i64) -> Result<Granted, Failure> {
        if ttl > 9_000_000_000 {
            return Err(refused("etcdserver: too large lease TTL"));
        }
        if self.leases.leases.contains_key(&id) {
            return Ok(Granted::Existed);
        }
        let ttl = ttl.max(2);
        let expires = Instant::now() + seconds(ttl);
        self.leases.leases.insert(id, FakeLease { ttl, expires });
        Ok(Granted::Made)
    }

    fn attached(&self, id: LeaseId) -> Vec<Bytes> {
        let keys = self.keys.iter().filter(|(_, kept)| kept.lease == id);
        keys.map(|(key, _)| key.clone()).collect()
    }

    fn lease_call(&mut self, name: &'static str, ids: &[LeaseId]) -> Option<LeaseFault> {
        self.let_time_pass();
        self.leases.calls.push((name, ids.to_vec()));
        let faults = self.leases.faults.get_mut(name)?;
        (!faults.is_empty()).then(|| faults.remove(0))
    }
}

impl FakeStandby {
    /// The next calls of this name meet these faults.
    pub(crate) fn lease_faults(self, name: &'static str, faults: Vec<LeaseFault>) -> Self {
        self.state().leases.faults.insert(name, faults);
        self
    }

    /// A call for each of several leases, each of which `act` serves.
    fn for_each<T>(
        &self,
        name: &'static str,
        ids: &[LeaseId],
        act: impl Fn(&mut State, LeaseId) -> Result<T, Failure>,
    ) -> Vec<Result<T, Failure>> {
        let mut state = self.state();
        let fault = state.lease_call(name, ids);
        if let Some(LeaseFault::Late(time)) = &fault {
            state
                .leases
                .late
                .push((Instant::now() + *time, ids.to_vec()));
        }
        let each = ids.iter().enumerate();
        each.map(|(at, id)| match &fault {
            None => act(&mut state, *id),
            Some(LeaseFault::Half) if at % 2 == 0 => act(&mut state, *id),
            Some(LeaseFault::Lost | LeaseFault::Half | LeaseFault::Late(_)) => Err(no_answer()),
            Some(LeaseFault::LostAnswer) => {
                act(&mut state, *id)?;
                Err(no_answer())
            }
            Some(LeaseFault::Fails(failure)) => Err(failure.clone()),
        })
        .collect()
    }

    /// A call that is done as a whole.
    fn whole<T>(
        &self,
        name: &'static str,
        ids: &[LeaseId],
        act: impl FnOnce(&mut State) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut state = self.state();
        match state.lease_call(name, ids) {
            None => act(&mut state),
            Some(LeaseFault::Lost | LeaseFault::Half | LeaseFault::Late(_)) => Err(no_answer()),
            Some(LeaseFault::LostAnswer) => {
                act(&mut state)?;
                Err(no_answer())
            }
            Some(LeaseFault::Fails(failure)) => Err(failure),
        }
    }
}

impl Leases for FakeStandby {
    async fn grant(&mut self, ids: &[LeaseId], ttl: i64) -> Vec<Result<Granted, Failure>> {
        self.for_each("grant", ids, |state, id| state.grant_lease(id, ttl))
    }

    async fn revoke(&mut self, ids: &[LeaseId]) -> Vec<Result<(), Failure>> {
        self.for_each("revoke", ids, |state, id| {
            state.revoke_lease(id);
            Ok(())
        })
    }

    async fn keep_alive(&mut self, ids: &[LeaseId]) -> Result<Vec<Option<i64>>, Failure> {
        self.whole("keep_alive", ids, |state| {
            let each = ids.iter().map(|id| {
                let lease = state.leases.leases.get_mut(id)?;
                lease.expires = Instant::now() + seconds(lease.ttl);
                Some(lease.ttl)
            });
            Ok(each.collect())
        })
    }

    async fn leases(&mut self) -> Result<Vec<LeaseId>, Failure> {
        let list = |state: &mut State| Ok(state.leases.leases.keys().copied().collect());
        self.whole("leases", &[], list)
    }

    async fn time_to_live(&mut self, ids: &[LeaseId]) -> Vec<Result<Option<LeaseStatus>, Failure>> {
        self.for_each("time_to_live", ids, |state, id| {
            Ok(state.leases.leases.get(&id).map(|lease| LeaseStatus {
                granted_ttl: lease.ttl,
                remaining: i64::try_from((lease.expires - Instant::now()).as_secs()).unwrap(),
                keys: state.attached(id),
            }))
        })
    }
}

impl Compaction for FakeStandby {
    async fn compact(&mut self, revision: i64) -> Result<(), Failure> {
        self.whole("compact", &[], |state| {
            if revision > state.revision {
                let what = "etcdserver: mvcc: required revision is a future revision";
                return Err(refused(what));
            }
            state.leases.compacted = state.leases.compacted.max(revision);
            Ok(())
        })
    }
}
