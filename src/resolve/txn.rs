//! Which requests of a Txn run, and whether they are refused before the first of them does.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::compare::{self, Verdict};
use super::digest::Values;
use super::error::Problem;
use super::state::PrimaryState;
use super::write::{Write, Writer};
use crate::ids::LeaseId;
use crate::pb::etcdpb::request_op::Request;
use crate::pb::etcdpb::{DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest};
use crate::range::KeyRange;

/// Which member applies an entry. Up to 3.6 the members that did not propose a Txn drop the Ranges
/// at its top level before they check anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// The member that proposed the entry.
    Proposer,
    /// Every other one.
    Others,
}

/// One request that a Txn runs.
#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Put(&'a PutRequest),
    Delete(&'a DeleteRangeRequest),
    Range {
        request: &'a RangeRequest,
        is_nested: bool,
    },
}

/// What a Txn runs, in order, nested ones in their place.
pub(super) struct Plan<'a> {
    steps: Vec<Step<'a>>,
}

/// The plan of a Txn, or the keys whose values it depends on.
pub(super) enum Planned<'a> {
    Plan(Plan<'a>),
    Needs(BTreeSet<Bytes>),
}

/// Decides every compare of a Txn against the state before the entry, and so what runs.
///
/// # Errors
/// [`Problem::Poison`] for a request that is none, [`Problem::StandbyDiffers`] for a wrong value.
pub(super) fn plan<'a>(
    state: &PrimaryState,
    values: &Values,
    txn: &'a TxnRequest,
) -> Result<Planned<'a>, Problem> {
    refuse_unset(txn)?;
    let mut steps = Vec::new();
    let mut needed = BTreeSet::new();
    choose(state, values, txn, Level::Top, &mut steps, &mut needed)?;
    Ok(if needed.is_empty() {
        Planned::Plan(Plan { steps })
    } else {
        Planned::Needs(needed)
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Top,
    Nested,
}

fn choose<'a>(
    state: &PrimaryState,
    values: &Values,
    txn: &'a TxnRequest,
    level: Level,
    steps: &mut Vec<Step<'a>>,
    needed: &mut BTreeSet<Bytes>,
) -> Result<(), Problem> {
    let chosen = match compare::decide_all(state, values, &txn.compare)? {
        Verdict::Holds => &txn.success,
        Verdict::Fails => &txn.failure,
        Verdict::Needs(keys) => {
            needed.extend(keys);
            return Ok(());
        }
    };
    for op in chosen {
        match &op.request {
            Some(Request::RequestPut(put)) => steps.push(Step::Put(put)),
            Some(Request::RequestDeleteRange(delete)) => steps.push(Step::Delete(delete)),
            Some(Request::RequestRange(request)) => steps.push(Step::Range {
                request,
                is_nested: level == Level::Nested,
            }),
            Some(Request::RequestTxn(inner)) => {
                choose(state, values, inner, Level::Nested, steps, needed)?;
            }
            None => return Err(UNSET),
        }
    }
    Ok(())
}

/// Looks through both branches at every level, since members crash before they choose.
fn refuse_unset(txn: &TxnRequest) -> Result<(), Problem> {
    for op in txn.success.iter().chain(&txn.failure) {
        match &op.request {
            Some(Request::RequestTxn(inner)) => refuse_unset(inner)?,
            Some(
                Request::RequestPut(_) | Request::RequestDeleteRange(_) | Request::RequestRange(_),
            ) => {}
            None => return Err(UNSET),
        }
    }
    Ok(())
}

impl Plan<'_> {
    /// Why a member refuses the Txn as a whole; None if it runs.
    pub(super) fn refusal(&self, state: &PrimaryState, view: View) -> Option<&'static str> {
        self.steps.iter().find_map(|step| match step {
            Step::Put(put) => put_refusal(state, put),
            Step::Delete(_) => None,
            Step::Range {
                is_nested: false, ..
            } if view == View::Others => None,
            Step::Range { request, .. } => range_refusal(state, request),
        })
    }

    /// What the Txn writes when it is not refused; None if nothing.
    ///
    /// # Errors
    /// [`Problem::Poison`] if members crash on it.
    pub(super) fn run(&self, state: &PrimaryState) -> Result<Option<Write>, Problem> {
        let mut writer = Writer::new(state)?;
        for step in &self.steps {
            match step {
                Step::Put(put) => writer.put(put)?,
                Step::Delete(delete) => {
                    if let Some(range) = KeyRange::of_request(&delete.key, &delete.range_end) {
                        writer.delete(range);
                    }
                }
                Step::Range {
                    request,
                    is_nested: true,
                } if state.settings.rules.undefined_sort_crashes && is_unsortable(request) => {
                    return Err(UNSORTABLE);
                }
                Step::Range { .. } => {}
            }
        }
        Ok(writer.finish())
    }
}

/// Why a put is refused, judged by the state before the entry.
///
/// # Source
/// etcd `server/etcdserver/apply.go`, `checkRequestPut`; `server/etcdserver/txn/put.go` in 3.7.
pub(super) fn put_refusal(state: &PrimaryState, put: &PutRequest) -> Option<&'static str> {
    let lease = LeaseId(put.lease);
    if lease != LeaseId(0) && state.lease(lease).is_none() {
        return Some(NO_LEASE);
    }
    if (put.ignore_value || put.ignore_lease) && state.key(&put.key).is_none() {
        return Some(NO_KEY);
    }
    None
}

fn range_refusal(state: &PrimaryState, range: &RangeRequest) -> Option<&'static str> {
    if range.revision == 0 {
        return None;
    }
    if range.revision > state.position.revision.0 {
        return Some(FUTURE_REVISION);
    }
    (range.revision < state.position.compact_revision.0).then_some(COMPACTED_REVISION)
}

/// True for a Range that nothing can sort, with or without a sort order.
fn is_unsortable(range: &RangeRequest) -> bool {
    !(0..=SORT_TARGET_LAST).contains(&range.sort_target)
}

const SORT_TARGET_LAST: i32 = 4;

const UNSET: Problem = Problem::Poison("a txn holds a request that is not set");
const UNSORTABLE: Problem =
    Problem::Poison("a nested txn holds a range with an undefined sort target");

const NO_LEASE: &str = "lease not found";
const NO_KEY: &str = "key not found";
const FUTURE_REVISION: &str = "range at a future revision";
const COMPACTED_REVISION: &str = "range at a compacted revision";
