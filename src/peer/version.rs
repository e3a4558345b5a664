//! Release numbers of etcd, as they stand in headers and in `/version`. Pure.

use std::fmt;

/// A release of etcd. Shown as `major.minor.patch`, which is always valid semantic versioning: a
/// member that reads anything else in our stream answer ends its process.
///
/// # Source
/// etcd 3.7.1 `server/etcdserver/api/rafthttp/util.go` serverVersion (uncaught panic).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// First number.
    pub major: u16,
    /// Second number; releases of one `major.minor` speak the same peer protocol.
    pub minor: u16,
    /// Third number.
    pub patch: u16,
}

impl Version {
    /// What etcd takes a missing version header for.
    pub(crate) const ABSENT: Self = Self::new(2, 0, 0);
    /// The oldest cluster version that 3.3 to 3.7 work with, and so do we.
    pub const OLDEST_CLUSTER: Self = Self::new(3, 0, 0);

    /// The release with these numbers.
    #[must_use]
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self {
            major,
            minor,
            patch,
        }
    }

    /// Reads `3.5.1`; a pre-release or build part behind it (`3.7.0-rc.1+x`) is left out.
    ///
    /// None unless there are three plain numbers below 65536.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let core = text.split(['-', '+']).next()?;
        let mut numbers = core.split('.').map(|part| {
            let plain = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            if plain { part.parse().ok() } else { None }
        });
        let version = Self::new(numbers.next()??, numbers.next()??, numbers.next()??);
        numbers.next().is_none().then_some(version)
    }

    /// The same release line, without the patch: what compatibility is decided by.
    #[must_use]
    pub fn line(self) -> (u16, u16) {
        (self.major, self.minor)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

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
    use proptest::prelude::*;

    #[test]
    fn only_three_plain_numbers_are_a_version() {
        assert_eq!(Version::parse("3.5.1"), Some(Version::new(3, 5, 1)));
        assert_eq!(Version::parse("3.7.0-rc.1+g1"), Some(Version::new(3, 7, 0)));
        for bad in [
            "",
            "3.4",
            "v3.4.0",
            "3.4.0.1",
            "3..0",
            "3.4.+1",
            "3.4.99999",
            "a.b.c",
        ] {
            assert_eq!(Version::parse(bad), None, "{bad:?}");
        }
        assert_eq!(
            ClusterVersion::parse("not_decided"),
            Some(ClusterVersion::Undecided)
        );
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(major: u16, minor: u16, patch: u16) {
            let version = Version::new(major, minor, patch);
            prop_assert_eq!(Version::parse(&version.to_string()), Some(version));
        }

        #[test]
        fn any_text_is_safe(text in ".*") {
            if let Some(version) = Version::parse(&text) {
                prop_assert_eq!(Version::parse(&version.to_string()), Some(version));
            }
        }
    }
}
