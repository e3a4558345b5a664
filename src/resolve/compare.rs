//! Whether a compare of a Txn holds, against the state before the entry.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use bytes::Bytes;

use super::digest::{Digest, Values};
use super::error::{Problem, ShownKey};
use super::state::{KeyMeta, PrimaryState};
use crate::pb::etcdpb::Compare;
use crate::pb::etcdpb::compare::TargetUnion;
use crate::range::KeyRange;

/// What is known of a compare, or of several together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It holds.
    Holds,
    /// It does not.
    Fails,
    /// That depends on the values of these keys.
    Needs(BTreeSet<Bytes>),
}

/// Decides all `compares` together; all must hold, none at all hold.
///
/// # Errors
/// [`Problem::StandbyDiffers`] if a fetched value is not the primary's.
///
/// # Source
/// etcd `server/etcdserver/apply.go`, `applyCompare` and `compareKV`, 3.4 to 3.7.
pub(super) fn decide_all(
    state: &PrimaryState,
    values: &Values,
    compares: &[Compare],
) -> Result<Verdict, Problem> {
    let mut needed = BTreeSet::new();
    for compare in compares {
        match decide(state, values, compare)? {
            Verdict::Holds => {}
            Verdict::Fails => return Ok(Verdict::Fails),
            Verdict::Needs(keys) => needed.extend(keys),
        }
    }
    Ok(if needed.is_empty() {
        Verdict::Holds
    } else {
        Verdict::Needs(needed)
    })
}

fn decide(state: &PrimaryState, values: &Values, compare: &Compare) -> Result<Verdict, Problem> {
    let target = Target::of(state, compare);
    let range = KeyRange::of_request(&compare.key, &compare.range_end);
    let mut found = range
        .iter()
        .flat_map(|range| state.keys_in(range))
        .peekable();
    if found.peek().is_none() {
        let holds = match target {
            Target::Value(_, _) => false,
            Target::Number(of, operand) => matches(compare.result, of(None).cmp(&operand)),
            Target::Unknown => matches(compare.result, Ordering::Equal),
        };
        return Ok(if holds {
            Verdict::Holds
        } else {
            Verdict::Fails
        });
    }
    let mut needed = BTreeSet::new();
    for (key, meta) in found {
        let holds = match target {
            Target::Value(_, digest) if digest == meta.digest => {
                matches(compare.result, Ordering::Equal)
            }
            // The values differ. Which is greater matters only to these two.
            Target::Value(operand, _) if [GREATER, LESS].contains(&compare.result) => {
                match fetched(state, values, key, meta)? {
                    Some(value) => matches(compare.result, value.as_ref().cmp(operand)),
                    None => {
                        needed.insert(Bytes::copy_from_slice(key));
                        true
                    }
                }
            }
            Target::Value(_, _) => matches(compare.result, Ordering::Greater),
            Target::Number(of, operand) => matches(compare.result, of(Some(meta)).cmp(&operand)),
            Target::Unknown => matches(compare.result, Ordering::Equal),
        };
        if !holds {
            return Ok(Verdict::Fails);
        }
    }
    Ok(if needed.is_empty() {
        Verdict::Holds
    } else {
        Verdict::Needs(needed)
    })
}

/// The key's value, if it was fetched.
fn fetched<'v>(
    state: &PrimaryState,
    values: &'v Values,
    key: &[u8],
    meta: &KeyMeta,
) -> Result<Option<&'v Bytes>, Problem> {
    match values.of(key) {
        None => Ok(None),
        Some(Some(value)) if state.digest_key().digest(value) == meta.digest => Ok(Some(value)),
        Some(_) => Err(Problem::StandbyDiffers {
            key: ShownKey(Bytes::copy_from_slice(key)),
        }),
    }
}

/// What a compare looks at, with its operand; an operand of another target counts as none, which is
/// zero or no bytes.
#[derive(Clone, Copy)]
enum Target<'a> {
    Number(fn(Option<&KeyMeta>) -> i64, i64),
    Value(&'a [u8], Digest),
    Unknown,
}

impl<'a> Target<'a> {
    fn of(state: &PrimaryState, compare: &'a Compare) -> Self {
        let value = |value: &'a [u8]| Self::Value(value, state.digest_key().digest(value));
        let operand = compare.target_union.as_ref();
        match (compare.target, operand) {
            (0, Some(TargetUnion::Version(n))) => Self::Number(version, *n),
            (0, _) => Self::Number(version, 0),
            (1, Some(TargetUnion::CreateRevision(n))) => Self::Number(created, *n),
            (1, _) => Self::Number(created, 0),
            (2, Some(TargetUnion::ModRevision(n))) => Self::Number(modified, *n),
            (2, _) => Self::Number(modified, 0),
            (3, Some(TargetUnion::Value(operand))) => value(operand),
            (3, _) => value(&[]),
            (4, Some(TargetUnion::Lease(n))) => Self::Number(lease, *n),
            (4, _) => Self::Number(lease, 0),
            (_, _) => Self::Unknown,
        }
    }
}

// What each target reads; all zero of a key that does not exist.

fn version(meta: Option<&KeyMeta>) -> i64 {
    meta.map_or(0, |meta| meta.version)
}

fn created(meta: Option<&KeyMeta>) -> i64 {
    meta.map_or(0, |meta| meta.created.0)
}

fn modified(meta: Option<&KeyMeta>) -> i64 {
    meta.map_or(0, |meta| meta.modified.0)
}

fn lease(meta: Option<&KeyMeta>) -> i64 {
    meta.map_or(0, |meta| meta.lease.0)
}

/// Whether `operator` is satisfied by `order`; an unknown operator always is.
fn matches(operator: i32, order: Ordering) -> bool {
    match operator {
        EQUAL => order.is_eq(),
        GREATER => order.is_gt(),
        LESS => order.is_lt(),
        NOT_EQUAL => order.is_ne(),
        _ => true,
    }
}

const EQUAL: i32 = 0;
const GREATER: i32 = 1;
const LESS: i32 = 2;
const NOT_EQUAL: i32 = 3;
