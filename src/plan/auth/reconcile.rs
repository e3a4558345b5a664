//! From what is wanted and what is there to the calls between.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::given::{Held, may_log_in};
use super::{AuthCall, FirstPassword, Given, NewPassword, Permissions, ROOT, Store};
use crate::resolve::{AuthState, DigestKey, Password, Permission, User};

/// How this program gets into the standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Without a password: as long as requests are not checked, or by certificate.
    NoPassword,
    /// With a password, which we set ourselves as long as requests are not checked.
    Password,
}

/// What a plan depends on beside the two stores.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// The name of our own user.
    pub ours: &'a str,
    /// How we get in.
    pub access: Access,
    /// Makes the digests that stand for hashes.
    pub digest_key: &'a DigestKey,
}

/// The way to the wanted state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What to do, in this order.
    pub calls: Vec<AuthCall>,
    /// What stays different.
    pub shortfall: Shortfall,
}

/// What a standby cannot be given, each with the reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shortfall {
    /// Users that cannot log in there with the password that they have on the primary.
    pub passwords: Vec<(String, &'static str)>,
    /// Roles with a permission that the standby would refuse.
    pub permissions: Vec<(String, Permission)>,
    /// Why requests are not checked yet, though they are on the primary.
    pub enable: Option<&'static str>,
    /// True if the primary has a user with the name of our own.
    pub is_ours_taken: bool,
}

/// The calls that bring `store` to `wanted`. Interrupted anywhere, the next plan leads there too.
#[must_use]
pub fn reconcile(wanted: &AuthState, given: &Given, store: &Store, terms: &Terms<'_>) -> Plan {
    let mut draft = Draft {
        wanted,
        given,
        terms,
        store: store.clone(),
        plan: Plan::default(),
        is_ours_set: false,
    };
    draft.plan.shortfall.is_ours_taken = wanted.users().contains_key(terms.ours);
    draft.ours();
    draft.disable();
    draft.remove_users();
    draft.remove_roles();
    for (name, role) in wanted.roles() {
        draft.role(name, role.permissions());
    }
    // Step by step for all of them, as what does not depend on each other may be done at once.
    let users = || {
        wanted
            .users()
            .iter()
            .filter(|(name, _)| *name != terms.ours)
    };
    let new: Vec<(&String, bool)> = users()
        .map(|(name, user)| (name, draft.add_user(name, user)))
        .collect();
    for ((name, is_new), (_, user)) in new.into_iter().zip(users()) {
        if may_log_in(user) {
            draft.password(name, user, is_new);
        }
    }
    for (name, user) in users() {
        draft.roles_of(name, user);
    }
    if wanted.is_enabled() && !draft.store.enabled {
        draft.enable(store.enabled);
    }
    draft.plan
}

/// A plan in the making, and the store as it will be then.
struct Draft<'a> {
    wanted: &'a AuthState,
    given: &'a Given,
    terms: &'a Terms<'a>,
    store: Store,
    plan: Plan,
    is_ours_set: bool,
}

impl Draft<'_> {
    fn push(&mut self, call: AuthCall) {
        self.store.apply(&call);
        self.plan.calls.push(call);
    }

    /// Our own user, with role root.
    fn ours(&mut self) {
        if self.terms.access == Access::NoPassword {
            return;
        }
        let name = self.terms.ours.to_owned();
        if !self.store.users.contains_key(&name) {
            self.is_ours_set = true;
            self.push(AuthCall::AddUser {
                name,
                first: FirstPassword::Ours,
            });
        }
        self.root_for_ours();
    }

    fn root_for_ours(&mut self) {
        let ours = self.terms.ours;
        if self.store.users.contains_key(ours) && !self.store.is_root(ours) {
            self.push(AuthCall::GrantRole {
                user: ours.to_owned(),
                role: ROOT.to_owned(),
            });
        }
    }

    /// What etcd refuses as long as it checks requests, the primary did with auth disabled too.
    fn disable(&mut self) {
        let store = &self.store;
        let root_is_another = store.users.contains_key(ROOT)
            && self.terms.ours != ROOT
            && self
                .wanted
                .users()
                .get(ROOT)
                .is_none_or(|user| !self.given.is_made_for(ROOT, user));
        let role_goes = store.roles.contains_key(ROOT) && !self.wanted.roles().contains_key(ROOT);
        if store.enabled && (!self.wanted.is_enabled() || root_is_another || role_goes) {
            self.push(AuthCall::Disable);
        }
    }

    fn remove_users(&mut self) {
        let names: Vec<String> = self.store.users.keys().cloned().collect();
        for name in names {
            let stays = name == self.terms.ours
                || self
                    .wanted
                    .users()
                    .get(&name)
                    .is_some_and(|user| self.given.is_made_for(&name, user));
            if !stays {
                self.push(AuthCall::DeleteUser { name });
            }
        }
    }

    fn remove_roles(&mut self) {
        let names: Vec<String> = self.store.roles.keys().cloned().collect();
        for name in names {
            if self.wanted.roles().contains_key(&name) {
                continue;
            }
            let had_root = self.store.is_root(self.terms.ours);
            self.push(AuthCall::DeleteRole { name });
            if had_root {
                self.root_for_ours();
            }
        }
    }

    fn role(&mut self, name: &str, wanted: &[Permission]) {
        if !self.store.roles.contains_key(name) {
            self.push(AuthCall::AddRole {
                name: name.to_owned(),
            });
        }
        // It allows everything without them, and 3.6 shows one that nobody granted.
        if name == ROOT {
            return;
        }
        let stored = self.store.roles.get(name).map_or(&[][..], Vec::as_slice);
        let (goal, have) = (Permissions::of(wanted), Permissions::of(stored));
        let superfluous: Vec<(Bytes, Bytes)> = stored
            .iter()
            .filter(|old| goal.kind(&old.key, &old.range_end).is_none())
            .map(|old| (old.key.clone(), old.range_end.clone()))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        for (key, range_end) in superfluous {
            self.revoke(name, key, range_end);
        }
        // In the primary's order, so that new roles are listed alike.
        let mut seen = BTreeSet::new();
        for Permission { key, range_end, .. } in wanted {
            let kind = goal.kind(key, range_end);
            let is_first = seen.insert((key.clone(), range_end.clone()));
            let Some(kind) = kind.filter(|_| is_first) else {
                continue;
            };
            let permission = Permission {
                kind,
                key: key.clone(),
                range_end: range_end.clone(),
            };
            if !is_grantable(&permission) {
                let shortfall = &mut self.plan.shortfall.permissions;
                shortfall.push((name.to_owned(), permission));
            } else if have.kind(key, range_end) != Some(kind) {
                self.permission(name, permission);
            }
        }
    }

    fn permission(&mut self, role: &str, permission: Permission) {
        let stored = self.store.roles.get(role).map_or(&[][..], Vec::as_slice);
        let is_same = |old: &Permission| {
            (&old.key, &old.range_end) == (&permission.key, &permission.range_end)
        };
        let copies = stored.iter().filter(|old| is_same(old)).count();
        let of_key = stored.iter().filter(|old| old.key == permission.key);
        // A grant replaces nothing but the only permission of its key. Which one of several comes
        // first depends on how the standby was built.
        if copies > 0 && of_key.count() > 1 {
            let (key, range_end) = (permission.key.clone(), permission.range_end.clone());
            self.revoke(role, key, range_end);
        }
        self.push(AuthCall::GrantPermission {
            role: role.to_owned(),
            permission,
        });
    }

    fn revoke(&mut self, role: &str, key: Bytes, range_end: Bytes) {
        self.push(AuthCall::RevokePermission {
            role: role.to_owned(),
            key,
            range_end,
        });
    }

    /// True if the user was not there.
    fn add_user(&mut self, name: &str, wanted: &User) -> bool {
        if self.store.users.contains_key(name) {
            return false;
        }
        let first = if may_log_in(wanted) {
            FirstPassword::Random
        } else {
            FirstPassword::Nothing
        };
        let name = name.to_owned();
        self.push(AuthCall::AddUser { name, first });
        true
    }

    fn roles_of(&mut self, name: &str, wanted: &User) {
        let roles: BTreeSet<&String> = wanted.roles.iter().collect();
        let held = self.store.users.get(name).cloned().unwrap_or_default();
        for role in held.iter().filter(|role| !roles.contains(role)) {
            self.push(AuthCall::RevokeRole {
                user: name.to_owned(),
                role: role.clone(),
            });
        }
        // Etcd refuses to grant a role that does not exist, and one that is held gives no right.
        let exists = |role: &&String| *role == ROOT || self.wanted.roles().contains_key(*role);
        let missing = roles.into_iter().filter(|role| !held.contains(*role));
        for role in missing.filter(exists).collect::<Vec<_>>() {
            self.push(AuthCall::GrantRole {
                user: name.to_owned(),
                role: role.clone(),
            });
        }
    }

    fn password(&mut self, name: &str, wanted: &User, is_new: bool) {
        let held = if is_new {
            &Held::Nobodys
        } else {
            self.given.held(name)
        };
        let takes_hashes = self.store.takes_hashes;
        let is_current = held.is(&wanted.password, self.terms.digest_key);
        if is_current {
            return;
        }
        let goal = match &wanted.password {
            Password::None => Goal::Nobodys,
            Password::Hash(hash) if hash.expose().is_empty() => Goal::Nobodys,
            Password::Hash(_) if !takes_hashes => Goal::Short(ONLY_THE_HASH),
            Password::Digest(_) if !takes_hashes && !wanted.password.was_clear() => {
                Goal::Short(HASH_FORGOTTEN)
            }
            Password::Hash(hash) => Goal::Set(NewPassword::Hash(hash.clone())),
            Password::Clear(_) | Password::Digest(_) if wanted.password.is_empty_clear() => {
                Goal::Short(EMPTY)
            }
            Password::Clear(clear) => Goal::Set(NewPassword::Clear(clear.clone())),
            Password::Digest(_) => Goal::Short(LOST),
        };
        let is_nobodys = held.is_nobodys(&wanted.password, self.terms.digest_key);
        let new = match goal {
            Goal::Set(password) => Some(password),
            Goal::Nobodys => (!is_nobodys).then_some(NewPassword::Random),
            Goal::Short(why) => {
                let shortfall = &mut self.plan.shortfall.passwords;
                shortfall.push((name.to_owned(), why));
                // Whatever the standby took before must not let anybody in any more; but what an
                // earlier process could not carry either, it has replaced already.
                (!is_nobodys).then_some(NewPassword::Random)
            }
        };
        if let Some(password) = new {
            let name = name.to_owned();
            self.push(AuthCall::SetPassword { name, password });
        }
    }

    fn enable(&mut self, was_enabled: bool) {
        let shortfall = &mut self.plan.shortfall;
        if !self.store.is_root(ROOT) {
            shortfall.enable = Some("user root of the primary does not have role root");
        } else if self.terms.access == Access::NoPassword && !was_enabled {
            shortfall.enable = Some(
                "this program has no password of its own there: set --standby-password-file, and \
                 start it again",
            );
        } else {
            if self.terms.access != Access::NoPassword && !self.is_ours_set {
                self.push(AuthCall::SetPassword {
                    name: self.terms.ours.to_owned(),
                    password: NewPassword::Ours,
                });
            }
            self.push(AuthCall::Enable);
        }
    }
}

/// What becomes of a password.
enum Goal {
    Set(NewPassword),
    Nobodys,
    Short(&'static str),
}

const ONLY_THE_HASH: &str = "the primary's log holds only the hash of the password, and etcd 3.4 takes no hash: upgrade the \
     standby, or change the password";
const HASH_FORGOTTEN: &str = "etcd 3.4 takes no hash of a password, and this process no longer knows it: upgrade the standby, \
     and then change the password on the primary, or resync";
const EMPTY: &str = "the password is empty on the primary";
const LOST: &str = "the standby does not have the password, and this process, which began after it was set, does not \
     know its hash: change the password on the primary, or resync";

/// Later releases refuse what older ones stored.
fn is_grantable(permission: &Permission) -> bool {
    let Permission { key, range_end, .. } = permission;
    !key.is_empty() && (range_end.is_empty() || range_end.as_ref() == [0] || key < range_end)
}
