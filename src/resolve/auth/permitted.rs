//! Whether a request may do what it asks for.

use bytes::Bytes;

use super::interval::{self, Interval};
use super::state::{AuthState, User};
use super::tree::{Ties, Tree};
use crate::entry::Header;
use crate::resolve::error::Problem;
use crate::resolve::rules::Rules;

/// Why a request is refused, as a fixed phrase.
pub(in crate::resolve) type Refusal = &'static str;

/// What a request wants to do with keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::resolve) enum Right {
    /// To read them, or to compare with them.
    Read,
    /// To put or delete them.
    Write,
}

impl Right {
    /// True if a permission of this kind gives the right; undefined kinds give none.
    fn is_given_by(self, kind: i32) -> bool {
        match self {
            Self::Read => kind == KIND_READ || kind == KIND_BOTH,
            Self::Write => kind == KIND_WRITE || kind == KIND_BOTH,
        }
    }
}

const KIND_READ: i32 = 0;
const KIND_WRITE: i32 = 1;
const KIND_BOTH: i32 = 2;

/// The credentials of one entry, held against the auth store as it is before the entry.
#[derive(Clone, Copy, Debug)]
pub(in crate::resolve) struct Access<'a> {
    /// The store.
    pub(in crate::resolve) auth: &'a AuthState,
    /// The release.
    pub(in crate::resolve) rules: &'a Rules,
    /// The credentials.
    pub(in crate::resolve) header: &'a Header,
    /// What the requester's record says about role root, if a member sees another than `auth` has.
    pub(in crate::resolve) root: Option<bool>,
}

impl Access<'_> {
    /// Whether users and roles may be changed. The auth revision does not matter.
    pub(in crate::resolve) fn admin(&self) -> Result<(), Refusal> {
        if !self.auth.enabled {
            return Ok(());
        }
        if self.header.username.is_empty() {
            return Err(USER_EMPTY);
        }
        let user = self.auth.users.get(&self.header.username);
        if self.is_root(user) {
            return Ok(());
        }
        Err(user.map_or("user name not found", |_| DENIED))
    }

    fn is_root(&self, user: Option<&User>) -> bool {
        self.root.unwrap_or_else(|| user.is_some_and(User::is_root))
    }

    /// Whether the keys that `key` and `range_end` name may be read or written; the outer error is
    /// that this is not known.
    pub(in crate::resolve) fn keys(
        &self,
        key: &Bytes,
        range_end: &Bytes,
        right: Right,
    ) -> Result<Result<(), Refusal>, Problem> {
        if !self.auth.enabled {
            return Ok(Ok(()));
        }
        if self.header.auth_revision == 0 {
            return Ok(Err(USER_EMPTY));
        }
        if self.header.auth_revision < self.auth.revision {
            return Ok(Err("auth revision is old"));
        }
        let user = self.auth.users.get(&self.header.username);
        if self.is_root(user) {
            return Ok(Ok(()));
        }
        match user {
            Some(user) if self.is_permitted(user, key, range_end, right)? => Ok(Ok(())),
            Some(_) | None => Ok(Err(DENIED)),
        }
    }

    fn is_permitted(
        &self,
        user: &User,
        key: &Bytes,
        range_end: &Bytes,
        right: Right,
    ) -> Result<bool, Problem> {
        let wanted = Interval::of(key, range_end);
        // In the order in which the primary puts them into its tree.
        let roles = || {
            user.roles
                .iter()
                .filter_map(|name| self.auth.roles.get(name))
        };
        let intervals: Vec<Interval> = roles()
            .flat_map(|role| &role.permissions)
            .filter(|permission| right.is_given_by(permission.kind))
            .map(Interval::of_permission)
            .collect();
        if wanted.is_regular() && intervals.iter().all(Interval::is_regular) {
            return Ok(interval::cover(&intervals, &wanted));
        }
        if roles().any(|role| !role.unordered.is_empty()) {
            return Err(Problem::Undecided(
                "an inverted range is checked against permissions in an unknown order",
            ));
        }
        let ties = if self.rules.permission_ties_by_end {
            Ties::ByEnd
        } else {
            Ties::Right
        };
        let tree = Tree::build(intervals, ties);
        Ok(if range_end.is_empty() {
            tree.intersects(&wanted)
        } else {
            tree.contains(&wanted)
        })
    }
}

const USER_EMPTY: Refusal = "user name is empty";
const DENIED: Refusal = "permission denied";
