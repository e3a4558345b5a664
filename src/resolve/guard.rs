//! The layers of checks between an entry and the keyspace: auth, alarms.
//!
//! # Source
//! etcd `server/etcdserver/apply_auth.go`, `apply.go`, `corrupt.go`, `quota.go`, 3.4 to 3.7.

use bytes::Bytes;

use super::alarm::Layers;
use super::auth::{Access, Refusal, Right};
use super::class::Class;
use super::error::Problem;
use super::state::PrimaryState;
use super::txn::View;
use crate::entry::Header;
use crate::ids::LeaseId;
use crate::pb::etcdpb::request_op::Request;
use crate::pb::etcdpb::{DeleteRangeRequest, PutRequest, RequestOp, TxnRequest};

/// What a check says; the outer error is that it cannot tell.
type Checked = Result<Result<(), Refusal>, Problem>;

/// Ends a check with its refusal, if it is one.
macro_rules! pass {
    ($checked:expr) => {
        if let Err(refusal) = $checked {
            return Ok(Err(refusal));
        }
    };
}

/// One way through the layers.
pub(super) struct Guard<'a> {
    /// The state before the entry.
    pub(super) state: &'a PrimaryState,
    /// The layers that are in place.
    pub(super) layers: Layers,
    /// Which member applies the entry.
    pub(super) view: View,
    /// What the requester's record says about role root, if members see an older one.
    pub(super) root: Option<bool>,
}

impl Guard<'_> {
    /// Whether a request with these credentials gets through to the keyspace or the auth store.
    ///
    /// # Errors
    /// That this cannot be told.
    pub(super) fn check(&self, request: Class<'_>, header: &Header) -> Checked {
        let access = Access {
            auth: &self.state.auth,
            rules: &self.state.settings.rules,
            header,
            root: self.root,
        };
        if self.layers.auth && matches!(request, Class::Admin(_)) {
            pass!(access.admin());
        }
        if self.layers.corrupt && is_stopped_when_corrupt(request) {
            return Ok(Err("corrupt alarm"));
        }
        if self.layers.capped && self.takes_space(request) {
            return Ok(Err("no space alarm"));
        }
        if self.layers.auth {
            return self.permit(access, request);
        }
        Ok(Ok(()))
    }

    fn takes_space(&self, request: Class<'_>) -> bool {
        match request {
            Class::Put(_) | Class::LeaseGrant(_) => true,
            Class::Txn(txn) => self.has_put(txn),
            Class::DeleteRange(_)
            | Class::Compaction(_)
            | Class::LeaseRevoke(_)
            | Class::LeaseCheckpoint(_)
            | Class::Alarm(_)
            | Class::Admin(_)
            | Class::Range
            | Class::MemberStarted
            | Class::Nothing(_) => false,
        }
    }

    /// True if the Txn has a put in either branch, which always costs something.
    fn has_put(&self, txn: &TxnRequest) -> bool {
        let nested_cost = self.state.settings.rules.nested_puts_cost;
        let mut ops = txn.success.iter().chain(&txn.failure);
        ops.any(|op| match &op.request {
            Some(Request::RequestPut(_)) => true,
            Some(Request::RequestTxn(inner)) => nested_cost && self.has_put(inner),
            Some(Request::RequestRange(_) | Request::RequestDeleteRange(_)) | None => false,
        })
    }

    fn permit(&self, access: Access<'_>, request: Class<'_>) -> Checked {
        match request {
            Class::Put(put) => self.permit_put(access, put),
            Class::DeleteRange(delete) => permit_delete(access, delete),
            Class::Txn(txn) => self.permit_txn(access, txn, self.view),
            Class::LeaseRevoke(revoke) => self.permit_lease(access, LeaseId(revoke.id)),
            // A Range does nothing either way; those of admins were checked before.
            Class::Range
            | Class::Admin(_)
            | Class::Compaction(_)
            | Class::LeaseGrant(_)
            | Class::LeaseCheckpoint(_)
            | Class::Alarm(_)
            | Class::MemberStarted
            | Class::Nothing(_) => Ok(Ok(())),
        }
    }

    fn permit_put(&self, access: Access<'_>, put: &PutRequest) -> Checked {
        pass!(access.keys(&put.key, &NO_END, Right::Write)?);
        pass!(self.permit_lease(access, LeaseId(put.lease))?);
        if put.prev_kv {
            pass!(access.keys(&put.key, &NO_END, Right::Read)?);
        }
        Ok(Ok(()))
    }

    /// Whoever attaches a key to a lease, or revokes it, must be able to write all its keys.
    fn permit_lease(&self, access: Access<'_>, lease: LeaseId) -> Checked {
        let Some(lease) = self.state.lease(lease) else {
            return Ok(Ok(()));
        };
        if access.rules.admin_skips_lease_keys && access.admin().is_ok() {
            return Ok(Ok(()));
        }
        for key in lease.keys() {
            pass!(access.keys(&Bytes::copy_from_slice(key), &NO_END, Right::Write)?);
        }
        Ok(Ok(()))
    }

    /// Looks at both branches, whichever will run.
    fn permit_txn(&self, access: Access<'_>, txn: &TxnRequest, view: View) -> Checked {
        for compare in &txn.compare {
            pass!(access.keys(&compare.key, &compare.range_end, Right::Read)?);
        }
        for op in txn.success.iter().chain(&txn.failure) {
            pass!(self.permit_op(access, op, view)?);
        }
        Ok(Ok(()))
    }

    fn permit_op(&self, access: Access<'_>, op: &RequestOp, view: View) -> Checked {
        match &op.request {
            Some(Request::RequestRange(range)) if view == View::Proposer => {
                access.keys(&range.key, &range.range_end, Right::Read)
            }
            Some(Request::RequestRange(_)) => Ok(Ok(())),
            Some(Request::RequestPut(put)) if access.rules.txn_puts_checked_fully => {
                self.permit_put(access, put)
            }
            Some(Request::RequestPut(put)) => access.keys(&put.key, &NO_END, Right::Write),
            Some(Request::RequestDeleteRange(delete)) => permit_delete(access, delete),
            // Below the top level no member drops a Range.
            Some(Request::RequestTxn(inner)) if access.rules.nested_ops_checked => {
                self.permit_txn(access, inner, View::Proposer)
            }
            Some(Request::RequestTxn(_)) | None => Ok(Ok(())),
        }
    }
}

fn permit_delete(access: Access<'_>, delete: &DeleteRangeRequest) -> Checked {
    pass!(access.keys(&delete.key, &delete.range_end, Right::Write)?);
    if delete.prev_kv {
        pass!(access.keys(&delete.key, &delete.range_end, Right::Read)?);
    }
    Ok(Ok(()))
}

fn is_stopped_when_corrupt(request: Class<'_>) -> bool {
    match request {
        Class::Range
        | Class::Put(_)
        | Class::DeleteRange(_)
        | Class::Txn(_)
        | Class::Compaction(_)
        | Class::LeaseGrant(_)
        | Class::LeaseRevoke(_) => true,
        Class::LeaseCheckpoint(_)
        | Class::Alarm(_)
        | Class::Admin(_)
        | Class::MemberStarted
        | Class::Nothing(_) => false,
    }
}

const NO_END: Bytes = Bytes::new();
