//! What differs between releases of etcd in how a committed entry is applied.

use crate::version::Version;

impl Version {
    /// The last patch release of this minor release whose rules are known; none for a preview.
    #[must_use]
    pub fn last_known(self) -> Option<Self> {
        let mut known = LAST_KNOWN.into_iter();
        let known = known.find(|known| known.line() == self.line());
        known.filter(|_| !self.is_preview())
    }

    /// True for a patch release that came after the rules were written down: it is taken to apply
    /// entries as the last one known of its minor release.
    #[must_use]
    pub fn is_beyond_known(self) -> bool {
        LAST_KNOWN
            .iter()
            .any(|known| known.minor == self.minor && *known < self)
    }
}

const LAST_KNOWN: [Version; 4] = [
    Version::new(3, 4, 45),
    Version::new(3, 5, 33),
    Version::new(3, 6, 14),
    Version::new(3, 7, 1),
];

/// A release whose rules are not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownVersion {
    /// Too old, or too new.
    #[error(
        "how etcd {0} applies entries is not known, only 3.4 to 3.7 are; \
         use a version of etcd-syncer that supports it"
    )]
    Release(Version),
    /// Not a release.
    #[error(
        "a member runs a preview of etcd {0}, and how previews apply entries is not known; \
         run a release there"
    )]
    Preview(Version),
}

/// How one release of etcd applies entries, where releases differ.
///
/// # Source
/// The release tags of the etcd repository: `apply_auth.go`, `auth/store.go`, `quota.go`,
/// `key_index.go`, `pkg/adt/interval_tree.go`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is one independent switch between releases"
)]
pub struct Rules {
    /// Requests and compares inside nested Txns need permission as those outside do.
    pub nested_ops_checked: bool,
    /// A put inside a Txn needs the rights of a put outside: to the other keys of its lease, and to
    /// read the key for `prev_kv`.
    pub txn_puts_checked_fully: bool,
    /// Whoever has role root needs no right to the keys of a lease, and no current auth revision.
    pub admin_skips_lease_keys: bool,
    /// A permission must have a key and must not be for an inverted range.
    pub permission_ranges_validated: bool,
    /// A grant without a permission is refused; before, members crash.
    pub missing_permission_refused: bool,
    /// Members that did not propose a Txn drop the Ranges at its top level first.
    pub others_drop_ranges: bool,
    /// Raising an alarm adds its layer to the others. Before, it replaces all of them, those of
    /// auth and of other alarms too, until the member restarts.
    pub alarms_keep_layers: bool,
    /// Puts in nested Txns count when space is out.
    pub nested_puts_cost: bool,
    /// Raising the alarm of no type does nothing; before, it is stored.
    pub alarm_none_ignored: bool,
    /// Raising an alarm of an undefined type crashes members.
    pub unknown_alarm_crashes: bool,
    /// Passwords are hashed before they are proposed.
    pub passwords_come_hashed: bool,
    /// A user added without options gets the password; before, none.
    pub optionless_user_gets_password: bool,
    /// Changing the password of a user stored without options crashes members.
    pub optionless_change_crashes: bool,
    /// A compaction at a revision that deleted a key and put it again loses the key.
    pub compaction_loses_reputs: bool,
    /// A nested Range with an undefined sort target crashes members.
    pub undefined_sort_crashes: bool,
    /// Members may see a record of the requester that is older than the last change. For 3.4 it is
    /// known only that 3.4.23 does not.
    pub former_records_seen: bool,
    /// In the tree of a user's permissions, those that begin alike are ordered by their ends.
    pub permission_ties_by_end: bool,
}

impl Rules {
    /// The rules of a release.
    ///
    /// # Errors
    /// [`UnknownVersion`] for anything but releases of 3.4 to 3.7.
    pub fn of(version: Version) -> Result<Self, UnknownVersion> {
        if version.major != 3 || !(4..=7).contains(&version.minor) {
            return Err(UnknownVersion::Release(version));
        }
        if version.is_preview() {
            return Err(UnknownVersion::Preview(version));
        }
        // True from these patch releases on; None for never in that minor release.
        let since = |in_3_4, in_3_5, in_3_6, in_3_7| {
            let first: Option<u32> = match version.minor {
                4 => in_3_4,
                5 => in_3_5,
                6 => in_3_6,
                _ => in_3_7,
            };
            first.is_some_and(|first| first <= version.patch)
        };
        let all = Some(0);
        Ok(Self {
            nested_ops_checked: since(Some(42), Some(28), Some(9), all),
            txn_puts_checked_fully: since(Some(44), Some(30), Some(11), all),
            admin_skips_lease_keys: since(Some(27), Some(10), all, all),
            permission_ranges_validated: since(Some(25), Some(8), all, all),
            missing_permission_refused: since(Some(25), all, all, all),
            others_drop_ranges: since(all, all, all, None),
            alarms_keep_layers: since(None, None, all, all),
            nested_puts_cost: since(None, Some(33), Some(14), Some(1)),
            alarm_none_ignored: since(None, all, all, all),
            unknown_alarm_crashes: since(None, all, None, None),
            passwords_come_hashed: since(None, all, all, all),
            optionless_user_gets_password: since(Some(4), all, all, all),
            optionless_change_crashes: version.minor == 5 && version.patch < 8,
            compaction_loses_reputs: since(Some(34), Some(16), all, all),
            undefined_sort_crashes: since(all, all, all, None),
            former_records_seen: since(Some(24), Some(3), None, None),
            permission_ties_by_end: since(None, None, None, all),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The switches that are on, by letter in the order of the struct.
    fn letters(version: Version) -> String {
        let r = Rules::of(version).expect("is known");
        [
            ('a', r.nested_ops_checked),
            ('b', r.txn_puts_checked_fully),
            ('c', r.admin_skips_lease_keys),
            ('d', r.permission_ranges_validated),
            ('e', r.missing_permission_refused),
            ('f', r.others_drop_ranges),
            ('g', r.alarms_keep_layers),
            ('h', r.nested_puts_cost),
            ('i', r.alarm_none_ignored),
            ('j', r.unknown_alarm_crashes),
            ('k', r.passwords_come_hashed),
            ('l', r.optionless_user_gets_password),
            ('m', r.optionless_change_crashes),
            ('n', r.compaction_loses_reputs),
            ('o', r.undefined_sort_crashes),
            ('p', r.permission_ties_by_end),
            ('q', r.former_records_seen),
        ]
        .into_iter()
        .filter_map(|(letter, is_on)| is_on.then_some(letter))
        .collect()
    }

    #[test]
    fn every_patch_release_that_changes_a_rule() {
        let rows = [
            ("3.4.0", "fo"),
            ("3.4.3", "fo"),
            ("3.4.4", "flo"),
            ("3.4.23", "flo"),
            ("3.4.25", "defl o q"),
            ("3.4.27", "cdefl o q"),
            ("3.4.33", "cdefl o q"),
            ("3.4.34", "cdefl no q"),
            ("3.4.42", "acdefl no q"),
            ("3.4.43", "acdefl no q"),
            ("3.4.44", "abcdefl no q"),
            ("3.4.45", "abcdefl no q"),
            ("3.5.0", "ef ijkl m o"),
            ("3.5.1", "ef ijkl m o"),
            ("3.5.2", "ef ijkl m o"),
            ("3.5.3", "ef ijkl m o q"),
            ("3.5.7", "ef ijkl m o q"),
            ("3.5.8", "def ijkl o q"),
            ("3.5.10", "cdef ijkl o q"),
            ("3.5.16", "cdef ijkl no q"),
            ("3.5.28", "acdef ijkl no q"),
            ("3.5.30", "abcdef ijkl no q"),
            ("3.5.32", "abcdef ijkl no q"),
            ("3.5.33", "abcdef hijkl no q"),
            ("3.6.0", "cdefg i kl no"),
            ("3.6.8", "cdefg i kl no"),
            ("3.6.9", "acdefg i kl no"),
            ("3.6.10", "acdefg i kl no"),
            ("3.6.11", "abcdefg i kl no"),
            ("3.6.13", "abcdefg i kl no"),
            ("3.6.14", "abcdefgh i kl no"),
            ("3.7.0", "abcde g i kl n p"),
            ("3.7.1", "abcde gh i kl n p"),
        ];
        for (version, expected) in rows {
            let version = Version::parse(version).expect("is a version");
            assert_eq!(letters(version), expected.replace(' ', ""), "{version}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for (major, minor, patch) in [(3, 3, 27), (3, 8, 0), (2, 5, 0), (4, 4, 0)] {
            let version = Version::new(major, minor, patch);
            let unknown = UnknownVersion::Release(version);
            assert_eq!(Rules::of(version), Err(unknown));
        }
        let preview = Version::parse("3.7.0-rc.1").expect("is a version");
        let refused = Rules::of(preview).expect_err("is refused");
        assert_eq!(refused, UnknownVersion::Preview(preview));
        assert_eq!(
            refused.to_string(),
            "a member runs a preview of etcd 3.7.0, and how previews apply entries is not known; \
             run a release there"
        );
    }

    #[test]
    fn later_patch_releases_are_told() {
        assert!(!Version::new(3, 5, 33).is_beyond_known());
        assert!(Version::new(3, 5, 34).is_beyond_known());
        assert!(!Version::new(3, 6, 0).is_beyond_known());
    }
}
