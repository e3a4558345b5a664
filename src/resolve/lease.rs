//! What lease requests do.

use super::error::Problem;
use super::state::PrimaryState;
use super::write::{Write, Writer};
use crate::ids::LeaseId;
use crate::pb::etcdpb::{LeaseGrantRequest, LeaseRevokeRequest};
use crate::range::KeyRange;

/// Why a grant is refused.
///
/// # Source
/// etcd `server/lease/lessor.go`, `Grant`.
pub(super) fn grant_refusal(
    state: &PrimaryState,
    request: &LeaseGrantRequest,
) -> Option<&'static str> {
    if request.id == 0 {
        return Some("lease id 0");
    }
    if request.ttl > TTL_MAX {
        return Some("lease ttl too large");
    }
    state
        .lease(LeaseId(request.id))
        .map(|_| "lease exists already")
}

/// The TTL that a granted lease gets.
pub(super) fn granted_ttl(state: &PrimaryState, request: &LeaseGrantRequest) -> i64 {
    request.ttl.max(state.settings.lease_ttl_min)
}

/// Why a revoke is refused.
pub(super) fn revoke_refusal(
    state: &PrimaryState,
    request: &LeaseRevokeRequest,
) -> Option<&'static str> {
    match state.lease(LeaseId(request.id)) {
        Some(_) => None,
        None => Some("lease not found"),
    }
}

/// The deletes of the keys attached to a lease; None if there are none.
pub(super) fn deletes(state: &PrimaryState, id: LeaseId) -> Result<Option<Write>, Problem> {
    let mut writer = Writer::new(state)?;
    for key in state.lease(id).iter().flat_map(|lease| lease.keys()) {
        writer.delete(KeyRange::single(&bytes::Bytes::copy_from_slice(key)));
    }
    Ok(writer.finish())
}

const TTL_MAX: i64 = 9_000_000_000;
