//! What entries changed in the state, told as the state after them. Pure.
//!
//! A [`Delta`] can be stored and taken in by another copy of the state. Taking one in twice, or
//! into a state that is ahead of its beginning, does no harm as long as all later ones follow:
//! each names what is there afterwards, not what was done.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::alarm::Alarms;
use super::auth::{AuthChange, FormerParts, Role, User};
use super::changes::{LeaseChange, Resolved};
use super::state::{KeyMeta, PrimaryState};
use crate::ids::{LeaseId, Revision};
use crate::range::KeyRange;

/// Changes of a [`PrimaryState`], to be taken in in the order of the fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delta {
    /// Ranges in which no key of before is left.
    pub deletes: Vec<KeyRange>,
    /// Leases that ended; their keys are in the ranges.
    pub revoked: Vec<LeaseId>,
    /// Leases that exist, and their TTLs in seconds.
    pub granted: Vec<(LeaseId, i64)>,
    /// Keys that exist, each once.
    pub puts: Vec<(Bytes, KeyMeta)>,
    /// Keys that a revision deleted and put again.
    pub reputs: Vec<(Revision, Bytes)>,
    /// Users and roles, if anything about them changed.
    pub auth: Option<AuthDelta>,
    /// All alarms and what is known of the members' layers, if anything about them changed.
    pub alarms: Option<Alarms>,
}

/// Changes of users and roles.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AuthDelta {
    /// Whether requests are checked.
    pub enabled: bool,
    /// The auth revision.
    pub revision: u64,
    /// Users that changed; None for one that is gone.
    pub users: BTreeMap<String, Option<User>>,
    /// Roles that changed; None for one that is gone.
    pub roles: BTreeMap<String, Option<Role>>,
    /// Older records of users that members may still see.
    pub former: FormerParts,
}

impl Delta {
    /// True if there is nothing to take in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self {
            deletes,
            revoked,
            granted,
            puts,
            reputs,
            auth,
            alarms,
        } = self;
        deletes.is_empty()
            && revoked.is_empty()
            && granted.is_empty()
            && puts.is_empty()
            && reputs.is_empty()
            && auth.is_none()
            && alarms.is_none()
    }
}

impl AuthDelta {
    /// Everything about users and roles.
    #[must_use]
    pub fn all(state: &PrimaryState) -> Self {
        let auth = state.auth();
        let users = auth.users().iter();
        let roles = auth.roles().iter();
        Self {
            enabled: auth.is_enabled(),
            revision: auth.revision(),
            users: users
                .map(|(name, user)| (name.clone(), Some(user.clone())))
                .collect(),
            roles: roles
                .map(|(name, role)| (name.clone(), Some(role.clone())))
                .collect(),
            former: state.former_parts(),
        }
    }
}

impl PrimaryState {
    /// What the entry that was resolved last changed. `before` is what [`PrimaryState::small`] was
    /// before it.
    #[must_use]
    pub fn delta(&self, resolved: &Resolved, before: &Small) -> Delta {
        let mut delta = Delta {
            deletes: resolved.changes.deletes.clone(),
            ..Delta::default()
        };
        match resolved.lease {
            Some(LeaseChange::Granted { id, ttl }) => delta.granted.push((id, ttl)),
            Some(LeaseChange::Revoked { id }) => delta.revoked.push(id),
            None => {}
        }
        for put in &resolved.changes.puts {
            if let Some(meta) = self.key(&put.key) {
                delta.puts.push((put.key.clone(), *meta));
            }
        }
        if !resolved.changes.puts.is_empty() {
            let keys = self.reputs_at(resolved.revision);
            delta.reputs = keys.map(|key| (resolved.revision, key)).collect();
        }
        let now = self.small();
        let is_auth_new = (now.auth, now.former) != (before.auth, before.former);
        if !resolved.auth.is_empty() || is_auth_new {
            delta.auth = Some(self.auth_delta(&resolved.auth));
        }
        if now.alarms != before.alarms {
            delta.alarms = Some(now.alarms);
        }
        delta
    }

    /// The parts of the state that entries change without saying so.
    #[must_use]
    pub fn small(&self) -> Small {
        Small {
            auth: (self.auth.is_enabled(), self.auth.revision()),
            former: self.former.changes(),
            alarms: self.alarms.clone(),
        }
    }

    /// Only with releases that look at them.
    fn former_parts(&self) -> FormerParts {
        if self.settings.rules.former_records_seen {
            self.former.parts()
        } else {
            FormerParts::default()
        }
    }

    fn auth_delta(&self, changes: &[AuthChange]) -> AuthDelta {
        let mut delta = AuthDelta {
            enabled: self.auth.is_enabled(),
            revision: self.auth.revision(),
            former: self.former_parts(),
            ..AuthDelta::default()
        };
        for change in changes {
            match change {
                AuthChange::Enabled | AuthChange::Disabled => {}
                AuthChange::UserAdded { name, .. }
                | AuthChange::UserDeleted { name }
                | AuthChange::PasswordChanged { name, .. }
                | AuthChange::UserRoles { name, .. } => {
                    let user = self.auth.users().get(name).cloned();
                    delta.users.insert(name.clone(), user);
                }
                AuthChange::RoleAdded { name }
                | AuthChange::RoleDeleted { name }
                | AuthChange::RolePermissions { name, .. } => {
                    let role = self.auth.roles().get(name).cloned();
                    delta.roles.insert(name.clone(), role);
                }
            }
        }
        delta
    }

    /// Brings the state forward. Its position stays.
    pub fn take_in(&mut self, delta: Delta) {
        for range in &delta.deletes {
            self.remove_keys(range);
        }
        for id in delta.revoked {
            self.remove_lease(id);
        }
        for (id, ttl) in delta.granted {
            self.set_lease(id, ttl);
        }
        for (key, meta) in delta.puts {
            self.set_key(&key, meta);
        }
        for (revision, key) in delta.reputs {
            self.restore_reput(revision, &key);
        }
        if let Some(mut auth) = delta.auth {
            self.former.take_in(std::mem::take(&mut auth.former));
            self.auth.take_in(auth);
        }
        if let Some(alarms) = delta.alarms {
            self.alarms = alarms;
        }
    }

    /// Forgets what the compact revision of the state's position has made harmless. To be called
    /// once after the last [`PrimaryState::take_in`].
    pub fn taken_in(&mut self) {
        self.compact(self.position.compact_revision);
    }
}

/// See [`PrimaryState::small`].
#[derive(Clone, Debug, PartialEq)]
pub struct Small {
    auth: (bool, u64),
    former: u64,
    alarms: Alarms,
}
