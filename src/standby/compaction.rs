//! The compaction of a standby's history: the seam.

use std::future::Future;

use super::Failure;

/// The history of one etcd cluster.
pub trait Compaction: Send {
    /// Gives up every state of the keyspace before `revision`, in one attempt with a deadline.
    /// Success if that was so already.
    fn compact(&mut self, revision: i64) -> impl Future<Output = Result<(), Failure>> + Send;
}
