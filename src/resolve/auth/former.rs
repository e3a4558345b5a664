//! Users of whom members of 3.5 may still see an older record.
//!
//! From 3.5.3 on they look a requester's record up in a buffer of recent writes first, and the
//! lookup goes one place too far: behind the last record of the buffer lies what an earlier batch
//! left there. So a member may see the record of a user that was deleted, or one from before a
//! change if users that come first in order were written after it. Whether it does depends on how
//! its writes fell into batches, which the log does not tell. Of the record only role root matters:
//! all other rights are kept elsewhere.
//!
//! # Source
//! etcd 3.5.33 `server/mvcc/backend/tx_buffer.go`, `bucketBuffer.Range` and `txBuffer.reset`;
//! `server/auth/store.go`, `IsAdminPermitted`. 3.6.0 stops at the buffer's end. Up to 3.5.11 a
//! deleted user is also seen until a batch is committed.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::state::{AuthState, User};

/// What may be left in the buffers of the primary's members.
#[derive(Clone, Debug, Default)]
pub(in crate::resolve) struct FormerRecords {
    /// Those who got or lost role root.
    users: BTreeMap<String, Former>,
    /// Of all users written since the buffers were known to be empty, the first in order.
    first: Option<String>,
    /// Entries with an effect since a user was written.
    quiet: u32,
    /// How often any of it but the last changed.
    changes: u64,
}

/// What is kept of it over a restart; who reads it takes the last user for just written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FormerParts {
    /// Those who got or lost role root: whether a record of theirs may have stood behind another,
    /// and whether members may see it.
    pub users: BTreeMap<String, (bool, bool)>,
    /// Of all users written since the buffers were known to be empty, the first in order.
    pub first: Option<String>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Former {
    /// It may have stood behind another in a batch, and so lie where the lookup comes to when
    /// others are written.
    is_behind: bool,
    /// Members may see it.
    is_visible: bool,
}

/// A batch ends after so many writes at the latest, and after two without a user nothing is left.
const QUIET_MAX: u32 = 2 * 10_000;
/// Users remembered; a member's buffer has room for fewer.
const USERS_MAX: usize = 10_000;

impl FormerRecords {
    /// True if members may see a record of the user that says otherwise about role root.
    pub(in crate::resolve) fn may_be_seen(&self, name: &str) -> bool {
        self.users.get(name).is_some_and(|former| former.is_visible)
    }

    /// Notes an entry that has an effect and leaves users alone.
    pub(in crate::resolve) fn note_other(&mut self) {
        if self.first.is_none() && self.users.is_empty() {
            return;
        }
        self.quiet = self.quiet.saturating_add(1);
        if self.quiet >= QUIET_MAX {
            self.forget();
        }
    }

    /// Notes that nothing is left in any buffer.
    pub(in crate::resolve) fn forget(&mut self) {
        *self = Self {
            changes: self.changes + 1,
            ..Self::default()
        };
    }

    /// Another number than before if there is something new to keep.
    pub(in crate::resolve) fn changes(&self) -> u64 {
        self.changes
    }

    /// What is to be kept.
    pub(in crate::resolve) fn parts(&self) -> FormerParts {
        let users = self.users.iter();
        FormerParts {
            users: users
                .map(|(name, former)| (name.clone(), (former.is_behind, former.is_visible)))
                .collect(),
            first: self.first.clone(),
        }
    }

    /// Goes on with what was kept.
    pub(in crate::resolve) fn take_in(&mut self, parts: FormerParts) {
        let users = parts.users.into_iter();
        self.users = users
            .map(|(name, (is_behind, is_visible))| {
                let former = Former {
                    is_behind,
                    is_visible,
                };
                (name, former)
            })
            .collect();
        (self.first, self.quiet) = (parts.first, 0);
        self.changes += 1;
    }

    /// Notes that these users are written, None for deleted; `auth` is as it was before.
    pub(in crate::resolve) fn note_users(
        &mut self,
        auth: &AuthState,
        written: &BTreeMap<String, Option<User>>,
    ) {
        self.quiet = 0;
        self.changes += 1;
        for (name, new) in written {
            let had_root = auth.users.get(name).is_some_and(User::is_root);
            let has_root = new.as_ref().is_some_and(User::is_root);
            if had_root != has_root {
                let is_behind = self.first.as_ref().is_some_and(|first| first < name);
                let former = self.users.entry(name.clone()).or_default();
                former.is_behind |= is_behind;
                former.is_visible |= new.is_none();
            }
            if new.is_none() {
                continue;
            }
            if self.first.as_ref().is_none_or(|first| name < first) {
                self.first = Some(name.clone());
            }
            let behind = (Bound::Excluded(name.clone()), Bound::Unbounded);
            for (_, former) in self.users.range_mut(behind) {
                former.is_visible |= former.is_behind;
            }
        }
        while self.users.len() > USERS_MAX {
            self.users.pop_first();
        }
    }
}
