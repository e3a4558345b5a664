//! Entries of a primary's log.

use bytes::Bytes;
use etcd_syncer::base64;
use etcd_syncer::entry::Committed;
use etcd_syncer::ids::{RaftIndex, Term};
use etcd_syncer::learner::Handout;
use etcd_syncer::pb::etcdpb::{self, InternalRaftRequest, request_op};
use prost::Message as _;

/// Entries from index 1 on.
pub(crate) fn log(requests: impl IntoIterator<Item = InternalRaftRequest>) -> Vec<Handout> {
    let each = (1..).zip(requests);
    each.map(|(index, request)| {
        let header = etcdpb::RequestHeader {
            id: index,
            username: "root".to_owned(),
            auth_revision: 1_000,
        };
        let request = InternalRaftRequest {
            header: Some(header),
            ..request
        };
        let entry = Committed {
            index: RaftIndex(index),
            term: Term(1),
            kind: 0,
            data: request.encode_to_vec().into(),
        };
        Handout {
            entry,
            members: None,
        }
    })
    .collect()
}

fn put_request(key: &str, value: &str, lease: i64) -> etcdpb::PutRequest {
    etcdpb::PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        lease,
        ..Default::default()
    }
}

fn delete_request(start: &str, end: &str) -> etcdpb::DeleteRangeRequest {
    etcdpb::DeleteRangeRequest {
        key: start.to_owned().into(),
        range_end: end.to_owned().into(),
        ..Default::default()
    }
}

pub(crate) fn put(key: &str, value: &str, lease: i64) -> InternalRaftRequest {
    InternalRaftRequest {
        put: Some(put_request(key, value, lease)),
        ..Default::default()
    }
}

/// Deletes one key, or a range if `end` is not empty.
pub(crate) fn delete(start: &str, end: &str) -> InternalRaftRequest {
    InternalRaftRequest {
        delete_range: Some(delete_request(start, end)),
        ..Default::default()
    }
}

fn txn(
    compare: Option<etcdpb::Compare>,
    success: Vec<request_op::Request>,
    failure: Vec<request_op::Request>,
) -> InternalRaftRequest {
    let ops = |list: Vec<_>| {
        let each = list.into_iter();
        each.map(|request| etcdpb::RequestOp {
            request: Some(request),
        })
        .collect()
    };
    InternalRaftRequest {
        txn: Some(etcdpb::TxnRequest {
            compare: compare.into_iter().collect(),
            success: ops(success),
            failure: ops(failure),
        }),
        ..Default::default()
    }
}

/// Puts several keys at once.
pub(crate) fn put_all<'a>(
    keys: impl IntoIterator<Item = &'a str>,
    value: &str,
    lease: i64,
) -> InternalRaftRequest {
    let puts = keys.into_iter();
    let puts = puts.map(|key| request_op::Request::RequestPut(put_request(key, value, lease)));
    txn(None, puts.collect(), Vec::new())
}

/// Puts one key and deletes others at once.
pub(crate) fn put_and_delete(
    key: &str,
    value: &str,
    start: &str,
    end: &str,
) -> InternalRaftRequest {
    let put = request_op::Request::RequestPut(put_request(key, value, 0));
    let delete = request_op::Request::RequestDeleteRange(delete_request(start, end));
    txn(None, vec![put, delete], Vec::new())
}

/// Puts `then` if the value of `key` is greater than `bound`, or else `otherwise`.
pub(crate) fn if_greater(
    key: &str,
    bound: &'static str,
    then: (&str, &str),
    otherwise: (&str, &str),
) -> InternalRaftRequest {
    let compare = etcdpb::Compare {
        result: 1,
        target: 3,
        key: key.to_owned().into(),
        target_union: Some(etcdpb::compare::TargetUnion::Value(Bytes::from(bound))),
        ..Default::default()
    };
    let put = |(key, value)| request_op::Request::RequestPut(put_request(key, value, 0));
    txn(Some(compare), vec![put(then)], vec![put(otherwise)])
}

pub(crate) fn grant(id: i64) -> InternalRaftRequest {
    InternalRaftRequest {
        lease_grant: Some(etcdpb::LeaseGrantRequest { id, ttl: 10 }),
        ..Default::default()
    }
}

pub(crate) fn revoke(id: i64) -> InternalRaftRequest {
    InternalRaftRequest {
        lease_revoke: Some(etcdpb::LeaseRevokeRequest { id }),
        ..Default::default()
    }
}

pub(crate) fn compact(revision: i64) -> InternalRaftRequest {
    InternalRaftRequest {
        compaction: Some(etcdpb::CompactionRequest {
            revision,
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub(crate) fn add_user(name: &str, hash: &str) -> InternalRaftRequest {
    InternalRaftRequest {
        auth_user_add: Some(etcdpb::AuthUserAddRequest {
            name: name.to_owned(),
            hashed_password: base64::encode(hash.as_bytes()),
            options: Some(etcdpb::UserAddOptions {
                no_password: hash.is_empty(),
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub(crate) fn delete_user(name: &str) -> InternalRaftRequest {
    let name = name.to_owned();
    InternalRaftRequest {
        auth_user_delete: Some(etcdpb::AuthUserDeleteRequest { name }),
        ..Default::default()
    }
}

pub(crate) fn set_password(name: &str, hash: &str) -> InternalRaftRequest {
    InternalRaftRequest {
        auth_user_change_password: Some(etcdpb::AuthUserChangePasswordRequest {
            name: name.to_owned(),
            hashed_password: base64::encode(hash.as_bytes()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub(crate) fn grant_role(user: &str, role: &str) -> InternalRaftRequest {
    let (user, role) = (user.to_owned(), role.to_owned());
    InternalRaftRequest {
        auth_user_grant_role: Some(etcdpb::AuthUserGrantRoleRequest { user, role }),
        ..Default::default()
    }
}

pub(crate) fn add_role(name: &str) -> InternalRaftRequest {
    let name = name.to_owned();
    InternalRaftRequest {
        auth_role_add: Some(etcdpb::AuthRoleAddRequest { name }),
        ..Default::default()
    }
}

pub(crate) fn enable_auth() -> InternalRaftRequest {
    InternalRaftRequest {
        auth_enable: Some(Default::default()),
        ..Default::default()
    }
}
