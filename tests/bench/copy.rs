//! The first copy of a primary that holds keys already.
//!
//! From 3.6 on a primary drops the first entry of its log once it has applied about a hundred, however
//! many entries it is told to keep, and a learner that comes later is given a snapshot. To measure the
//! log, this program is attached to the empty primary, stopped by SIGSTOP while that is filled, and
//! its time runs from SIGCONT on. The time of make-mirror runs from its start on.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::figures::Copy;
use crate::harness::Cluster;
use crate::load::{self, Until};
use crate::setup::Setup;
use crate::tool::{Kind, Tool, Usage};

const PREFIX: &str = "copy/";
/// Copied before the primary is filled, to know that the tool is at work.
const FIRST: &str = "copy";
/// The last key both in the log's order and in the keyspace's.
const LAST: &str = "copy/end";
const FOLLOWS_WITHIN: Duration = Duration::from_secs(30);

/// Fills a primary, and has each tool copy it.
///
/// # Errors
/// If something does not start or ends.
pub(crate) async fn run(setup: &Setup) -> Result<Vec<Copy>> {
    let primary = setup.primary().await?;
    Ok(vec![
        syncer(setup, &primary).await?,
        mirror(setup, &primary).await?,
    ])
}

async fn syncer(setup: &Setup, primary: &Cluster) -> Result<Copy> {
    let standby = setup.standby().await?;
    let client = standby.client().await?;
    let mut tool = Tool::start(Kind::Syncer, setup, primary, &standby).await?;
    primary.client().await?.put(FIRST, "", None).await?;
    let follows = load::wait_for(&client, FIRST, FOLLOWS_WITHIN).await?;
    follows.context("etcd-syncer does not follow")?;
    tool.set_paused(true)?;
    fill(setup, primary).await?;
    let before = tool.usage()?;
    let started = Instant::now();
    tool.set_paused(false)?;
    let copy = measure(setup, Kind::Syncer, &mut tool, &standby, started, before).await?;
    drop(tool);
    // The next tool has the primary to itself.
    for member in primary.member_list().await? {
        if member.is_learner() {
            primary.client().await?.member_remove(member.id()).await?;
        }
    }
    Ok(copy)
}

async fn mirror(setup: &Setup, primary: &Cluster) -> Result<Copy> {
    let standby = setup.standby().await?;
    let started = Instant::now();
    let mut tool = Tool::start(Kind::Mirror, setup, primary, &standby).await?;
    let before = Usage::default();
    measure(setup, Kind::Mirror, &mut tool, &standby, started, before).await
}

async fn fill(setup: &Setup, primary: &Cluster) -> Result<()> {
    let keys = setup.conditions.keys;
    let filled = load::write(
        &primary.client_endpoints(),
        PREFIX,
        setup.conditions.writers,
        setup.conditions.value_bytes,
        Until::Keys(keys),
    )
    .await?;
    primary.client().await?.put(LAST, "", None).await?;
    eprintln!(
        "copy: a primary filled with {keys} keys in {:.1} s ({:.0}/s)",
        filled.took.as_secs_f64(),
        filled.per_second()
    );
    Ok(())
}

/// Waits for the last key.
async fn measure(
    setup: &Setup,
    kind: Kind,
    tool: &mut Tool,
    standby: &Cluster,
    started: Instant,
    before: Usage,
) -> Result<Copy> {
    let client = standby.client().await?;
    let done = load::wait_for(&client, LAST, setup.copy_cap).await?;
    let took = started.elapsed();
    let mut usage = tool.usage()?;
    usage.cpu_seconds -= before.cpu_seconds;
    // The last key is the mark, not one of those that were asked for.
    let keys = load::count(&client, PREFIX).await? - u64::from(done.is_some());
    if done.is_none() && kind == Kind::Syncer {
        eprintln!("copy: the log of {}:\n{}", kind.name(), tool.log()?);
    }
    let copy = Copy {
        tool: kind,
        complete: done.is_some(),
        keys,
        seconds: took.as_secs_f64(),
        keys_per_second: load::per_second(keys, took),
        usage,
        batches: tool.batches().await?,
    };
    eprintln!(
        "copy: {}: {keys} keys in {:.1} s ({:.0}/s){}",
        kind.name(),
        copy.seconds,
        copy.keys_per_second,
        if copy.complete { "" } else { ", stopped there" },
    );
    Ok(copy)
}
