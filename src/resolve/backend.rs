//! What each kind of entry does once it has passed all layers, without changing anything yet.

use super::class::{Class, READ_ONLY};
use super::digest::Values;
use super::effect::{Decision, Effect};
use super::error::{Problem, ShownKey};
use super::state::PrimaryState;
use super::txn::{self, Planned, View};
use super::write::{Write, Writer};
use super::{auth, lease};
use crate::ids::{LeaseId, Revision};
use crate::pb::etcdpb;
use crate::range::KeyRange;

/// Decides what a request does to `state`, as a member of this view applies it.
pub(super) fn decide(
    state: &PrimaryState,
    values: &Values,
    request: Class<'_>,
    view: View,
) -> Result<Decision, Problem> {
    let rules = &state.settings.rules;
    match request {
        Class::Put(put) => decide_put(state, put),
        Class::DeleteRange(delete) => decide_delete(state, delete),
        Class::Txn(txn) => decide_txn(state, values, txn, view),
        Class::Compaction(compaction) => decide_compaction(state, compaction),
        Class::LeaseGrant(grant) => Ok(decide_grant(state, grant)),
        Class::LeaseRevoke(revoke) => decide_revoke(state, revoke),
        Class::LeaseCheckpoint(checkpoint) => {
            let left = checkpoint.checkpoints.iter();
            let left = left.map(|one| (LeaseId(one.id), one.remaining_ttl));
            Ok(Decision::Effect(Effect::Remaining(left.collect())))
        }
        Class::Alarm(alarm) => Ok(match state.alarms.decide(rules, alarm)? {
            Ok(change) => Decision::Effect(Effect::Alarm(change)),
            Err(reason) => Decision::Nothing(reason),
        }),
        Class::Admin(admin) => Ok(match auth::decide(&state.auth, rules, admin)? {
            Ok(update) => Decision::Effect(Effect::Auth(update)),
            Err(reason) => Decision::Nothing(reason),
        }),
        Class::MemberStarted => Ok(Decision::Effect(Effect::MemberStarted)),
        Class::Range => Ok(Decision::Nothing(READ_ONLY)),
        Class::Nothing(reason) => Ok(Decision::Nothing(reason)),
    }
}

fn decide_grant(state: &PrimaryState, grant: &etcdpb::LeaseGrantRequest) -> Decision {
    match lease::grant_refusal(state, grant) {
        Some(reason) => Decision::Nothing(reason),
        None => {
            let ttl = lease::granted_ttl(state, grant);
            Decision::Effect(Effect::Grant(LeaseId(grant.id), ttl))
        }
    }
}

fn decide_revoke(
    state: &PrimaryState,
    revoke: &etcdpb::LeaseRevokeRequest,
) -> Result<Decision, Problem> {
    if let Some(reason) = lease::revoke_refusal(state, revoke) {
        return Ok(Decision::Nothing(reason));
    }
    let id = LeaseId(revoke.id);
    let deletes = lease::deletes(state, id)?;
    Ok(Decision::Effect(Effect::Revoke(id, deletes)))
}

fn decide_put(state: &PrimaryState, put: &etcdpb::PutRequest) -> Result<Decision, Problem> {
    if let Some(reason) = txn::put_refusal(state, put) {
        return Ok(Decision::Nothing(reason));
    }
    let mut writer = Writer::new(state)?;
    writer.put(put)?;
    Ok(written(writer.finish()))
}

fn decide_delete(
    state: &PrimaryState,
    delete: &etcdpb::DeleteRangeRequest,
) -> Result<Decision, Problem> {
    let mut writer = Writer::new(state)?;
    if let Some(range) = KeyRange::of_request(&delete.key, &delete.range_end) {
        writer.delete(range);
    }
    Ok(written(writer.finish()))
}

fn decide_txn(
    state: &PrimaryState,
    values: &Values,
    txn: &etcdpb::TxnRequest,
    view: View,
) -> Result<Decision, Problem> {
    let plan = match txn::plan(state, values, txn)? {
        Planned::Plan(plan) => plan,
        Planned::Needs(keys) => return Ok(Decision::Needs(keys)),
    };
    match plan.refusal(state, view) {
        Some(reason) => Ok(Decision::Nothing(reason)),
        None => Ok(written(plan.run(state)?)),
    }
}

fn written(write: Option<Write>) -> Decision {
    write.map_or(NOTHING_WRITTEN, |write| {
        Decision::Effect(Effect::Write(write))
    })
}

fn decide_compaction(
    state: &PrimaryState,
    compaction: &etcdpb::CompactionRequest,
) -> Result<Decision, Problem> {
    let revision = Revision(compaction.revision);
    if revision <= state.position.compact_revision {
        return Ok(Decision::Nothing("compacted already"));
    }
    if revision > state.position.revision {
        return Ok(Decision::Nothing("compaction at a future revision"));
    }
    let lost = state.reput_at(revision);
    match lost.filter(|_| state.settings.rules.compaction_loses_reputs) {
        None => Ok(Decision::Effect(Effect::Compact(revision))),
        Some((keys, first)) => Err(Problem::CompactionLosesKeys {
            revision,
            keys,
            first: ShownKey(first),
        }),
    }
}

const NOTHING_WRITTEN: Decision = Decision::Nothing("no key changes");
