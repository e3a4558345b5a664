//! Bytes of one committed entry to what it asks for. Pure.

use prost::Message as _;

use super::error::{Error, Problem};
use super::schema::{self, Schema};
use super::{Committed, Entry, Header, Op};
use crate::pb::{etcdpb, raftpb};
use crate::wire::{Fields, Wire};

/// Decodes one committed entry.
///
/// Refuses whatever it does not know completely: another entry type, an unknown field at any depth,
/// no request or several, a request without an id, bytes that etcd would not have written.
///
/// # Errors
/// What is not understood, with the entry's index. The stream must halt: the entry may have changed
/// anything.
///
/// # Source
/// etcd `server/etcdserver/server.go`, `applyEntryNormal`, 3.4 to 3.6; `apply/apply.go`, 3.7.
pub fn decode(committed: &Committed) -> Result<Entry, Error> {
    let (header, op) = decode_payload(committed).map_err(|problem| Error {
        index: committed.index,
        problem,
    })?;
    Ok(Entry {
        index: committed.index,
        term: committed.term,
        header,
        op,
    })
}

fn decode_payload(committed: &Committed) -> Result<(Header, Op), Problem> {
    let data = committed.data.as_ref();
    match committed.kind {
        ENTRY_NORMAL if data.is_empty() => Ok((Header::default(), Op::Empty)),
        ENTRY_NORMAL if is_v2(data) => Ok((Header::default(), decode_v2(data)?)),
        ENTRY_NORMAL => decode_request(committed),
        ENTRY_CONF_CHANGE => Ok((Header::default(), decode_conf_change(committed)?)),
        kind => Err(Problem::EntryType {
            kind,
            name: if kind == ENTRY_CONF_CHANGE_V2 {
                "conf change v2"
            } else {
                "no raft type"
            },
        }),
    }
}

fn check(schema: &Schema, name: &str, data: &[u8]) -> Result<(), Problem> {
    schema
        .check(name, data)
        .map_err(|finding| Problem::Content {
            finding: finding.to_string(),
        })
}

fn undecodable(what: &str, error: &prost::DecodeError) -> Problem {
    Problem::Content {
        finding: format!("{what} cannot be decoded: {error}"),
    }
}

fn decode_conf_change(committed: &Committed) -> Result<Op, Problem> {
    // Releases up to 3.6 write zeros out, so the length says nothing here.
    check(&schema::CONF_CHANGE, "conf change", &committed.data)?;
    let change = raftpb::ConfChange::decode(committed.data.clone())
        .map_err(|error| undecodable("the conf change", &error))?;
    if change.r#type > CONF_CHANGE_TYPE_LAST {
        return Err(Problem::ConfChangeType(change.r#type));
    }
    Ok(Op::ConfChange(change))
}

/// True if the entry is a request of the v2 API without a wrapper: id, then a method by its name.
/// In a v3 request no text can stand at that place.
fn is_v2(data: &[u8]) -> bool {
    let mut fields = Fields::of(data);
    let id = fields.next();
    let method = fields.next();
    match (id, method) {
        (Ok(Some((1, Wire::Varint(_)))), Ok(Some((2, Wire::Delimited(method))))) => {
            V2_METHODS.iter().any(|known| known.as_bytes() == method)
        }
        _ => false,
    }
}

fn decode_v2(data: &[u8]) -> Result<Op, Problem> {
    check(&schema::V2, "v2 request", data)?;
    let mut method = String::new();
    let mut path = String::new();
    let mut fields = Fields::of(data);
    while let Ok(Some((number, wire))) = fields.next() {
        let target = match number {
            2 => &mut method,
            3 => &mut path,
            _ => continue,
        };
        if let Wire::Delimited(bytes) = wire {
            *target = String::from_utf8_lossy(bytes).into_owned();
        }
    }
    Ok(Op::V2 { method, path })
}

fn decode_request(committed: &Committed) -> Result<(Header, Op), Problem> {
    let data = &committed.data;
    check(&schema::REQUEST, "request", data)?;
    let mut request = etcdpb::InternalRaftRequest::decode(data.clone())
        .map_err(|error| undecodable("the request", &error))?;
    if request.encoded_len() != data.len() {
        return Err(Problem::NotCanonical {
            message: "the request",
            given_bytes: data.len(),
            encoded_bytes: request.encoded_len(),
        });
    }
    let proposed = request.header.take().unwrap_or_default();
    let header = Header {
        id: if request.id == 0 {
            proposed.id
        } else {
            request.id
        },
        username: proposed.username,
        auth_revision: proposed.auth_revision,
    };
    let op = the_one(requests(request))?;
    if header.id == 0 {
        return Err(Problem::NoId { kind: op.kind() });
    }
    Ok((header, op))
}

fn the_one(mut found: Vec<Op>) -> Result<Op, Problem> {
    if found.len() > 1 {
        let kinds = found.iter().map(Op::kind).collect();
        return Err(Problem::SeveralRequests { kinds });
    }
    found.pop().ok_or(Problem::NoRequest)
}

/// Every request that is set; an entry has exactly one.
fn requests(request: etcdpb::InternalRaftRequest) -> Vec<Op> {
    let r = request;
    [
        r.range.map(Op::Range),
        r.put.map(Op::Put),
        r.delete_range.map(Op::DeleteRange),
        r.txn.map(Op::Txn),
        r.compaction.map(Op::Compaction),
        r.lease_grant.map(Op::LeaseGrant),
        r.lease_revoke.map(Op::LeaseRevoke),
        r.alarm.map(Op::Alarm),
        r.lease_checkpoint.map(Op::LeaseCheckpoint),
        r.auth_enable.map(|_| Op::AuthEnable),
        r.auth_disable.map(|_| Op::AuthDisable),
        r.authenticate.map(Op::Authenticate),
        r.auth_status.map(|_| Op::AuthStatus),
        r.auth_user_add.map(Op::AuthUserAdd),
        r.auth_user_delete.map(Op::AuthUserDelete),
        r.auth_user_get.map(|_| Op::AuthUserGet),
        r.auth_user_change_password.map(Op::AuthUserChangePassword),
        r.auth_user_grant_role.map(Op::AuthUserGrantRole),
        r.auth_user_revoke_role.map(Op::AuthUserRevokeRole),
        r.auth_user_list.map(|_| Op::AuthUserList),
        r.auth_role_list.map(|_| Op::AuthRoleList),
        r.auth_role_add.map(Op::AuthRoleAdd),
        r.auth_role_delete.map(Op::AuthRoleDelete),
        r.auth_role_get.map(|_| Op::AuthRoleGet),
        r.auth_role_grant_permission
            .map(Op::AuthRoleGrantPermission),
        r.auth_role_revoke_permission
            .map(Op::AuthRoleRevokePermission),
        r.cluster_version_set.map(Op::ClusterVersionSet),
        r.cluster_member_attr_set.map(Op::ClusterMemberAttrSet),
        r.downgrade_info_set.map(Op::DowngradeInfoSet),
        r.downgrade_version_test.map(|_| Op::DowngradeVersionTest),
    ]
    .into_iter()
    .flatten()
    .collect()
}

const ENTRY_NORMAL: u32 = 0;
const ENTRY_CONF_CHANGE: u32 = 1;
const ENTRY_CONF_CHANGE_V2: u32 = 2;

/// 0 add, 1 remove, 2 update, 3 add learner.
const CONF_CHANGE_TYPE_LAST: u32 = 3;

const V2_METHODS: [&str; 7] = ["PUT", "POST", "DELETE", "GET", "QGET", "HEAD", "SYNC"];
