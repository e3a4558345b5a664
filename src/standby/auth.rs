//! The seam for users and roles of the standby.

use std::future::Future;

use super::Failure;
use crate::plan::auth::{AuthCall, Store};
use crate::resolve::Permission;

/// The part of etcd's client API that is about users, roles and permissions. Each call is one
/// attempt with a deadline; the caller decides what to do about a failure.
pub trait Auth: Send {
    /// Whether requests are checked.
    fn is_auth_enabled(&mut self) -> impl Future<Output = Result<bool, Failure>> + Send;

    /// Whether the hash of a password can be set: whether all members run 3.5 or later.
    fn takes_hashes(&mut self) -> impl Future<Output = Result<bool, Failure>> + Send;

    /// The names of all users.
    fn users(&mut self) -> impl Future<Output = Result<Vec<String>, Failure>> + Send;

    /// The roles of a user, none if there is no such user.
    fn roles_of(
        &mut self,
        user: &str,
    ) -> impl Future<Output = Result<Option<Vec<String>>, Failure>> + Send;

    /// The names of all roles.
    fn roles(&mut self) -> impl Future<Output = Result<Vec<String>, Failure>> + Send;

    /// The permissions of a role in the order in which they are stored, none if there is no such
    /// role.
    fn permissions_of(
        &mut self,
        role: &str,
    ) -> impl Future<Output = Result<Option<Vec<Permission>>, Failure>> + Send;

    /// Tries a change, once. That it is so already is a success. [`Failure::NotApplied`] if the
    /// store is not what the change presumes; it must be read again then.
    fn change_auth(&mut self, call: &AuthCall) -> impl Future<Output = Result<(), Failure>> + Send;

    /// An attempt failed in a way that another endpoint may not.
    fn leave_endpoint(&mut self);
}

/// Reads everything.
///
/// # Errors
/// The first failure.
pub async fn read_store<S: Auth>(standby: &mut S) -> Result<Store, Failure> {
    let mut store = Store {
        enabled: standby.is_auth_enabled().await?,
        takes_hashes: standby.takes_hashes().await?,
        ..Store::default()
    };
    for user in standby.users().await? {
        if let Some(roles) = standby.roles_of(&user).await? {
            store.users.insert(user, roles.into_iter().collect());
        }
    }
    for role in standby.roles().await? {
        if let Some(permissions) = standby.permissions_of(&role).await? {
            store.roles.insert(role, permissions);
        }
    }
    Ok(store)
}
