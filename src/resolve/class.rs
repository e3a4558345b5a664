//! What an op is to the resolver: the one place that names every kind.

use super::auth::AdminRequest;
use crate::entry::Op;
use crate::pb::etcdpb;

/// A request, sorted by what checks it and what it changes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Class<'a> {
    Put(&'a etcdpb::PutRequest),
    DeleteRange(&'a etcdpb::DeleteRangeRequest),
    Txn(&'a etcdpb::TxnRequest),
    Compaction(&'a etcdpb::CompactionRequest),
    LeaseGrant(&'a etcdpb::LeaseGrantRequest),
    LeaseRevoke(&'a etcdpb::LeaseRevokeRequest),
    LeaseCheckpoint(&'a etcdpb::LeaseCheckpointRequest),
    Alarm(&'a etcdpb::AlarmRequest),
    /// Changes users, roles or whether they matter.
    Admin(AdminRequest<'a>),
    /// Reads keys.
    Range,
    /// A member tells its name, as each does when it starts.
    MemberStarted,
    /// Nothing of the primary's state is touched, for this reason.
    Nothing(&'static str),
}

impl<'a> Class<'a> {
    /// The class of `op`.
    pub(super) fn of(op: &'a Op) -> Self {
        match op {
            Op::Put(request) => Self::Put(request),
            Op::DeleteRange(request) => Self::DeleteRange(request),
            Op::Txn(request) => Self::Txn(request),
            Op::Compaction(request) => Self::Compaction(request),
            Op::LeaseGrant(request) => Self::LeaseGrant(request),
            Op::LeaseRevoke(request) => Self::LeaseRevoke(request),
            Op::LeaseCheckpoint(request) => Self::LeaseCheckpoint(request),
            Op::Alarm(request) => Self::Alarm(request),
            Op::AuthEnable => Self::Admin(AdminRequest::Enable),
            Op::AuthDisable => Self::Admin(AdminRequest::Disable),
            Op::AuthUserAdd(r) => Self::Admin(AdminRequest::AddUser(r)),
            Op::AuthUserDelete(r) => Self::Admin(AdminRequest::DeleteUser(r)),
            Op::AuthUserChangePassword(r) => Self::Admin(AdminRequest::ChangePassword(r)),
            Op::AuthUserGrantRole(r) => Self::Admin(AdminRequest::GrantRole(r)),
            Op::AuthUserRevokeRole(r) => Self::Admin(AdminRequest::RevokeRole(r)),
            Op::AuthRoleAdd(r) => Self::Admin(AdminRequest::AddRole(r)),
            Op::AuthRoleDelete(r) => Self::Admin(AdminRequest::DeleteRole(r)),
            Op::AuthRoleGrantPermission(r) => Self::Admin(AdminRequest::GrantPermission(r)),
            Op::AuthRoleRevokePermission(r) => Self::Admin(AdminRequest::RevokePermission(r)),
            Op::Range(_) => Self::Range,
            Op::ClusterMemberAttrSet(_) => Self::MemberStarted,
            Op::V2 { path, .. } if path.ends_with("/attributes") => Self::MemberStarted,
            Op::V2 { .. }
            | Op::ClusterVersionSet(_)
            | Op::DowngradeInfoSet(_)
            | Op::DowngradeVersionTest => Self::Nothing(CLUSTER_INFORMATION),
            Op::Empty => Self::Nothing("a term opens"),
            Op::ConfChange(_) => Self::Nothing("membership"),
            Op::Authenticate(_)
            | Op::AuthStatus
            | Op::AuthUserGet
            | Op::AuthUserList
            | Op::AuthRoleGet
            | Op::AuthRoleList => Self::Nothing(READ_ONLY),
        }
    }
}

pub(super) const CLUSTER_INFORMATION: &str = "cluster information";
pub(super) const READ_ONLY: &str = "read only";
