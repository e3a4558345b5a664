//! What an answer of the standby means for the write that it answers. Pure.
//!
//! The question is always the same: can the write still have been applied, now or later? Only a
//! refusal that etcd gives before proposing, or at apply, is a clear no.
//!
//! # Source
//! etcd `api/v3rpc/rpctypes/error.go` for the texts, which are matched because the gRPC codes do
//! not tell these cases apart (`ResourceExhausted` is no space, too many requests and a message
//! that is too large).

use tonic::Code;

/// Why a request to the standby did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It was not applied and will not be; the standby may take it later.
    #[error("not applied: {0}")]
    NotApplied(String),
    /// It may have been applied, or may be applied later.
    #[error("no answer: {0}")]
    Unknown(String),
    /// The standby is out of space. It may have been applied.
    #[error(
        "the standby is out of space ({0}): compact and defragment it or raise \
         --quota-backend-bytes, then clear the alarm with `etcdctl alarm disarm`"
    )]
    NoSpace(String),
    /// Not applied: the request is larger than the standby takes.
    #[error("the standby refuses the size of the request: {0}")]
    TooLarge(String),
    /// Not applied: one list of the transaction is longer than the standby takes.
    #[error("the standby refuses the number of operations: {0}")]
    TooManyOps(String),
    /// Not applied: the standby lacks a key or a lease that it should have.
    #[error(
        "the standby lacks what this stream wrote to it ({0}): something else writes to the standby; \
         stop that, and begin with `etcd-syncer resync`"
    )]
    Diverged(String),
    /// Not applied: the standby has no such lease.
    #[error(
        "the standby lacks a lease that this stream made ({0}): it expired or was revoked there, and \
         the keys attached to it are gone; `etcd-syncer resync` brings them back"
    )]
    LeaseNotFound(String),
    /// Not applied: what was asked for is so already.
    #[error("done already: {0}")]
    Already(String),
    /// Not applied, and never will be.
    #[error("the standby refuses the request: {0}")]
    Refused(String),
}

impl Failure {
    /// Reads an error of the client library.
    #[must_use]
    pub fn of(error: &etcd_client::Error) -> Self {
        if let etcd_client::Error::GRpcStatus(status) = error {
            return Self::of_status(status.code(), status.message());
        }
        // Every other error is about the connection, and says nothing of what etcd did.
        Self::Unknown(error.to_string())
    }

    /// Reads a gRPC status.
    #[must_use]
    pub fn of_status(code: Code, message: &str) -> Self {
        let text = message.to_owned();
        for (part, meaning) in TEXTS {
            if message.contains(part) {
                return meaning(text);
            }
        }
        match code {
            Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented
            | Code::NotFound
            | Code::AlreadyExists => Self::Refused(text),
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss => Self::Unknown(format!("{text} ({code:?})")),
        }
    }

    /// Says which endpoint it was, where only one of several may be at fault.
    #[must_use]
    pub fn from_endpoint(self, endpoint: &str) -> Self {
        match self {
            Self::NotApplied(what) => Self::NotApplied(format!("{what} from {endpoint}")),
            Self::Unknown(what) => Self::Unknown(format!("{what} from {endpoint}")),
            same @ (Self::NoSpace(_)
            | Self::TooLarge(_)
            | Self::TooManyOps(_)
            | Self::Diverged(_)
            | Self::LeaseNotFound(_)
            | Self::Already(_)
            | Self::Refused(_)) => same,
        }
    }

    /// True if another endpoint of the standby may do better.
    #[must_use]
    pub fn suggests_another_endpoint(&self) -> bool {
        matches!(self, Self::NotApplied(_) | Self::Unknown(_))
    }
}

type Meaning = fn(String) -> Failure;

/// Parts of etcd's texts, and what they mean.
const TEXTS: [(&str, Meaning); 20] = [
    ("database space exceeded", Failure::NoSpace),
    ("request is too large", Failure::TooLarge),
    ("larger than max", Failure::TooLarge),
    ("too many operations in txn request", Failure::TooManyOps),
    ("key not found", Failure::Diverged),
    ("requested lease not found", Failure::LeaseNotFound),
    ("lease already exists", Failure::Already),
    ("required revision has been compacted", Failure::Already),
    ("not a primary lessor", Failure::NotApplied),
    ("waiting for the applied index", Failure::NotApplied),
    ("too many requests", Failure::NotApplied),
    ("invalid auth token", Failure::NotApplied),
    ("revision of auth store is old", Failure::NotApplied),
    ("revision in header is old", Failure::NotApplied),
    ("user name is empty", Failure::NotApplied),
    ("no leader", Failure::NotApplied),
    ("raft proposal dropped", Failure::NotApplied),
    ("not capable", Failure::NotApplied),
    ("rpc not supported for learner", Failure::NotApplied),
    ("corrupt cluster", Failure::NotApplied),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_has_its_meaning() {
        for (code, message, expected) in [
            (
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
                "no space",
            ),
            (
                Code::ResourceExhausted,
                "etcdserver: too many requests",
                "not applied",
            ),
            (
                Code::ResourceExhausted,
                "grpc: received message larger than max (3 vs. 2)",
                "too large",
            ),
            (
                Code::InvalidArgument,
                "etcdserver: request is too large",
                "too large",
            ),
            (
                Code::InvalidArgument,
                "etcdserver: too many operations in txn request",
                "too many ops",
            ),
            (
                Code::InvalidArgument,
                "etcdserver: duplicate key given in txn request",
                "refused",
            ),
            (
                Code::InvalidArgument,
                "etcdserver: key not found",
                "diverged",
            ),
            (
                Code::NotFound,
                "etcdserver: requested lease not found",
                "lease not found",
            ),
            (
                Code::FailedPrecondition,
                "etcdserver: lease already exists",
                "already",
            ),
            (
                Code::OutOfRange,
                "etcdserver: mvcc: required revision has been compacted",
                "already",
            ),
            (
                Code::OutOfRange,
                "etcdserver: mvcc: required revision is a future revision",
                "refused",
            ),
            (
                Code::OutOfRange,
                "etcdserver: too large lease TTL",
                "refused",
            ),
            (Code::Unknown, "not a primary lessor", "not applied"),
            (Code::Unavailable, "etcdserver: no leader", "not applied"),
            (Code::Unknown, "raft proposal dropped", "not applied"),
            (
                Code::Unavailable,
                "etcdserver: request timed out",
                "unknown",
            ),
            (
                Code::Unavailable,
                "etcdserver: request timed out, possibly due to previous leader failure",
                "unknown",
            ),
            (
                Code::DeadlineExceeded,
                "context deadline exceeded",
                "unknown",
            ),
            (Code::Unavailable, "connection refused", "unknown"),
            (
                Code::PermissionDenied,
                "etcdserver: permission denied",
                "refused",
            ),
            (Code::DataLoss, "etcdserver: corrupt cluster", "not applied"),
            (
                Code::Unauthenticated,
                "etcdserver: invalid auth token",
                "not applied",
            ),
            (
                Code::InvalidArgument,
                "etcdserver: revision of auth store is old",
                "not applied",
            ),
            (
                Code::Unknown,
                "auth: revision in header is old",
                "not applied",
            ),
            (
                Code::InvalidArgument,
                "etcdserver: user name is empty",
                "not applied",
            ),
            (
                Code::InvalidArgument,
                "etcdserver: authentication failed, invalid user ID or password",
                "refused",
            ),
        ] {
            let name = match Failure::of_status(code, message) {
                Failure::NotApplied(_) => "not applied",
                Failure::Unknown(_) => "unknown",
                Failure::NoSpace(_) => "no space",
                Failure::TooLarge(_) => "too large",
                Failure::TooManyOps(_) => "too many ops",
                Failure::Diverged(_) => "diverged",
                Failure::LeaseNotFound(_) => "lease not found",
                Failure::Already(_) => "already",
                Failure::Refused(_) => "refused",
            };
            assert_eq!(name, expected, "{message}");
        }
    }
}
