//! etcd's auth store, as plainly as it can be written: what it refuses, what it holds, who gets in.
//! `auth_suite` holds it to what real etcd does.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use etcd_syncer::plan::auth::{AuthCall, FirstPassword, NewPassword};
use etcd_syncer::resolve::{AuthState, Login, Password, Permission};

/// The user that the program logs in as.
pub(crate) const OURS: &str = "etcd-syncer";

/// What a user has to say to be let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// Nobody knows it.
    Random,
    /// That of our own user.
    Ours,
    /// Whatever this is the hash of.
    Hash(Bytes),
    /// This.
    Clear(Bytes),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    /// None for one that can never log in by password.
    pub(crate) word: Option<Word>,
    pub(crate) roles: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Model {
    /// Who we are there.
    pub(crate) ours: &'static str,
    pub(crate) enabled: bool,
    pub(crate) takes_hashes: bool,
    pub(crate) users: BTreeMap<String, User>,
    pub(crate) roles: BTreeMap<String, Vec<Permission>>,
}

impl Model {
    pub(crate) fn new(takes_hashes: bool) -> Self {
        Self {
            ours: OURS,
            enabled: false,
            takes_hashes,
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
        }
    }

    /// Whether our own user gets in and may do everything.
    pub(crate) fn lets_us_in(&self) -> bool {
        !self.enabled || self.is_root_with(self.ours, &Word::Ours)
    }

    fn is_root_with(&self, name: &str, word: &Word) -> bool {
        self.users
            .get(name)
            .is_some_and(|user| user.word.as_ref() == Some(word) && user.roles.contains("root"))
    }

    /// What etcd does, or why it refuses.
    pub(crate) fn change(&mut self, call: &AuthCall) -> Result<(), &'static str> {
        if !self.lets_us_in() {
            return Err("authentication failed, invalid user ID or password");
        }
        match call {
            AuthCall::Enable => return self.enable(),
            AuthCall::Disable => self.enabled = false,
            AuthCall::AddUser { name, first } => return self.add_user(name, *first),
            AuthCall::DeleteUser { name } => {
                if self.enabled && name == "root" {
                    return Err("invalid auth management");
                }
                self.users.remove(name).ok_or("user name not found")?;
            }
            AuthCall::SetPassword { name, password } => return self.set_word(name, password),
            AuthCall::GrantRole { user, role } => {
                let exists = role == "root" || self.roles.contains_key(role);
                let user = self.users.get_mut(user).ok_or("user name not found")?;
                if !exists {
                    return Err("role name not found");
                }
                user.roles.insert(role.clone());
            }
            AuthCall::RevokeRole { user, role } => {
                if self.enabled && user == "root" && role == "root" {
                    return Err("invalid auth management");
                }
                let user = self.users.get_mut(user).ok_or("user name not found")?;
                if !user.roles.remove(role) {
                    return Err("role is not granted to the user");
                }
            }
            AuthCall::AddRole { name } => {
                if self.roles.contains_key(name) {
                    return Err("role name already exists");
                }
                self.roles.insert(name.clone(), Vec::new());
            }
            AuthCall::DeleteRole { name } => return self.delete_role(name),
            AuthCall::GrantPermission { role, permission } => {
                return self.grant(role, permission);
            }
            AuthCall::RevokePermission {
                role,
                key,
                range_end,
            } => {
                let list = self.roles.get_mut(role).ok_or("role name not found")?;
                let before = list.len();
                list.retain(|old| (&old.key, &old.range_end) != (key, range_end));
                if list.len() == before {
                    return Err("permission is not granted to the role");
                }
            }
        }
        Ok(())
    }

    fn enable(&mut self) -> Result<(), &'static str> {
        let root = self.users.get("root").ok_or("root user does not exist")?;
        if !root.roles.contains("root") {
            return Err("root user does not have root role");
        }
        self.enabled = true;
        Ok(())
    }

    fn add_user(&mut self, name: &str, first: FirstPassword) -> Result<(), &'static str> {
        if self.users.contains_key(name) {
            return Err("user name already exists");
        }
        let word = match first {
            FirstPassword::Random => Some(Word::Random),
            FirstPassword::Ours => Some(Word::Ours),
            FirstPassword::Nothing => None,
        };
        let roles = BTreeSet::new();
        self.users.insert(name.to_owned(), User { word, roles });
        Ok(())
    }

    fn set_word(&mut self, name: &str, password: &NewPassword) -> Result<(), &'static str> {
        let user = self.users.get_mut(name).ok_or("user name not found")?;
        let word = match password {
            NewPassword::Random => Word::Random,
            NewPassword::Ours => Word::Ours,
            NewPassword::Hash(hash) => {
                assert!(self.takes_hashes, "an empty password for {name}");
                Word::Hash(hash.expose().clone())
            }
            NewPassword::Clear(clear) => Word::Clear(clear.expose().clone()),
        };
        // One that was made without a password never gets any.
        user.word = user.word.is_some().then_some(word);
        Ok(())
    }

    fn delete_role(&mut self, name: &str) -> Result<(), &'static str> {
        if self.enabled && name == "root" {
            return Err("invalid auth management");
        }
        self.roles.remove(name).ok_or("role name not found")?;
        for user in self.users.values_mut() {
            user.roles.remove(name);
        }
        Ok(())
    }

    fn grant(&mut self, role: &str, new: &Permission) -> Result<(), &'static str> {
        let end = &new.range_end;
        if new.key.is_empty() || !(end.is_empty() || end.as_ref() == [0] || new.key < end) {
            return Err("invalid auth management");
        }
        let list = self.roles.get_mut(role).ok_or("role name not found")?;
        let at = list.iter().position(|old| old.key >= new.key);
        if let Some(old) = at.and_then(|at| list.get_mut(at))
            && (&old.key, &old.range_end) == (&new.key, &new.range_end)
        {
            old.kind = new.kind;
            return Ok(());
        }
        list.push(new.clone());
        list.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(())
    }

    /// Where it differs from what the primary holds, our own user aside; empty if it does not.
    pub(crate) fn differences(&self, wanted: &AuthState) -> Vec<String> {
        let mut found = Vec::new();
        if self.enabled != wanted.is_enabled() {
            found.push(format!("enabled: {}", self.enabled));
        }
        let names: BTreeSet<&String> = self.users.keys().chain(wanted.users().keys()).collect();
        for name in names.into_iter().filter(|name| *name != self.ours) {
            let goal = wanted.users().get(name).map(|user| User {
                word: word(user),
                roles: user.roles.iter().cloned().collect(),
            });
            if self.users.get(name) != goal.as_ref() {
                let have = self.users.get(name);
                found.push(format!("user {name}: {have:?} for {goal:?}"));
            }
        }
        let names: BTreeSet<&String> = self.roles.keys().chain(wanted.roles().keys()).collect();
        for name in names {
            let have = self.roles.get(name).map(|list| rights(list));
            let goal = wanted.roles().get(name).map(|r| rights(r.permissions()));
            if have != goal {
                found.push(format!("role {name}: {have:?} for {goal:?}"));
            }
        }
        found
    }
}

/// What lets a user of the primary in.
fn word(user: &etcd_syncer::resolve::User) -> Option<Word> {
    match (&user.login, &user.password) {
        (Login::NoPassword, _) => None,
        (_, Password::None) => Some(Word::Random),
        (_, Password::Hash(hash)) if hash.expose().is_empty() => Some(Word::Random),
        (_, Password::Hash(hash)) => Some(Word::Hash(hash.expose().clone())),
        (_, Password::Clear(clear)) => Some(Word::Clear(clear.expose().clone())),
        (_, Password::Digest(_)) => panic!("what is wanted holds passwords"),
    }
}

/// Which ranges may be read and which written.
fn rights(list: &[Permission]) -> BTreeSet<(Bytes, Bytes, &'static str)> {
    let mut rights = BTreeSet::new();
    for permission in list {
        let range = || (permission.key.clone(), permission.range_end.clone());
        let (reads, writes) = match permission.kind {
            0 => (true, false),
            1 => (false, true),
            2 => (true, true),
            _ => (false, false),
        };
        let each = [(reads, "read"), (writes, "write")];
        for (_, right) in each.into_iter().filter(|(given, _)| *given) {
            let (key, range_end) = range();
            rights.insert((key, range_end, right));
        }
    }
    rights
}
