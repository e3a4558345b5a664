//! Brings users, roles and permissions of a standby in line with the primary's, by state: what is
//! wanted and what is there go in, an ordered list of calls comes out. Pure.
//!
//! ```text
//! AuthState (the primary's), Given (what the standby was told), Store (what it says it holds)
//!    --> Plan: calls, in an order that is safe to interrupt anywhere, and what they cannot reach
//! ```
//!
//! One user of the standby is ours: the one that this program logs in as. It is never removed,
//! never loses role root for longer than one call, and a user of the primary by that name is left
//! out and reported.
//!
//! A standby tells neither passwords nor whether a user has one, so both are known only as far as
//! this stream set them: [`Given`]. A user of whom that is not known is made anew.
//!
//! Rights are compared by what they allow: of several permissions of a role for one range the union
//! counts, as it does in etcd.

mod given;
mod reconcile;
mod store;

pub use given::Given;
pub use reconcile::{Access, Plan, Shortfall, Terms, reconcile};
pub use store::{Permissions, Store};

use bytes::Bytes;

use crate::resolve::Permission;
use crate::secret::Secret;

/// The user and the role that auth cannot be enabled without, and that may do everything.
pub const ROOT: &str = "root";

/// One change of a standby's auth store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are names of users and roles")]
pub enum AuthCall {
    /// Check requests.
    Enable,
    /// Do not check requests.
    Disable,
    /// Make a user without roles.
    AddUser { name: String, first: FirstPassword },
    /// Remove a user.
    DeleteUser { name: String },
    /// Give a user another password.
    SetPassword { name: String, password: NewPassword },
    /// Give a role to a user.
    GrantRole { user: String, role: String },
    /// Take a role from a user.
    RevokeRole { user: String, role: String },
    /// Make a role without permissions.
    AddRole { name: String },
    /// Remove a role, also from the users that have it.
    DeleteRole { name: String },
    /// Give a permission to a role, which may replace one.
    GrantPermission {
        role: String,
        permission: Permission,
    },
    /// Take every permission for exactly this range from a role.
    RevokePermission {
        role: String,
        key: Bytes,
        range_end: Bytes,
    },
}

/// The password of a new user. It cannot be a hash: etcd makes its own of what it is given here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstPassword {
    /// A long random one that nobody knows.
    Random,
    /// None, now and ever.
    Nothing,
    /// That of our own user.
    Ours,
}

/// The password of a user that has one already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewPassword {
    /// A long random one that nobody knows.
    Random,
    /// That of our own user.
    Ours,
    /// The one that this is the hash of, never empty.
    Hash(Secret),
    /// This one, never empty.
    Clear(Secret),
}

impl AuthCall {
    /// True if it and the next call are of two users and may be done at the same time.
    #[must_use]
    pub fn goes_with(&self, next: &Self) -> bool {
        match (self, next) {
            (Self::AddUser { name, .. }, Self::AddUser { name: other, .. })
            | (Self::SetPassword { name, .. }, Self::SetPassword { name: other, .. })
            | (Self::DeleteUser { name }, Self::DeleteUser { name: other }) => name != other,
            _ => false,
        }
    }

    /// What it is called in a log.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Enable => "auth enable",
            Self::Disable => "auth disable",
            Self::AddUser { .. } => "user add",
            Self::DeleteUser { .. } => "user delete",
            Self::SetPassword { .. } => "user passwd",
            Self::GrantRole { .. } => "user grant-role",
            Self::RevokeRole { .. } => "user revoke-role",
            Self::AddRole { .. } => "role add",
            Self::DeleteRole { .. } => "role delete",
            Self::GrantPermission { .. } => "role grant-permission",
            Self::RevokePermission { .. } => "role revoke-permission",
        }
    }
}
