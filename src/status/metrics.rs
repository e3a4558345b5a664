//! The board's figures for Prometheus. Gauges and counters are set from the page when somebody
//! asks; the histograms of batches are filled where batches are written.

use prometheus::core::Collector;
use prometheus::{Counter, CounterVec, Gauge, GaugeVec, Opts, Registry};

use super::leases::LeaseMetrics;
use super::page::Page;

/// The gauges.
#[derive(Debug)]
pub(super) struct Metrics {
    index: GaugeVec,
    lag_entries: Gauge,
    lag_seconds: Gauge,
    last_heard_seconds: Gauge,
    term: Gauge,
    revision: GaugeVec,
    entries: CounterVec,
    batches: Counter,
    attempts: Counter,
    held_bytes: Gauge,
    received_bytes: CounterVec,
    messages: CounterVec,
    streams: GaugeVec,
    state: GaugeVec,
    leases: LeaseMetrics,
    snapshot: GaugeVec,
    ledger_bytes: Gauge,
    phase: GaugeVec,
    disagreements: Counter,
    primary_releases: Gauge,
    is_voter: Gauge,
    is_ready: Gauge,
    users: Users,
}

const SNAPSHOT: &str =
    "The latest snapshot of the primary: what was received, compared and written.";

/// Every value of the label `phase`.
const PHASES: [&str; 5] = ["joining", "contacting", "installing", "streaming", "halted"];

impl Metrics {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let one =
            |name: &str, help: &str| registered(registry, Gauge::with_opts(opts(name, help))?);
        let many = |name: &str, help: &str, labels: &[&str]| {
            registered(registry, GaugeVec::new(opts(name, help), labels)?)
        };
        let count =
            |name: &str, help: &str| registered(registry, Counter::with_opts(opts(name, help))?);
        let counts = |name: &str, help: &str, labels: &[&str]| {
            registered(registry, CounterVec::new(opts(name, help), labels)?)
        };
        Ok(Self {
            index: many(
                "raft_index",
                "Index of the primary's log, by stage.",
                &["stage"],
            )?,
            lag_entries: one("lag_entries", "Committed entries that the standby lacks.")?,
            lag_seconds: one(
                "lag_seconds",
                "Age of the oldest entry that the standby lacks.",
            )?,
            last_heard_seconds: one(
                "leader_last_heard_seconds",
                "Time since a leader was heard.",
            )?,
            term: one("raft_term", "Current raft term.")?,
            revision: many("revision", "Revision of a keyspace.", &["cluster"])?,
            entries: counts(
                "entries_total",
                "Entries, by kind and effect.",
                &["kind", "effect"],
            )?,
            batches: count("batches_total", "Batches written to the standby.")?,
            attempts: count("transactions_sent_total", "Transactions sent.")?,
            held_bytes: one("held_bytes", "Bytes received and not yet in the standby.")?,
            received_bytes: counts("received_bytes_total", "Bytes received.", &["channel"])?,
            messages: counts(
                "messages_total",
                "Messages not taken or sent, by fate.",
                &["fate"],
            )?,
            streams: many("streams", "Streams that are up.", &["direction"])?,
            state: many(
                "primary_state",
                "Size of the primary's state in memory.",
                &["what"],
            )?,
            leases: LeaseMetrics::register(registry)?,
            snapshot: many("snapshot", SNAPSHOT, &["what"])?,
            ledger_bytes: one("ledger_bytes", "Size of the ledger in the standby.")?,
            phase: many(
                "phase",
                "1 for the phase that the process is in.",
                &["phase"],
            )?,
            disagreements: count(
                "disagreements_total",
                "Entries on which members of the primary may have disagreed.",
            )?,
            primary_releases: one(
                "primary_releases",
                "How many releases of etcd the primary's voters run.",
            )?,
            is_voter: one("is_voter", "1 if promoted, which must be undone.")?,
            is_ready: one("ready", "1 while the stream follows its primary.")?,
            users: Users::register(registry)?,
        })
    }

    pub(super) fn set(&self, page: &Page) {
        let raft = &page.raft;
        for (stage, index) in [
            ("received", raft.received),
            ("committed", raft.committed),
            ("leader_commit", raft.leader_commit),
            ("applied", raft.applied),
            ("durable", raft.durable),
            ("acknowledged", raft.acknowledged),
        ] {
            self.index.with_label_values(&[stage]).set(float(index));
        }
        self.lag_entries.set(float(page.lag.entries));
        self.lag_seconds.set(page.lag.seconds);
        self.last_heard_seconds
            .set(raft.last_heard_seconds.unwrap_or(f64::INFINITY));
        self.term.set(float(raft.term));
        let revision = |value: i64| float(u64::try_from(value).unwrap_or(0));
        self.revision
            .with_label_values(&["primary"])
            .set(revision(page.revision.primary));
        self.revision
            .with_label_values(&["standby"])
            .set(revision(page.revision.standby));
        for (kind, tally) in &page.entries {
            total(
                &self.entries.with_label_values(&[kind, "yes"]),
                tally.with_effect,
            );
            total(
                &self.entries.with_label_values(&[kind, "no"]),
                tally.without_effect,
            );
        }
        total(&self.batches, page.batches.written);
        total(&self.attempts, page.batches.attempts);
        self.set_transport(page);
        self.leases.set(&page.leases);
        self.set_snapshot(page);
        self.users.set(page);
        for phase in PHASES {
            let is = f64::from(u8::from(page.phase == phase));
            self.phase.with_label_values(&[phase]).set(is);
        }
        total(&self.disagreements, page.disagreements.len() as u64);
        self.primary_releases.set(size(page.primary_releases.len()));
        self.is_voter.set(f64::from(u8::from(page.is_voter)));
        self.is_ready
            .set(f64::from(u8::from(page.not_ready.is_none())));
    }

    fn set_snapshot(&self, page: &Page) {
        self.ledger_bytes
            .set(float(page.primary_state.ledger_bytes));
        let Some(snapshot) = &page.snapshot else {
            return;
        };
        for (what, value) in [
            ("index", float(snapshot.index)),
            ("received_bytes", float(snapshot.received_bytes)),
            ("keys", size(snapshot.keys)),
            ("keys_compared", size(snapshot.keys_compared)),
            ("puts", size(snapshot.puts)),
            ("deletes", size(snapshot.deletes)),
            ("same_value", size(snapshot.same_value)),
            ("value_bytes", float(snapshot.value_bytes)),
            ("seconds", snapshot.seconds),
            ("seconds_left", snapshot.seconds_left.unwrap_or_default()),
        ] {
            self.snapshot.with_label_values(&[what]).set(value);
        }
    }

    fn set_transport(&self, page: &Page) {
        let transport = &page.transport;
        self.held_bytes.set(size(transport.held_bytes));
        for (channel, bytes) in &transport.received_bytes {
            total(&self.received_bytes.with_label_values(&[channel]), *bytes);
        }
        for (fate, count) in [
            ("reject_sent", transport.rejects_sent),
            ("append_dropped", transport.appends_dropped),
            ("stale", transport.messages_stale),
            ("malformed", transport.messages_malformed),
            ("refused", transport.messages_refused),
        ] {
            total(&self.messages.with_label_values(&[fate]), count);
        }
        self.streams
            .with_label_values(&["dialled"])
            .set(float(transport.streams_dialled));
        self.streams
            .with_label_values(&["served"])
            .set(float(transport.streams_served));
        for (what, count) in [
            ("keys", page.primary_state.keys),
            ("leases", page.primary_state.leases),
            ("queued_entries", page.primary_state.queued_entries),
        ] {
            self.state.with_label_values(&[what]).set(size(count));
        }
    }
}

/// The gauges of the standby's users.
#[derive(Debug)]
struct Users {
    count: GaugeVec,
    auth: GaugeVec,
}

impl Users {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        let count = Opts::new(
            "etcd_syncer_standby_users",
            "Users of the standby, ours among them, and those whose password it lacks.",
        );
        let auth = Opts::new(
            "etcd_syncer_standby_auth",
            "1 for enabled if the standby checks requests, 1 for pending if it cannot yet.",
        );
        Ok(Self {
            count: registered(registry, GaugeVec::new(count, &["what"])?)?,
            auth: registered(registry, GaugeVec::new(auth, &["state"])?)?,
        })
    }

    fn set(&self, page: &Page) {
        let Some(users) = &page.standby_users else {
            return;
        };
        for (what, count) in [
            ("all", users.users),
            ("not_carried", users.not_carried.len()),
        ] {
            self.count.with_label_values(&[what]).set(size(count));
        }
        for (state, is) in [
            ("enabled", users.auth_enabled),
            ("pending", users.enable_pending.is_some()),
        ] {
            self.auth
                .with_label_values(&[state])
                .set(f64::from(u8::from(is)));
        }
    }
}

/// The tasks count; this only shows their sum, which never falls.
pub(super) fn total(counter: &Counter, sum: u64) {
    counter.reset();
    counter.inc_by(float(sum));
}

#[allow(
    clippy::cast_precision_loss,
    reason = "a gauge is a float; 2^53 is far away"
)]
fn float(value: u64) -> f64 {
    value as f64
}

pub(super) fn size(value: usize) -> f64 {
    float(value as u64)
}

pub(super) fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("etcd_syncer_{name}"), help)
}

pub(super) fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> prometheus::Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
