//! What the standby was told of passwords, which it does not tell again.

use std::collections::{BTreeMap, BTreeSet};

use super::{AuthCall, FirstPassword, NewPassword};
use crate::resolve::{AuthState, DigestKey, Login, Password, User};

/// For each user of the standby whose password this stream set, what it set.
#[derive(Clone, Debug, Default)]
pub struct Given(BTreeMap<String, Told>);

#[derive(Clone, Debug)]
struct Told {
    may_log_in: bool,
    password: Held,
}

/// What the standby holds for a user.
#[derive(Clone, Debug)]
pub(super) enum Held {
    /// This, which is never [`Password::None`] or an empty one.
    Password(Password),
    /// A random password that nobody knows, or none at all: nobody can log in with it.
    Nobodys,
    /// Nobody's, while the primary has this one. A process that ended before it could say so may
    /// have set a later one.
    Without(Password),
    /// Nobody knows which of several, as an answer was lost.
    Unsure,
}

impl Given {
    /// What was given by earlier processes, if they brought the standby to `state`, which holds
    /// digests only. The users in `not_carried` have a password there that nobody knows.
    #[must_use]
    pub fn restored(state: &AuthState, not_carried: &BTreeSet<String>) -> Self {
        let users = state.users().iter();
        Self(
            users
                .map(|(name, user)| {
                    let is_carried = !not_carried.contains(name);
                    (name.clone(), Told::of(user, is_carried))
                })
                .collect(),
        )
    }

    /// Notes a call that was done.
    pub fn note(&mut self, call: &AuthCall) {
        match call {
            AuthCall::AddUser { name, first } => {
                let may_log_in = *first != FirstPassword::Nothing;
                let password = Held::Nobodys;
                let told = Told {
                    may_log_in,
                    password,
                };
                self.0.insert(name.clone(), told);
            }
            AuthCall::DeleteUser { name } => {
                self.0.remove(name);
            }
            AuthCall::SetPassword { name, password } => self.set(name, Held::of(password)),
            AuthCall::Enable
            | AuthCall::Disable
            | AuthCall::GrantRole { .. }
            | AuthCall::RevokeRole { .. }
            | AuthCall::AddRole { .. }
            | AuthCall::DeleteRole { .. }
            | AuthCall::GrantPermission { .. }
            | AuthCall::RevokePermission { .. } => {}
        }
    }

    /// Notes a call that was done or not.
    pub fn doubt(&mut self, call: &AuthCall) {
        match call {
            // Whoever is there by that name may be another one than before.
            AuthCall::AddUser { name, .. } | AuthCall::DeleteUser { name } => {
                self.0.remove(name);
            }
            AuthCall::SetPassword { name, .. } => self.set(name, Held::Unsure),
            AuthCall::Enable
            | AuthCall::Disable
            | AuthCall::GrantRole { .. }
            | AuthCall::RevokeRole { .. }
            | AuthCall::AddRole { .. }
            | AuthCall::DeleteRole { .. }
            | AuthCall::GrantPermission { .. }
            | AuthCall::RevokePermission { .. } => {}
        }
    }

    fn set(&mut self, name: &str, password: Held) {
        if let Some(told) = self.0.get_mut(name) {
            told.password = password;
        }
    }

    /// True if the user was made by this stream, and the way it is wanted.
    pub(super) fn is_made_for(&self, name: &str, wanted: &User) -> bool {
        let told = self.0.get(name);
        told.is_some_and(|told| told.may_log_in == may_log_in(wanted))
    }

    /// What the user's password is; unsure of a user that nothing is known of.
    pub(super) fn held(&self, name: &str) -> &Held {
        self.0
            .get(name)
            .map_or(&Held::Unsure, |told| &told.password)
    }
}

impl Told {
    fn of(user: &User, is_carried: bool) -> Self {
        let may_log_in = may_log_in(user);
        let password = match &user.password {
            Password::None => Held::Nobodys,
            Password::Hash(hash) if hash.expose().is_empty() => Held::Nobodys,
            _ if !may_log_in || user.password.is_empty_clear() => Held::Nobodys,
            password @ (Password::Hash(_) | Password::Clear(_) | Password::Digest(_)) => {
                if is_carried {
                    Held::Password(password.clone())
                } else {
                    Held::Without(password.clone())
                }
            }
        };
        Self {
            may_log_in,
            password,
        }
    }
}

impl Held {
    fn of(password: &NewPassword) -> Self {
        match password {
            NewPassword::Random | NewPassword::Ours => Self::Nobodys,
            NewPassword::Hash(hash) => Self::Password(Password::Hash(hash.clone())),
            NewPassword::Clear(clear) => Self::Password(Password::Clear(clear.clone())),
        }
    }

    /// True if this is known to be the wanted password.
    pub(super) fn is(&self, wanted: &Password, key: &DigestKey) -> bool {
        match (self, wanted) {
            (Self::Password(Password::Digest(held)), Password::Hash(hash)) => {
                key.digest(hash.expose()).to_bytes() == *held
            }
            (Self::Password(held), _) => held == wanted,
            (Self::Nobodys | Self::Without(_) | Self::Unsure, _) => false,
        }
    }

    /// True if nobody can log in with it, or only with the wanted one.
    pub(super) fn is_nobodys(&self, wanted: &Password, key: &DigestKey) -> bool {
        match self {
            Self::Nobodys => true,
            Self::Without(lacked) => Self::Password(lacked.clone()).is(wanted, key),
            Self::Password(_) | Self::Unsure => false,
        }
    }
}

/// Whether a password lets the user in.
pub(super) fn may_log_in(user: &User) -> bool {
    match user.login {
        Login::Password | Login::Unspecified => true,
        Login::NoPassword => false,
    }
}
