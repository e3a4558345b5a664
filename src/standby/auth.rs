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

    /// The roles of each of these users, none for one that is not there.
    fn roles_of(
        &mut self,
        users: &[String],
    ) -> impl Future<Output = Result<Vec<Option<Vec<String>>>, Failure>> + Send;

    /// The names of all roles.
    fn roles(&mut self) -> impl Future<Output = Result<Vec<String>, Failure>> + Send;

    /// The permissions of each of these roles in the order in which they are stored, none for one
    /// that is not there.
    fn permissions_of(
        &mut self,
        roles: &[String],
    ) -> impl Future<Output = Result<Vec<Option<Vec<Permission>>>, Failure>> + Send;

    /// Tries changes that do not depend on each other, each once and several at a time. That one is
    /// so already is a success. [`Failure::NotApplied`] if the store is not what the change
    /// presumes; it must be read again then.
    fn change_auth(
        &mut self,
        calls: &[AuthCall],
    ) -> impl Future<Output = Vec<Result<(), Failure>>> + Send;

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
    let users = standby.users().await?;
    let roles = standby.roles_of(&users).await?;
    for (user, roles) in users.into_iter().zip(roles) {
        if let Some(roles) = roles {
            store.users.insert(user, roles.into_iter().collect());
        }
    }
    let roles = standby.roles().await?;
    let permissions = standby.permissions_of(&roles).await?;
    for (role, permissions) in roles.into_iter().zip(permissions) {
        if let Some(permissions) = permissions {
            store.roles.insert(role, permissions);
        }
    }
    Ok(store)
}
