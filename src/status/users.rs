//! The part of the page about the standby's users. Pure.

use serde::{Deserialize, Serialize};

use crate::standby::AuthView;

/// Users and roles of the standby.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UsersPage {
    /// Whether the standby checks requests.
    pub auth_enabled: bool,
    /// Why it does not yet, though the primary does.
    pub enable_pending: Option<String>,
    /// How many users it has, ours among them.
    pub users: usize,
    /// How many roles it has.
    pub roles: usize,
    /// Users that cannot log in there as they can on the primary.
    pub not_carried: Vec<NotCarriedPage>,
    /// Permissions that it would refuse.
    pub permissions_not_carried: Vec<PermissionPage>,
    /// True if the primary has a user with the name of ours, which is not replicated.
    pub our_name_is_taken: bool,
}

/// A user whose password the standby lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotCarriedPage {
    /// Its name.
    pub user: String,
    /// Why not.
    pub why: String,
}

/// A permission that the standby lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermissionPage {
    /// The role.
    pub role: String,
    /// The key, escaped.
    pub key: String,
    /// The range end, escaped.
    pub range_end: String,
}

impl From<AuthView> for UsersPage {
    fn from(view: AuthView) -> Self {
        let shortfall = view.shortfall;
        let users = shortfall.passwords.into_iter();
        let permissions = shortfall.permissions.into_iter();
        Self {
            auth_enabled: view.enabled,
            enable_pending: shortfall.enable.map(str::to_owned),
            users: view.users,
            roles: view.roles,
            not_carried: users
                .map(|(user, why)| NotCarriedPage {
                    user,
                    why: why.to_owned(),
                })
                .collect(),
            permissions_not_carried: permissions
                .map(|(role, permission)| PermissionPage {
                    role,
                    key: permission.key.escape_ascii().to_string(),
                    range_end: permission.range_end.escape_ascii().to_string(),
                })
                .collect(),
            our_name_is_taken: shortfall.is_ours_taken,
        }
    }
}
