//! The hash at the end of a saved snapshot. Pure over a [`PageSource`].
//!
//! What `etcdctl snapshot save` writes is the database and a SHA-256 hash of it. What a member
//! keeps in its data directory, and what it sends to another one, has no hash.
//!
//! # Source
//! etcd `server/etcdserver/api/v3rpc/maintenance.go`, `etcdutl/snapshot/v3_snapshot.go`.

use sha2::{Digest as _, Sha256};

use super::bbolt::{self, PageSource};
use super::error::Error;

/// What a file is, as its length tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A database as it lies in a data directory, or a saved one whose hash was taken off.
    Plain,
    /// A saved snapshot: a database and its hash.
    Saved,
}

impl Form {
    /// The form of a file of this length.
    ///
    /// # Errors
    /// If neither has such a length.
    pub fn of(size: u64) -> Result<Self, Error> {
        match size % PAGE_BYTES_UNIT {
            0 => Ok(Self::Plain),
            HASH_BYTES => Ok(Self::Saved),
            _ => Err(Error::OddLength(size)),
        }
    }

    /// How many of the file's bytes are the database and what may lie behind it.
    #[must_use]
    pub fn content_bytes(self, size: u64) -> u64 {
        match self {
            Self::Plain => size,
            Self::Saved => size.saturating_sub(HASH_BYTES),
        }
    }
}

/// Reads all of a saved snapshot and compares it with its hash; a plain database has none.
///
/// # Errors
/// If the hash is another one, or the file cannot be read.
pub fn check_hash<S: PageSource + ?Sized>(source: &S) -> Result<Form, Error> {
    let size = source.size();
    let form = Form::of(size)?;
    let content = form.content_bytes(size);
    if form == Form::Plain {
        return Ok(form);
    }
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut offset = 0;
    while offset < content {
        let left = usize::try_from(content - offset).unwrap_or(usize::MAX);
        buffer.truncate(left);
        read_at(source, offset, &mut buffer)?;
        hash.update(&buffer);
        offset += u64::try_from(buffer.len()).unwrap_or(u64::MAX);
    }
    let mut stored = [0; 32];
    read_at(source, content, &mut stored)?;
    if hash.finalize().as_slice() != stored {
        return Err(Error::HashMismatch);
    }
    Ok(form)
}

fn read_at<S: PageSource + ?Sized>(
    source: &S,
    offset: u64,
    buffer: &mut [u8],
) -> Result<(), Error> {
    let bytes = buffer.len();
    let read = source.read_exact_at(buffer, offset);
    read.map_err(|source| {
        Error::Bbolt(bbolt::Error::Read {
            offset,
            bytes,
            source,
        })
    })
}

const HASH_BYTES: u64 = 32;
/// No page is smaller, and all are multiples of it.
const PAGE_BYTES_UNIT: u64 = 512;
const BUFFER_BYTES: usize = 1 << 20;
