//! What a primary holds besides its log: as its database file says, and as we resolved it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use etcd_syncer::resolve::{Login, Password, PrimaryState};
use prost::Message as _;

use crate::disk::Database;

/// A key with everything that etcd stores of it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Kv {
    pub(crate) created: i64,
    pub(crate) modified: i64,
    pub(crate) version: i64,
    pub(crate) lease: i64,
    pub(crate) value: Bytes,
}

impl std::fmt::Debug for Kv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            created,
            modified,
            version,
            lease,
            value,
        } = self;
        let value = &value[..value.len().min(40)];
        write!(
            f,
            "(create {created}, mod {modified}, version {version}, lease {lease}, \"{}\")",
            value.escape_ascii()
        )
    }
}

/// What is stored for a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Secret {
    /// These bytes, which may be none.
    Exactly(Bytes),
    /// A hash that each member makes itself.
    SomeHash,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) roles: Vec<String>,
    pub(crate) no_password: bool,
    pub(crate) password: Secret,
}

/// Type, key, range end.
pub(crate) type Permission = (i32, Bytes, Bytes);

/// Everything that is compared. `compact` is -1 before the first compaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Picture {
    /// The last entry in it, as far as the member wrote that down; ours has none.
    pub(crate) index: u64,
    pub(crate) revision: i64,
    pub(crate) compact: i64,
    pub(crate) keys: BTreeMap<Bytes, Kv>,
    /// TTL and remaining TTL.
    pub(crate) leases: BTreeMap<i64, (i64, i64)>,
    pub(crate) attached: BTreeMap<i64, BTreeSet<Bytes>>,
    pub(crate) enabled: bool,
    pub(crate) auth_revision: u64,
    pub(crate) users: BTreeMap<String, User>,
    pub(crate) roles: BTreeMap<String, Vec<Permission>>,
    /// Keys of a role whose permissions are in an order that depends on the build of etcd.
    pub(crate) unordered: BTreeSet<(String, Bytes)>,
    pub(crate) alarms: BTreeSet<(u64, i32)>,
    /// By revision, what it left of each key that it touched; None for gone. Only ours has those
    /// that were compacted.
    pub(crate) history: BTreeMap<i64, BTreeMap<Bytes, Option<Kv>>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredKv {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(int64, tag = "2")]
    created: i64,
    #[prost(int64, tag = "3")]
    modified: i64,
    #[prost(int64, tag = "4")]
    version: i64,
    #[prost(bytes = "bytes", tag = "5")]
    value: Bytes,
    #[prost(int64, tag = "6")]
    lease: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredLease {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(int64, tag = "2")]
    ttl: i64,
    #[prost(int64, tag = "3")]
    remaining: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredUser {
    #[prost(bytes = "bytes", tag = "2")]
    password: Bytes,
    #[prost(string, repeated, tag = "3")]
    roles: Vec<String>,
    #[prost(message, optional, tag = "4")]
    options: Option<StoredOptions>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredOptions {
    #[prost(bool, tag = "1")]
    no_password: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredRole {
    #[prost(message, repeated, tag = "2")]
    permissions: Vec<StoredPermission>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredPermission {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(bytes = "bytes", tag = "2")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    range_end: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredAlarm {
    #[prost(uint64, tag = "1")]
    member: u64,
    #[prost(int32, tag = "2")]
    kind: i32,
}

impl Picture {
    /// What a member that is stopped has in its database.
    pub(crate) fn of_database(data_dir: &Path) -> Result<Self> {
        let database = Database::read(&data_dir.join("member/snap/db"))?;
        let mut picture = Self::default();
        picture.read_keys(&database)?;
        for (_, lease) in database.bucket("lease")? {
            let lease = StoredLease::decode(lease)?;
            picture
                .leases
                .insert(lease.id, (lease.ttl, lease.remaining));
        }
        picture.attach();
        picture.read_auth(&database)?;
        for (alarm, _) in database.bucket("alarm")? {
            let alarm = StoredAlarm::decode(alarm)?;
            picture.alarms.insert((alarm.member, alarm.kind));
        }
        Ok(picture)
    }

    fn read_keys(&mut self, database: &Database) -> Result<()> {
        let meta: BTreeMap<_, _> = database.bucket("meta")?.into_iter().collect();
        let compacted = |name: &str| match meta.get(name.as_bytes()) {
            Some(revision) => main(revision),
            None => Ok(-1),
        };
        if let Some(index) = meta.get("consistent_index".as_bytes()) {
            self.index = u64::from_be_bytes(index.as_ref().try_into()?);
        }
        self.compact = compacted("scheduledCompactRev")?.max(compacted("finishedCompactRev")?);
        self.revision = self.compact.max(1);
        for (revision, stored) in database.bucket("key")? {
            let main = main(&revision)?;
            let kv = StoredKv::decode(stored)?;
            let left = (revision.len() == 17).then(|| Kv {
                created: kv.created,
                modified: kv.modified,
                version: kv.version,
                lease: kv.lease,
                value: kv.value,
            });
            self.revision = self.revision.max(main);
            match &left {
                Some(left) => self.keys.insert(kv.key.clone(), left.clone()),
                None => self.keys.remove(&kv.key),
            };
            self.history.entry(main).or_default().insert(kv.key, left);
        }
        Ok(())
    }

    fn read_auth(&mut self, database: &Database) -> Result<()> {
        for (name, value) in database.bucket("auth")? {
            match name.as_ref() {
                b"authEnabled" => self.enabled = value.as_ref() == [1],
                b"authRevision" => {
                    self.auth_revision = u64::from_be_bytes(value.as_ref().try_into()?);
                }
                other => ensure!(false, "{:?} in the bucket auth", other.escape_ascii()),
            }
        }
        for (name, user) in database.bucket("authUsers")? {
            let user = StoredUser::decode(user)?;
            let user = User {
                roles: user.roles,
                no_password: user.options.is_some_and(|options| options.no_password),
                password: Secret::Exactly(user.password),
            };
            self.users.insert(String::from_utf8(name.to_vec())?, user);
        }
        for (name, role) in database.bucket("authRoles")? {
            let permissions = StoredRole::decode(role)?.permissions.into_iter();
            let permissions = permissions.map(|one| (one.kind, one.key, one.range_end));
            self.roles
                .insert(String::from_utf8(name.to_vec())?, permissions.collect());
        }
        Ok(())
    }

    pub(crate) fn attach(&mut self) {
        for (key, kv) in &self.keys {
            if self.leases.contains_key(&kv.lease) {
                let keys = self.attached.entry(kv.lease).or_default();
                keys.insert(key.clone());
            }
        }
    }

    /// What we resolved, with the values that came along.
    pub(crate) fn of_state(
        state: &PrimaryState,
        values: &BTreeMap<Bytes, Bytes>,
        history: &BTreeMap<i64, BTreeMap<Bytes, Option<Kv>>>,
    ) -> Result<Self> {
        let mut picture = Self {
            revision: state.position().revision.0,
            compact: state.position().compact_revision.0,
            enabled: state.auth().is_enabled(),
            auth_revision: state.auth().revision(),
            alarms: state
                .alarms()
                .raised()
                .map(|(m, kind)| (m.0, kind))
                .collect(),
            history: history.clone(),
            ..Self::default()
        };
        for (key, meta) in state.keys() {
            let value = values
                .get(key)
                .with_context(|| format!("no value of {key:?}"))?;
            ensure!(
                state.digest_key().digest(value) == meta.digest,
                "the digest of {key:?}"
            );
            let kv = Kv {
                created: meta.created.0,
                modified: meta.modified.0,
                version: meta.version,
                lease: meta.lease.0,
                value: value.clone(),
            };
            picture.keys.insert(Bytes::copy_from_slice(key), kv);
        }
        ensure!(picture.keys.len() == values.len(), "more values than keys");
        for (id, lease) in state.leases() {
            picture
                .leases
                .insert(id.0, (lease.ttl(), lease.remaining()));
            let keys: BTreeSet<Bytes> = lease.keys().map(Bytes::copy_from_slice).collect();
            if !keys.is_empty() {
                picture.attached.insert(id.0, keys);
            }
        }
        for (name, user) in state.auth().users() {
            let password = match &user.password {
                Password::None => Secret::Exactly(Bytes::new()),
                Password::Hash(hash) => Secret::Exactly(hash.expose().clone()),
                Password::Clear(_) | Password::Digest(_) => Secret::SomeHash,
            };
            let user = User {
                roles: user.roles.clone(),
                no_password: user.login == Login::NoPassword,
                password,
            };
            picture.users.insert(name.clone(), user);
        }
        for (name, role) in state.auth().roles() {
            let permissions = role.permissions().iter();
            let permissions = permissions.map(|p| (p.kind, p.key.clone(), p.range_end.clone()));
            picture.roles.insert(name.clone(), permissions.collect());
            let unordered = role
                .unordered()
                .iter()
                .map(|key| (name.clone(), key.clone()));
            picture.unordered.extend(unordered);
        }
        Ok(picture)
    }
}

fn main(revision: &[u8]) -> Result<i64> {
    let main = revision.get(..8).context("a revision is too short")?;
    Ok(i64::from_be_bytes(main.try_into()?))
}
