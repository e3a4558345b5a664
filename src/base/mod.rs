//! Where a stream goes on: what the standby holds of the primary, and the right to write to it. IO.
//!
//! ```text
//! contact --> load --> take --> install a database, if need be --> entries
//!  (reads)   (reads)  (writes)
//! ```
//!
//! Streams from a running primary and from files begin alike here; up to [`Claim::take`] nothing is
//! written.

mod contact;
mod install;
mod keeping;
mod load;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::checkpoint::Checkpoint;
use crate::ids::ClusterId;
use crate::ledger::Ledger;
use crate::resolve::PrimaryState;
use crate::scope::Scope;
use crate::standby::{Reconciler, Writer, keeper};

pub use install::Room;
pub use keeping::{Keeping, Upkeep};
pub use load::Loaded;

/// Who wants to write to a standby. What it does ends early, with none, once it is told to stop.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Name of the stream.
    pub stream: String,
    /// The primary.
    pub primary: ClusterId,
    /// Which keys are replicated, and under which names.
    pub scope: Arc<Scope>,
    /// Cancelled when the process is told to stop.
    pub stop: CancellationToken,
}

/// What the standby holds, and who may write to it.
#[derive(Debug)]
pub struct Base<S> {
    /// The one who writes.
    pub writer: Writer<S>,
    /// The one who keeps users and roles.
    pub reconciler: Reconciler,
    /// What it last wrote.
    pub checkpoint: Checkpoint,
    /// The primary's state there.
    pub state: PrimaryState,
    /// The ledger.
    pub ledger: Ledger,
    /// Which keys the standby holds.
    pub scope: Arc<Scope>,
    /// What keeps the leases.
    pub keeper: keeper::Handle,
}
