//! The leases of a standby, as far as replication needs them. The seam: [`super::Etcd`] is the real
//! one, tests have a fake.
//!
//! Requests about leases are no part of a transaction and cannot be guarded by the checkpoint, so
//! each is one that may be repeated: a lease that exists already was granted, one that is not there
//! was revoked.

use std::future::Future;

use bytes::Bytes;

use super::Failure;
use crate::ids::LeaseId;

/// A lease that is there after a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granted {
    /// It was made, with its whole TTL ahead of it.
    Made,
    /// It was there before, with an unknown TTL, and may be about to expire.
    Existed,
}

/// A lease as the standby has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseStatus {
    /// Seconds, as granted.
    pub granted_ttl: i64,
    /// Seconds that are left.
    pub remaining: i64,
    /// The keys attached to it, ascending.
    pub keys: Vec<Bytes>,
}

/// The leases of one etcd cluster. Each call is one attempt with a deadline; the caller decides
/// what to do about a failure.
pub trait Leases: Send {
    /// Makes leases of `ttl` seconds, many at a time. What came of each, in order.
    fn grant(
        &mut self,
        ids: &[LeaseId],
        ttl: i64,
    ) -> impl Future<Output = Vec<Result<Granted, Failure>>> + Send;

    /// Ends leases and deletes the keys attached to them, many at a time, each lease by itself.
    /// What came of each, in order; success for one that was not there.
    fn revoke(&mut self, ids: &[LeaseId]) -> impl Future<Output = Vec<Result<(), Failure>>> + Send;

    /// Gives each lease its whole TTL again: all in one stream, the next without waiting for the
    /// answer to the last. The TTL of each in seconds, in order; none for one that is not there, or
    /// was made a moment ago, as members of 3.4 may not have heard of it yet.
    fn keep_alive(
        &mut self,
        ids: &[LeaseId],
    ) -> impl Future<Output = Result<Vec<Option<i64>>, Failure>> + Send;

    /// Every lease that exists, in any order, no older than this call.
    fn leases(&mut self) -> impl Future<Output = Result<Vec<LeaseId>, Failure>> + Send;

    /// What leases are like, many at a time, in order; none for one that is not there.
    fn time_to_live(
        &mut self,
        ids: &[LeaseId],
    ) -> impl Future<Output = Vec<Result<Option<LeaseStatus>, Failure>>> + Send;
}
