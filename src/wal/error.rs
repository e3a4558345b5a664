//! Why a log cannot be read.

use crate::ids::{RaftIndex, Term};

/// A log that cannot be read, or not as far as asked. No message holds any content of an entry.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refuses.
    #[error("{what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A folder without a log.
    #[error(
        "{path} holds no WAL: name the data directory of an etcd member, or its member/wal folder"
    )]
    NoFiles {
        /// The folder.
        path: String,
    },
    /// Two files with one place in the order.
    #[error("two WAL files have the sequence number {sequence}: leave the one that etcd wrote")]
    SameSequence {
        /// The number.
        sequence: u64,
    },
    /// A file that does not check out.
    #[error("WAL file {file}, offset {offset}: {problem}")]
    Damaged {
        /// The file.
        file: String,
        /// Where the record begins.
        offset: u64,
        /// What is wrong.
        problem: Problem,
    },
    /// The log does not hold what was asked for.
    #[error(
        "the WAL does not hold entry {wanted}; it holds {first} to {last}: begin with a snapshot \
         that reaches to {first} or further"
    )]
    NotHeld {
        /// The first entry that is missing.
        wanted: RaftIndex,
        /// The first entry from which on none is missing.
        first: RaftIndex,
        /// The last entry.
        last: RaftIndex,
    },
    /// The second pass met something else than the first.
    #[error("WAL file {file} changed while it was read: stop the member, or copy the files first")]
    Changed {
        /// The file.
        file: String,
    },
}

/// What is wrong with a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Fewer bytes are left than a length has.
    #[error("the file ends inside a length")]
    ShortLength,
    /// A length that no etcd writes.
    #[error("{0:02x?} is no length of a record")]
    Length([u8; 8]),
    /// The record is longer than the rest of the file.
    #[error("a record of {record} bytes in the {left} bytes that are left of the file")]
    Beyond {
        /// What the length says.
        record: u64,
        /// What there is.
        left: u64,
    },
    /// The record is longer than anything that etcd takes.
    #[error("a record of {0} bytes, more than raft can carry")]
    TooLong(u64),
    /// The bytes are not those that were written.
    #[error("checksum {computed:08x} instead of {stated:08x}")]
    Checksum {
        /// What the record says.
        stated: u32,
        /// What comes out.
        computed: u32,
    },
    /// The file does not go on where the one before ended.
    #[error(
        "the file goes on from checksum {stated:08x}, and the file before it ends with {chain:08x}: \
         records at its end are missing, or the two do not belong together"
    )]
    Link {
        /// The last checksum of the file before.
        chain: u32,
        /// What this file begins with.
        stated: u32,
    },
    /// The bytes are no message.
    #[error("{what} does not decode: {why}")]
    Undecodable {
        /// The message.
        what: &'static str,
        /// Why not.
        why: String,
    },
    /// A kind of record that this version does not know.
    #[error("record type {0} is not known")]
    RecordType(i64),
    /// A number that cannot be.
    #[error("{0} is {1}")]
    Number(&'static str, u64),
    /// A file does not begin as every file does.
    #[error("the file does not begin with a checksum record")]
    NoHead,
    /// No record says whose log it is.
    #[error("no record says which member wrote this log")]
    NoMetadata,
    /// Two members in one log.
    #[error("the file is of another member or cluster than the files before it")]
    Metadata,
    /// Entries are missing.
    #[error("entry {found} follows entry {last}, and no snapshot stands between")]
    Gap {
        /// The last entry before.
        last: RaftIndex,
        /// What follows.
        found: RaftIndex,
    },
    /// Terms must not fall.
    #[error("entry {index} has term {term}, and the one before it {before}")]
    TermFalls {
        /// Where.
        index: RaftIndex,
        /// Its term.
        term: Term,
        /// The term before.
        before: Term,
    },
    /// More than is kept in memory.
    #[error("more than {0} {1}: this is no log that etcd wrote")]
    TooMany(usize, &'static str),
}
