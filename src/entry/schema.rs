//! Which fields the messages of the primary's log have, and the search for one that is not known.
//!
//! Generated message types drop an unknown field without a word, and a field of a newer etcd may
//! change what an entry does. So every field is looked up here first. Pure.

use crate::wire::{Fields, Flaw, Wire};

/// A message: its fields' numbers, names and forms.
#[derive(Debug)]
pub(super) struct Schema(&'static [(u64, &'static str, Form)]);

/// What stands in a field.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    Varint,
    Bytes,
    Message(&'static Schema),
}

/// What the search found wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Finding {
    /// A field that is not in the schema.
    #[error("unknown field {number} in {path}")]
    UnknownField {
        /// Names of the fields that lead to the message.
        path: String,
        /// The field.
        number: u64,
    },
    /// A field in a form that it does not have.
    #[error("field {number} in {path} has another form than it should")]
    WrongForm {
        /// Names of the fields that lead to the message.
        path: String,
        /// The field.
        number: u64,
    },
    /// Bytes that are no fields.
    #[error("{path} cannot be read: {flaw}")]
    Unreadable {
        /// Names of the fields that lead to the message.
        path: String,
        /// What is wrong.
        flaw: Flaw,
    },
    /// More messages inside each other than are decoded.
    #[error("messages are nested more than {DEPTH_MAX} deep")]
    TooDeep,
}

/// Messages inside each other; two for each level of a nested Txn. prost decodes up to 100.
pub(super) const DEPTH_MAX: usize = 98;

impl Schema {
    /// Looks at every field of the message in `bytes`, which is called `name` in findings.
    ///
    /// # Errors
    /// The first thing that is not as this schema says.
    pub(super) fn check(&self, name: &str, bytes: &[u8]) -> Result<(), Finding> {
        let mut path = vec![name];
        check(self, bytes, &mut path)
    }
}

fn check(schema: &Schema, bytes: &[u8], path: &mut Vec<&str>) -> Result<(), Finding> {
    if path.len() > DEPTH_MAX {
        return Err(Finding::TooDeep);
    }
    let mut fields = Fields::of(bytes);
    loop {
        let field = fields.next().map_err(|flaw| Finding::Unreadable {
            path: path.join("."),
            flaw,
        })?;
        let Some((number, wire)) = field else {
            return Ok(());
        };
        let Some((_, name, form)) = schema.0.iter().find(|(known, _, _)| *known == number) else {
            return Err(Finding::UnknownField {
                path: path.join("."),
                number,
            });
        };
        match (form, wire) {
            (Form::Varint, Wire::Varint(_)) | (Form::Bytes, Wire::Delimited(_)) => {}
            (Form::Message(inner), Wire::Delimited(bytes)) => {
                path.push(name);
                check(inner, bytes, path)?;
                path.pop();
            }
            (Form::Varint, Wire::Delimited(_))
            | (Form::Bytes | Form::Message(_), Wire::Varint(_))
            | (_, Wire::Fixed) => {
                return Err(Finding::WrongForm {
                    path: path.join("."),
                    number,
                });
            }
        }
    }
}

/// A membership change.
pub(super) static CONF_CHANGE: Schema = Schema(&[
    (1, "id", Form::Varint),
    (2, "type", Form::Varint),
    (3, "node_id", Form::Varint),
    (4, "context", Form::Bytes),
]);

/// A request of the v2 API, as 3.5 and earlier write it without a wrapper.
pub(super) static V2: Schema = Schema(&[
    (1, "id", Form::Varint),
    (2, "method", Form::Bytes),
    (3, "path", Form::Bytes),
    (4, "val", Form::Bytes),
    (5, "dir", Form::Varint),
    (6, "prev_value", Form::Bytes),
    (7, "prev_index", Form::Varint),
    (8, "prev_exist", Form::Varint),
    (9, "expiration", Form::Varint),
    (10, "wait", Form::Varint),
    (11, "since", Form::Varint),
    (12, "recursive", Form::Varint),
    (13, "sorted", Form::Varint),
    (14, "quorum", Form::Varint),
    (15, "time", Form::Varint),
    (16, "stream", Form::Varint),
    (17, "refresh", Form::Varint),
]);

/// The wrapper of every v3 request.
pub(super) static REQUEST: Schema = Schema(&[
    (100, "header", Form::Message(&HEADER)),
    (1, "id", Form::Varint),
    (3, "range", Form::Message(&RANGE)),
    (4, "put", Form::Message(&PUT)),
    (5, "delete_range", Form::Message(&DELETE_RANGE)),
    (6, "txn", Form::Message(&TXN)),
    (7, "compaction", Form::Message(&COMPACTION)),
    (8, "lease_grant", Form::Message(&LEASE_GRANT)),
    (9, "lease_revoke", Form::Message(&LEASE_REVOKE)),
    (10, "alarm", Form::Message(&ALARM)),
    (11, "lease_checkpoint", Form::Message(&LEASE_CHECKPOINTS)),
    (1000, "auth_enable", Form::Message(&NOTHING)),
    (1011, "auth_disable", Form::Message(&NOTHING)),
    (1012, "authenticate", Form::Message(&TEXT_3)),
    (1013, "auth_status", Form::Message(&NOTHING)),
    (1100, "auth_user_add", Form::Message(&USER_ADD)),
    (1101, "auth_user_delete", Form::Message(&TEXT_1)),
    (1102, "auth_user_get", Form::Message(&TEXT_1)),
    (1103, "auth_user_change_password", Form::Message(&TEXT_3)),
    (1104, "auth_user_grant_role", Form::Message(&TEXT_2)),
    (1105, "auth_user_revoke_role", Form::Message(&TEXT_2)),
    (1106, "auth_user_list", Form::Message(&NOTHING)),
    (1107, "auth_role_list", Form::Message(&NOTHING)),
    (1200, "auth_role_add", Form::Message(&TEXT_1)),
    (1201, "auth_role_delete", Form::Message(&TEXT_1)),
    (1202, "auth_role_get", Form::Message(&TEXT_1)),
    (
        1203,
        "auth_role_grant_permission",
        Form::Message(&GRANT_PERMISSION),
    ),
    (1204, "auth_role_revoke_permission", Form::Message(&TEXT_3)),
    (1300, "cluster_version_set", Form::Message(&TEXT_1)),
    (
        1301,
        "cluster_member_attr_set",
        Form::Message(&MEMBER_ATTR_SET),
    ),
    (1302, "downgrade_info_set", Form::Message(&DOWNGRADE_INFO)),
    (9900, "downgrade_version_test", Form::Message(&TEXT_1)),
]);

static HEADER: Schema = Schema(&[
    (1, "id", Form::Varint),
    (2, "username", Form::Bytes),
    (3, "auth_revision", Form::Varint),
]);

static PUT: Schema = Schema(&[
    (1, "key", Form::Bytes),
    (2, "value", Form::Bytes),
    (3, "lease", Form::Varint),
    (4, "prev_kv", Form::Varint),
    (5, "ignore_value", Form::Varint),
    (6, "ignore_lease", Form::Varint),
]);

static DELETE_RANGE: Schema = Schema(&[
    (1, "key", Form::Bytes),
    (2, "range_end", Form::Bytes),
    (3, "prev_kv", Form::Varint),
]);

static RANGE: Schema = Schema(&[
    (1, "key", Form::Bytes),
    (2, "range_end", Form::Bytes),
    (3, "limit", Form::Varint),
    (4, "revision", Form::Varint),
    (5, "sort_order", Form::Varint),
    (6, "sort_target", Form::Varint),
    (7, "serializable", Form::Varint),
    (8, "keys_only", Form::Varint),
    (9, "count_only", Form::Varint),
    (10, "min_mod_revision", Form::Varint),
    (11, "max_mod_revision", Form::Varint),
    (12, "min_create_revision", Form::Varint),
    (13, "max_create_revision", Form::Varint),
]);

static TXN: Schema = Schema(&[
    (1, "compare", Form::Message(&COMPARE)),
    (2, "success", Form::Message(&REQUEST_OP)),
    (3, "failure", Form::Message(&REQUEST_OP)),
]);

static REQUEST_OP: Schema = Schema(&[
    (1, "request_range", Form::Message(&RANGE)),
    (2, "request_put", Form::Message(&PUT)),
    (3, "request_delete_range", Form::Message(&DELETE_RANGE)),
    (4, "request_txn", Form::Message(&TXN)),
]);

static COMPARE: Schema = Schema(&[
    (1, "result", Form::Varint),
    (2, "target", Form::Varint),
    (3, "key", Form::Bytes),
    (4, "version", Form::Varint),
    (5, "create_revision", Form::Varint),
    (6, "mod_revision", Form::Varint),
    (7, "value", Form::Bytes),
    (8, "lease", Form::Varint),
    (64, "range_end", Form::Bytes),
]);

static COMPACTION: Schema = Schema(&[(1, "revision", Form::Varint), (2, "physical", Form::Varint)]);
static LEASE_GRANT: Schema = Schema(&[(1, "ttl", Form::Varint), (2, "id", Form::Varint)]);
static LEASE_REVOKE: Schema = Schema(&[(1, "id", Form::Varint)]);
static LEASE_CHECKPOINTS: Schema = Schema(&[(1, "checkpoints", Form::Message(&LEASE_CHECKPOINT))]);
static LEASE_CHECKPOINT: Schema =
    Schema(&[(1, "id", Form::Varint), (2, "remaining_ttl", Form::Varint)]);
static ALARM: Schema = Schema(&[
    (1, "action", Form::Varint),
    (2, "member_id", Form::Varint),
    (3, "alarm", Form::Varint),
]);

static NOTHING: Schema = Schema(&[]);
static TEXT_1: Schema = Schema(&[(1, "1", Form::Bytes)]);
static TEXT_2: Schema = Schema(&[(1, "1", Form::Bytes), (2, "2", Form::Bytes)]);
static TEXT_3: Schema = Schema(&[
    (1, "1", Form::Bytes),
    (2, "2", Form::Bytes),
    (3, "3", Form::Bytes),
]);

static USER_ADD: Schema = Schema(&[
    (1, "name", Form::Bytes),
    (2, "password", Form::Bytes),
    (3, "options", Form::Message(&USER_ADD_OPTIONS)),
    (4, "hashed_password", Form::Bytes),
]);
static USER_ADD_OPTIONS: Schema = Schema(&[(1, "no_password", Form::Varint)]);
static GRANT_PERMISSION: Schema = Schema(&[
    (1, "name", Form::Bytes),
    (2, "perm", Form::Message(&PERMISSION)),
]);
static PERMISSION: Schema = Schema(&[
    (1, "perm_type", Form::Varint),
    (2, "key", Form::Bytes),
    (3, "range_end", Form::Bytes),
]);

static MEMBER_ATTR_SET: Schema = Schema(&[
    (1, "member_id", Form::Varint),
    (2, "member_attributes", Form::Message(&MEMBER_ATTRIBUTES)),
]);
static MEMBER_ATTRIBUTES: Schema =
    Schema(&[(1, "name", Form::Bytes), (2, "client_urls", Form::Bytes)]);
static DOWNGRADE_INFO: Schema = Schema(&[(1, "enabled", Form::Varint), (2, "ver", Form::Bytes)]);
