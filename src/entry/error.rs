//! What the decoder refuses.

use crate::ids::RaftIndex;

/// An entry that is not understood. Always a halt: going on would skip what the entry did.
///
/// No message holds a value, a name or a secret of the entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("decode entry {index}: {problem}")]
pub struct Error {
    /// The entry.
    pub index: RaftIndex,
    /// What is wrong with it.
    pub problem: Problem,
}

/// Why an entry is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The raft entry type is neither normal nor conf change.
    #[error(
        "entry type {kind} ({name}) is not known; \
         check whether this version of etcd-syncer supports the primary's release"
    )]
    EntryType {
        /// The type as logged.
        kind: u32,
        /// What raft calls it.
        name: &'static str,
    },
    /// A field that this version does not know, a field of another form, or broken bytes.
    #[error(
        "{finding}; check whether this version of etcd-syncer supports the primary's release, \
         and if it does, compare the entry on the primary's members with etcd-dump-logs"
    )]
    Content {
        /// Where and what, without any content.
        finding: String,
    },
    /// All fields are known, and writing the message again gives another length.
    #[error(
        "{message} is {given_bytes} bytes long and {encoded_bytes} when written again: a field is \
         repeated or written in a way that etcd does not use; inspect the entry with etcd-dump-logs"
    )]
    NotCanonical {
        /// The message.
        message: &'static str,
        /// Length in the log.
        given_bytes: usize,
        /// Length as etcd would write it.
        encoded_bytes: usize,
    },
    /// A v3 request without any request in it.
    #[error(
        "the entry holds no request that is known; \
         check whether this version of etcd-syncer supports the primary's release"
    )]
    NoRequest,
    /// A v3 request with more than one request in it.
    #[error(
        "the entry holds several requests ({}), which no etcd release proposes; \
         inspect it with etcd-dump-logs",
        kinds.join(", ")
    )]
    SeveralRequests {
        /// Their kinds.
        kinds: Vec<&'static str>,
    },
    /// A v3 request without an id.
    #[error(
        "the {kind} request has no id, on which every etcd release crashes; \
         inspect the entry with etcd-dump-logs"
    )]
    NoId {
        /// The kind of the request.
        kind: &'static str,
    },
    /// A membership change of a kind that etcd does not have.
    #[error(
        "conf change type {0} is not known; \
         check whether this version of etcd-syncer supports the primary's release"
    )]
    ConfChangeType(u32),
}
