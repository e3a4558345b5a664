//! Reads a bbolt database file: its buckets, and in each the keys with their values. Pure over a
//! [`PageSource`].
//!
//! ```text
//! meta page --root page--> root bucket --name--> bucket --branch pages--> leaf pages --> elements
//! ```
//!
//! - Only what the chosen meta page reaches is read. The freelist is never looked at: etcd on Linux
//!   does not store it. Free pages hold stale content, so pages are never searched.
//! - Every page and every element is checked before it is used, and no page is reached twice in one
//!   pass over the file. So the work is bounded by the size of the file, and memory by the largest
//!   logical page ([`PAGE_BYTES_MAX`]), one bit for each page, and what one level of a tree names:
//!   about 40 bytes for each leaf page, 1 % of the file.
//! - A tree is walked level by level, not by recursion. Leaf pages are visited either in the order
//!   of their keys or in the order in which they lie in the file; the second reads a large file
//!   once, from its begin to its end.
//! - Deliberately absent: writing, free pages, buckets inside buckets (etcd has none; they are
//!   refused), files of big-endian machines.
//!
//! # Source
//! bbolt `internal/common/{page,meta,bucket,inode}.go`, `db.go`, `tx_check.go`, 1.3 to 1.5.

mod error;
mod meta;
mod page;
mod reader;
mod tree;
mod visited;

use std::io;

pub use error::{Error, Flaw};
pub use meta::Meta;
pub use reader::PAGE_BYTES_MAX;
pub use tree::{Bucket, Database, Element, NamedBucket, Order, Walker};

/// The bytes of a file, read at any place.
pub trait PageSource {
    /// How many bytes there are.
    fn size(&self) -> u64;

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// If they cannot be read or are not there.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl<S: PageSource + ?Sized> PageSource for &S {
    fn size(&self) -> u64 {
        (**self).size()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        (**self).read_exact_at(buffer, offset)
    }
}

impl PageSource for [u8] {
    fn size(&self) -> u64 {
        self.len().try_into().unwrap_or(u64::MAX)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(buffer.len());
        let bytes = self.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

/// The four bytes at `at`, as bbolt on a little-endian machine writes a number.
fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

/// The eight bytes at `at`, as a number.
fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*bytes))
}
