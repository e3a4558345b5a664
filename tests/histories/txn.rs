//! Random transactions.

use bytes::Bytes;
use etcd_syncer::pb::etcdpb::compare::TargetUnion;
use etcd_syncer::pb::etcdpb::request_op::Request as Inner;
use etcd_syncer::pb::etcdpb::{Compare, DeleteRangeRequest, RequestOp, TxnRequest};

use crate::generate::{Generator, KEYS};

const LEVELS: usize = 3;

/// What a transaction for the API may still touch: it refuses one that puts a key twice, or deletes
/// and puts it, and most of those that it lets through otherwise crash members.
struct Free {
    keys: Vec<&'static [u8]>,
    /// Its puts may keep values and leases; then it deletes nothing, so that no put can find its
    /// key gone, on which members crash.
    keeps: bool,
}

impl Generator {
    pub(crate) fn txn(&mut self) -> TxnRequest {
        if self.style.reputs && self.chance(12) {
            return self.reput();
        }
        if self.chance(25) {
            return self.short();
        }
        let mut keys = KEYS.to_vec();
        self.rng.shuffle(&mut keys);
        let keeps = self.chance(40);
        self.level(1, &mut Free { keys, keeps })
    }

    /// One request, alone or nested: whether it is let through depends on nothing else.
    fn short(&mut self) -> TxnRequest {
        let request = match self.rng.u32(0..10) {
            0..6 => Inner::RequestPut(self.put()),
            6..8 => Inner::RequestDeleteRange(self.delete()),
            _ if self.style.top_ranges => Inner::RequestRange(self.range()),
            _ => Inner::RequestDeleteRange(self.delete()),
        };
        let mut txn = TxnRequest {
            compare: vec![],
            success: vec![op(request)],
            failure: vec![],
        };
        if self.chance(30) {
            std::mem::swap(&mut txn.success, &mut txn.failure);
        }
        if self.chance(40) {
            txn = TxnRequest {
                compare: vec![],
                success: vec![op(Inner::RequestTxn(txn))],
                failure: vec![],
            };
        }
        txn
    }

    /// Deletes everything from a key on, and puts some of it again.
    fn reput(&mut self) -> TxnRequest {
        let delete = DeleteRangeRequest {
            key: self.key(),
            range_end: Bytes::from_static(&[0]),
            prev_kv: false,
        };
        let mut ops = vec![op(Inner::RequestDeleteRange(delete))];
        let mut keys = KEYS.to_vec();
        self.rng.shuffle(&mut keys);
        for key in keys.into_iter().take(2) {
            let mut put = self.put();
            put.key = Bytes::from_static(key);
            (put.ignore_value, put.ignore_lease) = (false, false);
            ops.push(op(Inner::RequestPut(put)));
        }
        if self.chance(20) {
            ops.rotate_left(1);
        }
        TxnRequest {
            compare: vec![],
            success: ops,
            failure: vec![],
        }
    }

    fn level(&mut self, level: usize, free: &mut Free) -> TxnRequest {
        let compare = (0..self.pick(&[0, 0, 1, 1, 2, 3]))
            .map(|_| self.compare())
            .collect();
        let success = self.ops(level, free);
        let failure = self.ops(level, free);
        TxnRequest {
            compare,
            success,
            failure,
        }
    }

    fn ops(&mut self, level: usize, free: &mut Free) -> Vec<RequestOp> {
        let count = self.pick(&[0, 1, 1, 2, 2, 3, 4]);
        let ops = (0..count).filter_map(|_| self.op(level, free));
        ops.map(op).collect()
    }

    fn op(&mut self, level: usize, free: &mut Free) -> Option<Inner> {
        let raw = self.style.is_raw;
        match self.rng.u32(0..100) {
            0..45 => {
                let mut put = self.put();
                if !raw {
                    put.key = Bytes::from_static(free.keys.pop()?);
                    if !free.keeps {
                        (put.ignore_value, put.ignore_lease) = (false, false);
                    }
                }
                Some(Inner::RequestPut(put))
            }
            45..65 => {
                let mut delete = self.delete();
                if !raw {
                    if free.keeps {
                        return None;
                    }
                    if !self.chance(20) {
                        delete.key = Bytes::from_static(free.keys.pop()?);
                        delete.range_end = Bytes::new();
                    }
                }
                Some(Inner::RequestDeleteRange(delete))
            }
            65..80 if level < LEVELS => Some(Inner::RequestTxn(self.level(level + 1, free))),
            _ if level > 1 || self.style.top_ranges => Some(Inner::RequestRange(self.range())),
            _ => None,
        }
    }

    fn compare(&mut self) -> Compare {
        let (key, mut range_end) = self.span();
        if self.chance(50) {
            range_end = Bytes::new();
        }
        let mut result = self.rng.i32(0..4);
        let target = self.pick(&[0, 1, 2, 3, 3, 4]);
        let operand = match target {
            0 => TargetUnion::Version(self.rng.i64(0..4)),
            1 => TargetUnion::CreateRevision(self.operand()),
            2 => TargetUnion::ModRevision(self.operand()),
            3 => TargetUnion::Value(self.value()),
            _ => TargetUnion::Lease(self.pick(&[0, 0, 1, 2, 3])),
        };
        let mut compare = Compare {
            result,
            target,
            key,
            target_union: Some(operand),
            range_end,
        };
        // An operand of another target or none, and what is not defined.
        match self.rng.u32(0..100) {
            0..3 => compare.target = self.rng.i32(0..5),
            3 => compare.target_union = None,
            4 => {
                compare.target = 9;
                result = self.rng.i32(0..4);
                compare.result = result;
            }
            5 => compare.result = 9,
            _ => {}
        }
        compare
    }

    fn operand(&mut self) -> i64 {
        if self.chance(30) {
            0
        } else {
            self.revision_near()
        }
    }
}

pub(crate) fn op(request: Inner) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}
