//! Whether two pictures are of the same primary.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use bytes::Bytes;

use crate::judge::Judge;
use crate::picture::{Kv, Permission, Picture, Secret};

/// What is different, at most so many lines of it; none if nothing is.
const SHOWN_MAX: usize = 25;

/// Compares what was resolved with what a member has in its database.
pub(crate) fn differences(judge: &Judge, theirs: &Picture) -> anyhow::Result<Vec<String>> {
    let ours = judge.picture()?;
    let mut found = Vec::new();
    for line in history(&ours, theirs) {
        found.push(match line.0 {
            Some(revision) => {
                let entry = judge.made_by.get(&revision);
                format!("revision {revision}, by entry {entry:?}: {}", line.1)
            }
            None => line.1,
        });
    }
    one(&mut found, "revision", &ours.revision, &theirs.revision);
    one(
        &mut found,
        "compact revision",
        &ours.compact,
        &theirs.compact,
    );
    one(&mut found, "auth enabled", &ours.enabled, &theirs.enabled);
    one(
        &mut found,
        "auth revision",
        &ours.auth_revision,
        &theirs.auth_revision,
    );
    one(&mut found, "alarms", &ours.alarms, &theirs.alarms);
    each(&mut found, "key", &ours.keys, &theirs.keys, PartialEq::eq);
    let same_lease = |a: &(i64, i64), b: &(i64, i64)| {
        a.0 == b.0 && (a.1 == b.1 || (!judge.stores_remaining && b.1 == 0))
    };
    each(
        &mut found,
        "lease",
        &ours.leases,
        &theirs.leases,
        same_lease,
    );
    each(
        &mut found,
        "keys of lease",
        &ours.attached,
        &theirs.attached,
        PartialEq::eq,
    );
    each(&mut found, "user", &ours.users, &theirs.users, |a, b| {
        let same_password = match (&a.password, &b.password) {
            (Secret::SomeHash, Secret::Exactly(stored)) => stored.starts_with(b"$2"),
            (one, other) => one == other,
        };
        same_password && (&a.roles, a.no_password) == (&b.roles, b.no_password)
    });
    roles(&mut found, &ours, theirs);
    let more = found.len().saturating_sub(SHOWN_MAX);
    found.truncate(SHOWN_MAX);
    if more > 0 {
        found.push(format!("and {more} more"));
    }
    Ok(found)
}

/// Compares the revisions that were resolved before a halt.
pub(crate) fn prefix(judge: &Judge, theirs: &Picture) -> anyhow::Result<Vec<String>> {
    let ours = judge.picture()?;
    let upto = |line: &(Option<i64>, String)| line.0.is_none_or(|r| r <= ours.revision);
    let lines = history(&ours, theirs).into_iter().filter(upto);
    let lines = lines.map(|(revision, text)| {
        let entry = revision.and_then(|revision| judge.made_by.get(&revision));
        format!("before a halt: revision {revision:?}, by entry {entry:?}: {text}")
    });
    Ok(lines.take(SHOWN_MAX).collect())
}

fn one<T: PartialEq + Debug>(found: &mut Vec<String>, what: &str, ours: &T, theirs: &T) {
    if ours != theirs {
        found.push(format!("{what}: ours {ours:?}, theirs {theirs:?}"));
    }
}

fn each<K: Ord + Debug, V: Debug>(
    found: &mut Vec<String>,
    what: &str,
    ours: &BTreeMap<K, V>,
    theirs: &BTreeMap<K, V>,
    same: impl Fn(&V, &V) -> bool,
) {
    let all: BTreeSet<&K> = ours.keys().chain(theirs.keys()).collect();
    for key in all {
        let (a, b) = (ours.get(key), theirs.get(key));
        if !matches!((a, b), (Some(a), Some(b)) if same(a, b)) {
            found.push(format!("{what} {key:?}: ours {a:?}, theirs {b:?}"));
        }
    }
}

/// In the stored order, but for keys whose order is not known.
fn roles(found: &mut Vec<String>, ours: &Picture, theirs: &Picture) {
    let all: BTreeSet<&String> = ours.roles.keys().chain(theirs.roles.keys()).collect();
    for name in all {
        let sorted = |role: Option<&Vec<Permission>>| {
            let mut role = role?.clone();
            let rank = |(kind, key, end): &Permission| {
                let is_unordered = ours.unordered.contains(&(name.clone(), key.clone()));
                (key.clone(), is_unordered.then(|| (end.clone(), *kind)))
            };
            role.sort_by_key(rank);
            Some(role)
        };
        let (a, b) = (ours.roles.get(name), theirs.roles.get(name));
        if sorted(a) != sorted(b) {
            found.push(format!("role {name}: ours {a:?}, theirs {b:?}"));
        }
    }
}

/// Every revision that is still in the database.
fn history(ours: &Picture, theirs: &Picture) -> Vec<(Option<i64>, String)> {
    let mut found = Vec::new();
    let all: BTreeSet<i64> = ours
        .history
        .keys()
        .chain(theirs.history.keys())
        .copied()
        .collect();
    for revision in all
        .into_iter()
        .filter(|revision| *revision > theirs.compact)
    {
        let empty = BTreeMap::new();
        let a = ours.history.get(&revision);
        let b = theirs.history.get(&revision);
        if a.is_none() != b.is_none() {
            let whose = if a.is_none() { "theirs" } else { "ours" };
            let touched: Vec<&Bytes> = a.or(b).into_iter().flat_map(BTreeMap::keys).collect();
            let text = format!("only {whose} has it, touching {touched:?}");
            found.push((Some(revision), text));
            continue;
        }
        let (a, b) = (a.unwrap_or(&empty), b.unwrap_or(&empty));
        let keys: BTreeSet<&Bytes> = a.keys().chain(b.keys()).collect();
        for key in keys {
            let same = match (a.get(key), b.get(key)) {
                (Some(a), Some(b)) => a == b,
                // It was put and deleted again within the entry.
                (None, Some(None)) => !was_live(&ours.history, key, revision),
                _ => false,
            };
            if !same {
                let text = format!("{key:?}: ours {:?}, theirs {:?}", a.get(key), b.get(key));
                found.push((Some(revision), text));
            }
        }
    }
    found
}

fn was_live(
    history: &BTreeMap<i64, BTreeMap<Bytes, Option<Kv>>>,
    key: &Bytes,
    before: i64,
) -> bool {
    let mut earlier = history.range(..before).rev();
    let last = earlier.find_map(|(_, touched)| touched.get(key));
    last.is_some_and(Option::is_some)
}
