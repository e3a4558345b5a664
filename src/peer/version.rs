//! What members say of their releases and their cluster's, in headers and in `/version`. Pure.

use std::fmt;

pub use crate::version::Version;

/// What etcd takes a missing version header for.
pub(crate) const ABSENT: Version = Version::new(2, 0, 0);
/// The oldest cluster version that 3.3 to 3.7 work with, and so do we.
pub const OLDEST_CLUSTER: Version = Version::new(3, 0, 0);

/// The version the members of a cluster have agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterVersion {
    /// Nothing agreed on yet: the first seconds of a cluster.
    Undecided,
    /// Agreed.
    Decided(Version),
}

impl ClusterVersion {
    /// Reads `not_decided` or a version.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == NOT_DECIDED {
            return Some(Self::Undecided);
        }
        Version::parse(text).map(Self::Decided)
    }
}

impl fmt::Display for ClusterVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undecided => f.write_str(NOT_DECIDED),
            Self::Decided(version) => version.fmt(f),
        }
    }
}

/// What one `/version` answer says, and what ours mirrors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// Release of the server.
    pub server: Version,
    /// Version of the cluster, as that server sees it.
    pub cluster: ClusterVersion,
    /// Version of the storage format; told since 3.6.
    pub storage: Option<Version>,
}

const NOT_DECIDED: &str = "not_decided";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_cluster_has_no_version() {
        let decided = ClusterVersion::Decided(Version::new(3, 5, 0));
        for (text, version) in [
            ("not_decided", ClusterVersion::Undecided),
            ("3.5.0", decided),
        ] {
            assert_eq!(ClusterVersion::parse(text), Some(version));
            assert_eq!(version.to_string(), text);
        }
        assert_eq!(ClusterVersion::parse("3.5"), None);
    }
}
