//! Whether a standby has what the primary has, but for what the program says that it could not
//! carry.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use anyhow::{Context, Result};
use bytes::Bytes;
use etcd_syncer::reserved;
use serde_json::Value;

use crate::leaks::OURS;
use crate::picture::{Kv, Permission, Picture, Secret, User};

/// What the program says about users.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// Users whose password is not there, and why.
    pub(crate) not_carried: BTreeMap<String, String>,
    /// Role, key and range end, the latter two escaped.
    permissions: BTreeSet<(String, String, String)>,
    pub(crate) pending: Option<String>,
    pub(crate) is_ours_taken: bool,
}

/// Long enough that the standby ends no lease by itself.
const HOLD_MIN: i64 = 3600;

impl Told {
    pub(crate) fn of(status: &Value) -> Result<Self> {
        let users = &status["standby_users"];
        let text = |value: &Value| value.as_str().map(str::to_owned).context("a text");
        let list = |name: &str| users[name].as_array().context("a list");
        let not_carried = list("not_carried")?.iter();
        let permissions = list("permissions_not_carried")?.iter();
        Ok(Self {
            not_carried: not_carried
                .map(|one| Ok((text(&one["user"])?, text(&one["why"])?)))
                .collect::<Result<_>>()?,
            permissions: permissions
                .map(|one| {
                    let (role, key) = (text(&one["role"])?, text(&one["key"])?);
                    Ok((role, key, text(&one["range_end"])?))
                })
                .collect::<Result<_>>()?,
            pending: users["enable_pending"].as_str().map(str::to_owned),
            is_ours_taken: users["our_name_is_taken"] == true,
        })
    }
}

/// One line for each key, lease, user or role that is not the same.
pub(crate) fn differences(primary: &Picture, standby: &Picture, told: &Told) -> Vec<String> {
    let mut found = Vec::new();
    let key = |kv: &Kv| (kv.lease, kv.value.clone());
    each(
        &mut found,
        "key",
        foreign(primary, key),
        foreign(standby, key),
    );
    let ids = |picture: &Picture| -> BTreeMap<i64, ()> {
        picture.leases.keys().map(|id| (*id, ())).collect()
    };
    each(&mut found, "lease", ids(primary), ids(standby));
    for (id, (ttl, _)) in &standby.leases {
        if *ttl < HOLD_MIN {
            found.push(format!("lease {id} ends after {ttl} s"));
        }
    }
    each(&mut found, "user", users(primary), users(standby));
    for (name, user) in primary.users.iter().filter(|(name, _)| *name != OURS) {
        let there = standby.users.get(name);
        let is_carried = !told.not_carried.contains_key(name);
        if let (true, Some(there)) = (is_carried, there) {
            found.extend(password(name, user, there));
        }
    }
    let ours = standby.users.get(OURS);
    if ours.is_none_or(|user| !user.roles.iter().any(|role| role == "root")) {
        found.push("our user is not root".to_owned());
    }
    each(
        &mut found,
        "role",
        roles(primary, Some(told)),
        roles(standby, None),
    );
    if primary.enabled != standby.enabled {
        found.push(format!(
            "auth: primary {}, standby {}",
            primary.enabled, standby.enabled
        ));
    }
    if !standby.alarms.is_empty() {
        found.push(format!("alarms on the standby: {:?}", standby.alarms));
    }
    found
}

fn foreign<T>(picture: &Picture, of: impl Fn(&Kv) -> T) -> BTreeMap<Bytes, T> {
    let keys = picture.keys.iter();
    let foreign = keys.filter(|(key, _)| !key.starts_with(reserved::PREFIX.as_bytes()));
    foreign.map(|(key, kv)| (key.clone(), of(kv))).collect()
}

/// Roles, and whether a password can let the user in.
fn users(picture: &Picture) -> BTreeMap<String, (Vec<String>, bool)> {
    let users = picture.users.iter().filter(|(name, _)| *name != OURS);
    users
        .map(|(name, user)| (name.clone(), (user.roles.clone(), user.no_password)))
        .collect()
}

/// What is stored is the same, unless each member makes a hash of its own.
fn password(name: &str, primary: &User, standby: &User) -> Option<String> {
    let (Secret::Exactly(a), Secret::Exactly(b)) = (&primary.password, &standby.password) else {
        return None;
    };
    let is_hash = |hash: &Bytes| hash.starts_with(b"$2");
    if a == b || a.is_empty() && (is_hash(b) || primary.no_password) {
        return None;
    }
    // 3.4 hashes on each member.
    (!is_hash(a) || !is_hash(b)).then(|| format!("user {name}: another password"))
}

/// What the roles allow, without those of root, which may do everything anyway.
fn roles(
    picture: &Picture,
    without: Option<&Told>,
) -> BTreeMap<String, BTreeMap<(Bytes, Bytes), u8>> {
    let mut all = BTreeMap::new();
    for (name, permissions) in &picture.roles {
        let allowed: &mut BTreeMap<_, u8> = all.entry(name.clone()).or_default();
        let (mut kinds, is_root) = (permissions.iter(), name == "root");
        kinds
            .by_ref()
            .filter(|_| !is_root)
            .for_each(|(kind, key, end): &Permission| {
                let bits = match kind {
                    0 => 1,
                    1 => 2,
                    2 => 3,
                    _ => return,
                };
                let shown = |bytes: &Bytes| bytes.escape_ascii().to_string();
                let place = (name.clone(), shown(key), shown(end));
                if without.is_none_or(|told| !told.permissions.contains(&place)) {
                    *allowed.entry((key.clone(), end.clone())).or_default() |= bits;
                }
            });
    }
    all
}

fn each<K: Ord + Debug, V: Debug + PartialEq>(
    found: &mut Vec<String>,
    what: &str,
    primary: BTreeMap<K, V>,
    standby: BTreeMap<K, V>,
) {
    let all: BTreeSet<&K> = primary.keys().chain(standby.keys()).collect();
    for key in all {
        let (a, b) = (primary.get(key), standby.get(key));
        if a != b {
            found.push(format!("{what} {key:?}: primary {a:?}, standby {b:?}"));
        }
    }
}
