//! Release numbers of etcd, as they stand in headers, in `/version` and in options. Pure.

use std::fmt;

/// A release of etcd. Shown as `major.minor.patch`, which is always valid semantic versioning: a
/// member that reads anything else in our stream answer ends its process.
///
/// # Source
/// etcd 3.7.1 `server/etcdserver/api/rafthttp/util.go` serverVersion (uncaught panic).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// First number; 3.
    pub major: u32,
    /// Second number; releases of one `major.minor` speak the same peer protocol.
    pub minor: u32,
    /// Third number. Patch releases change what an entry does.
    pub patch: u32,
    /// False for a preview of the release, which comes before it. A preview speaks the protocol of
    /// its release, but nothing is known of how it applies entries.
    is_final: bool,
}

impl Version {
    /// The release with these numbers.
    #[must_use]
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self {
            major,
            minor,
            patch,
            is_final: true,
        }
    }

    /// Reads `3.5.33`, or a preview such as `3.7.0-rc.1`; what follows a plus sign names a build,
    /// and is passed over.
    ///
    /// None unless there are three plain numbers.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let release = text.split_once('+').map_or(text, |(release, _)| release);
        let (core, is_final) = match release.split_once('-') {
            Some((core, _)) => (core, false),
            None => (release, true),
        };
        let mut numbers = core.split('.').map(|part| {
            let is_plain = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            part.parse().ok().filter(|_| is_plain)
        });
        let version = Self {
            is_final,
            ..Self::new(numbers.next()??, numbers.next()??, numbers.next()??)
        };
        numbers.next().is_none().then_some(version)
    }

    /// True for a preview.
    #[must_use]
    pub fn is_preview(self) -> bool {
        !self.is_final
    }

    /// The same release line, without the patch: what compatibility is decided by.
    #[must_use]
    pub fn line(self) -> (u32, u32) {
        (self.major, self.minor)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_three_plain_numbers_are_a_version() {
        assert_eq!(Version::parse("3.5.33"), Some(Version::new(3, 5, 33)));
        assert_eq!(
            Version::parse("3.6.4+vendor-1"),
            Some(Version::new(3, 6, 4))
        );
        for bad in [
            "",
            "3",
            "3.5",
            "3.5.",
            "v3.4.0",
            "3.4.0.1",
            "3..0",
            "3.4.+1",
            "a.b.c",
            "-rc.1",
            "3.4.4294967296",
        ] {
            assert_eq!(Version::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn previews_come_before_their_release() {
        for text in ["3.7.0-rc.1", "3.7.0-rc.1+g1", "3.7.0-alpha.0"] {
            let preview = Version::parse(text).expect("is a version");
            assert!(preview.is_preview());
            assert!(preview < Version::new(3, 7, 0) && preview > Version::new(3, 6, 99));
            assert_eq!(preview.line(), (3, 7));
            // What we claim to be must be readable to every member.
            assert_eq!(preview.to_string(), "3.7.0");
        }
        assert!(!Version::new(3, 7, 0).is_preview());
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(major: u32, minor: u32, patch: u32) {
            let version = Version::new(major, minor, patch);
            prop_assert_eq!(Version::parse(&version.to_string()), Some(version));
        }

        #[test]
        fn any_text_is_safe(text in ".*") {
            if let Some(version) = Version::parse(&text) {
                prop_assert!(Version::parse(&version.to_string()).is_some());
            }
        }
    }
}
