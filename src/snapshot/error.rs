//! Why a database cannot be read.

use super::{bbolt, store};

/// What went wrong, and where.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no sound bbolt database.
    #[error(transparent)]
    Bbolt(#[from] bbolt::Error),
    /// It is a bbolt database of something else.
    #[error("there is no bucket \"{0}\": this is no database of etcd, or it is damaged")]
    NoBucket(&'static str),
    /// A record is not as etcd writes it.
    #[error(
        "a record of bucket \"{bucket}\", value at byte {at}: {flaw}; the file is damaged, or a \
         release of etcd wrote it that is not known"
    )]
    Record {
        /// The bucket.
        bucket: &'static str,
        /// Where in the file the value of the record begins.
        at: u64,
        /// What is wrong.
        flaw: store::Flaw,
    },
    /// What was saved is not what there is.
    #[error("the SHA-256 hash at the end of the file is not that of the file; fetch it again")]
    HashMismatch,
    /// A length that neither a database nor a saved snapshot has.
    #[error(
        "the file has {0} bytes, which is neither whole pages nor whole pages and a hash: it is \
         cut short, or it is no database; fetch it again"
    )]
    OddLength(u64),
}
