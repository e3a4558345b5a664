//! What an entry asks for, as a closed set.

use crate::ids::{RaftIndex, Term};
use crate::pb::{etcdpb, raftpb};

/// One decoded entry of the primary's log.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its place in the log.
    pub index: RaftIndex,
    /// The term of the leader that wrote it.
    pub term: Term,
    /// On whose behalf it was proposed; all empty when the entry carries no request.
    pub header: Header,
    /// What it asks for.
    pub op: Op,
}

/// Who proposed a request, as the proposing member noted it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Request id; its top 16 bits are the low 16 bits of the proposing member's id.
    pub id: u64,
    /// Authenticated user, empty if none.
    pub username: String,
    /// Auth revision that goes with the credentials, 0 if none.
    pub auth_revision: u64,
}

/// Everything that a committed entry can ask for.
#[derive(Clone, Debug, PartialEq)]
#[allow(
    missing_docs,
    reason = "each variant is named after the request it holds"
)]
pub enum Op {
    /// No payload: a new leader opens its term with it.
    Empty,
    /// Membership of the primary changes; handled by the learner, no effect on keys.
    ConfChange(raftpb::ConfChange),
    /// A request of the v2 API, which 3.5 and earlier still use for member attributes and the
    /// cluster version. No effect on the v3 keyspace.
    V2 {
        /// HTTP method as logged.
        method: String,
        /// Path in the v2 tree.
        path: String,
    },
    Range(etcdpb::RangeRequest),
    Put(etcdpb::PutRequest),
    DeleteRange(etcdpb::DeleteRangeRequest),
    Txn(etcdpb::TxnRequest),
    Compaction(etcdpb::CompactionRequest),
    LeaseGrant(etcdpb::LeaseGrantRequest),
    LeaseRevoke(etcdpb::LeaseRevokeRequest),
    LeaseCheckpoint(etcdpb::LeaseCheckpointRequest),
    Alarm(etcdpb::AlarmRequest),
    AuthEnable,
    AuthDisable,
    Authenticate(etcdpb::AuthenticateRequest),
    AuthStatus,
    AuthUserAdd(etcdpb::AuthUserAddRequest),
    AuthUserDelete(etcdpb::AuthUserDeleteRequest),
    AuthUserGet,
    AuthUserChangePassword(etcdpb::AuthUserChangePasswordRequest),
    AuthUserGrantRole(etcdpb::AuthUserGrantRoleRequest),
    AuthUserRevokeRole(etcdpb::AuthUserRevokeRoleRequest),
    AuthUserList,
    AuthRoleList,
    AuthRoleAdd(etcdpb::AuthRoleAddRequest),
    AuthRoleDelete(etcdpb::AuthRoleDeleteRequest),
    AuthRoleGet,
    AuthRoleGrantPermission(etcdpb::AuthRoleGrantPermissionRequest),
    AuthRoleRevokePermission(etcdpb::AuthRoleRevokePermissionRequest),
    ClusterVersionSet(etcdpb::ClusterVersionSetRequest),
    ClusterMemberAttrSet(etcdpb::ClusterMemberAttrSetRequest),
    DowngradeInfoSet(etcdpb::DowngradeInfoSetRequest),
    DowngradeVersionTest,
}

impl Op {
    /// The kind's name, for messages and counters.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::ConfChange(_) => "conf_change",
            Self::V2 { .. } => "v2",
            Self::Range(_) => "range",
            Self::Put(_) => "put",
            Self::DeleteRange(_) => "delete_range",
            Self::Txn(_) => "txn",
            Self::Compaction(_) => "compaction",
            Self::LeaseGrant(_) => "lease_grant",
            Self::LeaseRevoke(_) => "lease_revoke",
            Self::LeaseCheckpoint(_) => "lease_checkpoint",
            Self::Alarm(_) => "alarm",
            Self::AuthEnable => "auth_enable",
            Self::AuthDisable => "auth_disable",
            Self::Authenticate(_) => "authenticate",
            Self::AuthStatus => "auth_status",
            Self::AuthUserAdd(_) => "auth_user_add",
            Self::AuthUserDelete(_) => "auth_user_delete",
            Self::AuthUserGet => "auth_user_get",
            Self::AuthUserChangePassword(_) => "auth_user_change_password",
            Self::AuthUserGrantRole(_) => "auth_user_grant_role",
            Self::AuthUserRevokeRole(_) => "auth_user_revoke_role",
            Self::AuthUserList => "auth_user_list",
            Self::AuthRoleList => "auth_role_list",
            Self::AuthRoleAdd(_) => "auth_role_add",
            Self::AuthRoleDelete(_) => "auth_role_delete",
            Self::AuthRoleGet => "auth_role_get",
            Self::AuthRoleGrantPermission(_) => "auth_role_grant_permission",
            Self::AuthRoleRevokePermission(_) => "auth_role_revoke_permission",
            Self::ClusterVersionSet(_) => "cluster_version_set",
            Self::ClusterMemberAttrSet(_) => "cluster_member_attr_set",
            Self::DowngradeInfoSet(_) => "downgrade_info_set",
            Self::DowngradeVersionTest => "downgrade_version_test",
        }
    }
}
