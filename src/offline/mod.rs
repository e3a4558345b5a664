//! The primary's log without a running primary: data directories of its members, and captured
//! files.
//!
//! ```text
//!  data directory --DataDir--> log, snapshots, how far it was committed
//!        one or several --Recovery--> which entries count --> handouts behind a checkpoint
//!  captured file --capture--> entries
//! ```
//!
//! What was committed is not written in any one place. Each member notes how far it knew of, which
//! may be some entries short of what clients were told. Only a majority of the voters together can
//! tell: their best log, by the rule of raft's elections, holds everything that was committed. With
//! less than that, what lies beyond the known is undetermined: shown, and never applied.
//!
//! This holds for directories as their members left them. One from an old backup has forgotten
//! entries that its member had acknowledged, and counts as a voter all the same: nothing in it
//! shows that. Such a copy must not be named together with others.
//!
//! Everything but `files` and `member` is pure.
//!
//! # Source
//! etcd `server/etcdserver/bootstrap.go`, `server/etcdserver/api/snap/snapshotter.go`,
//! `server/storage/backend.go`; raft `raft.go`, `raftLog.isUpToDate`.

pub mod capture;
mod effects;
mod election;
mod error;
mod files;
mod handouts;
mod member;
mod recovery;
mod snap;
mod store;

#[cfg(test)]
mod tests;

pub use effects::{Compared, Effects};
pub use election::{Candidate, Decision, decide};
pub use error::Error;
pub use files::Database;
pub use handouts::{Handouts, committed, hand_out};
pub use member::{DataDir, restored_at};
pub use recovery::{Basis, Recovery, Undetermined};
pub use snap::{SnapError, SnapFile, SnapName};
