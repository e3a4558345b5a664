//! Reads a member's write-ahead log (WAL): the raft log as it lies on the member's disk.
//!
//! ```text
//!  files --decoder--> records --survey--> what the log is made of     first pass
//!                                            |
//!  files --decoder--> records ------------> entries, in order         second pass
//! ```
//!
//! - The log is never held in memory. The first pass ([`Wal::open`]) checks every record and notes
//!   which of them make up the log; the second ([`Wal::entries`]) streams these.
//! - An entry may be written again with another term, when a leader of the past had written it
//!   without a majority. The later record counts, and what stood behind it is gone.
//! - A write that was torn at the end of the last file is where the log ends. Anything else that
//!   does not check out is damage, and never taken for an end.
//! - That an entry is in the log does not mean that it was committed: see [`Wal::commit`].
//!
//! Everything but `dir` is pure; files are read through [`Segments`].
//!
//! # Source
//! etcd `server/storage/wal/{wal,decoder,encoder,repair}.go` (3.6, 3.7), `server/wal` (3.5), `wal`
//! (3.3, 3.4). The bytes are the same in all of them.

mod behind;
mod decoder;
mod dir;
mod entries;
mod error;
mod frame;
mod log;
mod name;
mod reading;
mod record;
mod survey;
#[cfg(test)]
mod tests;

pub(crate) use decoder::RECORD_BYTES_MAX;
pub use dir::{Directory, collect_committed, locate};
pub use entries::Entries;
pub use error::{Error, Problem};
pub(crate) use frame::{SECTOR_BYTES, lacks_a_sector};
pub use log::Gap;
pub use name::SegmentName;
pub(crate) use reading::read_up_to;
pub use reading::{MemorySegments, Segment, Segments};
pub use record::{HardState, Metadata, Snapshot};
pub use survey::{End, Wal};
