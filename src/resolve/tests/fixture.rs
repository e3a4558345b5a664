//! A small state to try single entries on, and short names for what comes out.

use super::*;
use crate::ids::LeaseId;
use crate::range::KeyRange;

pub(super) struct Fixture {
    pub(super) state: PrimaryState,
    /// The credentials of the entries that follow.
    pub(super) header: Header,
}

impl Fixture {
    /// a, b and c written in revisions 2 to 4, b with lease 7.
    pub(super) fn new() -> Self {
        let mut fixture = Self {
            state: PrimaryState::new(settings(), Position::START),
            header: Header::default(),
        };
        fixture.done(grant(7, 60));
        fixture.done(Op::Put(put("a", "1")));
        fixture.done(Op::Put(put_leased("b", "2", 7)));
        fixture.done(Op::Put(put("c", "3")));
        fixture
    }

    pub(super) fn try_with(&mut self, op: Op, values: &Values) -> Result<Resolution, Problem> {
        let index = self.state.position().index.next();
        let entry = Entry {
            header: self.header.clone(),
            ..entry(index.0, op)
        };
        self.state
            .resolve_with(&entry, values)
            .map_err(|error| error.problem)
    }

    pub(super) fn done(&mut self, op: Op) -> Resolved {
        match self.try_with(op, &Values::default()) {
            Ok(Resolution::Done(resolved)) => resolved,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn halts(&mut self, op: Op) -> Problem {
        let before = format!("{:?}", self.state);
        let problem = self.try_with(op, &Values::default()).expect_err("halts");
        assert_eq!(format!("{:?}", self.state), before);
        problem
    }

    /// Asserts that the op does nothing for this reason.
    pub(super) fn nothing(&mut self, op: Op, reason: &'static str) {
        let kind = op.kind();
        let before = self.state.position();
        let resolved = self.done(op);
        let expected = Resolved {
            index: before.index.next(),
            revision: before.revision,
            compact_revision: before.compact_revision,
            kind,
            outcome: Outcome::None(reason),
            changes: Changes::default(),
            lease: None,
            auth: vec![],
            alarm: None,
            disagreement: None,
        };
        assert_eq!(resolved, expected);
    }

    /// The net changes of an op that makes a revision.
    pub(super) fn changes(&mut self, op: Op) -> Changes {
        let before = self.state.position().revision;
        let resolved = self.done(op);
        assert_eq!(resolved.outcome, Outcome::Effect);
        assert_eq!(resolved.revision.0, before.0 + 1);
        assert_eq!(resolved.lease, None);
        resolved.changes
    }

    /// Created, modified, version and lease of a key.
    pub(super) fn meta(&self, key: &str) -> Option<(i64, i64, i64, i64)> {
        let meta = self.state.key(key.as_bytes())?;
        Some((meta.created.0, meta.modified.0, meta.version, meta.lease.0))
    }

    pub(super) fn attached(&self, lease: i64) -> Vec<&[u8]> {
        let lease = self.state.lease(LeaseId(lease)).expect("exists");
        lease.keys().collect()
    }

    /// Whether a compare on this state holds.
    pub(super) fn holds(&self, compare: Compare) -> bool {
        let mut copy = Self {
            state: self.state.clone(),
            header: self.header.clone(),
        };
        let op = Op::Txn(txn(
            vec![compare],
            vec![op(put("yes", ""))],
            vec![op(put("no", ""))],
        ));
        copy.done(op);
        copy.meta("yes").is_some()
    }
}

pub(super) fn given(key: &'static str, value: &'static str, lease: i64) -> Put {
    Put {
        key: key.into(),
        value: Value::Given(value.into()),
        lease: LeaseId(lease),
    }
}

pub(super) fn kept(key: &'static str, lease: i64) -> Put {
    Put {
        value: Value::Kept,
        ..given(key, "", lease)
    }
}

pub(super) fn single(key: &'static str) -> KeyRange {
    KeyRange::single(&key.into())
}

pub(super) fn between(start: &'static [u8], end: &'static [u8]) -> KeyRange {
    KeyRange::between(start.into(), end.into()).expect("not empty")
}

pub(super) fn puts(puts: Vec<Put>) -> Changes {
    Changes {
        puts,
        deletes: vec![],
    }
}

pub(super) fn deletes(deletes: Vec<KeyRange>) -> Changes {
    Changes {
        puts: vec![],
        deletes,
    }
}

pub(super) fn always(ops: Vec<RequestOp>) -> Op {
    Op::Txn(txn(vec![], ops, vec![]))
}

pub(super) fn nested(ops: Vec<RequestOp>) -> RequestOp {
    op(txn(vec![], ops, vec![]))
}
