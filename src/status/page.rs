//! The status page: one snapshot of the board, with times turned into ages. Pure but for the clock
//! that the caller passes in.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::board::{Board, Phase};
use super::leases::LeasesPage;
use super::snapshot::SnapshotPage;
use super::users::UsersPage;
use crate::pipeline::Tally;

/// A leader that was not heard for so long is lost: it sends a heartbeat every 100 ms by default.
const LEADER_LOST_AFTER: Duration = Duration::from_secs(5);

/// Everything that there is to show.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Page {
    /// Version of the program.
    pub version: String,
    /// The stream's name.
    pub stream: String,
    /// Which keys it replicates and how they are named in the standby, as options say it.
    pub scope: String,
    /// `joining`, `contacting`, `installing`, `streaming` or `halted`.
    pub phase: String,
    /// What is waited for while joining or contacting.
    pub waiting_for: Option<String>,
    /// Why the stream halted.
    pub halted: Option<HaltedPage>,
    /// Why the stream is not ready; none if it is.
    pub not_ready: Option<String>,
    /// Seconds since the process started.
    pub uptime_seconds: f64,
    /// Cluster of the primary, in hexadecimal.
    pub primary_cluster_id: Option<String>,
    /// Cluster of the standby, in hexadecimal.
    pub standby_cluster_id: Option<String>,
    /// Releases of etcd that the primary's voters run, lowest first. Entries are read by the
    /// rules of the lowest one; with several, members may apply an entry differently.
    pub primary_releases: Vec<String>,
    /// Our member id in the primary, in hexadecimal.
    pub member_id: Option<String>,
    /// True if somebody made us a voter of the primary, which must be undone.
    pub is_voter: bool,
    /// Indexes of the primary's log.
    pub raft: RaftPage,
    /// How far the standby is behind.
    pub lag: LagPage,
    /// Revisions of both keyspaces.
    pub revision: RevisionPage,
    /// Batches written to the standby.
    pub batches: BatchesPage,
    /// Entries by kind.
    pub entries: BTreeMap<String, Tally>,
    /// Indexes of entries on which members of the primary may disagree. The standby holds what
    /// most of them did; compare the members.
    pub disagreements: Vec<u64>,
    /// Live keys and leases of the primary.
    pub primary_state: StatePage,
    /// Leases on the standby, and its history.
    pub leases: LeasesPage,
    /// The latest snapshot that was received.
    pub snapshot: Option<SnapshotPage>,
    /// Memory and messages.
    pub transport: TransportPage,
    /// Why the standby does not take a batch, if it does not.
    pub standby_trouble: Option<String>,
    /// Users and roles of the standby, once the primary has any.
    pub standby_users: Option<UsersPage>,
}

/// Why the stream halted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HaltedPage {
    /// What happened, where, and the remedy.
    pub reason: String,
    /// The code with which the process will end.
    pub exit_code: u8,
}

/// Indexes of the primary's log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RaftPage {
    /// Last index received.
    pub received: u64,
    /// Last index committed and held here.
    pub committed: u64,
    /// Highest commit index that a leader spoke of.
    pub leader_commit: u64,
    /// Last index whose effect was worked out.
    pub applied: u64,
    /// Last index whose effect the standby holds.
    pub durable: u64,
    /// Highest index acknowledged to a leader.
    pub acknowledged: u64,
    /// The current term.
    pub term: u64,
    /// The leader's member id, in hexadecimal.
    pub leader: Option<String>,
    /// Seconds since a leader was heard.
    pub last_heard_seconds: Option<f64>,
    /// The primary's commit index by its own word, if its client URLs are known.
    pub primary_index: Option<u64>,
}

/// How far the standby is behind.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LagPage {
    /// Entries committed in the primary that the standby lacks, as far as we know.
    pub entries: u64,
    /// Seconds since the oldest of them was known to be committed.
    pub seconds: f64,
}

/// Revisions of both keyspaces.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RevisionPage {
    /// The primary's, at the durable index.
    pub primary: i64,
    /// The primary's compact revision there, -1 before the first compaction.
    pub primary_compact: i64,
    /// The standby's, after the last batch.
    pub standby: i64,
}

/// Batches written to the standby.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BatchesPage {
    /// How many were written.
    pub written: u64,
    /// Transactions sent for them.
    pub attempts: u64,
    /// The last one.
    pub last: BatchPage,
    /// The largest value of each figure.
    pub largest: BatchPage,
}

/// Figures of a batch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BatchPage {
    /// Entries of the primary.
    pub entries: usize,
    /// Operations on keys.
    pub ops: usize,
    /// Bytes of keys and values, about.
    pub bytes: usize,
    /// Seconds until the standby was known to hold it.
    pub txn_seconds: f64,
}

/// The primary's state that is held in memory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StatePage {
    /// Live keys.
    pub keys: usize,
    /// Leases.
    pub leases: usize,
    /// Entries that wait to be worked out.
    pub queued_entries: usize,
    /// Bytes that it takes in the standby's ledger.
    pub ledger_bytes: u64,
}

/// Memory and messages.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TransportPage {
    /// Bytes received and not yet in the standby.
    pub held_bytes: usize,
    /// Bytes received from the primary, by channel.
    pub received_bytes: BTreeMap<String, u64>,
    /// Streams that we read.
    pub streams_dialled: u64,
    /// Streams that members read from us.
    pub streams_served: u64,
    /// Rejects sent to a leader.
    pub rejects_sent: u64,
    /// Appends given up for want of memory.
    pub appends_dropped: u64,
    /// Messages of a past term.
    pub messages_stale: u64,
    /// Messages that no etcd would send.
    pub messages_malformed: u64,
    /// Messages of ours that the outbound filter held back.
    pub messages_refused: u64,
}

impl Page {
    /// Reads the board.
    #[must_use]
    pub fn of(board: &Board, now: Instant) -> Self {
        let phase = board.phase.borrow().clone();
        let joined = board.joined.borrow().clone();
        let apply = board.apply.borrow().clone();
        let learner = board.learner.borrow().clone();
        let primary = board.primary.borrow().clone();
        let age =
            |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at).as_secs_f64());
        let commit = learner
            .leader_commit
            .0
            .max(primary.as_ref().map_or(0, |view| view.index.0));
        let (name, waiting_for, halted) = parts(phase);
        let last_heard_seconds = age(learner.last_heard);
        let mut page = Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            stream: board.stream.clone(),
            scope: board.scope.clone(),
            phase: name.to_owned(),
            waiting_for,
            halted,
            not_ready: None,
            uptime_seconds: age(Some(board.started)).unwrap_or_default(),
            primary_cluster_id: joined.as_ref().map(|joined| joined.primary.to_string()),
            standby_cluster_id: joined
                .as_ref()
                .and_then(|joined| joined.standby)
                .map(|standby| standby.to_string()),
            primary_releases: joined.as_ref().map_or_else(Vec::new, releases),
            member_id: joined.as_ref().map(|joined| joined.member.to_string()),
            is_voter: learner.is_voter,
            raft: raft(&learner, &apply, primary.as_ref(), last_heard_seconds),
            lag: LagPage {
                entries: commit.saturating_sub(apply.durable.0),
                seconds: age(learner.behind_since).unwrap_or_default(),
            },
            revision: RevisionPage {
                primary: apply.primary_revision.0,
                primary_compact: apply.compact_revision.0,
                standby: apply.standby_revision,
            },
            batches: BatchesPage {
                written: apply.batches,
                attempts: apply.attempts,
                last: (&apply.last_batch).into(),
                largest: (&apply.largest_batch).into(),
            },
            entries: apply
                .tallies
                .iter()
                .map(|(kind, t)| ((*kind).to_owned(), *t))
                .collect(),
            disagreements: apply.disagreements.iter().map(|index| index.0).collect(),
            primary_state: StatePage {
                keys: apply.keys,
                leases: apply.leases,
                queued_entries: apply.queued,
                ledger_bytes: apply.ledger_bytes,
            },
            leases: LeasesPage::of(&board.keeper.borrow(), &apply),
            snapshot: SnapshotPage::of(board, joined.as_ref(), now),
            transport: transport(joined.as_ref().map(|joined| &joined.transport), &learner),
            standby_trouble: board.standby_trouble.borrow().clone(),
            standby_users: board.auth.borrow().clone().map(UsersPage::from),
        };
        page.not_ready = page.why_not_ready();
        page
    }

    fn why_not_ready(&self) -> Option<String> {
        if let Some(halted) = &self.halted {
            return Some(format!("halted: {}", halted.reason));
        }
        if let Some(what) = &self.waiting_for {
            return Some(format!("{}: {what}", self.phase));
        }
        if self.phase == "installing" {
            return Some("a snapshot of the primary is being installed".to_owned());
        }
        if let Some(trouble) = self
            .standby_trouble
            .as_ref()
            .or(self.leases.trouble.as_ref())
        {
            return Some(trouble.clone());
        }
        match self.raft.last_heard_seconds {
            Some(seconds) if seconds <= LEADER_LOST_AFTER.as_secs_f64() => None,
            Some(seconds) => Some(format!(
                "no leader of the primary was heard for {seconds:.0} s"
            )),
            None => Some("no leader of the primary was heard yet".to_owned()),
        }
    }
}

impl From<&crate::apply::BatchView> for BatchPage {
    fn from(batch: &crate::apply::BatchView) -> Self {
        Self {
            entries: batch.entries,
            ops: batch.ops,
            bytes: batch.bytes,
            txn_seconds: batch.took.as_secs_f64(),
        }
    }
}

/// The phase's name, what it waits for, and why it halted.
fn parts(phase: Phase) -> (&'static str, Option<String>, Option<HaltedPage>) {
    match phase {
        Phase::Joining(what) => ("joining", Some(what), None),
        Phase::Contacting(what) => ("contacting", Some(what), None),
        Phase::Streaming => ("streaming", None, None),
        Phase::Installing(waiting_for) => ("installing", waiting_for, None),
        Phase::Halted(halt) => {
            let exit_code = halt.exit.code();
            (
                "halted",
                None,
                Some(HaltedPage {
                    reason: halt.reason,
                    exit_code,
                }),
            )
        }
    }
}

fn raft(
    learner: &crate::learner::View,
    apply: &crate::apply::View,
    primary: Option<&crate::primary::View>,
    last_heard_seconds: Option<f64>,
) -> RaftPage {
    RaftPage {
        received: learner.received.0,
        committed: learner.committed.0,
        leader_commit: learner.leader_commit.0,
        applied: apply.resolved.0.max(apply.durable.0),
        durable: learner.durable.0.max(apply.durable.0),
        acknowledged: learner.acknowledged.0,
        term: learner.term.0,
        leader: learner.leader.map(|leader| leader.to_string()),
        last_heard_seconds,
        primary_index: primary.map(|view| view.index.0),
    }
}

fn releases(joined: &super::Joined) -> Vec<String> {
    let releases = joined.transport.releases();
    releases.iter().map(ToString::to_string).collect()
}

fn transport(
    transport: Option<&crate::peer::Transport>,
    learner: &crate::learner::View,
) -> TransportPage {
    let stats = transport.map(crate::peer::Transport::stats);
    let value = |counter: fn(&crate::peer::Stats) -> u64| stats.map(counter).unwrap_or_default();
    let received_bytes = crate::peer::stats::Channel::ALL
        .into_iter()
        .map(|channel| {
            let bytes = stats.map_or(0, |stats| stats.bytes_received(channel));
            (channel.name().to_owned(), bytes)
        })
        .collect();
    TransportPage {
        held_bytes: learner.held_bytes,
        received_bytes,
        streams_dialled: value(|stats| stats.streams_dialled.value()),
        streams_served: value(|stats| stats.streams_served.value()),
        rejects_sent: value(|stats| stats.rejects_sent.value()),
        appends_dropped: learner.counts.dropped + value(|stats| stats.dropped_over_budget.value()),
        messages_stale: learner.counts.stale,
        messages_malformed: learner.counts.malformed + value(|s| s.dropped_malformed.value()),
        messages_refused: value(|stats| stats.refused.value()),
    }
}
