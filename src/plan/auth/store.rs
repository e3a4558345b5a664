//! What a standby says of its users and roles, and how a call changes that.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{AuthCall, ROOT};
use crate::resolve::Permission;

/// A standby's auth store, as far as it can be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Store {
    /// Whether it checks requests.
    pub enabled: bool,
    /// Whether all its members take the hash of a password: those of 3.5 and later.
    pub takes_hashes: bool,
    /// The roles of each user.
    pub users: BTreeMap<String, BTreeSet<String>>,
    /// The permissions of each role, sorted by key.
    pub roles: BTreeMap<String, Vec<Permission>>,
}

impl Store {
    /// Does what the standby does at a call that it accepts.
    ///
    /// # Source
    /// etcd `server/auth/store.go`.
    pub fn apply(&mut self, call: &AuthCall) {
        match call {
            AuthCall::Enable => self.enabled = true,
            AuthCall::Disable => self.enabled = false,
            AuthCall::AddUser { name, .. } => {
                self.users.entry(name.clone()).or_default();
            }
            AuthCall::DeleteUser { name } => {
                self.users.remove(name);
            }
            AuthCall::SetPassword { .. } => {}
            AuthCall::GrantRole { user, role } => {
                if let Some(roles) = self.users.get_mut(user) {
                    roles.insert(role.clone());
                }
            }
            AuthCall::RevokeRole { user, role } => {
                if let Some(roles) = self.users.get_mut(user) {
                    roles.remove(role);
                }
            }
            AuthCall::AddRole { name } => {
                self.roles.entry(name.clone()).or_default();
            }
            AuthCall::DeleteRole { name } => {
                self.roles.remove(name);
                for roles in self.users.values_mut() {
                    roles.remove(name);
                }
            }
            AuthCall::GrantPermission { role, permission } => {
                if let Some(permissions) = self.roles.get_mut(role) {
                    grant(permissions, permission);
                }
            }
            AuthCall::RevokePermission {
                role,
                key,
                range_end,
            } => {
                if let Some(permissions) = self.roles.get_mut(role) {
                    permissions.retain(|old| old.key != *key || old.range_end != *range_end);
                }
            }
        }
    }

    /// True if `user` has role root.
    #[must_use]
    pub fn is_root(&self, user: &str) -> bool {
        self.users
            .get(user)
            .is_some_and(|roles| roles.contains(ROOT))
    }
}

/// Only the first permission of a key is replaced; where the new one stands among others of its key
/// does not matter, as what may be replaced next is not left to that.
fn grant(permissions: &mut Vec<Permission>, new: &Permission) {
    let first = permissions.partition_point(|old| old.key < new.key);
    if let Some(old) = permissions.get_mut(first)
        && (&old.key, &old.range_end) == (&new.key, &new.range_end)
    {
        old.kind = new.kind;
        return;
    }
    let behind = permissions.partition_point(|old| old.key <= new.key);
    permissions.insert(behind, new.clone());
}

/// What a role allows: for each key and range end one permission, the union of all for that range.
/// Those of an undefined kind allow nothing and are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions(BTreeMap<(Bytes, Bytes), i32>);

const READ: i32 = 0;
const WRITE: i32 = 1;
const BOTH: i32 = 2;

impl Permissions {
    /// The union of a role's permissions.
    #[must_use]
    pub fn of(stored: &[Permission]) -> Self {
        let mut union = BTreeMap::new();
        for permission in stored {
            if !matches!(permission.kind, READ | WRITE | BOTH) {
                continue;
            }
            let range = (permission.key.clone(), permission.range_end.clone());
            union
                .entry(range)
                .and_modify(|kind| {
                    if *kind != permission.kind {
                        *kind = BOTH;
                    }
                })
                .or_insert(permission.kind);
        }
        Self(union)
    }

    /// The kind for one range.
    #[must_use]
    pub fn kind(&self, key: &Bytes, range_end: &Bytes) -> Option<i32> {
        self.0.get(&(key.clone(), range_end.clone())).copied()
    }

    /// Each range with its kind, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Permission> {
        self.0.iter().map(|((key, range_end), kind)| Permission {
            kind: *kind,
            key: key.clone(),
            range_end: range_end.clone(),
        })
    }
}
