//! Brings the standby to the state of a snapshot of the primary, by writing what differs.
//!
//! ```text
//! database --read--> Contents --+
//!                               +--Diff--> Piece, Piece, .. --Writer--> standby
//! what the standby holds -------+
//! ```
//!
//! - What the standby holds is the ledger's state, or, if there is no ledger to trust, the
//!   standby's own keys. Where the ledger knows a key with the snapshot's revisions nothing is read
//!   or written.
//! - Each piece is a transaction with the checkpoint, which says that a snapshot is being
//!   installed, and with its journal. So the ledger keeps saying exactly what the standby holds,
//!   and after a crash the next installation starts there, with whatever snapshot there is then.
//! - The last transaction says that the standby is at the snapshot's index.

mod content;
mod diff;
mod leases;
mod piece;
mod progress;
mod run;

pub use content::{attached_leases, content_of};
pub use diff::{Diff, Tally};
pub use piece::Piece;
pub use progress::{Progress, Stage};
pub use run::{Error, Install, Target, install};
