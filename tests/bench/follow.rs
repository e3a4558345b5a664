//! Following a primary that takes all it can.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::figures::Follow;
use crate::harness::Cluster;
use crate::load::{self, Until};
use crate::markers::Markers;
use crate::setup::{self, Log, Setup};
use crate::tool::{Batches, Kind, Tool, Usage};

const PREFIX: &str = "load/";
/// Put before the load, to know that the tool is at work, and after it, to know that it is done.
const FIRST: &str = "probe/first";
const LAST: &str = "probe/last";
const FOLLOWS_WITHIN: Duration = Duration::from_secs(30);
/// Between the first sign of life and the load.
const REST: Duration = Duration::from_secs(1);

/// One phase: a new primary, a new standby, a tool or none, and the load.
///
/// # Errors
/// If something does not start or ends.
pub(crate) async fn run(setup: &Setup, kind: Kind) -> Result<Follow> {
    let (mut primary, mut standby) = tokio::try_join!(setup.primary(Log::Whole), setup.standby())?;
    let (from, to) = (primary.client().await?, standby.client().await?);
    let mut tool = Tool::start(kind, setup, &primary, &standby).await?;
    from.kv_client().put(FIRST, "", None).await?;
    if kind != Kind::None {
        let follows = load::wait_for(&to, FIRST, FOLLOWS_WITHIN).await?;
        follows.with_context(|| format!("{} does not follow", kind.name()))?;
    }
    tokio::time::sleep(REST).await;
    let before = Reading::take(&mut tool, &mut primary, &mut standby).await?;
    let markers = match kind {
        Kind::None => None,
        Kind::Syncer | Kind::Mirror => {
            Some(Box::pin(Markers::start(from.clone(), to.clone())).await?)
        }
    };
    let written = write(setup, &primary).await?;
    if let Some(markers) = &markers {
        markers.stop();
    }
    let got = load::count(&to, PREFIX).await?;
    let stopped = Instant::now();
    from.kv_client().put(LAST, "", None).await?;
    let caught_up = match kind {
        Kind::None => None,
        Kind::Syncer | Kind::Mirror => load::wait_for(&to, LAST, setup.drain_cap).await?,
    };
    let drained = stopped.elapsed();
    let lag = match markers {
        Some(markers) => Some(markers.end().await?),
        None => None,
    };
    let after = Reading::take(&mut tool, &mut primary, &mut standby).await?;
    let got_in_all = load::count(&to, PREFIX).await?;
    let follow = Follow {
        tool: kind,
        primary_writes_per_second: written.per_second(),
        standby_writes_per_second: load::per_second(got, written.took),
        lag,
        behind_at_end: written.keys.saturating_sub(got),
        caught_up_seconds: caught_up.map(|time| time.as_secs_f64()),
        lost: caught_up.map(|_| written.keys.saturating_sub(got_in_all)),
        // Over the load and what came after, so that a tool that puts work off has it counted too.
        whole_writes_per_second: load::per_second(got_in_all, written.took + drained),
        copied: got_in_all,
        usage: Usage {
            cpu_seconds: after.usage.cpu_seconds - before.usage.cpu_seconds,
            ..after.usage
        },
        primary_cpu_seconds: after.primary_cpu_seconds - before.primary_cpu_seconds,
        standby_cpu_seconds: after.standby_cpu_seconds - before.standby_cpu_seconds,
        ops_per_batch: after
            .batches_since(&before)
            .map(|batches| load::number(got_in_all) / load::number(batches.max(1))),
        largest_batch_ops: after.batches.map(|batches| batches.largest_ops),
    };
    eprintln!(
        "follow: {}: primary {:.0}/s, standby {:.0}/s",
        kind.name(),
        follow.primary_writes_per_second,
        follow.standby_writes_per_second
    );
    Ok(follow)
}

/// What all processes have used by now.
struct Reading {
    usage: Usage,
    batches: Option<Batches>,
    primary_cpu_seconds: f64,
    standby_cpu_seconds: f64,
}

impl Reading {
    async fn take(tool: &mut Tool, primary: &mut Cluster, standby: &mut Cluster) -> Result<Self> {
        Ok(Self {
            usage: tool.usage()?,
            batches: tool.batches().await?,
            primary_cpu_seconds: setup::cpu(primary)?,
            standby_cpu_seconds: setup::cpu(standby)?,
        })
    }

    fn batches_since(&self, before: &Self) -> Option<u64> {
        let (now, then) = (self.batches?, before.batches?);
        Some(now.written.saturating_sub(then.written))
    }
}

async fn write(setup: &Setup, primary: &Cluster) -> Result<load::Written> {
    load::write(
        &primary.client_endpoints(),
        PREFIX,
        setup.conditions.writers,
        setup.conditions.value_bytes,
        Until::Time(setup.load_for),
    )
    .await
}
