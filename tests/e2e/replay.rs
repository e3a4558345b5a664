//! What is on the disks of a primary that is gone, in its snapshots and captured logs comes to the
//! standby, up to the last entry that counts and no further.

mod between;
mod captured;
mod guarded;
mod lost;
mod refused;
mod saved;
mod scoped;
mod stopped;

use std::path::Path;
use std::process::Output;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::harness::{Cluster, META_PREFIX, read_keys};

/// The stream's name, as the harness has it.
const STREAM: &str = "test";

/// Runs `replay` into `standby` to its end.
async fn replay(standby: &Cluster, args: &[&str]) -> Result<Output> {
    tokio::process::Command::new(env!("CARGO_BIN_EXE_etcd-syncer"))
        .args(["replay", "--stream", STREAM, "--json"])
        .args(["--standby-endpoints", &standby.client_endpoints().join(",")])
        .args(args)
        .kill_on_drop(true)
        .output()
        .await
        .context("run etcd-syncer replay")
}

/// The same, which must succeed; its report.
async fn replayed(standby: &Cluster, args: &[&str]) -> Result<Value> {
    let output = replay(standby, args).await?;
    ensure!(output.status.success(), "{args:?}: {output:?}");
    serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))
}

/// The same, which must end with `code`, say all of `words` and leave the standby as it was.
async fn refused(standby: &Cluster, args: &[&str], code: i32, words: &[&str]) -> Result<()> {
    let client = standby.client().await?;
    let before = read_keys(&client).await?;
    let output = replay(standby, args).await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(code), "{args:?}: {output:?}");
    for word in words {
        ensure!(said.contains(word), "no {word:?} in {said}");
    }
    ensure!(read_keys(&client).await? == before, "something was written");
    Ok(())
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("a path")
}

/// The standby's keys that are not our own.
async fn keys(standby: &Cluster) -> Result<Vec<String>> {
    let (_, keys) = read_keys(&standby.client().await?).await?;
    let keys = keys
        .into_keys()
        .filter(|key| !key.starts_with(META_PREFIX))
        .map(|key| String::from_utf8_lossy(&key).into_owned());
    Ok(keys.collect())
}
