//! The numbers that name things, each with its own type, so that one is never taken for another.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty), $format:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash,
            serde::Serialize, serde::Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }
    };
}

number!(
    /// Position of an entry in the primary's raft log; the first entry has index 1, 0 is "none".
    RaftIndex(u64),
    "{}"
);
number!(
    /// Term of a raft leader; 0 is "none".
    Term(u64),
    "{}"
);
number!(
    /// Revision of an etcd keyspace; an empty one is at revision 1.
    Revision(i64),
    "{}"
);
number!(
    /// A lease. Any number but 0, which is "no lease"; shown as etcd's tools show it, in
    /// hexadecimal.
    LeaseId(i64),
    "{:x}"
);
number!(
    /// A member of an etcd cluster, shown as etcd shows it: hexadecimal, no leading zeros.
    MemberId(u64),
    "{:x}"
);
number!(
    /// An etcd cluster, shown as etcd shows it: hexadecimal, no leading zeros.
    ClusterId(u64),
    "{:x}"
);

impl RaftIndex {
    /// The index after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// How many entries lie in `self + 1 ..= other`; 0 if `other` is not ahead.
    #[must_use]
    pub fn distance_to(self, other: Self) -> u64 {
        other.0.saturating_sub(self.0)
    }
}

impl MemberId {
    /// Reads the hexadecimal form that stands in URLs and headers.
    ///
    /// # Errors
    /// None for anything that is not 1 to 16 hexadecimal digits.
    #[must_use]
    pub fn parse_hex(text: &str) -> Option<Self> {
        parse_hex(text).map(Self)
    }
}

impl ClusterId {
    /// Reads the hexadecimal form that stands in headers.
    #[must_use]
    pub fn parse_hex(text: &str) -> Option<Self> {
        parse_hex(text).map(Self)
    }
}

fn parse_hex(text: &str) -> Option<u64> {
    if text.is_empty() || text.len() > 16 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_hexadecimal_without_leading_zeros() {
        let id = MemberId(0x0535_bc51_9408_92e3);
        assert_eq!(id.to_string(), "535bc51940892e3");
        assert_eq!(MemberId::parse_hex("535bc51940892e3"), Some(id));
        for bad in ["", "+1", "0x1", "535bc51940892e3535bc51940892e3", "g"] {
            assert_eq!(MemberId::parse_hex(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn distance_never_runs_backwards() {
        assert_eq!(RaftIndex(3).distance_to(RaftIndex(10)), 7);
        assert_eq!(RaftIndex(10).distance_to(RaftIndex(3)), 0);
    }
}
