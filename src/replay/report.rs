//! What was replayed, for whoever asked for it. Pure.

use std::time::Duration;

use crate::apply;
use crate::checkpoint::Checkpoint;
use crate::entry::{self, Committed, Op};
use crate::ids::{ClusterId, MemberId, RaftIndex, Revision, Term};
use crate::pb::etcdpb::{RequestOp, TxnRequest, request_op::Request};
use crate::pipeline::Tally;
use crate::range::KeyRange;

/// What was done.
#[derive(Clone, Debug)]
pub struct Report {
    /// Name of the stream.
    pub stream: String,
    /// The primary.
    pub primary: ClusterId,
    /// Where the standby was before; 0 for an empty one.
    pub from: RaftIndex,
    /// The index of the database that was installed first.
    pub installed: Option<RaftIndex>,
    /// Where the standby is.
    pub to: RaftIndex,
    /// Term of the entry there.
    pub term: Term,
    /// The primary's revision there.
    pub revision: Revision,
    /// Entries by kind.
    pub tallies: Vec<(&'static str, Tally)>,
    /// Batches written.
    pub batches: u64,
    /// Entries on which members of the primary may have disagreed.
    pub disagreements: Vec<RaftIndex>,
    /// Entries of which it is not known whether they were committed.
    pub undetermined: Vec<Tail>,
    /// The entry that was not wanted any more, in words.
    pub stopped_by: Option<String>,
    /// How long it took.
    pub took: Duration,
}

/// The end of one member's log.
#[derive(Clone, Debug)]
pub struct Tail {
    /// Whose log.
    pub member: MemberId,
    /// True if it was applied, as somebody asked for it.
    pub is_taken: bool,
    /// How many entries.
    pub count: u64,
    /// The first of them.
    pub listed: Vec<Listed>,
}

/// An entry without its values.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its index.
    pub index: RaftIndex,
    /// Its term.
    pub term: Term,
    /// Its kind.
    pub kind: &'static str,
    /// The keys that it may change.
    pub keys: Vec<KeyRange>,
}

/// As many entries of a tail are listed.
const LISTED_MAX: usize = 1_000;

impl Report {
    pub(super) fn new(held: &Checkpoint, stream: &str, undetermined: Vec<Tail>) -> Self {
        Self {
            stream: stream.to_owned(),
            primary: held.primary,
            from: held.index,
            installed: None,
            to: held.index,
            term: held.term,
            revision: held.revision,
            tallies: Vec::new(),
            batches: 0,
            disagreements: Vec::new(),
            undetermined,
            stopped_by: None,
            took: Duration::ZERO,
        }
    }

    pub(super) fn note(&mut self, view: &apply::View) {
        self.tallies.clone_from(&view.tallies);
        self.batches = view.batches;
        self.disagreements.clone_from(&view.disagreements);
    }

    pub(super) fn finish(&mut self, held: &Checkpoint, took: Duration) {
        self.to = held.index;
        self.term = held.term;
        self.revision = held.revision;
        self.took = took;
    }
}

impl Tail {
    pub(super) fn new(member: MemberId, is_taken: bool) -> Self {
        Self {
            member,
            is_taken,
            count: 0,
            listed: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, entry: impl FnOnce() -> Listed) {
        self.count += 1;
        if self.listed.len() < LISTED_MAX {
            self.listed.push(entry());
        }
    }
}

impl Listed {
    pub(super) fn of(committed: &Committed) -> Self {
        let decoded = entry::decode(committed);
        let (kind, keys) = match &decoded {
            Ok(entry) => (entry.op.kind(), keys(&entry.op)),
            Err(_) => ("unreadable", Vec::new()),
        };
        Self {
            index: committed.index,
            term: committed.term,
            kind,
            keys,
        }
    }
}

/// The keys that an operation may change.
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "no other operation names keys"
)]
fn keys(op: &Op) -> Vec<KeyRange> {
    match op {
        Op::Put(put) => vec![KeyRange::single(&put.key)],
        Op::DeleteRange(delete) => {
            let range = KeyRange::of_request(&delete.key, &delete.range_end);
            range.into_iter().collect()
        }
        Op::Txn(txn) => {
            let mut found = Vec::new();
            txn_keys(txn, &mut found);
            found
        }
        _ => Vec::new(),
    }
}

fn txn_keys(txn: &TxnRequest, found: &mut Vec<KeyRange>) {
    for RequestOp { request } in txn.success.iter().chain(&txn.failure) {
        match request {
            None | Some(Request::RequestRange(_)) => {}
            Some(Request::RequestPut(put)) => found.push(KeyRange::single(&put.key)),
            Some(Request::RequestDeleteRange(delete)) => {
                found.extend(KeyRange::of_request(&delete.key, &delete.range_end));
            }
            // The decoder has limited the depth.
            Some(Request::RequestTxn(nested)) => txn_keys(nested, found),
        }
    }
}
