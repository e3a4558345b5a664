//! Writes batches to the standby, each exactly once.
//!
//! ```text
//! Batch -> Writer (guard, lost answers, waiting) -> Standby (one request) -> etcd
//! ```
//!
//! [`Standby`] is the seam, [`Auth`] another one for users and roles: [`Etcd`] is the real one,
//! tests have fakes that can lose any answer.

mod auth;
mod compaction;
mod contact;
mod etcd;
mod failure;
pub mod keeper;
mod leases;
mod others;
mod pages;
mod reconciler;
mod writer;

use std::future::Future;

use bytes::Bytes;

pub use auth::{Auth, read_store};
pub use compaction::Compaction;
pub use contact::{Claim, Contact, ContactError, first_contact, if_unreadable};
pub use etcd::{Etcd, Options};
pub use failure::Failure;
pub use leases::{Granted, LeaseStatus, Leases};
pub use pages::Pages;
pub use reconciler::{AuthView, Reconciler};
pub use writer::{Error, Writer, Written};

use crate::ids::{ClusterId, LeaseId};
use crate::plan::{Nested, Write};
use crate::range::KeyRange;

/// One transaction: if the guard holds, the checkpoint and all writes, else nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Transaction {
    /// What must hold.
    pub guard: Guard,
    /// The checkpoint's key.
    pub checkpoint_key: Bytes,
    /// The checkpoint's new value.
    pub checkpoint: Bytes,
    /// The writes, arranged for the standby's limit with one place left for the checkpoint.
    pub writes: Vec<Nested<Write>>,
}

/// The condition of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// The checkpoint was last written in this revision of the standby.
    WrittenAt(i64),
    /// There is no checkpoint, and no key in the stream's scope.
    NothingThere,
}

/// What the standby answered to a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Applied, in this revision.
    Applied(i64),
    /// The guard did not hold; nothing was written.
    GuardFailed,
}

/// A value read from the standby.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The value.
    pub value: Bytes,
    /// The revision that wrote it.
    pub mod_revision: i64,
}

/// A key with what is stored under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
    /// The lease that it is attached to, 0 for none.
    pub lease: LeaseId,
}

/// What a standby says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its current revision.
    pub revision: i64,
}

/// The public client API of one etcd cluster, as far as replication needs it. Each call is one
/// attempt with a deadline; the caller decides what to do about a failure.
pub trait Standby: Send {
    /// Tries to apply a transaction, once.
    fn write(
        &mut self,
        transaction: &Transaction,
    ) -> impl Future<Output = Result<Answer, Failure>> + Send;

    /// Reads one key, linearizably.
    fn read(&mut self, key: &Bytes)
    -> impl Future<Output = Result<Option<Stored>, Failure>> + Send;

    /// Reads up to `limit` keys of a range with their values, ascending, linearizably.
    fn read_range(
        &mut self,
        range: &KeyRange,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<KeyValue>, Failure>> + Send;

    /// Asks who it is, linearizably, so an answer also shows that it has a quorum.
    fn about(&mut self) -> impl Future<Output = Result<About, Failure>> + Send;

    /// Up to `limit` keys in the stream's scope, to show what lies in a standby that should hold
    /// none of them.
    fn foreign_keys(
        &mut self,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Bytes>, Failure>> + Send;

    /// Finds the longest operation list that it takes, its `--max-txn-ops`.
    fn txn_ops_max(&mut self) -> impl Future<Output = Result<usize, Failure>> + Send;

    /// An attempt failed in a way that another endpoint may not.
    fn try_another_endpoint(&mut self);
}
