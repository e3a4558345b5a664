//! What an entry does, over all the ways in which members of the primary may take it.

use super::alarm::Layers;
use super::auth::User;
use super::backend;
use super::changes::{Cause, Disagreement};
use super::class::Class;
use super::digest::Values;
use super::effect::Decision;
use super::error::Problem;
use super::guard::Guard;
use super::state::PrimaryState;
use super::txn::View;
use crate::entry::Entry;
use crate::pb::etcdpb::request_op::Request;

/// What the majority of members does, and whether others may do something else.
#[derive(Debug)]
pub(super) struct Decided {
    pub(super) decision: Decision,
    pub(super) disagreement: Option<Disagreement>,
}

/// Decides an entry.
///
/// # Errors
/// What cannot be told, among it which of two ways the majority takes.
pub(super) fn decide(
    state: &PrimaryState,
    values: &Values,
    entry: &Entry,
) -> Result<Decided, Problem> {
    let views = views(state, Class::of(&entry.op));
    let candidates = state.alarms.candidates(&state.settings.rules);
    let (reference, others) = candidates.layers.split_first().ok_or(NO_LAYERS)?;
    let way = |view, layers, root| decide_one(state, values, entry, view, layers, root);
    let decision = way(views.reference, *reference, None)?;
    let mut disagreement = None;

    for layers in others {
        let other = way(views.reference, *layers, None)?;
        if needs_more(&decision, &other) {
            return Ok(needs(decision, other));
        }
        if !decision.agrees_with(&other) {
            if !candidates.is_decidable {
                return Err(LAYERS_UNKNOWN);
            }
            disagreement = Some(disagree(Cause::AlarmLayers, &decision, &other));
        }
    }
    if let Some(view) = views.other {
        let other = way(view, *reference, None)?;
        if needs_more(&decision, &other) {
            return Ok(needs(decision, other));
        }
        if !decision.agrees_with(&other) {
            if !views.is_decidable {
                return Err(VIEW_UNKNOWN);
            }
            disagreement = Some(disagree(Cause::TopLevelRange, &decision, &other));
        }
    }
    if let Some(root) = former_root(state, entry) {
        let other = way(views.reference, *reference, Some(root))?;
        if needs_more(&decision, &other) {
            return Ok(needs(decision, other));
        }
        if !decision.agrees_with(&other) {
            if root {
                return Err(RECORD_UNKNOWN);
            }
            disagreement = Some(disagree(Cause::FormerRecord, &decision, &other));
        }
    }
    Ok(Decided {
        decision,
        disagreement,
    })
}

/// What another record of the requester, which members may see, says about role root.
fn former_root(state: &PrimaryState, entry: &Entry) -> Option<bool> {
    let name = &entry.header.username;
    let is_seen = state.settings.rules.former_records_seen && state.former.may_be_seen(name);
    if !is_seen || !state.auth.is_enabled() {
        return None;
    }
    let user = state.auth.users().get(name);
    Some(!user.is_some_and(User::is_root))
}

fn decide_one(
    state: &PrimaryState,
    values: &Values,
    entry: &Entry,
    view: View,
    layers: Layers,
    root: Option<bool>,
) -> Result<Decision, Problem> {
    let request = Class::of(&entry.op);
    let guard = Guard {
        state,
        layers,
        view,
        root,
    };
    match guard.check(request, &entry.header)? {
        Ok(()) => backend::decide(state, values, request, view),
        Err(reason) => Ok(Decision::Nothing(reason)),
    }
}

/// Whose views of an entry count.
struct Views {
    reference: View,
    other: Option<View>,
    /// True if the reference is what most voters have.
    is_decidable: bool,
}

fn views(state: &PrimaryState, request: Class<'_>) -> Views {
    let is_stripped = state.settings.rules.others_drop_ranges && has_top_level_range(request);
    if !is_stripped {
        return Views {
            reference: View::Proposer,
            other: None,
            is_decidable: true,
        };
    }
    let (reference, other) = match state.settings.voters {
        1 => (View::Proposer, View::Others),
        _ => (View::Others, View::Proposer),
    };
    Views {
        reference,
        other: Some(other),
        // One voter is the proposer, of three or more most are not, of two neither is most.
        is_decidable: state.settings.voters == 1 || state.settings.voters > 2,
    }
}

fn has_top_level_range(request: Class<'_>) -> bool {
    let Class::Txn(txn) = request else {
        return false;
    };
    let mut ops = txn.success.iter().chain(&txn.failure);
    ops.any(|op| matches!(op.request, Some(Request::RequestRange(_))))
}

fn needs_more(one: &Decision, other: &Decision) -> bool {
    matches!(one, Decision::Needs(_)) || matches!(other, Decision::Needs(_))
}

fn needs(one: Decision, other: Decision) -> Decided {
    let keys = [one, other].into_iter().filter_map(|decision| {
        let Decision::Needs(keys) = decision else {
            return None;
        };
        Some(keys)
    });
    Decided {
        decision: Decision::Needs(keys.flatten().collect()),
        disagreement: None,
    }
}

fn disagree(cause: Cause, one: &Decision, other: &Decision) -> Disagreement {
    let mut keys = one.touched();
    keys.extend(other.touched());
    Disagreement { cause, keys }
}

const NO_LAYERS: Problem = Problem::Undecided("no layers of checks are known");
const LAYERS_UNKNOWN: Problem =
    Problem::MembersDisagree("alarms are raised (clear them first) and members may have started");
const RECORD_UNKNOWN: Problem =
    Problem::MembersDisagree("the requester lost role root, which etcd 3.5 may not notice at once");
const VIEW_UNKNOWN: Problem =
    Problem::MembersDisagree("a range in the txn is looked at by its proposer only");
