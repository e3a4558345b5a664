//! What a client can ask for, and how that is said to etcd.

use etcd_client::{Compare, CompareOp, DeleteOptions, GetOptions, PutOptions, Txn, TxnOp};

/// Which keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Span {
    One(Vec<u8>),
    /// From the first up to, but without, the second.
    Range(Vec<u8>, Vec<u8>),
    Prefix(Vec<u8>),
    /// This one and all behind it.
    FromKey(Vec<u8>),
}

/// A put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    /// 0 for none.
    pub lease: i64,
    pub ignore_value: bool,
    pub ignore_lease: bool,
}

/// A read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub span: Span,
    pub limit: i64,
    pub serializable: bool,
    /// At a revision that does not exist yet, which is refused.
    pub future: bool,
}

/// A revision to compare with: none ever has the first, and the second is what the client saw last
/// plus an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Zero,
    Seen(i64),
}

/// What a compare looks at, and what it compares it with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operand {
    Value(Vec<u8>),
    Version(i64),
    Create(At),
    Mod(At),
    Lease(i64),
}

/// A compare of a transaction; over a span it holds if it does for each key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    pub span: Span,
    pub op: CompareOp,
    pub operand: Operand,
}

/// A transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnPlan {
    pub when: Vec<Condition>,
    pub then: Vec<Step>,
    pub or_else: Vec<Step>,
}

/// A part of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Put(Put),
    Delete(Span),
    Read(Read),
    Txn(TxnPlan),
}

/// An operation of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Put(Put),
    Delete(Span),
    Read(Read),
    /// Reads the key's revision and puts if it is still that, or, if stale, was another before.
    Swap {
        put: Put,
        stale: bool,
    },
    Txn(TxnPlan),
    Grant {
        id: i64,
        ttl: i64,
    },
    Revoke {
        id: i64,
    },
}

impl Op {
    /// A name for counting.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Put(put) if put.ignore_value => "put ignoring value",
            Self::Put(put) if put.ignore_lease => "put ignoring lease",
            Self::Put(put) if put.lease != 0 => "put with lease",
            Self::Put(_) => "put",
            Self::Delete(Span::One(_)) => "delete",
            Self::Delete(Span::Range(..)) => "delete range",
            Self::Delete(Span::Prefix(_)) => "delete prefix",
            Self::Delete(Span::FromKey(_)) => "delete from key",
            Self::Read(_) => "read",
            Self::Swap { stale: false, .. } => "swap",
            Self::Swap { stale: true, .. } => "stale swap",
            Self::Txn(_) => "txn",
            Self::Grant { .. } => "grant",
            Self::Revoke { .. } => "revoke",
        }
    }
}

impl Span {
    pub fn start(&self) -> Vec<u8> {
        match self {
            Self::One(key) | Self::Range(key, _) | Self::Prefix(key) | Self::FromKey(key) => {
                key.clone()
            }
        }
    }

    pub fn delete_options(&self) -> DeleteOptions {
        let options = DeleteOptions::new();
        match self {
            Self::One(_) => options,
            Self::Range(_, end) => options.with_range(end.clone()),
            Self::Prefix(_) => options.with_prefix(),
            Self::FromKey(_) => options.with_from_key(),
        }
    }
}

impl Put {
    pub fn options(&self) -> PutOptions {
        let mut options = PutOptions::new().with_lease(self.lease);
        if self.ignore_value {
            options = options.with_ignore_value();
        }
        if self.ignore_lease {
            options = options.with_ignore_lease();
        }
        options
    }
}

impl Read {
    /// `seen` is the last revision that the client saw.
    pub fn options(&self, seen: i64) -> GetOptions {
        let mut options = GetOptions::new().with_limit(self.limit);
        if self.serializable {
            options = options.with_serializable();
        }
        if self.future {
            options = options.with_revision(seen + 1_000_000_000);
        }
        match &self.span {
            Span::One(_) => options,
            Span::Range(_, end) => options.with_range(end.clone()),
            Span::Prefix(_) => options.with_prefix(),
            Span::FromKey(_) => options.with_from_key(),
        }
    }
}

impl At {
    fn revision(self, seen: i64) -> i64 {
        match self {
            Self::Zero => 0,
            Self::Seen(offset) => (seen + offset).max(0),
        }
    }
}

impl Condition {
    fn compare(&self, seen: i64) -> Compare {
        let (key, op) = (self.span.start(), self.op);
        let compare = match &self.operand {
            Operand::Value(value) => Compare::value(key, op, value.clone()),
            Operand::Version(version) => Compare::version(key, op, *version),
            Operand::Create(at) => Compare::create_revision(key, op, at.revision(seen)),
            Operand::Mod(at) => Compare::mod_revision(key, op, at.revision(seen)),
            Operand::Lease(lease) => Compare::lease(key, op, *lease),
        };
        match &self.span {
            Span::One(_) => compare,
            Span::Range(_, end) => compare.with_range(end.clone()),
            Span::Prefix(_) => compare.with_prefix(),
            Span::FromKey(_) => compare.with_range([0]),
        }
    }
}

impl TxnPlan {
    /// `seen` is the last revision that the client saw.
    pub fn txn(&self, seen: i64) -> Txn {
        let compares: Vec<Compare> = self.when.iter().map(|c| c.compare(seen)).collect();
        let steps = |steps: &[Step]| steps.iter().map(|s| s.txn_op(seen)).collect::<Vec<_>>();
        let mut txn = Txn::new();
        // The client wants each part at most once and in this order.
        if !compares.is_empty() {
            txn = txn.when(compares);
        }
        if !self.then.is_empty() {
            txn = txn.and_then(steps(&self.then));
        }
        if !self.or_else.is_empty() {
            txn = txn.or_else(steps(&self.or_else));
        }
        txn
    }
}

impl Step {
    fn txn_op(&self, seen: i64) -> TxnOp {
        match self {
            Self::Put(put) => TxnOp::put(put.key.clone(), put.value.clone(), Some(put.options())),
            Self::Delete(span) => TxnOp::delete(span.start(), Some(span.delete_options())),
            Self::Read(read) => TxnOp::get(read.span.start(), Some(read.options(seen))),
            Self::Txn(plan) => TxnOp::txn(plan.txn(seen)),
        }
    }
}
