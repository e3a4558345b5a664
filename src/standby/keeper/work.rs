//! The pieces of work of the keeper's lanes: each one attempt, with the lane's own handle. IO.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::lane::Kind;
use crate::ids::LeaseId;
use crate::standby::{Compaction, Failure, Granted, Leases};

/// A piece of work that was tried.
pub(super) struct Done<S> {
    pub(super) kind: Kind,
    pub(super) standby: S,
    pub(super) outcome: Outcome,
}

/// The keys of a lease, none if it is not there.
pub(super) type Inspected = (LeaseId, Result<Option<Vec<Bytes>>, Failure>);

/// What came of it.
pub(super) enum Outcome {
    /// Of each lease, its TTL in seconds.
    Granted(Vec<(LeaseId, Result<i64, Failure>)>),
    Revoked(Vec<(LeaseId, Result<(), Failure>)>),
    /// Of each lease its TTL in seconds, none if it was not found.
    Renewed(Result<Vec<(LeaseId, Option<i64>)>, Failure>),
    /// All leases, asked for at this mark.
    Listed(u64, Result<BTreeSet<LeaseId>, Failure>),
    Inspected(Vec<Inspected>),
    Compacted(i64, Result<(), Failure>),
}

fn done<S>(kind: Kind, standby: S, outcome: Outcome) -> Done<S> {
    Done {
        kind,
        standby,
        outcome,
    }
}

pub(super) async fn grant<S: Leases>(mut standby: S, ids: Vec<LeaseId>, ttl: i64) -> Done<S> {
    let results = standby.grant(&ids, ttl).await;
    let existed = |result: &Result<Granted, Failure>| matches!(result, Ok(Granted::Existed));
    let pairs = || ids.iter().zip(&results);
    let old: Vec<LeaseId> = pairs()
        .filter(|(_, result)| existed(result))
        .map(|(id, _)| *id)
        .collect();
    // A lease that was there before may expire before the batch is written.
    let kept = standby.keep_alive(&old).await;
    let mut kept = kept.map(IntoIterator::into_iter);
    let granted = ids.iter().zip(results).map(|(id, result)| {
        let ttl = match (result, &mut kept) {
            (Ok(Granted::Made), _) => Ok(ttl),
            (Ok(Granted::Existed), Ok(kept)) => match kept.next().flatten() {
                Some(ttl) => Ok(ttl),
                None => Err(Failure::NotApplied(EXPIRED.to_owned())),
            },
            (Ok(Granted::Existed), Err(failure)) => Err(failure.clone()),
            (Err(failure), _) => Err(failure),
        };
        (*id, ttl)
    });
    let granted = granted.collect();
    done(Kind::Grants, standby, Outcome::Granted(granted))
}

const EXPIRED: &str = "a lease that was there expired at the same time";

pub(super) async fn revoke<S: Leases>(mut standby: S, ids: Vec<LeaseId>) -> Done<S> {
    let results = standby.revoke(&ids).await;
    let revoked = ids.into_iter().zip(results).collect();
    done(Kind::Revokes, standby, Outcome::Revoked(revoked))
}

pub(super) async fn renew<S: Leases>(mut standby: S, ids: Vec<LeaseId>) -> Done<S> {
    let kept = standby.keep_alive(&ids).await;
    let renewed = kept.map(|kept| ids.into_iter().zip(kept).collect());
    done(Kind::Renewals, standby, Outcome::Renewed(renewed))
}

pub(super) async fn list<S: Leases>(mut standby: S, mark: u64) -> Done<S> {
    let listed = standby.leases().await;
    let listed = listed.map(|ids| ids.into_iter().collect());
    done(Kind::Renewals, standby, Outcome::Listed(mark, listed))
}

pub(super) async fn inspect<S: Leases>(mut standby: S, ids: Vec<LeaseId>) -> Done<S> {
    let all = standby.time_to_live(&ids).await;
    let keys = all
        .into_iter()
        .map(|one| one.map(|status| status.map(|status| status.keys)));
    let inspected = ids.into_iter().zip(keys).collect();
    done(Kind::Inspections, standby, Outcome::Inspected(inspected))
}

pub(super) async fn compact<S: Compaction>(mut standby: S, revision: i64) -> Done<S> {
    let result = standby.compact(revision).await;
    done(
        Kind::Compactions,
        standby,
        Outcome::Compacted(revision, result),
    )
}
