//! Prefixes that cannot be meant as they are.

use bytes::Bytes;

use super::prefixes::Rewrite;
use super::text::show;

/// Prefixes that make no scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<Problem>);

impl Error {
    /// What is wrong.
    #[must_use]
    pub fn problem(&self) -> &Problem {
        &self.0
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem))
    }
}

/// What is wrong with the prefixes of a scope. Each names the option.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A prefix without a byte.
    #[error(
        "--{option}: an empty prefix is every key; leave the option out, or unset its variable"
    )]
    Empty {
        /// The option's name.
        option: &'static str,
    },
    /// Too much to be written with each checkpoint.
    #[error(
        "--include-prefix, --exclude-prefix and --rewrite-prefix: they have {bytes} bytes together, \
         and {most} is the most; use fewer or shorter ones"
    )]
    TooLong {
        /// All of them.
        bytes: usize,
        /// The limit.
        most: usize,
    },
    /// Our own keys were asked for.
    #[error(
        "--include-prefix {}: these are keys of etcd-syncer itself, which are never replicated; \
         leave it out", show(.0)
    )]
    OurOwn(Bytes),
    /// An exclusion of what is not there.
    #[error(
        "--exclude-prefix {}: no key that is included begins so; correct it, or leave it out",
        show(.0)
    )]
    NothingToExclude(Bytes),
    /// An inclusion of what is excluded.
    #[error(
        "--include-prefix {}: --exclude-prefix takes all of it out again, and counts more; leave \
         one of them out", show(.0)
    )]
    Excluded(Bytes),
    /// No key is left.
    #[error("--exclude-prefix: every key is excluded, so there is nothing to replicate")]
    Nothing,
    /// A rewrite of what is not there.
    #[error(
        "--rewrite-prefix {rewrite}: no key in scope begins with {:?}, or longer rewrites take them \
         all; correct it, or leave it out", show(&.rewrite.from)
    )]
    NothingToRewrite {
        /// The rewrite.
        rewrite: Rewrite,
    },
    /// A rewrite to nothing.
    #[error(
        "--rewrite-prefix {rewrite}: the key {:?} itself would have no name on the standby; write a \
         prefix of at least one byte behind the =", show(&.rewrite.from)
    )]
    NoName {
        /// The rewrite.
        rewrite: Rewrite,
    },
    /// Two rewrites of one prefix.
    #[error("--rewrite-prefix {0} and {1}: only one of them can be done; leave the other out")]
    Ambiguous(Rewrite, Rewrite),
    /// A rewrite into our own keys.
    #[error(
        "--rewrite-prefix {rewrite}: the primary's key {} would be {} on the standby, and keys of \
         etcd-syncer itself have such names; write another prefix behind the =",
        show(.key), show(.name)
    )]
    Reserved {
        /// The rewrite.
        rewrite: Rewrite,
        /// A key of the primary.
        key: Bytes,
        /// Its name.
        name: Bytes,
    },
    /// Two keys with one name.
    #[error(
        "--rewrite-prefix: the primary's keys {} and {} would both be {} on the standby; exclude \
         the one or the other by --exclude-prefix, or rewrite to a prefix that nothing has",
        show(.one), show(.other), show(.name)
    )]
    Collision {
        /// A key of the primary.
        one: Bytes,
        /// Another one.
        other: Bytes,
        /// The name of both.
        name: Bytes,
    },
}
