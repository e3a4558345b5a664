//! The order of a role's permissions, which decides what a later grant replaces.
//!
//! The primary appends and then sorts by key with Go's unstable sort. For permissions of one key
//! the outcome depends on the Go release that etcd was built with. Up to twelve there are two
//! possibilities, beyond that it is not predicted; where they differ the key is marked.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::state::{Permission, Role};
use crate::resolve::error::Problem;

/// Grants a permission to a role.
///
/// # Errors
/// [`Problem::Undecided`] if it replaces a permission or not depending on an unknown order.
///
/// # Source
/// etcd `server/auth/store.go`, `RoleGrantPermission`.
pub(super) fn grant(role: &mut Role, new: Permission) -> Result<(), Problem> {
    let same_range = |old: &Permission| old.range_end == new.range_end;
    let first = role.permissions.partition_point(|old| old.key < new.key);
    let behind = role.permissions.partition_point(|old| old.key <= new.key);
    let of_key = role.permissions.get(first..behind).unwrap_or_default();
    if role.unordered.contains(&new.key) && of_key.iter().any(same_range) {
        return Err(Problem::Undecided(
            "the role holds several permissions of this key in an unknown order",
        ));
    }
    if of_key.first().is_some_and(same_range) {
        if let Some(old) = role.permissions.get_mut(first) {
            old.kind = new.kind;
        }
        return Ok(());
    }
    role.permissions.push(new);
    let marked = sort(&mut role.permissions);
    role.unordered.extend(marked);
    Ok(())
}

/// Takes every permission for exactly this range from a role; false if there is none.
pub(super) fn revoke(role: &mut Role, key: &Bytes, range_end: &Bytes) -> bool {
    let before = role.permissions.len();
    role.permissions
        .retain(|old| old.key != *key || old.range_end != *range_end);
    let left = role.permissions.iter().filter(|old| old.key == *key);
    if left.count() < 2 {
        role.unordered.remove(key);
    }
    role.permissions.len() < before
}

/// Sorts by key and says for which keys the order is not certain.
fn sort(permissions: &mut [Permission]) -> BTreeSet<Bytes> {
    let appended = permissions.to_vec();
    permissions.sort_by(|a, b| a.key.cmp(&b.key));
    if permissions.len() > PREDICTED_MAX {
        return permissions
            .windows(2)
            .filter_map(|pair| match pair {
                [a, b] if a.key == b.key && a != b => Some(a.key.clone()),
                _ => None,
            })
            .collect();
    }
    let mut shelled = appended;
    shell_pass(&mut shelled);
    shelled.sort_by(|a, b| a.key.cmp(&b.key));
    permissions
        .iter()
        .zip(&shelled)
        .filter(|(one, other)| one != other)
        .map(|(one, _)| one.key.clone())
        .collect()
}

/// What Go before 1.19 does to a short list before it inserts.
fn shell_pass(permissions: &mut [Permission]) {
    for i in SHELL_GAP..permissions.len() {
        let out_of_order = match (permissions.get(i - SHELL_GAP), permissions.get(i)) {
            (Some(before), Some(this)) => this.key < before.key,
            (None, _) | (_, None) => false,
        };
        if out_of_order {
            permissions.swap(i - SHELL_GAP, i);
        }
    }
}

const SHELL_GAP: usize = 6;
const PREDICTED_MAX: usize = 12;
