//! What a database holds as items with names and fields. Values and secrets are only shown if asked
//! for, and are compared all the same.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::ids::{LeaseId, MemberId};
use crate::resolve::{Login, Password, Permission, User};
use crate::secret::Secret;
use crate::snapshot::{self, Contents, DbFile, Form, LiveKey, Member};

/// What may be shown.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(super) struct Show {
    /// Print values of keys.
    #[arg(long = "show-values")]
    pub(super) values: bool,
    /// Print hashes of passwords.
    #[arg(long = "show-secrets")]
    pub(super) secrets: bool,
}

/// Names and values, in the order of names.
pub(super) type Fields = Map<String, Value>;

/// One thing that a database holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Item {
    /// What it is: `user`, `lease`.
    pub(super) kind: &'static str,
    /// Which one.
    pub(super) name: String,
    pub(super) fields: Fields,
    /// The hash of a password.
    pub(super) secret: Option<Secret>,
}

/// A database file and what it holds.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) path: PathBuf,
    pub(super) file: DbFile,
    pub(super) form: Form,
    pub(super) contents: Contents,
}

impl Opened {
    /// Opens and reads a database: a file, or the one in a member's data directory.
    pub(super) fn read(path: &Path, skip_hash_check: bool) -> Result<Self, String> {
        let path = if path.is_dir() {
            path.join("member/snap/db")
        } else {
            path.to_owned()
        };
        let file = DbFile::open(&path).map_err(|error| with_causes(&error))?;
        let failed =
            |error: snapshot::Error| format!("{}: {}", path.display(), with_causes(&error));
        let form = Form::of(snapshot::bbolt::PageSource::size(&file)).map_err(failed)?;
        // The structure first: it says what is missing of a file that is cut short.
        let contents = snapshot::read(&file).map_err(failed)?;
        if !skip_hash_check {
            snapshot::check_hash(&file).map_err(failed)?;
        }
        Ok(Self {
            path,
            file,
            form,
            contents,
        })
    }
}

/// An error with what it came from, on one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Bytes as text: what is not printable ASCII is escaped, and the backslash, too.
pub(super) fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// The fields of a JSON object, without those that are null.
pub(super) fn fields(value: Value) -> Fields {
    match value {
        Value::Object(fields) => fields.into_iter().filter(|(_, v)| !v.is_null()).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Fields::new()
        }
    }
}

impl Item {
    fn new(kind: &'static str, name: impl ToString, shown: Value) -> Self {
        Self {
            kind,
            name: name.to_string(),
            fields: fields(shown),
            secret: None,
        }
    }

    /// Its fields, with its secret or in its stead a word.
    pub(super) fn shown(&self, show: Show) -> Fields {
        let mut shown = self.fields.clone();
        if let Some(secret) = &self.secret {
            let secret = if show.secrets {
                text(secret.expose())
            } else {
                HIDDEN.to_owned()
            };
            shown.insert("password".to_owned(), secret.into());
        }
        shown
    }
}

/// Everything but the keys.
pub(super) fn items(contents: &Contents) -> Vec<Item> {
    let mut items = vec![Item::new("state", "", Value::Object(state(contents)))];
    items.extend(contents.cluster.members.iter().map(member));
    let removed = contents.cluster.removed.iter();
    items.extend(removed.map(|id| Item::new("removed", id, Value::Null)));
    items.extend(
        contents
            .auth
            .users()
            .iter()
            .map(|(name, held)| user(name, held)),
    );
    for (name, role) in contents.auth.roles() {
        let permissions: Vec<Value> = role.permissions().iter().map(permission).collect();
        items.push(Item::new("role", name, json!({"permissions": permissions})));
    }
    for (member, kind) in &contents.alarms {
        items.push(Item::new(
            "alarm",
            format!("{member} {}", alarm(*kind)),
            Value::Null,
        ));
    }
    items.extend(leases(contents));
    for (revision, key) in &contents.reputs {
        // A compaction exactly there loses it in the primary.
        let name = format!("{revision} {}", text(key));
        items.push(Item::new("deleted_and_put", name, Value::Null));
    }
    let unknown = contents.unknown_buckets.iter();
    items.extend(unknown.map(|name| Item::new("unknown_bucket", text(name), Value::Null)));
    items
}

/// What there is once.
pub(super) fn state(contents: &Contents) -> Fields {
    let members = |ids: &[MemberId]| -> Value {
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        ids.into()
    };
    let conf_state = contents.raft.conf_state.as_ref();
    let compaction = &contents.compaction;
    let downgrade = contents.cluster.downgrade.as_ref();
    fields(json!({
        "format": contents.format(),
        "cluster_version": contents.cluster.version,
        "storage_version": contents.cluster.storage_version,
        "downgrade": downgrade.map(|to| json!({"to": to.target, "enabled": to.is_enabled})),
        "consistent_index": contents.raft.index,
        "term": contents.raft.term,
        "voters": conf_state.map(|state| members(&state.voters)),
        "learners": conf_state.map(|state| members(&state.learners)),
        "revision": contents.revision,
        "compact_revision": compaction.revision(),
        "compaction_pending": compaction.is_pending().then_some(true),
        "records": contents.records,
        "keys": contents.keys.len(),
        "keys_of_missing_leases": (contents.orphans > 0).then_some(contents.orphans),
        "leases": contents.leases.len(),
        "auth_enabled": contents.auth.is_enabled(),
        "auth_revision": contents.auth.revision(),
        "users": contents.auth.users().len(),
        "roles": contents.auth.roles().len(),
    }))
}

fn member(member: &Member) -> Item {
    let shown = json!({
        "name": (!member.name.is_empty()).then_some(&member.name),
        "peer_urls": member.peer_urls,
        "client_urls": member.client_urls,
        "learner": member.is_learner.then_some(true),
    });
    Item::new("member", member.id, shown)
}

fn user(name: &str, user: &User) -> Item {
    let login = match user.login {
        Login::Password => None,
        Login::NoPassword => Some("no password"),
        Login::Unspecified => Some("not said"),
    };
    let shown = json!({"login": login, "roles": user.roles});
    let secret = match &user.password {
        Password::None => None,
        Password::Hash(secret) | Password::Clear(secret) => Some(secret.clone()),
        Password::Digest(digest) => Some(Secret::new(digest.to_vec())),
    };
    Item {
        secret,
        ..Item::new("user", name, shown)
    }
}

fn permission(permission: &Permission) -> Value {
    let kind = match permission.kind {
        0 => "read".to_owned(),
        1 => "write".to_owned(),
        2 => "readwrite".to_owned(),
        other => other.to_string(),
    };
    let range_end = (!permission.range_end.is_empty()).then(|| text(&permission.range_end));
    let shown = json!({
        "permission": kind,
        "key": text(&permission.key),
        "range_end": range_end,
    });
    fields(shown).into()
}

fn alarm(kind: i32) -> String {
    match kind {
        1 => "no_space".to_owned(),
        2 => "corrupt".to_owned(),
        other => other.to_string(),
    }
}

fn leases(contents: &Contents) -> impl Iterator<Item = Item> {
    let mut attached: BTreeMap<LeaseId, u64> = BTreeMap::new();
    for key in contents.keys.iter() {
        *attached.entry(key.lease).or_default() += 1;
    }
    contents.leases.iter().map(move |lease| {
        let shown = json!({
            "ttl": lease.ttl,
            "remaining_ttl": (lease.remaining > 0).then_some(lease.remaining),
            "keys": attached.get(&lease.id).unwrap_or(&0),
        });
        Item::new("lease", lease.id, shown)
    })
}

/// What is known of a key beside its value.
pub(super) fn key(key: &LiveKey<'_>) -> Fields {
    fields(json!({
        "created": key.created,
        "modified": key.modified,
        "version": key.version,
        "lease": (key.lease != LeaseId(0)).then(|| key.lease.to_string()),
        "value_bytes": key.value.bytes,
    }))
}

/// Stands for what is not shown.
pub(super) const HIDDEN: &str = "(hidden)";
