//! What all phases share.

use std::time::Duration;

use anyhow::Result;

use crate::args::Args;
use crate::figures::Conditions;
use crate::harness::{Binaries, Cluster, Version};

/// More entries than any phase makes.
const LOG_ENTRIES: u64 = 100_000_000;
/// More than a million keys need.
const QUOTA: [&str; 2] = ["--quota-backend-bytes", "8589934592"];

/// How much of its log a primary keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Log {
    /// All, but from 3.6 on the first entry.
    Whole,
    /// So little that a learner needs a snapshot.
    Cut,
}

/// The settings of a run.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) version: Version,
    pub(crate) binaries: Binaries,
    pub(crate) conditions: Conditions,
    pub(crate) load_for: Duration,
    /// How long a first copy may take.
    pub(crate) copy_cap: Duration,
    /// How long a tool may take to catch up after a load.
    pub(crate) drain_cap: Duration,
    /// How long each kind of transaction is tried.
    pub(crate) ceiling_for: Duration,
}

impl Setup {
    pub(crate) async fn new(args: &Args) -> Result<Self> {
        let (version, binaries) = Version::choose(args.etcd.as_deref()).await?;
        let pick = |full, quick| if args.quick { quick } else { full };
        let load_seconds = args.seconds.unwrap_or(pick(10, 4));
        let rounds = usize::try_from(pick(2, 1))?;
        Ok(Self {
            version,
            conditions: Conditions {
                etcd: binaries.version.clone(),
                processors: std::thread::available_parallelism().map_or(0, usize::from),
                primary_members: usize::from(args.members),
                keys: args.keys.unwrap_or(pick(100_000, 10_000)),
                value_bytes: args.value_bytes,
                writers: args.writers.max(1),
                fsync: args.fsync,
                load_seconds,
                rounds: args.rounds.unwrap_or(rounds),
                syncer_args: args.syncer_arg.clone(),
            },
            binaries,
            load_for: Duration::from_secs(load_seconds),
            copy_cap: Duration::from_secs(args.copy_seconds.unwrap_or(pick(60, 10))),
            drain_cap: Duration::from_secs(pick(30, 8)),
            ceiling_for: Duration::from_secs(pick(4, 2)),
        })
    }

    /// A new primary.
    pub(crate) async fn primary(&self, log: Log) -> Result<Cluster> {
        let (between_snapshots, kept) = match log {
            Log::Whole => (LOG_ENTRIES, LOG_ENTRIES),
            Log::Cut => (1_000, 1_000),
        };
        let mut builder = Cluster::builder(self.version)
            .members(self.conditions.primary_members)
            .log_level("warn")
            .extra_args(["--strict-reconfig-check=false"])
            .extra_args(QUOTA)
            .snapshot_count(between_snapshots);
        if !self.conditions.fsync {
            builder = builder.no_fsync();
        }
        if self.version != Version::V3_4 {
            builder = builder.catch_up_entries(kept);
        }
        builder.start().await
    }

    /// A new standby.
    pub(crate) async fn standby(&self) -> Result<Cluster> {
        let mut builder = Cluster::builder(self.version)
            .log_level("warn")
            .extra_args(QUOTA);
        if !self.conditions.fsync {
            builder = builder.no_fsync();
        }
        builder.start().await
    }
}

/// Processor time that all members of a cluster have used so far, in seconds.
///
/// # Errors
/// If one does not run.
pub(crate) fn cpu(cluster: &mut Cluster) -> Result<f64> {
    (0..cluster.size())
        .map(|i| cluster.process(i)?.cpu_seconds())
        .sum()
}
