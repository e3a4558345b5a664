//! What the ledger costs the standby: bytes for each key, and bytes that are written beside the keys.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etcd_client::{EventType, WatchOptions};
use tokio::task::JoinHandle;

use crate::harness::{Cluster, Syncer, Version, attach_within};
use crate::snapshots::{Load, fill};

const KEYS: usize = 100_000;
const SECONDS: u64 = 90;
const OURS: &[u8] = b"-etcd-syncer-meta-/";

/// Bytes of keys and values that are put, by what they are, until `END` is.
async fn weigh(standby: &Cluster) -> Result<JoinHandle<BTreeMap<&'static str, u64>>> {
    let mut client = standby.client().await?;
    let options = WatchOptions::new().with_all_keys();
    let mut stream = client.watch("", Some(options)).await?;
    Ok(tokio::spawn(async move {
        let mut weights = BTreeMap::new();
        while let Ok(Some(answer)) = stream.message().await {
            let puts = answer.events().iter();
            let puts = puts.filter(|event| event.event_type() == EventType::Put);
            for kv in puts.filter_map(|event| event.kv()) {
                let what = match kv.key().strip_prefix(OURS) {
                    None if kv.key() == END.as_bytes() => return weights,
                    None => "keys",
                    Some(name) if name.ends_with(b"/checkpoint") => "checkpoint",
                    Some(_) => "ledger",
                };
                *weights.entry(what).or_default() += (kv.key().len() + kv.value().len()) as u64;
            }
        }
        weights
    }))
}

const END: &str = "the end";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_ledger_costs() -> Result<()> {
    let version = Version::V3_6;
    let primary = Cluster::builder(version).no_fsync().start().await?;
    let standby = Cluster::builder(version).no_fsync().start().await?;
    fill(&primary, KEYS).await?;
    let builder = Syncer::builder(&primary, &standby)?;
    let (syncer, _) = attach_within(&primary, builder, Duration::from_secs(60)).await?;
    let state = &syncer.status().await?["primary_state"];
    println!("after a snapshot: {state}");
    let weighing = weigh(&standby).await?;
    let load = Load::start(&primary, 2_000, KEYS);
    tokio::time::sleep(Duration::from_secs(SECONDS)).await;
    let writes = load.stop().await?;
    primary.client().await?.put(END, "", None).await?;
    let weights = tokio::time::timeout(Duration::from_secs(30), weighing).await??;
    let state = &syncer.status().await?["primary_state"];
    println!("after {writes} puts: {state}");
    let of = |what: &str| weights.get(what).copied().unwrap_or(0) as f64;
    let keys = of("keys");
    ensure!(keys > 0.0, "nothing was weighed");
    let percent = |what: &str| 100.0 * of(what) / keys;
    println!(
        "written: {:.1} MiB of keys; {:.1} % more for the ledger, {:.1} % for the checkpoint",
        keys / 1048576.0,
        percent("ledger"),
        percent("checkpoint"),
    );
    let bytes = state["ledger_bytes"].as_u64().context("no size")?;
    println!(
        "{:.1} bytes in the ledger for each key",
        bytes as f64 / KEYS as f64
    );
    ensure!(percent("ledger") < 50.0, "half as much as the keys");
    Ok(())
}
