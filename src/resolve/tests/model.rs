//! A naive etcd: keeps whole values, executes every request on the spot, one after the other.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Kv {
    pub(super) value: Bytes,
    pub(super) created: i64,
    pub(super) modified: i64,
    pub(super) version: i64,
    pub(super) lease: i64,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Model {
    pub(super) keys: BTreeMap<Bytes, Kv>,
    pub(super) leases: BTreeMap<i64, i64>,
    pub(super) revision: i64,
    pub(super) compacted: i64,
    /// Revisions that deleted a key and put it again.
    pub(super) reputs: BTreeSet<i64>,
}

/// The members crash.
#[derive(Debug, PartialEq)]
pub(super) struct Crash;

impl Model {
    pub(super) fn new() -> Self {
        Self {
            keys: BTreeMap::new(),
            leases: BTreeMap::new(),
            revision: 1,
            compacted: -1,
            reputs: BTreeSet::new(),
        }
    }

    /// Applies an op as the proposer does, or as the others do.
    pub(super) fn apply(&mut self, op: &Op, proposes: bool) -> Result<(), Crash> {
        match op {
            Op::Put(put) => {
                let whole = txn(vec![], vec![super::op(put.clone())], vec![]);
                self.run(&whole, proposes)
            }
            Op::DeleteRange(delete) => {
                let whole = txn(vec![], vec![super::op(delete.clone())], vec![]);
                self.run(&whole, proposes)
            }
            Op::Txn(txn) => self.run(txn, proposes),
            Op::Compaction(c) => {
                if self.compacted < c.revision && c.revision <= self.revision {
                    self.compacted = c.revision;
                }
                Ok(())
            }
            Op::LeaseGrant(grant) => {
                if grant.id != 0 && grant.ttl <= 9_000_000_000 {
                    self.leases.entry(grant.id).or_insert(grant.ttl.max(2));
                }
                Ok(())
            }
            Op::LeaseRevoke(revoke) => {
                if self.leases.remove(&revoke.id).is_some() {
                    let before = self.keys.len();
                    self.keys.retain(|_, kv| kv.lease != revoke.id);
                    self.revision += i64::from(self.keys.len() < before);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn run(&mut self, txn: &TxnRequest, proposes: bool) -> Result<(), Crash> {
        let mut path = Vec::new();
        self.walk(txn, !proposes, &mut path);
        for request in &path {
            let refused = match request {
                Request::RequestPut(put) => {
                    let keeps = put.ignore_value || put.ignore_lease;
                    (put.lease != 0 && !self.leases.contains_key(&put.lease))
                        || (keeps && !self.keys.contains_key(&put.key))
                }
                Request::RequestRange(range) => {
                    range.revision != 0
                        && (range.revision > self.revision || range.revision < self.compacted)
                }
                _ => false,
            };
            if refused {
                return Ok(());
            }
        }
        let main = self.revision + 1;
        let mut changes = 0;
        let mut dead = BTreeSet::new();
        let mut reput = BTreeSet::new();
        for request in path {
            match request {
                Request::RequestPut(put) => {
                    changes += 1;
                    let old = self.keys.get(&put.key).cloned();
                    if (put.ignore_value || put.ignore_lease) && old.is_none() {
                        return Err(Crash);
                    }
                    if dead.contains(&put.key) {
                        reput.insert(put.key.clone());
                    }
                    let mut new = Kv {
                        value: put.value,
                        created: main,
                        modified: main,
                        version: 1,
                        lease: put.lease,
                    };
                    if let Some(old) = old {
                        new.created = old.created;
                        new.version = old.version + 1;
                        if put.ignore_value {
                            new.value = old.value;
                        }
                        if put.ignore_lease {
                            new.lease = old.lease;
                        }
                    }
                    self.keys.insert(put.key, new);
                }
                Request::RequestDeleteRange(delete) => {
                    for key in self.matching(&delete.key, &delete.range_end) {
                        changes += 1;
                        self.keys.remove(&key);
                        dead.insert(key);
                    }
                }
                _ => {}
            }
        }
        if changes > 0 {
            self.revision = main;
        }
        if reput.iter().any(|key| self.keys.contains_key(key)) {
            self.reputs.insert(main);
        }
        Ok(())
    }

    fn walk(&self, txn: &TxnRequest, strips: bool, path: &mut Vec<Request>) {
        let all = txn.compare.iter().all(|compare| self.holds(compare));
        let branch = if all { &txn.success } else { &txn.failure };
        for op in branch {
            match op.request.clone().unwrap() {
                Request::RequestTxn(inner) => self.walk(&inner, false, path),
                Request::RequestRange(_) if strips => {}
                other => path.push(other),
            }
        }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let keys = self.matching(&compare.key, &compare.range_end);
        if keys.is_empty() {
            let nothing = Kv {
                value: Bytes::new(),
                created: 0,
                modified: 0,
                version: 0,
                lease: 0,
            };
            return compare.target != 3 && holds_for(compare, &nothing);
        }
        keys.iter().all(|key| holds_for(compare, &self.keys[key]))
    }

    fn matching(&self, key: &Bytes, end: &Bytes) -> Vec<Bytes> {
        let is_in = |k: &&Bytes| match end.as_ref() {
            [] => *k == key,
            [0] => *k >= key,
            _ => *k >= key && *k < end,
        };
        self.keys.keys().filter(is_in).cloned().collect()
    }
}

fn holds_for(compare: &Compare, kv: &Kv) -> bool {
    let operand = compare.target_union.clone();
    let number = |of: i64, operand: Option<i64>| of.cmp(&operand.unwrap_or(0));
    let order = match (compare.target, operand) {
        (0, Some(TargetUnion::Version(n))) => number(kv.version, Some(n)),
        (0, _) => number(kv.version, None),
        (1, Some(TargetUnion::CreateRevision(n))) => number(kv.created, Some(n)),
        (1, _) => number(kv.created, None),
        (2, Some(TargetUnion::ModRevision(n))) => number(kv.modified, Some(n)),
        (2, _) => number(kv.modified, None),
        (3, Some(TargetUnion::Value(value))) => kv.value.cmp(&value),
        (3, _) => kv.value.as_ref().cmp(b""),
        (4, Some(TargetUnion::Lease(n))) => number(kv.lease, Some(n)),
        (4, _) => number(kv.lease, None),
        _ => std::cmp::Ordering::Equal,
    };
    match compare.result {
        0 => order.is_eq(),
        1 => order.is_gt(),
        2 => order.is_lt(),
        3 => order.is_ne(),
        _ => true,
    }
}
