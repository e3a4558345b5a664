//! What the auth store holds.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::ROOT;
use crate::resolve::delta::AuthDelta;
use crate::resolve::digest::DigestKey;
use crate::secret::Secret;

/// Users, roles, whether they matter, and how often they changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthState {
    pub(super) enabled: bool,
    pub(super) revision: u64,
    pub(super) users: BTreeMap<String, User>,
    pub(super) roles: BTreeMap<String, Role>,
}

impl Default for AuthState {
    /// That of a new cluster.
    fn default() -> Self {
        Self::new(false, 1)
    }
}

impl AuthState {
    /// A store without users and roles.
    #[must_use]
    pub fn new(enabled: bool, revision: u64) -> Self {
        Self {
            enabled,
            revision,
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
        }
    }

    /// Adds or replaces a user.
    pub fn insert_user(&mut self, name: String, user: User) {
        self.users.insert(name, user);
    }

    /// Adds or replaces a role.
    pub fn insert_role(&mut self, name: String, role: Role) {
        self.roles.insert(name, role);
    }

    /// Brings users and roles forward.
    pub(in crate::resolve) fn take_in(&mut self, delta: AuthDelta) {
        self.enabled = delta.enabled;
        self.revision = delta.revision;
        for (name, user) in delta.users {
            match user {
                Some(user) => self.users.insert(name, user),
                None => self.users.remove(&name),
            };
        }
        for (name, role) in delta.roles {
            match role {
                Some(role) => self.roles.insert(name, role),
                None => self.roles.remove(&name),
            };
        }
    }

    /// True if anything about it was ever changed.
    #[must_use]
    pub fn is_used(&self) -> bool {
        *self != Self::default()
    }

    /// True if requests are checked.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Rises with every change of users and roles; 1 at first.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The users, by name.
    #[must_use]
    pub fn users(&self) -> &BTreeMap<String, User> {
        &self.users
    }

    /// The roles, by name. Role root means everything even if it is not among them.
    #[must_use]
    pub fn roles(&self) -> &BTreeMap<String, Role> {
        &self.roles
    }
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// What is known of the password.
    pub password: Password,
    /// Whether the user can log in with it.
    pub login: Login,
    /// Names of the user's roles, ascending.
    pub roles: Vec<String>,
}

impl User {
    pub(in crate::resolve) fn is_root(&self) -> bool {
        self.roles.iter().any(|role| role == ROOT)
    }
}

/// How a user was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// To log in with a password.
    Password,
    /// To log in by certificate only.
    NoPassword,
    /// By 3.3 or earlier, which did not ask; with a password.
    Unspecified,
}

/// What is known of a user's password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Password {
    /// None is stored.
    None,
    /// The hash that every member stores; without any bytes nobody can log in.
    Hash(Secret),
    /// The password itself, of which each member stores another hash (written by 3.4).
    Clear(Secret),
    /// There is one, and all that is kept of it is a digest, as in a state restored from a ledger.
    Digest([u8; 16]),
}

impl Password {
    /// What may be kept of it where others can read, none if there is no password. `mark` stands
    /// for one in the clear, of which any digest could be tried out.
    #[must_use]
    pub fn to_digest(&self, mark: &str, key: &DigestKey) -> Option<[u8; 16]> {
        match self {
            Self::None => None,
            Self::Hash(hash) => Some(key.digest(hash.expose()).to_bytes()),
            Self::Clear(clear) if clear.expose().is_empty() => Some(EMPTY),
            Self::Clear(_) => {
                let mut digest = key.digest(mark.as_bytes()).to_bytes();
                digest[..MARKED_BYTES].fill(0);
                Some(digest)
            }
            Self::Digest(digest) => Some(*digest),
        }
    }

    /// True if all that is known is that a password in the clear was set.
    #[must_use]
    pub fn was_clear(&self) -> bool {
        match self {
            Self::Digest(digest) => digest[..MARKED_BYTES].iter().all(|byte| *byte == 0),
            Self::None | Self::Hash(_) | Self::Clear(_) => false,
        }
    }

    /// True if it is known that the user gets in with an empty password.
    #[must_use]
    pub fn is_empty_clear(&self) -> bool {
        match self {
            Self::Clear(clear) => clear.expose().is_empty(),
            Self::Digest(digest) => *digest == EMPTY,
            Self::None | Self::Hash(_) => false,
        }
    }
}

/// Stands for a password in the clear that is empty: whoever wants to can try that anyway, and no
/// standby can be given it.
const EMPTY: [u8; 16] = [0; 16];

/// How many zero bytes tell the mark for a password in the clear from the digest of a hash.
const MARKED_BYTES: usize = 8;

/// A role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Role {
    pub(super) permissions: Vec<Permission>,
    /// Keys with several permissions whose order in the primary is not known.
    pub(super) unordered: BTreeSet<Bytes>,
}

impl Role {
    /// A role with these permissions, in the order in which the primary stores them.
    #[must_use]
    pub fn new(permissions: Vec<Permission>) -> Self {
        Self {
            permissions,
            unordered: BTreeSet::new(),
        }
    }

    /// A role as it was; the permissions for the keys in `unordered` have no known order.
    #[must_use]
    pub fn restored(permissions: Vec<Permission>, unordered: BTreeSet<Bytes>) -> Self {
        Self {
            permissions,
            unordered,
        }
    }

    /// The permissions, sorted by key.
    #[must_use]
    pub fn permissions(&self) -> &[Permission] {
        &self.permissions
    }

    /// Keys with several permissions whose order among each other depends on how the primary's etcd
    /// was built. A later grant for one of them may be undecidable.
    #[must_use]
    pub fn unordered(&self) -> &BTreeSet<Bytes> {
        &self.unordered
    }
}

/// A right to keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// 0 read, 1 write, 2 both; any other number is stored and means nothing.
    pub kind: i32,
    /// The key, or the first one.
    pub key: Bytes,
    /// As in requests: empty for one key, one zero byte for no end.
    pub range_end: Bytes,
}

/// What an entry changed in the auth store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are names, passwords and logins")]
pub enum AuthChange {
    /// Requests are checked from now on.
    Enabled,
    /// Requests are not checked any more.
    Disabled,
    /// A user without roles exists now.
    UserAdded {
        name: String,
        login: Login,
        password: Password,
    },
    /// A user is gone.
    UserDeleted { name: String },
    /// A user has another password.
    PasswordChanged { name: String, password: Password },
    /// A user has these roles now, ascending.
    UserRoles { name: String, roles: Vec<String> },
    /// A role without permissions exists now.
    RoleAdded { name: String },
    /// A role is gone; the users that had it follow.
    RoleDeleted { name: String },
    /// A role has these permissions now.
    RolePermissions {
        name: String,
        permissions: Vec<Permission>,
    },
}
