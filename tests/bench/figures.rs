//! All that was measured, as it goes into the JSON file.

use anyhow::{Context, Result};
use serde::Serialize;

use crate::markers::Lag;
use crate::tool::{Kind, Usage};

/// The whole run.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) conditions: Conditions,
    pub(crate) copy: Vec<Copy>,
    /// Each phase by itself.
    pub(crate) follow: Vec<Follow>,
    /// The means of each tool's phases; of times to wait and of memory, the largest.
    pub(crate) mean: Vec<Follow>,
    pub(crate) ceiling: Vec<Ceiling>,
    /// None if no load was followed.
    pub(crate) verdict: Option<Verdict>,
    pub(crate) took_seconds: f64,
}

/// Under which conditions.
#[derive(Debug, Serialize)]
pub(crate) struct Conditions {
    pub(crate) etcd: String,
    pub(crate) processors: usize,
    pub(crate) primary_members: usize,
    pub(crate) keys: u64,
    pub(crate) value_bytes: usize,
    pub(crate) writers: usize,
    /// Whether members wait for their disks.
    pub(crate) fsync: bool,
    pub(crate) load_seconds: u64,
    pub(crate) rounds: usize,
    pub(crate) syncer_args: Vec<String>,
}

/// The first copy by one tool, from its start on.
#[derive(Debug, Serialize)]
pub(crate) struct Copy {
    pub(crate) tool: Kind,
    /// False if the time was up before the last key.
    pub(crate) complete: bool,
    pub(crate) keys: u64,
    pub(crate) seconds: f64,
    pub(crate) keys_per_second: f64,
    pub(crate) usage: Usage,
}

/// One tool under full load.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Follow {
    pub(crate) tool: Kind,
    /// What the primary took during the load.
    pub(crate) primary_writes_per_second: f64,
    /// What of it the standby had when the load ended, over the load's time.
    pub(crate) standby_writes_per_second: f64,
    pub(crate) lag: Option<Lag>,
    /// Writes that the standby lacked when the load ended.
    pub(crate) behind_at_end: u64,
    /// From the end of the load to the last key; none if that took too long.
    pub(crate) caught_up_seconds: Option<f64>,
    /// Keys that the standby still lacked after it had the last one.
    pub(crate) lost: Option<u64>,
    /// What the standby had in the end, over the load's time and that to catch up.
    pub(crate) whole_writes_per_second: f64,
    pub(crate) copied: u64,
    pub(crate) usage: Usage,
    /// Processor time of the primary's members from the beginning of the load to its last key in the
    /// standby, and the same of the standby.
    pub(crate) primary_cpu_seconds: f64,
    pub(crate) standby_cpu_seconds: f64,
    pub(crate) ops_per_batch: Option<f64>,
    pub(crate) largest_batch_ops: Option<u64>,
}

/// Transactions of one shape.
#[derive(Debug, Serialize)]
pub(crate) struct Ceiling {
    pub(crate) ops: u64,
    pub(crate) in_flight: usize,
    pub(crate) keys_per_second: f64,
}

/// Whether it is fast enough: its sustained rate is at least 20 times that of make-mirror, or the
/// primary's full rate, whichever is less.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    pub(crate) syncer: f64,
    pub(crate) mirror: f64,
    pub(crate) times_mirror: f64,
    /// Part of what the primary took meanwhile.
    pub(crate) of_primary: f64,
    /// Part of what the primary takes with no tool attached, on the same processors.
    pub(crate) of_primary_alone: f64,
    pub(crate) met: bool,
    /// The same, with the rate of a primary that shares its processors with nobody.
    pub(crate) met_against_primary_alone: bool,
}

/// The factor asked for.
pub(crate) const TIMES_MIRROR: f64 = 20.0;
/// So much less counts as equal: what is on its way when the clock stops.
pub(crate) const TOLERANCE: f64 = 0.01;

/// Judges the means of all rounds.
///
/// # Errors
/// If a tool was not measured.
pub(crate) fn judge(phases: &[Follow]) -> Result<Verdict> {
    let rate = |kind, rate: fn(&Follow) -> f64| {
        let of_kind = phases.iter().filter(|phase| phase.tool == kind);
        mean(of_kind.map(rate)).context("a tool was not measured")
    };
    let standby = |phase: &Follow| phase.standby_writes_per_second;
    let primary = |phase: &Follow| phase.primary_writes_per_second;
    let (syncer, mirror) = (rate(Kind::Syncer, standby)?, rate(Kind::Mirror, standby)?);
    let (meanwhile, alone) = (rate(Kind::Syncer, primary)?, rate(Kind::None, primary)?);
    let reached = |full: f64| {
        let wanted = (TIMES_MIRROR * mirror).min(full);
        syncer >= wanted * (1.0 - TOLERANCE)
    };
    Ok(Verdict {
        syncer,
        mirror,
        times_mirror: syncer / mirror,
        of_primary: syncer / meanwhile,
        of_primary_alone: syncer / alone,
        met: reached(meanwhile),
        met_against_primary_alone: reached(alone),
    })
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let values: Vec<f64> = values.collect();
    let count = u32::try_from(values.len())
        .ok()
        .filter(|count| *count > 0)?;
    Some(values.iter().sum::<f64>() / f64::from(count))
}

impl Follow {
    /// One line of all phases of a tool: means, but the worst lag, wait and memory.
    pub(crate) fn mean(kind: Kind, phases: &[Self]) -> Self {
        let all: Vec<&Self> = phases.iter().filter(|phase| phase.tool == kind).collect();
        let of = |value: fn(&Self) -> f64| mean(all.iter().map(|p| value(p))).unwrap_or(0.0);
        let lags: Vec<Lag> = all.iter().filter_map(|phase| phase.lag).collect();
        let worst = |value: fn(&Lag) -> f64| lags.iter().map(value).fold(0.0, f64::max);
        let lag = (!lags.is_empty()).then(|| Lag {
            p50_seconds: mean(lags.iter().map(|lag| lag.p50_seconds)).unwrap_or(0.0),
            p99_seconds: mean(lags.iter().map(|lag| lag.p99_seconds)).unwrap_or(0.0),
            max_seconds: worst(|lag| lag.max_seconds),
            markers: lags.iter().map(|lag| lag.markers).sum(),
            missing: lags.iter().map(|lag| lag.missing).sum(),
        });
        let caught_up: Option<Vec<f64>> = all.iter().map(|p| p.caught_up_seconds).collect();
        let lost: Option<Vec<u64>> = all.iter().map(|phase| phase.lost).collect();
        let batches: Option<Vec<f64>> = all.iter().map(|phase| phase.ops_per_batch).collect();
        Self {
            tool: kind,
            primary_writes_per_second: of(|phase| phase.primary_writes_per_second),
            standby_writes_per_second: of(|phase| phase.standby_writes_per_second),
            lag,
            behind_at_end: all
                .iter()
                .map(|phase| phase.behind_at_end)
                .max()
                .unwrap_or(0),
            caught_up_seconds: caught_up.map(|times| times.into_iter().fold(0.0, f64::max)),
            lost: lost.map(|lost| lost.into_iter().sum()),
            whole_writes_per_second: of(|phase| phase.whole_writes_per_second),
            copied: all.iter().map(|phase| phase.copied).sum(),
            usage: Usage {
                cpu_seconds: of(|phase| phase.usage.cpu_seconds),
                peak_rss_bytes: all
                    .iter()
                    .map(|p| p.usage.peak_rss_bytes)
                    .max()
                    .unwrap_or(0),
            },
            primary_cpu_seconds: of(|phase| phase.primary_cpu_seconds),
            standby_cpu_seconds: of(|phase| phase.standby_cpu_seconds),
            ops_per_batch: batches.and_then(|batches| mean(batches.into_iter())),
            largest_batch_ops: all.iter().filter_map(|phase| phase.largest_batch_ops).max(),
        }
    }
}
