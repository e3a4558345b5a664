//! The first copy of a primary that holds keys already and whose log is cut: the usual first contact.
//!
//! The time of each tool runs from its start to the moment when the standby has every key.

use std::time::Instant;

use anyhow::Result;

use crate::figures::Copy;
use crate::harness::Cluster;
use crate::load::{self, Until};
use crate::setup::{Log, Setup};
use crate::tool::{Kind, Tool};

const PREFIX: &str = "copy/";
/// The last key in the keyspace's order.
const LAST: &str = "copy/end";

/// Fills a primary, and has each tool copy it.
///
/// # Errors
/// If something does not start or ends.
pub(crate) async fn run(setup: &Setup) -> Result<Vec<Copy>> {
    let primary = setup.primary(Log::Cut).await?;
    fill(setup, &primary).await?;
    Ok(vec![
        copy(setup, Kind::Syncer, &primary).await?,
        copy(setup, Kind::Mirror, &primary).await?,
    ])
}

async fn copy(setup: &Setup, kind: Kind, primary: &Cluster) -> Result<Copy> {
    let standby = setup.standby().await?;
    let started = Instant::now();
    let mut tool = Tool::start(kind, setup, primary, &standby).await?;
    let copy = measure(setup, kind, &mut tool, &standby, started).await?;
    drop(tool);
    // The next tool has the primary to itself.
    for member in primary.member_list().await? {
        if member.is_learner() {
            primary.client().await?.member_remove(member.id()).await?;
        }
    }
    Ok(copy)
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

/// Waits for the last key, and then until all are there.
async fn measure(
    setup: &Setup,
    kind: Kind,
    tool: &mut Tool,
    standby: &Cluster,
    started: Instant,
) -> Result<Copy> {
    let client = standby.client().await?;
    let wanted = setup.conditions.keys + 1;
    let mut count = 0;
    if load::wait_for(&client, LAST, setup.copy_cap)
        .await?
        .is_some()
    {
        while count < wanted && started.elapsed() < setup.copy_cap {
            count = load::count(&client, PREFIX).await?;
        }
    }
    let complete = count == wanted;
    let took = started.elapsed();
    let usage = tool.usage()?;
    let keys = load::count(&client, PREFIX).await?;
    if !complete && kind == Kind::Syncer {
        eprintln!("copy: the log of {}:\n{}", kind.name(), tool.log()?);
    }
    let copy = Copy {
        tool: kind,
        complete,
        keys,
        seconds: took.as_secs_f64(),
        keys_per_second: load::per_second(keys, took),
        usage,
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
