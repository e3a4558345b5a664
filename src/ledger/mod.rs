//! The primary's state, kept in the standby so that a new process can go on from the checkpoint
//! without asking the primary. Pure.
//!
//! ```text
//! base:     chunk 0, chunk 1, .. chunk n       the state, piece by piece
//! journals: first, .., next - 1                what each batch changed, written with the batch
//! ```
//!
//! Chunks and journals are records of one form, [`crate::resolve::Delta`]s, and taking in all
//! chunks and then all journals yields the state at the checkpoint. The checkpoint says which
//! records count; others are left over and mean nothing.
//!
//! When the journals outgrow the base, a new base is written beside the old one while the stream
//! goes on, one chunk at a time between batches. Its chunks are of different moments; that does no
//! harm, because all journals from the moment of the first chunk on are taken in after it, and a
//! journal names what is there after it. The checkpoint switches to the new base once it is
//! past the moment of the last chunk; then the old base and the journals before it are deleted.
//!
//! A record has a header with format, kind, number and a CRC-32C, so a damaged or missing one is
//! found out; a ledger is trusted as a whole or not at all. Values are not in it, only digests of
//! them; of a password hash there is a digest, of a password nothing.

mod count;
mod journal;
mod keys;
mod load;
mod part;
mod rebase;
mod record;
mod roll;

#[cfg(test)]
mod tests;

pub use journal::{Journal, weight};
pub use load::{Damaged, Loaded, Loader};
pub use record::Error as RecordError;
pub use roll::{Ledger, Sizes, Step};
