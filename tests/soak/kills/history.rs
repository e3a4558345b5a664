//! What the standby's own history shows.
//!
//! Each transaction of the standby carries a checkpoint, which names the revision of the primary
//! that the standby holds from then on. So its history says of each transaction which revisions of
//! the primary it brought, and can be held against the primary's history:
//!
//! * While streaming, a transaction has exactly the events of the revisions between its checkpoint
//!   and the one before: the same keys, values and leases, each once, none besides. As the
//!   checkpoints follow each other without a gap, every revision was applied once, whole, and in
//!   order.
//! * Over an installation a key may skip states. It shows no value twice and none that is older than
//!   one it had, and at the end of the installation each key is as it was at that revision.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use etcd_client::{Client, EventType, WatchOptions};
use etcd_syncer::checkpoint::{Checkpoint, Phase};
use etcd_syncer::ids::LeaseId;
use etcd_syncer::reserved;

use super::load::{LAST, PREFIX};

/// A key's value and lease, none if it is gone.
type State = Option<(Vec<u8>, i64)>;
/// What happened in each revision.
pub(super) type Revisions = BTreeMap<i64, BTreeMap<Vec<u8>, State>>;

/// The standby's history.
pub(super) struct Standby {
    changes: Revisions,
    checkpoints: BTreeMap<i64, Checkpoint>,
}

/// What was shown.
#[derive(Debug, Default)]
#[allow(dead_code, reason = "it is printed")]
pub(super) struct Shown {
    /// Revisions of the primary that came as entries, each once.
    pub(super) revisions_by_log: usize,
    /// Their events.
    pub(super) events_by_log: usize,
    /// Transactions that brought them.
    pub(super) transactions: usize,
    /// Revisions of the primary that a snapshot stands for.
    pub(super) revisions_by_snapshot: usize,
    /// Installations that were ended.
    pub(super) installations: usize,
    /// Events of installations, also of those that were not.
    pub(super) events_by_snapshot: usize,
    /// Processes that wrote.
    pub(super) processes: usize,
    /// Bases of the ledger.
    pub(super) bases: usize,
}

/// Reads what ever happened in a range, until `takes` has enough.
async fn watched(
    client: &Client,
    (key, end): (&[u8], &[u8]),
    mut takes: impl FnMut(i64, Vec<u8>, State) -> Result<bool>,
) -> Result<()> {
    let mut client = client.watch_client().max_decoding_message_size(1 << 30);
    let options = WatchOptions::new().with_range(end).with_start_revision(1);
    let mut stream = client.watch(key, Some(options)).await?;
    loop {
        let answer = tokio::time::timeout(Duration::from_secs(60), stream.message()).await??;
        let answer = answer.context("the watch ended")?;
        ensure!(!answer.canceled(), "canceled: {}", answer.cancel_reason());
        for event in answer.events() {
            let kv = event.kv().context("an event without a key")?;
            let is_put = event.event_type() == EventType::Put;
            let state = is_put.then(|| (kv.value().to_vec(), kv.lease()));
            if !takes(kv.mod_revision(), kv.key().to_vec(), state)? {
                return Ok(());
            }
        }
    }
}

async fn changes(client: &Client) -> Result<Revisions> {
    let mut revisions = Revisions::new();
    let mut end = PREFIX.as_bytes().to_vec();
    end.pop();
    end.push(b'0');
    watched(client, (PREFIX.as_bytes(), &end), |revision, key, state| {
        let is_last = key == LAST.as_bytes();
        let events: &mut BTreeMap<_, _> = revisions.entry(revision).or_default();
        ensure!(
            events.insert(key.clone(), state).is_none(),
            "{} twice in revision {revision}",
            key.escape_ascii()
        );
        Ok(!is_last)
    })
    .await?;
    Ok(revisions)
}

pub(super) async fn of_primary(client: &Client) -> Result<Revisions> {
    changes(client).await
}

pub(super) async fn of_standby(client: &Client) -> Result<Standby> {
    let changes = changes(client).await?;
    let last = changes
        .last_key_value()
        .map_or(0, |(revision, _)| *revision);
    let mut checkpoints = BTreeMap::new();
    let key = reserved::checkpoint_key("test");
    let end = [key.as_ref(), &[0]].concat();
    watched(client, (key.as_ref(), &end), |revision, _, state| {
        let (value, _) = state.context("the checkpoint was deleted")?;
        checkpoints.insert(revision, Checkpoint::decode(&value)?);
        Ok(revision < last)
    })
    .await?;
    Ok(Standby {
        changes,
        checkpoints,
    })
}

/// Goes through both histories side by side.
struct Comparison<'a> {
    primary: &'a Revisions,
    /// In which revision of the primary each value was written.
    written: HashMap<&'a [u8], (i64, &'a [u8])>,
    theirs: BTreeMap<&'a [u8], &'a State>,
    ours: BTreeMap<&'a [u8], &'a State>,
    /// The revision of the primary from which each key last had a value.
    newest: HashMap<&'a [u8], i64>,
    /// What the standby changed since the last checkpoint of a stream.
    since: Vec<(&'a [u8], &'a State)>,
    last: &'a Checkpoint,
    is_installing: bool,
    shown: Shown,
}

impl<'a> Comparison<'a> {
    fn of(primary: &'a Revisions, last: &'a Checkpoint) -> Result<Self> {
        let mut written = HashMap::new();
        for (revision, events) in primary {
            for (key, state) in events {
                if let Some((value, _)) = state {
                    let first = written.insert(value.as_slice(), (*revision, key.as_slice()));
                    ensure!(first.is_none(), "the load wrote a value twice");
                }
            }
        }
        Ok(Self {
            primary,
            written,
            theirs: BTreeMap::new(),
            ours: BTreeMap::new(),
            newest: HashMap::new(),
            since: Vec::new(),
            last,
            is_installing: false,
            shown: Shown::default(),
        })
    }

    /// The standby changed these keys.
    fn take(&mut self, events: &'a BTreeMap<Vec<u8>, State>) -> Result<()> {
        for (key, state) in events {
            if let Some((value, _)) = state {
                let found = self.written.get(value.as_slice());
                let (revision, of) = found.context("a value that the primary never had")?;
                ensure!(of == key, "a value of another key");
                let newest = self.newest.insert(key, *revision).unwrap_or(0);
                ensure!(
                    newest < *revision,
                    "{}: revision {revision} of the primary came after {newest}",
                    key.escape_ascii()
                );
            }
            self.ours.insert(key, state);
            self.since.push((key, state));
        }
        Ok(())
    }

    /// The standby says that it holds everything up to this checkpoint's revision.
    fn reach(&mut self, now: &'a Checkpoint) -> Result<()> {
        let brought = self.last.revision.0 + 1..now.revision.0 + 1;
        let mut brought_events = Vec::new();
        for (_, events) in self.primary.range(brought.clone()) {
            for (key, state) in events {
                self.theirs.insert(key, state);
                brought_events.push((key.as_slice(), state));
            }
        }
        let revisions = self.primary.range(brought).count();
        if self.is_installing {
            let touched = self.since.iter().chain(&brought_events);
            let touched: BTreeSet<&[u8]> = touched.map(|(key, _)| *key).collect();
            for key in touched {
                let gone = &None;
                let theirs = self.theirs.get(key).unwrap_or(&gone);
                let ours = self.ours.get(key).unwrap_or(&gone);
                ensure!(
                    ours == theirs,
                    "{}: {ours:?} for {theirs:?}",
                    key.escape_ascii()
                );
            }
            self.shown.revisions_by_snapshot += revisions;
            self.shown.events_by_snapshot += self.since.len();
            self.shown.installations += 1;
        } else {
            self.since.sort_unstable();
            brought_events.sort_unstable();
            ensure!(
                self.since == brought_events,
                "not the events of these revisions once: {:?} for {brought_events:?}",
                self.since
            );
            self.shown.revisions_by_log += revisions;
            self.shown.events_by_log += brought_events.len();
            self.shown.transactions += usize::from(revisions > 0);
        }
        self.is_installing = false;
        self.since.clear();
        Ok(())
    }

    fn step(
        &mut self,
        events: Option<&'a BTreeMap<Vec<u8>, State>>,
        now: Option<&'a Checkpoint>,
    ) -> Result<()> {
        let Some(now) = now else {
            // The standby's own revoke of a large lease.
            let events = events.context("nothing")?;
            let is_end = events.values().all(Option::is_none);
            let said = self.last.ending_lease != LeaseId(0);
            ensure!(
                is_end && said,
                "{} changes without a checkpoint",
                events.len()
            );
            return self.take(events);
        };
        let place = |checkpoint: &Checkpoint| (checkpoint.index, checkpoint.revision);
        ensure!(place(now) >= place(self.last) && now.revision >= self.last.revision);
        if let Some(events) = events {
            self.take(events)?;
        }
        match now.phase {
            Phase::Installing { .. } => {
                ensure!(place(now) == place(self.last), "it moved meanwhile");
                self.is_installing = true;
            }
            // Some keys of the lease may be gone already; the next that moves says so.
            Phase::Streaming if now.ending_lease != LeaseId(0) => {
                ensure!(place(now) == place(self.last), "it moved before the revoke");
                ensure!(events.is_none(), "keys changed beside the revoke");
            }
            Phase::Streaming => self.reach(now)?,
        }
        self.shown.processes += usize::from(now.writer != self.last.writer);
        self.shown.bases += usize::from(now.ledger.generation != self.last.ledger.generation);
        self.last = now;
        Ok(())
    }
}

/// Shows what it is for in the description of this module, or fails.
pub(super) fn compare(primary: &Revisions, standby: &Standby) -> Result<Shown> {
    let first = standby.checkpoints.first_key_value();
    let (_, first) = first.context("no checkpoint")?;
    ensure!(first.index.0 == 0, "it did not begin at the beginning");
    let mut comparison = Comparison::of(primary, first)?;
    let revisions = standby.changes.keys().chain(standby.checkpoints.keys());
    let revisions: BTreeSet<i64> = revisions.copied().collect();
    for revision in revisions {
        let events = standby.changes.get(&revision);
        let now = standby.checkpoints.get(&revision);
        let Err(error) = comparison.step(events, now) else {
            continue;
        };
        let last = comparison.last;
        bail!("the standby's revision {revision}, behind {last:?}, at {now:?}: {error:#}");
    }
    let last = primary.last_key_value().map(|(revision, _)| *revision);
    let shown = comparison.shown;
    ensure!(Some(comparison.last.revision.0) == last, "{shown:?}");
    let all = shown.revisions_by_log + shown.revisions_by_snapshot;
    ensure!(all == primary.len(), "{all} of {} revisions", primary.len());
    Ok(shown)
}

/// That it finds what it is to find.
mod tests {
    use etcd_syncer::checkpoint::Place;
    use etcd_syncer::ids::{ClusterId, MemberId, RaftIndex, Revision, Term};

    use super::*;

    fn checkpoint(revision: i64, is_installing: bool) -> Checkpoint {
        let phase = Phase::Installing {
            index: RaftIndex(0),
            term: Term(0),
            basis: etcd_syncer::checkpoint::Basis::Ledger,
        };
        Checkpoint {
            primary: ClusterId(1),
            member: MemberId(1),
            index: RaftIndex(revision.unsigned_abs() - 1),
            term: Term(0),
            voters: Vec::new(),
            learners: Vec::new(),
            revision: Revision(revision),
            compact_revision: Revision(-1),
            phase: if is_installing {
                phase
            } else {
                Phase::Streaming
            },
            writer: 1,
            batch: 0,
            ledger: Place::empty([1; 32]),
            ending_lease: LeaseId(0),
            scope: etcd_syncer::scope::Prefixes::default(),
        }
    }

    /// A key of one letter, and its value or nothing.
    fn events(text: &str) -> BTreeMap<Vec<u8>, State> {
        let each = text.split(' ').filter(|word| !word.is_empty());
        each.map(|word| {
            let (key, value) = word.split_at(1);
            let state = (!value.is_empty()).then(|| (word.as_bytes().to_vec(), 0));
            (key.as_bytes().to_vec(), state)
        })
        .collect()
    }

    /// Events with the revision of the checkpoint beside them, below 0 while installing.
    fn shown(transactions: &[(&str, i64)]) -> Result<Shown> {
        let primary = ["a1 b1", "a2", "b", "a3", "b4"];
        let primary: Revisions = (2..).zip(primary.map(events)).collect();
        let mut standby = Standby {
            changes: Revisions::new(),
            checkpoints: [(2, checkpoint(1, false))].into(),
        };
        for (revision, (text, reached)) in (3..).zip(transactions) {
            let now = checkpoint(reached.abs(), *reached < 0);
            standby.checkpoints.insert(revision, now);
            if !text.is_empty() {
                standby.changes.insert(revision, events(text));
            }
        }
        compare(&primary, &standby)
    }

    #[test]
    fn what_came_once_is_told_from_what_did_not() -> Result<()> {
        let good = [("a1 b1", 2), ("", 2), ("a2 b", 4), ("a3 b4", 6)];
        ensure!(shown(&good)?.revisions_by_log == 5);
        let skips = [("a1 b1", 2), ("a2", -2), ("a3", -2), ("b4", -2), ("", 6)];
        ensure!(shown(&skips)?.revisions_by_snapshot == 4);
        for bad in [
            // A revision in two parts, left out, twice, out of order, and with too much.
            &[("a1", 2), ("b1 a2", 3), ("b a3", 5), ("b4", 6)][..],
            &[("a1 b1", 2), ("b", 4), ("a3 b4", 6)],
            &[("a1 b1", 2), ("a2 b", 4), ("a2", 4), ("a3 b4", 6)],
            &[("a1 b1", 2), ("b", 3), ("a2", 4), ("a3 b4", 6)],
            &[("a1 b1", 2), ("a2 b", 3), ("", 4), ("a3 b4", 6)],
            // The checkpoint goes back, or not to the end.
            &[("a1 b1", 2), ("a2 b", 4), ("", 3), ("a3 b4", 6)],
            &[("a1 b1", 2), ("a2 b", 4), ("a3", 5)],
            // An installation that goes back, or does not arrive.
            &[("a1 b1", 2), ("a3", -2), ("a2", -2), ("a3 b4", 6)],
            &[("a1 b1", 2), ("a3", -2), ("", 6)],
        ] {
            ensure!(shown(bad).is_err(), "{bad:?} was taken");
        }
        Ok(())
    }
}
