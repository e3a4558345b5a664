//! What requests that change the auth store do. Whether they may is decided before.
//!
//! # Source
//! etcd `auth/store.go`, 3.4 to 3.7.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::state::{AuthChange, AuthState, Login, Password, Permission, Role, User};
use super::{ROOT, order};
use crate::base64;
use crate::pb::etcdpb;
use crate::resolve::error::Problem;
use crate::resolve::rules::Rules;
use crate::secret::Secret;

/// A request that changes the auth store, for which role root is needed.
#[derive(Clone, Copy, Debug)]
pub(in crate::resolve) enum AdminRequest<'a> {
    Enable,
    Disable,
    AddUser(&'a etcdpb::AuthUserAddRequest),
    DeleteUser(&'a etcdpb::AuthUserDeleteRequest),
    ChangePassword(&'a etcdpb::AuthUserChangePasswordRequest),
    GrantRole(&'a etcdpb::AuthUserGrantRoleRequest),
    RevokeRole(&'a etcdpb::AuthUserRevokeRoleRequest),
    AddRole(&'a etcdpb::AuthRoleAddRequest),
    DeleteRole(&'a etcdpb::AuthRoleDeleteRequest),
    GrantPermission(&'a etcdpb::AuthRoleGrantPermissionRequest),
    RevokePermission(&'a etcdpb::AuthRoleRevokePermissionRequest),
}

/// What a request changes: whole users and roles as they are afterwards, None for gone.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::resolve) struct AuthUpdate {
    enabled: Option<bool>,
    /// Enabling alone leaves the auth revision as it is.
    keeps_revision: bool,
    pub(in crate::resolve) users: BTreeMap<String, Option<User>>,
    roles: BTreeMap<String, Option<Role>>,
    /// The same for whoever brings another store in line.
    pub(in crate::resolve) changes: Vec<AuthChange>,
}

/// What a request does, or why it does nothing.
pub(in crate::resolve) type Decided = Result<Result<AuthUpdate, &'static str>, Problem>;

/// Decides a request that changes the auth store.
pub(in crate::resolve) fn decide(
    auth: &AuthState,
    rules: &Rules,
    request: AdminRequest<'_>,
) -> Decided {
    if auth.revision == u64::MAX {
        return Err(Problem::Overflow("the auth revision"));
    }
    match request {
        AdminRequest::Enable => Ok(enable(auth)),
        AdminRequest::Disable => Ok(disable(auth)),
        AdminRequest::AddUser(r) => add_user(auth, rules, r),
        AdminRequest::DeleteUser(r) => Ok(delete_user(auth, &r.name)),
        AdminRequest::ChangePassword(r) => change_password(auth, rules, r),
        AdminRequest::GrantRole(r) => Ok(grant_role(auth, &r.user, &r.role)),
        AdminRequest::RevokeRole(r) => Ok(revoke_role(auth, &r.name, &r.role)),
        AdminRequest::AddRole(r) => Ok(add_role(auth, &r.name)),
        AdminRequest::DeleteRole(r) => Ok(delete_role(auth, &r.role)),
        AdminRequest::GrantPermission(r) => grant_permission(auth, rules, r),
        AdminRequest::RevokePermission(r) => Ok(revoke_permission(auth, r)),
    }
}

impl AuthUpdate {
    fn of(change: AuthChange) -> Self {
        Self {
            changes: vec![change],
            ..Self::default()
        }
    }

    fn with_user(mut self, name: &str, user: Option<User>) -> Self {
        self.users.insert(name.to_owned(), user);
        self
    }

    fn with_role(mut self, name: &str, role: Option<Role>) -> Self {
        self.roles.insert(name.to_owned(), role);
        self
    }

    /// Makes the store as it is after the request.
    pub(in crate::resolve) fn apply(self, auth: &mut AuthState) -> Vec<AuthChange> {
        if let Some(enabled) = self.enabled {
            auth.enabled = enabled;
        }
        if !self.keeps_revision {
            // Not at its end: that is refused when the request is decided.
            auth.revision += 1;
        }
        for (name, user) in self.users {
            match user {
                Some(user) => auth.users.insert(name, user),
                None => auth.users.remove(&name),
            };
        }
        for (name, role) in self.roles {
            match role {
                Some(role) => auth.roles.insert(name, role),
                None => auth.roles.remove(&name),
            };
        }
        self.changes
    }
}

fn enable(auth: &AuthState) -> Result<AuthUpdate, &'static str> {
    if auth.enabled {
        return Err("auth is enabled already");
    }
    let root = auth.users.get(ROOT).ok_or("root user does not exist")?;
    if !root.is_root() {
        return Err("root user does not have root role");
    }
    Ok(AuthUpdate {
        enabled: Some(true),
        keeps_revision: true,
        ..AuthUpdate::of(AuthChange::Enabled)
    })
}

fn disable(auth: &AuthState) -> Result<AuthUpdate, &'static str> {
    if !auth.enabled {
        return Err("auth is disabled already");
    }
    Ok(AuthUpdate {
        enabled: Some(false),
        ..AuthUpdate::of(AuthChange::Disabled)
    })
}

fn add_user(auth: &AuthState, rules: &Rules, request: &etcdpb::AuthUserAddRequest) -> Decided {
    let name = &request.name;
    if name.is_empty() {
        return Ok(Err("user name is empty"));
    }
    if auth.users.contains_key(name) {
        return Ok(Err("user name already exists"));
    }
    let login = match &request.options {
        Some(options) if options.no_password => Login::NoPassword,
        Some(_) | None => Login::Password,
    };
    let password = if login == Login::NoPassword {
        Some(Password::None)
    } else if request.options.is_none() && !rules.optionless_user_gets_password {
        Some(Password::Hash(Secret::new("")))
    } else {
        password(rules, &request.password, &request.hashed_password)?
    };
    let Some(password) = password else {
        return Ok(Err(NO_HASH));
    };
    let update = AuthUpdate::of(AuthChange::UserAdded {
        name: name.clone(),
        login,
        password: password.clone(),
    });
    let user = User {
        password,
        login,
        roles: Vec::new(),
    };
    Ok(Ok(update.with_user(name, Some(user))))
}

fn change_password(
    auth: &AuthState,
    rules: &Rules,
    request: &etcdpb::AuthUserChangePasswordRequest,
) -> Decided {
    let name = &request.name;
    let Some(user) = auth.users.get(name) else {
        return Ok(Err(NO_USER));
    };
    if user.login == Login::Unspecified && rules.optionless_change_crashes {
        return Err(Problem::Poison(
            "the password of a user stored by etcd 3.3 is changed",
        ));
    }
    let password = if rules.passwords_come_hashed && user.login == Login::NoPassword {
        Some(Password::None)
    } else {
        password(rules, &request.password, &request.hashed_password)?
    };
    let Some(password) = password else {
        return Ok(Err(NO_HASH));
    };
    let update = AuthUpdate::of(AuthChange::PasswordChanged {
        name: name.clone(),
        password: password.clone(),
    });
    let user = User {
        password,
        ..user.clone()
    };
    Ok(Ok(update.with_user(name, Some(user))))
}

/// The password that a request sets; None if its hash cannot be read.
fn password(rules: &Rules, clear: &str, hashed: &str) -> Result<Option<Password>, Problem> {
    if rules.passwords_come_hashed && (clear.is_empty() || !hashed.is_empty()) {
        let hash = base64::decode(hashed);
        return Ok(hash.map(|hash| Password::Hash(Secret::new(hash))));
    }
    if clear.len() > HASHED_BYTES_MAX {
        return Err(Problem::Undecided(
            "whether a password of more than 72 bytes is refused depends on the build of etcd",
        ));
    }
    let clear = Bytes::copy_from_slice(clear.as_bytes());
    Ok(Some(Password::Clear(Secret::new(clear))))
}

fn delete_user(auth: &AuthState, name: &str) -> Result<AuthUpdate, &'static str> {
    if auth.enabled && name == ROOT {
        return Err(INVALID);
    }
    if !auth.users.contains_key(name) {
        return Err(NO_USER);
    }
    let name_owned = name.to_owned();
    Ok(AuthUpdate::of(AuthChange::UserDeleted { name: name_owned }).with_user(name, None))
}

fn grant_role(auth: &AuthState, name: &str, role: &str) -> Result<AuthUpdate, &'static str> {
    let user = auth.users.get(name).ok_or(NO_USER)?;
    if role != ROOT && !auth.roles.contains_key(role) {
        return Err(NO_ROLE);
    }
    if user.roles.iter().any(|held| held == role) {
        return Err("role is granted already");
    }
    let mut user = user.clone();
    user.roles.push(role.to_owned());
    user.roles.sort();
    Ok(with_roles_of(AuthUpdate::default(), name, user))
}

fn revoke_role(auth: &AuthState, name: &str, role: &str) -> Result<AuthUpdate, &'static str> {
    if auth.enabled && name == ROOT && role == ROOT {
        return Err(INVALID);
    }
    let user = auth.users.get(name).ok_or(NO_USER)?;
    let user = without_role(user, role).ok_or("role is not granted")?;
    Ok(with_roles_of(AuthUpdate::default(), name, user))
}

/// The user without the role; None if it does not hold it.
fn without_role(user: &User, role: &str) -> Option<User> {
    let mut user = user.clone();
    let before = user.roles.len();
    user.roles.retain(|held| held != role);
    (user.roles.len() < before).then_some(user)
}

fn with_roles_of(mut update: AuthUpdate, name: &str, user: User) -> AuthUpdate {
    update.changes.push(AuthChange::UserRoles {
        name: name.to_owned(),
        roles: user.roles.clone(),
    });
    update.with_user(name, Some(user))
}

fn add_role(auth: &AuthState, name: &str) -> Result<AuthUpdate, &'static str> {
    if name.is_empty() {
        return Err("role name is empty");
    }
    if auth.roles.contains_key(name) {
        return Err("role name already exists");
    }
    let change = AuthChange::RoleAdded {
        name: name.to_owned(),
    };
    Ok(AuthUpdate::of(change).with_role(name, Some(Role::default())))
}

fn delete_role(auth: &AuthState, name: &str) -> Result<AuthUpdate, &'static str> {
    if auth.enabled && name == ROOT {
        return Err(INVALID);
    }
    if !auth.roles.contains_key(name) {
        return Err(NO_ROLE);
    }
    let change = AuthChange::RoleDeleted {
        name: name.to_owned(),
    };
    let mut update = AuthUpdate::of(change).with_role(name, None);
    for (holder, user) in &auth.users {
        if let Some(user) = without_role(user, name) {
            update = with_roles_of(update, holder, user);
        }
    }
    Ok(update)
}

fn grant_permission(
    auth: &AuthState,
    rules: &Rules,
    request: &etcdpb::AuthRoleGrantPermissionRequest,
) -> Decided {
    let role = auth.roles.get(&request.name);
    let Some(perm) = &request.perm else {
        return match role {
            Some(_) if !rules.missing_permission_refused => {
                Err(Problem::Poison("a permission is granted that is not given"))
            }
            Some(_) | None => Ok(Err("permission is not given")),
        };
    };
    if rules.permission_ranges_validated && !is_valid_range(&perm.key, &perm.range_end) {
        return Ok(Err(INVALID));
    }
    let Some(role) = role else {
        return Ok(Err(NO_ROLE));
    };
    let mut role = role.clone();
    // Copied, so that a long-lived store does not hold on to the entry's buffer.
    let permission = Permission {
        kind: perm.perm_type,
        key: Bytes::copy_from_slice(&perm.key),
        range_end: Bytes::copy_from_slice(&perm.range_end),
    };
    order::grant(&mut role, permission)?;
    Ok(Ok(with_permissions_of(&request.name, role)))
}

fn is_valid_range(key: &Bytes, range_end: &Bytes) -> bool {
    !key.is_empty() && (range_end.is_empty() || range_end.as_ref() == [0] || key < range_end)
}

fn revoke_permission(
    auth: &AuthState,
    request: &etcdpb::AuthRoleRevokePermissionRequest,
) -> Result<AuthUpdate, &'static str> {
    let mut role = auth.roles.get(&request.role).ok_or(NO_ROLE)?.clone();
    if !order::revoke(&mut role, &request.key, &request.range_end) {
        return Err("permission is not granted to the role");
    }
    Ok(with_permissions_of(&request.role, role))
}

fn with_permissions_of(name: &str, role: Role) -> AuthUpdate {
    let change = AuthChange::RolePermissions {
        name: name.to_owned(),
        permissions: role.permissions.clone(),
    };
    AuthUpdate::of(change).with_role(name, Some(role))
}

/// What bcrypt takes; newer builds refuse more, older ones cut it off.
const HASHED_BYTES_MAX: usize = 72;

const NO_USER: &str = "user name not found";
const NO_ROLE: &str = "role name not found";
const NO_HASH: &str = "password hash cannot be read";
const INVALID: &str = "invalid auth management";
