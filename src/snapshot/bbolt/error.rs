//! Why a file is not a sound bbolt database.

use std::io;

use super::reader::PAGE_BYTES_MAX;
use super::tree::DEPTH_MAX;

/// What went wrong, and where in the file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("read {bytes} bytes at byte {offset} of the database")]
    Read {
        /// Where.
        offset: u64,
        /// How many.
        bytes: usize,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Too short for one meta page.
    #[error("the file has {0} bytes and is no bbolt database")]
    TooShort(u64),
    /// Numbers are the other way round.
    #[error(
        "the database was written by an etcd on a big-endian machine, whose files are not \
         supported; take the snapshot from a member on another kind of machine"
    )]
    BigEndian,
    /// No meta page can be used.
    #[error("no valid meta page: the file is no bbolt database, or its first pages are damaged")]
    NoMeta,
    /// The newer of the valid meta pages makes no sense.
    #[error("the meta page names {0}; the file is damaged")]
    Meta(&'static str),
    /// The file ends before the database does.
    #[error("the file is cut short: it has {have} bytes and the database {need}; fetch it again")]
    Truncated {
        /// How long the database is.
        need: u64,
        /// How long the file is.
        have: u64,
    },
    /// A page is damaged.
    #[error(
        "page {page}: {flaw}; the file is damaged, or was copied while an etcd was writing to it"
    )]
    Page {
        /// The page's number.
        page: u64,
        /// What is wrong with it.
        flaw: Flaw,
    },
}

/// What is wrong with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// The number of a page that the database does not have.
    #[error("there is no such page")]
    NoSuchPage,
    /// The page says that it is another one.
    #[error("it says that it is page {0}")]
    WrongId(u64),
    /// Neither branch nor leaf.
    #[error("its flags are {0:#x}, neither branch nor leaf")]
    WrongKind(u16),
    /// More pages follow than there are.
    #[error("it goes on over {0} more pages, behind the end of the database")]
    OverflowOutOfFile(u32),
    /// Longer than what is read at once.
    #[error("it has {0} bytes, more than the {PAGE_BYTES_MAX} that are read")]
    TooLong(u64),
    /// Some other page reaches it too.
    #[error("it is reached twice")]
    ReachedTwice,
    /// The elements are longer than the page.
    #[error("its {0} elements do not fit in")]
    TooManyElements(u16),
    /// A branch without children.
    #[error("it is a branch without children")]
    NoChildren,
    /// Leaves at different depths.
    #[error("it is a leaf beside branches or a branch beside leaves")]
    Uneven,
    /// A tree that is too deep.
    #[error("it lies more than {DEPTH_MAX} levels deep")]
    TooDeep,
    /// More pages than can be counted.
    #[error("its level has more than four billion pages")]
    TooWide,
    /// An element points somewhere else.
    #[error("element {0} does not begin where the one before it ends")]
    ElementMisplaced(u16),
    /// An element is longer than the page.
    #[error("element {0} ends behind the page")]
    ElementOutOfPage(u16),
    /// Keys have from one to 32768 bytes.
    #[error("the key of element {0} has {1} bytes")]
    KeyLength(u16, u32),
    /// Bits that mean nothing.
    #[error("the flags of element {0} are {1:#x}")]
    ElementFlags(u16, u32),
    /// Keys must ascend.
    #[error("the key of element {0} is not above the one before it")]
    KeyOrder(u16),
    /// Keys must lie where the parent page says.
    #[error("the key of element {0} lies outside the range that the parent page names")]
    KeyOutOfRange(u16),
    /// A bucket's value is too short, or too long.
    #[error("the bucket in element {0} has {1} bytes")]
    BucketLength(u16, usize),
    /// etcd has no buckets inside buckets.
    #[error("element {0} is a bucket inside a bucket, which etcd never makes")]
    NestedBucket(u16),
    /// etcd keeps everything in buckets.
    #[error("element {0} lies outside all buckets, which etcd never does")]
    NotInBucket(u16),
    /// The page in a bucket's value is not as it must be.
    #[error("the page inside an inline bucket is not one leaf")]
    InlinePage,
    /// Something follows the last element of an inline bucket.
    #[error("an inline bucket has {0} bytes behind its last element")]
    InlineRest(usize),
}

impl Flaw {
    /// The error for this flaw in this page.
    pub(super) fn of(self, page: u64) -> Error {
        Error::Page { page, flaw: self }
    }
}
