//! Reads what a member of the primary has stored: its database, from a raft snapshot, a saved
//! snapshot or a data directory.
//!
//! ```text
//! file --bbolt--> elements of buckets --store--> records --keys--> live keys, without values
//!   |                                                                 |
//!   +-------------------------- values, when wanted <-- where they lie+
//! ```
//!
//! - [`read()`] gives everything but the values of keys, and checks all that it passes. A file that
//!   is not wholly as etcd and bbolt write it is refused: a record that is read wrongly would be a
//!   wrong key in the standby, and a bucket that is not found would be an empty one.
//! - Values are read by [`value`] or [`Values`], from where [`LiveKey::value`] says.
//! - Everything but [`DbFile`] is pure.
//!
//! # Source
//! etcd `server/storage/schema/`, `server/storage/mvcc/kvstore.go`, 3.4 to 3.7, and bbolt.

pub mod bbolt;
mod contents;
mod error;
mod file;
mod keys;
mod read;
mod saved;
mod state;
mod store;
mod values;

pub use contents::{Cluster, Compaction, Contents, Raft};
pub use error::Error;
pub use file::{DbFile, FileError};
pub use keys::{LiveKey, LiveKeys, Reputs, ValueAt};
pub use read::{cluster, position, read};
pub use saved::{Form, check_hash};
pub use store::{ConfState, Downgrade, Flaw, Lease, Member};
pub use values::{Values, digests, value};
