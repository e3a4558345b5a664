//! Which transactions a client asks for.

use etcd_client::CompareOp;

use super::generate::{GROUPS, OpStream};
use super::op::{At, Condition, Operand, Put, Read, Span, Step, TxnPlan};

const LEVELS: usize = 4;

/// The keys that a transaction may still write. etcd refuses one that puts a key twice, or deletes
/// it and puts it, on the same path.
#[derive(Clone)]
struct Writable {
    /// No put was planned for these, nor a delete.
    free: Vec<usize>,
    /// A group of keys for deletes of many, which no put touches.
    deletable: usize,
}

impl OpStream {
    /// A transaction of up to four levels that is legal on the whole; a few put a key twice.
    pub(super) fn txn(&mut self) -> TxnPlan {
        let deletable = self.rng.usize(0..GROUPS);
        let mut free: Vec<usize> = (0..self.keys).filter(|i| i % GROUPS != deletable).collect();
        self.rng.shuffle(&mut free);
        let mut writable = Writable { free, deletable };
        let mut plan = self.level(&mut writable, 1);
        if self.chance(30) {
            // Refused at once: the same key twice.
            let key = self.any_key();
            for _ in 0..2 {
                plan.then.push(Step::Put(self.plain_put(key.clone())));
            }
        }
        plan
    }

    fn level(&mut self, writable: &mut Writable, level: usize) -> TxnPlan {
        let when = (0..self.rng.usize(0..=3))
            .map(|_| self.condition())
            .collect();
        // Only one of the two branches is taken, so both may write the same keys.
        let mut other = writable.clone();
        let then = self.steps(writable, level);
        let or_else = self.steps(&mut other, level);
        writable.free.retain(|i| other.free.contains(i));
        TxnPlan {
            when,
            then,
            or_else,
        }
    }

    fn steps(&mut self, writable: &mut Writable, level: usize) -> Vec<Step> {
        let mut steps = Vec::new();
        for _ in 0..self.rng.usize(0..=4) {
            self.step(&mut steps, writable, level);
        }
        steps
    }

    fn step(&mut self, steps: &mut Vec<Step>, writable: &mut Writable, level: usize) {
        match self.rng.u32(0..100) {
            0..40 => {
                if let Some(i) = writable.free.pop() {
                    steps.push(Step::Put(self.txn_put(i)));
                }
            }
            40..50 => {
                if let Some(i) = writable.free.pop() {
                    steps.push(Step::Delete(Span::One(self.key(i))));
                }
            }
            50..56 => steps.push(Step::Delete(self.run_of_keys(writable.deletable))),
            56..60 => {
                let group = self.group(writable.deletable);
                steps.push(Step::Delete(Span::Prefix(group)));
            }
            60..75 => steps.push(Step::Read(self.read_at(level))),
            75..80 => {
                if let Some(i) = writable.free.pop() {
                    self.put_then_delete(steps, i);
                }
            }
            _ if level < LEVELS => steps.push(Step::Txn(self.level(writable, level + 1))),
            _ => steps.push(Step::Read(self.read_at(level))),
        }
    }

    /// A read inside a transaction. At the outermost level none of a future revision: up to 3.6 the
    /// member that proposes such a transaction refuses it and all others apply it, which splits the
    /// cluster itself.
    fn read_at(&mut self, level: usize) -> Read {
        let read = self.read();
        Read {
            future: read.future && level > 1,
            ..read
        }
    }

    /// A put, mostly without options: one that is refused spoils the whole transaction.
    fn txn_put(&mut self, i: usize) -> Put {
        let key = self.key(i);
        if self.chance(300) {
            self.put(key)
        } else {
            self.plain_put(key)
        }
    }

    /// Puts a key and deletes it in the next step: legal only from one nested transaction to the
    /// next, and only in this order.
    fn put_then_delete(&mut self, steps: &mut Vec<Step>, i: usize) {
        let key = self.key(i);
        let end = [key.as_slice(), &[0]].concat();
        let span = if self.rng.bool() {
            Span::One(key)
        } else {
            Span::Range(key, end)
        };
        for step in [Step::Put(self.txn_put(i)), Step::Delete(span)] {
            steps.push(Step::Txn(TxnPlan {
                then: vec![step],
                ..TxnPlan::default()
            }));
        }
    }

    fn condition(&mut self) -> Condition {
        let span = self.any_span();
        let op = match self.rng.u32(0..4) {
            0 => CompareOp::Equal,
            1 => CompareOp::NotEqual,
            2 => CompareOp::Greater,
            _ => CompareOp::Less,
        };
        let operand = match self.rng.u32(0..5) {
            0 => Operand::Value(self.value()),
            1 => Operand::Version(i64::from(self.rng.u8(0..4))),
            2 => Operand::Create(self.at()),
            3 => Operand::Mod(self.at()),
            _ => Operand::Lease(self.lease()),
        };
        Condition { span, op, operand }
    }

    fn at(&mut self) -> At {
        if self.rng.bool() {
            At::Zero
        } else {
            At::Seen(-i64::from(self.rng.u8(0..100)))
        }
    }
}
