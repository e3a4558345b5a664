//! An operation as fields with names. Values and secrets are among them only if asked for.

use bytes::Bytes;
use serde_json::{Value, json};

use super::items::{Fields, HIDDEN, Show, fields, text};
use crate::entry::Op;
use crate::ids::{LeaseId, MemberId};
use crate::pb::etcdpb::compare::TargetUnion;
use crate::pb::etcdpb::request_op::Request;
use crate::pb::etcdpb::{Compare, Permission, PutRequest, RequestOp, TxnRequest};
use crate::pb::raftpb::ConfChange;
use crate::range::KeyRange;

/// A range of keys as text.
pub(super) fn range(range: &KeyRange) -> Value {
    match (range.as_single(), range.end()) {
        (Some(key), _) => json!({"key": text(key)}),
        (None, Some(end)) => json!({"key": text(range.start()), "range_end": text(end)}),
        (None, None) => json!({"key": text(range.start()), "range_end": "\\x00"}),
    }
}

/// Leaves out what is empty.
fn filled<const N: usize>(pairs: [(&str, Value); N]) -> Fields {
    let is_filled = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Number(number) => number.as_i64() != Some(0),
        Value::Bool(true) | Value::Array(_) | Value::Object(_) => true,
    };
    let pairs = pairs.into_iter().filter(|(_, value)| is_filled(value));
    pairs
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn keys(key: &Bytes, range_end: &Bytes) -> Fields {
    let mut shown = filled([("range_end", text(range_end).into())]);
    shown.insert("key".to_owned(), text(key).into());
    shown
}

fn lease(id: i64) -> Value {
    match id {
        0 => Value::Null,
        id => LeaseId(id).to_string().into(),
    }
}

fn member(id: u64) -> Value {
    MemberId(id).to_string().into()
}

impl Show {
    /// What `op` says.
    pub(super) fn op(self, op: &Op) -> Fields {
        match op {
            Op::Empty
            | Op::AuthEnable
            | Op::AuthDisable
            | Op::AuthStatus
            | Op::AuthUserGet
            | Op::AuthUserList
            | Op::AuthRoleList
            | Op::AuthRoleGet
            | Op::DowngradeVersionTest => Fields::new(),
            Op::ConfChange(change) => conf_change(change),
            Op::V2 { method, path } => fields(json!({"method": method, "path": path})),
            Op::Range(r) => keys(&r.key, &r.range_end),
            Op::Put(put) => self.put(put),
            Op::DeleteRange(r) => keys(&r.key, &r.range_end),
            Op::Txn(txn) => self.txn(txn),
            Op::Compaction(r) => fields(json!({"revision": r.revision})),
            Op::LeaseGrant(r) => filled([("lease", lease(r.id)), ("ttl", r.ttl.into())]),
            Op::LeaseRevoke(r) => filled([("lease", lease(r.id))]),
            Op::LeaseCheckpoint(r) => {
                let each = r.checkpoints.iter().map(
                    |noted| json!({"lease": lease(noted.id), "remaining_ttl": noted.remaining_ttl}),
                );
                fields(json!({"checkpoints": each.collect::<Vec<_>>()}))
            }
            Op::Alarm(r) => fields(json!({
                "action": numbered(&["get", "activate", "deactivate"], r.action),
                "alarm": numbered(&["none", "no_space", "corrupt"], r.alarm),
                "member": member(r.member_id),
            })),
            Op::ClusterVersionSet(r) => fields(json!({"version": r.ver})),
            Op::ClusterMemberAttrSet(r) => {
                let attributes = r.member_attributes.clone().unwrap_or_default();
                fields(json!({
                    "member": member(r.member_id),
                    "name": attributes.name,
                    "client_urls": attributes.client_urls,
                }))
            }
            Op::DowngradeInfoSet(r) => fields(json!({"enabled": r.enabled, "version": r.ver})),
            Op::Authenticate(_)
            | Op::AuthUserAdd(_)
            | Op::AuthUserDelete(_)
            | Op::AuthUserChangePassword(_)
            | Op::AuthUserGrantRole(_)
            | Op::AuthUserRevokeRole(_)
            | Op::AuthRoleAdd(_)
            | Op::AuthRoleDelete(_)
            | Op::AuthRoleGrantPermission(_)
            | Op::AuthRoleRevokePermission(_) => self.auth(op),
        }
    }

    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "the one caller sorts all operations into those here and those that are not"
    )]
    fn auth(self, op: &Op) -> Fields {
        let secret = |text: &str| match (self.secrets, text) {
            (_, "") => Value::Null,
            (true, text) => text.into(),
            (false, _) => HIDDEN.into(),
        };
        match op {
            Op::Authenticate(r) => filled([
                ("name", r.name.as_str().into()),
                ("password", secret(&r.password)),
                ("simple_token", secret(&r.simple_token)),
            ]),
            Op::AuthUserAdd(r) => filled([
                ("name", r.name.as_str().into()),
                ("password", secret(&r.password)),
                ("hashed_password", secret(&r.hashed_password)),
                (
                    "no_password",
                    r.options.as_ref().is_some_and(|o| o.no_password).into(),
                ),
            ]),
            Op::AuthUserChangePassword(r) => filled([
                ("name", r.name.as_str().into()),
                ("password", secret(&r.password)),
                ("hashed_password", secret(&r.hashed_password)),
            ]),
            Op::AuthUserDelete(r) => fields(json!({"name": r.name})),
            Op::AuthUserGrantRole(r) => fields(json!({"user": r.user, "role": r.role})),
            Op::AuthUserRevokeRole(r) => fields(json!({"user": r.name, "role": r.role})),
            Op::AuthRoleAdd(r) => fields(json!({"role": r.name})),
            Op::AuthRoleDelete(r) => fields(json!({"role": r.role})),
            Op::AuthRoleGrantPermission(r) => {
                let mut shown = r.perm.as_ref().map(permission).unwrap_or_default();
                shown.insert("role".to_owned(), r.name.as_str().into());
                shown
            }
            Op::AuthRoleRevokePermission(r) => {
                let mut shown = keys(&r.key, &r.range_end);
                shown.insert("role".to_owned(), r.role.as_str().into());
                shown
            }
            _ => Fields::new(),
        }
    }

    fn value(self, value: &Bytes) -> (&'static str, Value) {
        if self.values {
            ("value", text(value).into())
        } else {
            ("value_bytes", value.len().into())
        }
    }

    fn put(self, put: &PutRequest) -> Fields {
        let mut shown = filled([
            ("lease", lease(put.lease)),
            ("ignore_value", put.ignore_value.into()),
            ("ignore_lease", put.ignore_lease.into()),
        ]);
        let (name, value) = self.value(&put.value);
        shown.insert(name.to_owned(), value);
        shown.insert("key".to_owned(), text(&put.key).into());
        shown
    }

    fn txn(self, txn: &TxnRequest) -> Fields {
        let compares = txn.compare.iter().map(|compare| self.compare(compare));
        let ops = |ops: &[RequestOp]| -> Value {
            let shown = ops.iter().map(|op| self.request_op(op));
            shown.collect()
        };
        fields(json!({
            "compare": compares.collect::<Vec<_>>(),
            "success": ops(&txn.success),
            "failure": ops(&txn.failure),
        }))
    }

    fn request_op(self, op: &RequestOp) -> Value {
        match &op.request {
            None => json!({}),
            Some(Request::RequestRange(r)) => json!({"range": keys(&r.key, &r.range_end)}),
            Some(Request::RequestPut(put)) => json!({"put": self.put(put)}),
            Some(Request::RequestDeleteRange(r)) => {
                json!({"delete_range": keys(&r.key, &r.range_end)})
            }
            // The decoder has limited the depth.
            Some(Request::RequestTxn(txn)) => json!({"txn": self.txn(txn)}),
        }
    }

    fn compare(self, compare: &Compare) -> Value {
        let mut shown = keys(&compare.key, &compare.range_end);
        let result = numbered(&["equal", "greater", "less", "not_equal"], compare.result);
        let targets = [
            "version",
            "create_revision",
            "mod_revision",
            "value",
            "lease",
        ];
        shown.insert("result".to_owned(), result);
        shown.insert("target".to_owned(), numbered(&targets, compare.target));
        let (name, operand) = match &compare.target_union {
            None => return shown.into(),
            Some(TargetUnion::Value(value)) => self.value(value),
            Some(TargetUnion::Lease(id)) => ("operand", LeaseId(*id).to_string().into()),
            Some(
                TargetUnion::Version(number)
                | TargetUnion::CreateRevision(number)
                | TargetUnion::ModRevision(number),
            ) => ("operand", (*number).into()),
        };
        shown.insert(name.to_owned(), operand);
        shown.into()
    }
}

fn conf_change(change: &ConfChange) -> Fields {
    let types = ["add_node", "remove_node", "update_node", "add_learner_node"];
    let change_type = i32::try_from(change.r#type).unwrap_or(i32::MAX);
    let mut shown = fields(json!({
        "change": numbered(&types, change_type),
        "member": member(change.node_id),
    }));
    if let Ok(context) = serde_json::from_slice::<Fields>(&change.context) {
        let wanted = ["name", "peerURLs", "clientURLs", "isLearner", "isPromote"];
        let named = context.into_iter();
        shown.extend(named.filter(|(name, v)| wanted.contains(&name.as_str()) && !v.is_null()));
    }
    shown
}

fn permission(permission: &Permission) -> Fields {
    let mut shown = keys(&permission.key, &permission.range_end);
    let kind = numbered(&["read", "write", "readwrite"], permission.perm_type);
    shown.insert("permission".to_owned(), kind);
    shown
}

/// A number by its name, or as it is.
fn numbered(names: &[&str], number: i32) -> Value {
    let name = usize::try_from(number).ok().and_then(|at| names.get(at));
    name.map_or_else(|| number.into(), |name| (*name).into())
}
