//! Requests in few words.

use bytes::Bytes;
use etcd_syncer::pb::etcdpb::compare::TargetUnion;
use etcd_syncer::pb::etcdpb::request_op::Request as Inner;
use etcd_syncer::pb::etcdpb::{self, Compare, InternalRaftRequest as Request, RequestOp};

/// A range end that is no end.
pub(crate) const OPEN: &str = "\0";

macro_rules! request {
    ($field:ident, $message:expr) => {
        Request {
            $field: Some($message),
            ..Request::default()
        }
    };
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(crate) fn put(key: &str, value: &str) -> etcdpb::PutRequest {
    etcdpb::PutRequest {
        key: bytes(key),
        value: bytes(value),
        ..Default::default()
    }
}

pub(crate) fn leased(key: &str, lease: i64) -> etcdpb::PutRequest {
    etcdpb::PutRequest {
        lease,
        ..put(key, "leased")
    }
}

pub(crate) fn same_value(key: &str) -> etcdpb::PutRequest {
    etcdpb::PutRequest {
        ignore_value: true,
        ..put(key, "")
    }
}

pub(crate) fn same_lease(key: &str) -> etcdpb::PutRequest {
    etcdpb::PutRequest {
        ignore_lease: true,
        ..put(key, "other")
    }
}

pub(crate) fn with_prev(put: etcdpb::PutRequest) -> etcdpb::PutRequest {
    etcdpb::PutRequest {
        prev_kv: true,
        ..put
    }
}

pub(crate) fn delete(key: &str, end: &str) -> etcdpb::DeleteRangeRequest {
    etcdpb::DeleteRangeRequest {
        key: bytes(key),
        range_end: bytes(end),
        prev_kv: false,
    }
}

pub(crate) fn range(key: &str, revision: i64) -> etcdpb::RangeRequest {
    etcdpb::RangeRequest {
        key: bytes(key),
        revision,
        ..Default::default()
    }
}

pub(crate) fn txn(
    compare: Vec<Compare>,
    success: Vec<RequestOp>,
    failure: Vec<RequestOp>,
) -> etcdpb::TxnRequest {
    etcdpb::TxnRequest {
        compare,
        success,
        failure,
    }
}

/// A transaction without compares.
pub(crate) fn all(success: Vec<RequestOp>) -> etcdpb::TxnRequest {
    txn(vec![], success, vec![])
}

pub(crate) fn value_is(key: &str, value: &str) -> Compare {
    Compare {
        result: 0,
        target: 3,
        key: bytes(key),
        target_union: Some(TargetUnion::Value(bytes(value))),
        range_end: Bytes::new(),
    }
}

pub(crate) fn is_absent(key: &str) -> Compare {
    Compare {
        result: 0,
        target: 0,
        key: bytes(key),
        target_union: Some(TargetUnion::Version(0)),
        range_end: Bytes::new(),
    }
}

/// What can stand in a transaction, or alone in an entry.
pub(crate) trait Ask: Sized {
    fn op(self) -> RequestOp;
    fn ask(self) -> Request;
}

macro_rules! ask {
    ($message:ident, $variant:ident, $field:ident) => {
        impl Ask for etcdpb::$message {
            fn op(self) -> RequestOp {
                RequestOp {
                    request: Some(Inner::$variant(self)),
                }
            }

            fn ask(self) -> Request {
                request!($field, self)
            }
        }
    };
}

ask!(PutRequest, RequestPut, put);
ask!(DeleteRangeRequest, RequestDeleteRange, delete_range);
ask!(RangeRequest, RequestRange, range);
ask!(TxnRequest, RequestTxn, txn);

pub(crate) fn compact(revision: i64) -> Request {
    let physical = true;
    request!(compaction, etcdpb::CompactionRequest { revision, physical })
}

pub(crate) fn grant(id: i64, ttl: i64) -> Request {
    request!(lease_grant, etcdpb::LeaseGrantRequest { ttl, id })
}

pub(crate) fn revoke(id: i64) -> Request {
    request!(lease_revoke, etcdpb::LeaseRevokeRequest { id })
}

pub(crate) fn checkpoint(id: i64, remaining_ttl: i64) -> Request {
    let checkpoints = vec![etcdpb::LeaseCheckpoint { id, remaining_ttl }];
    request!(
        lease_checkpoint,
        etcdpb::LeaseCheckpointRequest { checkpoints }
    )
}

/// Action 0 get, 1 raise, 2 clear; type 1 no space, 2 corrupt.
pub(crate) fn alarm(action: i32, member_id: u64, alarm: i32) -> Request {
    request!(
        alarm,
        etcdpb::AlarmRequest {
            action,
            member_id,
            alarm
        }
    )
}

pub(crate) fn enable() -> Request {
    request!(auth_enable, etcdpb::AuthEnableRequest {})
}

pub(crate) fn disable() -> Request {
    request!(auth_disable, etcdpb::AuthDisableRequest {})
}

pub(crate) fn auth_status() -> Request {
    request!(auth_status, etcdpb::AuthStatusRequest {})
}

pub(crate) fn user_list() -> Request {
    request!(auth_user_list, etcdpb::AuthUserListRequest {})
}

pub(crate) fn role_list() -> Request {
    request!(auth_role_list, etcdpb::AuthRoleListRequest {})
}

pub(crate) fn user_get(name: &str) -> Request {
    request!(
        auth_user_get,
        etcdpb::AuthUserGetRequest {
            name: name.to_owned()
        }
    )
}

pub(crate) fn role_get(role: &str) -> Request {
    request!(
        auth_role_get,
        etcdpb::AuthRoleGetRequest {
            role: role.to_owned()
        }
    )
}

pub(crate) fn user_add(name: &str, password: &str) -> Request {
    let no_password = password.is_empty();
    request!(
        auth_user_add,
        etcdpb::AuthUserAddRequest {
            name: name.to_owned(),
            password: password.to_owned(),
            options: Some(etcdpb::UserAddOptions { no_password }),
            hashed_password: String::new(),
        }
    )
}

pub(crate) fn user_delete(name: &str) -> Request {
    request!(
        auth_user_delete,
        etcdpb::AuthUserDeleteRequest {
            name: name.to_owned()
        }
    )
}

pub(crate) fn password(name: &str, password: &str, hashed: &str) -> Request {
    request!(
        auth_user_change_password,
        etcdpb::AuthUserChangePasswordRequest {
            name: name.to_owned(),
            password: password.to_owned(),
            hashed_password: hashed.to_owned(),
        }
    )
}

pub(crate) fn give_role(user: &str, role: &str) -> Request {
    let (user, role) = (user.to_owned(), role.to_owned());
    request!(
        auth_user_grant_role,
        etcdpb::AuthUserGrantRoleRequest { user, role }
    )
}

pub(crate) fn take_role(name: &str, role: &str) -> Request {
    let (name, role) = (name.to_owned(), role.to_owned());
    request!(
        auth_user_revoke_role,
        etcdpb::AuthUserRevokeRoleRequest { name, role }
    )
}

pub(crate) fn role_add(name: &str) -> Request {
    request!(
        auth_role_add,
        etcdpb::AuthRoleAddRequest {
            name: name.to_owned()
        }
    )
}

pub(crate) fn role_delete(role: &str) -> Request {
    request!(
        auth_role_delete,
        etcdpb::AuthRoleDeleteRequest {
            role: role.to_owned()
        }
    )
}

/// Type 0 read, 1 write, 2 both.
pub(crate) fn permit(role: &str, perm_type: i32, key: &str, end: &str) -> Request {
    let perm = etcdpb::Permission {
        perm_type,
        key: bytes(key),
        range_end: bytes(end),
    };
    let (name, perm) = (role.to_owned(), Some(perm));
    request!(
        auth_role_grant_permission,
        etcdpb::AuthRoleGrantPermissionRequest { name, perm }
    )
}

pub(crate) fn forbid(role: &str, key: &str, end: &str) -> Request {
    request!(
        auth_role_revoke_permission,
        etcdpb::AuthRoleRevokePermissionRequest {
            role: role.to_owned(),
            key: bytes(key),
            range_end: bytes(end),
        }
    )
}

pub(crate) fn login(name: &str, password: &str) -> Request {
    request!(
        authenticate,
        etcdpb::AuthenticateRequest {
            name: name.to_owned(),
            password: password.to_owned(),
            simple_token: String::new(),
        }
    )
}
