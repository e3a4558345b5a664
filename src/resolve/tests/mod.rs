//! The resolver against single rules, against a naive model on random histories, and against the
//! same model on every short history.

mod alarms;
mod auth;
mod exhaustive;
mod fixture;
mod full;
mod full_model;
mod harness;
mod model;
mod random;
mod rules;

use bytes::Bytes;

use super::*;
use crate::entry::{Header, Op};
use crate::ids::{RaftIndex, Term};
use crate::pb::etcdpb;
use crate::pb::etcdpb::compare::TargetUnion;
use crate::pb::etcdpb::request_op::Request;
use crate::pb::etcdpb::{
    CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest,
    PutRequest, RangeRequest, RequestOp, TxnRequest,
};

/// A range end that is no end.
const ALL: &[u8] = &[0];

fn settings() -> Settings {
    Settings {
        digest_key: DigestKey::new(&[7; 32]),
        lease_ttl_min: 2,
        rules: rules_of("3.5.33"),
        voters: 3,
    }
}

fn rules_of(version: &str) -> Rules {
    Rules::of(Version::parse(version).expect("is a version")).expect("is known")
}

fn entry(index: u64, op: Op) -> Entry {
    Entry {
        index: RaftIndex(index),
        term: Term(1),
        header: Header::default(),
        op,
    }
}

fn put(key: &'static str, value: &'static str) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: value.into(),
        ..PutRequest::default()
    }
}

fn put_leased(key: &'static str, value: &'static str, lease: i64) -> PutRequest {
    PutRequest {
        lease,
        ..put(key, value)
    }
}

fn put_value_kept(key: &'static str, lease: i64) -> PutRequest {
    PutRequest {
        ignore_value: true,
        ..put_leased(key, "", lease)
    }
}

fn put_lease_kept(key: &'static str, value: &'static str) -> PutRequest {
    PutRequest {
        ignore_lease: true,
        ..put(key, value)
    }
}

fn delete(key: &'static str, end: impl Into<Bytes>) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: key.into(),
        range_end: end.into(),
        prev_kv: false,
    }
}

fn range_at(revision: i64) -> RangeRequest {
    RangeRequest {
        key: "a".into(),
        revision,
        ..RangeRequest::default()
    }
}

fn grant(id: i64, ttl: i64) -> Op {
    Op::LeaseGrant(LeaseGrantRequest { ttl, id })
}

fn revoke(id: i64) -> Op {
    Op::LeaseRevoke(LeaseRevokeRequest { id })
}

fn compact(revision: i64) -> Op {
    Op::Compaction(CompactionRequest {
        revision,
        physical: false,
    })
}

fn compare(result: i32, target: i32, key: &'static str, operand: TargetUnion) -> Compare {
    Compare {
        result,
        target,
        key: key.into(),
        target_union: Some(operand),
        range_end: Bytes::new(),
    }
}

fn op(request: impl Into<Request>) -> RequestOp {
    RequestOp {
        request: Some(request.into()),
    }
}

fn txn(compare: Vec<Compare>, success: Vec<RequestOp>, failure: Vec<RequestOp>) -> TxnRequest {
    TxnRequest {
        compare,
        success,
        failure,
    }
}

impl From<PutRequest> for Request {
    fn from(put: PutRequest) -> Self {
        Self::RequestPut(put)
    }
}

impl From<DeleteRangeRequest> for Request {
    fn from(delete: DeleteRangeRequest) -> Self {
        Self::RequestDeleteRange(delete)
    }
}

impl From<RangeRequest> for Request {
    fn from(range: RangeRequest) -> Self {
        Self::RequestRange(range)
    }
}

impl From<TxnRequest> for Request {
    fn from(txn: TxnRequest) -> Self {
        Self::RequestTxn(txn)
    }
}
