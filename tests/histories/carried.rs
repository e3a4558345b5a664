//! Whether a standby has what the primary has, but for what the program says that it could not
//! carry.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use etcd_syncer::checkpoint::{Checkpoint, Phase};
use etcd_syncer::entry::Committed;
use etcd_syncer::reserved;
use serde_json::Value;

use crate::judge::Judge;
use crate::leaks::OURS;
use crate::picture::{Permission, Picture, Secret, User};

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

/// One line for each key, lease, user or role that is not the same. Members up to 3.4 store hashes
/// of their own.
pub(crate) fn differences(
    primary: &Picture,
    standby: &Picture,
    told: &Told,
    own_hashes: bool,
) -> Vec<String> {
    let mut found = Vec::new();
    keys(&mut found, primary, &content(standby));
    let ids = |picture: &Picture| -> BTreeMap<i64, ()> {
        picture.leases.keys().map(|id| (*id, ())).collect()
    };
    each(&mut found, "lease", &ids(primary), &ids(standby));
    for (id, (ttl, _)) in &standby.leases {
        if *ttl < HOLD_MIN {
            found.push(format!("lease {id} ends after {ttl} s"));
        }
    }
    each(&mut found, "user", &users(primary), &users(standby));
    for (name, user) in primary.users.iter().filter(|(name, _)| *name != OURS) {
        let there = standby.users.get(name);
        let is_carried = !told.not_carried.contains_key(name);
        if let (true, Some(there)) = (is_carried, there) {
            found.extend(password(name, user, there, own_hashes));
        }
    }
    let ours = standby.users.get(OURS);
    if ours.is_none_or(|user| !user.roles.iter().any(|role| role == "root")) {
        found.push("our user is not root".to_owned());
    }
    let (a, b) = (roles(primary, Some(told)), roles(standby, None));
    each(&mut found, "role", &a, &b);
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

/// Lease and value of each key.
type Content = BTreeMap<Bytes, (i64, Bytes)>;

fn content(picture: &Picture) -> Content {
    let keys = picture.keys.iter().filter(|(key, _)| is_foreign(key));
    keys.map(|(key, kv)| (key.clone(), (kv.lease, kv.value.clone())))
        .collect()
}

fn is_foreign(key: &Bytes) -> bool {
    !key.starts_with(reserved::PREFIX.as_bytes())
}

fn keys(found: &mut Vec<String>, primary: &Picture, standby: &Content) {
    each(found, "key", &content(primary), standby);
}

/// Replays the standby's revisions, as far as it still has them: each holds what the primary had
/// at the entry that the checkpoint of that revision names. Also says how many were compared.
pub(crate) fn on_the_way(
    judge: &mut Judge,
    log: &[Committed],
    standby: &Picture,
) -> Result<(usize, Vec<String>)> {
    let key = reserved::checkpoint_key("test");
    let (mut there, mut compared) = (Content::new(), 0);
    for (revision, touched) in &standby.history {
        for (key, kv) in touched.iter().filter(|(key, _)| is_foreign(key)) {
            match kv {
                Some(kv) => there.insert(key.clone(), (kv.lease, kv.value.clone())),
                None => there.remove(key),
            };
        }
        let Some(Some(record)) = touched.get(&key) else {
            continue;
        };
        let checkpoint = Checkpoint::decode(&record.value)?;
        let is_whole = checkpoint.phase == Phase::Streaming && checkpoint.ending_lease.0 == 0;
        if *revision < standby.compact || !is_whole {
            continue;
        }
        let fed = usize::try_from(judge.state().position().index.0)?;
        let upto = usize::try_from(checkpoint.index.0)?;
        ensure!(upto <= log.len(), "the checkpoint is ahead of the log");
        if fed < upto && judge.feed_all(&log[fed..upto])?.is_some() {
            // What it did with that, a caller may know.
            break;
        }
        if judge.tally.disagreements.contains_key("FormerRecord") {
            break;
        }
        let ours = judge.picture()?;
        let mut found = Vec::new();
        keys(&mut found, &ours, &there);
        let revisions = (checkpoint.revision.0, checkpoint.compact_revision.0);
        if revisions != (ours.revision, ours.compact) {
            found.push(format!("the checkpoint has revisions {revisions:?}"));
        }
        if !found.is_empty() {
            let place = format!("revision {revision}, at entry {upto}");
            let lines = found.into_iter().map(|line| format!("{place}: {line}"));
            return Ok((compared, lines.collect()));
        }
        compared += 1;
    }
    Ok((compared, Vec::new()))
}

/// Roles, and whether a password can let the user in.
fn users(picture: &Picture) -> BTreeMap<String, (Vec<String>, bool)> {
    let users = picture.users.iter().filter(|(name, _)| *name != OURS);
    users
        .map(|(name, user)| (name.clone(), (user.roles.clone(), user.no_password)))
        .collect()
}

/// What is stored is the same, unless each member makes a hash of its own.
fn password(name: &str, primary: &User, standby: &User, own_hashes: bool) -> Option<String> {
    let (Secret::Exactly(a), Secret::Exactly(b)) = (&primary.password, &standby.password) else {
        return None;
    };
    let is_hash = |hash: &Bytes| hash.starts_with(b"$2");
    // Where nobody can log in, nobody can on the standby with what is stored there; 3.4 stores what
    // is set for a user without a password all the same.
    let is_nobodys = primary.no_password || (a.is_empty() && is_hash(b));
    let is_another = own_hashes && is_hash(a) && is_hash(b);
    (a != b && !is_nobodys && !is_another).then(|| format!("user {name}: another password"))
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
    primary: &BTreeMap<K, V>,
    standby: &BTreeMap<K, V>,
) {
    let all: BTreeSet<&K> = primary.keys().chain(standby.keys()).collect();
    for key in all {
        let (a, b) = (primary.get(key), standby.get(key));
        if a != b {
            found.push(format!("{what} {key:?}: primary {a:?}, standby {b:?}"));
        }
    }
}
