//! What the program does about wrong input and broken surroundings: the exit code, what it says, and
//! that it waits where waiting helps and then goes on by itself.

mod ends;
mod halts;
mod joining;
mod removed;
mod standby;
mod status;
mod usage;

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etcd_client::Client;
use etcd_syncer::checkpoint::Checkpoint;
use etcd_syncer::reserved;
use serde_json::Value;

use crate::harness::{Cluster, ClusterBuilder, Syncer, SyncerBuilder, Version};

/// The stream's name, as the harness has it.
const STREAM: &str = "test";
/// How long it may take to do what it does at once.
const SOON: Duration = Duration::from_secs(20);

fn one_member() -> ClusterBuilder {
    Cluster::builder(Version::V3_7).no_fsync()
}

/// A primary and a standby of one member each.
async fn pair() -> Result<(Cluster, Cluster)> {
    tokio::try_join!(one_member().start(), one_member().start())
}

/// Adds the learner, starts the process and waits until it follows the primary.
async fn streaming(primary: &Cluster, builder: SyncerBuilder) -> Result<(Syncer, u64)> {
    let learner = primary.add_learner(&builder.peer_url()).await?;
    let mut syncer = builder.spawn()?;
    wait_streaming(&mut syncer).await?;
    Ok((syncer, learner))
}

async fn wait_streaming(syncer: &mut Syncer) -> Result<Value> {
    syncer
        .wait_status("the stream to begin", SOON, |status| {
            status["phase"] == "streaming" && status["raft"]["durable"].as_u64() > Some(0)
        })
        .await
}

/// It ends by itself with `code`, and what it says last has all of `words` in it.
async fn assert_ends(syncer: &mut Syncer, code: i32, words: &[&str]) -> Result<()> {
    let ended = syncer.wait_exit(SOON).await?;
    let log = syncer.log()?;
    ensure!(
        ended == Some(code),
        "ended with {ended:?} for {code}:\n{log}"
    );
    let last = log.lines().last().context("it says nothing")?;
    assert_says(last, words)
}

fn assert_says(text: &str, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(text.contains(word), "no {word:?} in {text:?}");
    }
    Ok(())
}

/// It waits in `phase`: the status page and `/readyz` say why, with all of `words`.
async fn assert_waits(syncer: &mut Syncer, phase: &str, words: &[&str]) -> Result<String> {
    let status = syncer
        .wait_status(&format!("it says {words:?}"), SOON, |status| {
            let why = status["waiting_for"].as_str().unwrap_or_default();
            status["phase"] == phase && words.iter().all(|word| why.contains(word))
        })
        .await?;
    assert_not_ready(syncer, words).await?;
    ensure!(syncer.get("/healthz").await?.status == 200, "not healthy");
    let why = status["waiting_for"].as_str().context("no reason")?;
    Ok(why.to_owned())
}

async fn assert_not_ready(syncer: &Syncer, words: &[&str]) -> Result<()> {
    let ready = syncer.get("/readyz").await?;
    ensure!(ready.status == 503, "/readyz answers {ready:?}");
    assert_says(&ready.body, words)
}

/// It shows that the standby does not take a batch, and why.
async fn assert_standby_trouble(syncer: &mut Syncer, words: &[&str]) -> Result<()> {
    syncer
        .wait_status(&format!("trouble with {words:?}"), SOON, |status| {
            let why = status["standby_trouble"].as_str().unwrap_or_default();
            status["phase"] == "streaming" && words.iter().all(|word| why.contains(word))
        })
        .await?;
    assert_not_ready(syncer, words).await
}

/// It has halted and shows why; told to stop, it ends with `code`.
async fn assert_halts(syncer: &mut Syncer, code: i32, words: &[&str]) -> Result<()> {
    let status = syncer
        .wait_status("it halts", SOON, |status| status["phase"] == "halted")
        .await?;
    let reason = status["halted"]["reason"].as_str().context("no reason")?;
    assert_says(reason, words)?;
    ensure!(status["halted"]["exit_code"] == code, "{status}");
    assert_not_ready(syncer, words).await?;
    ensure!(syncer.get("/healthz").await?.status == 200, "not healthy");
    syncer.terminate()?;
    let ended = syncer.wait_exit(SOON).await?;
    ensure!(
        ended == Some(code),
        "ended with {ended:?}:\n{}",
        syncer.log()?
    );
    Ok(())
}

/// Ends it with SIGTERM, which must leave nothing half-done.
async fn assert_stops(syncer: &mut Syncer) -> Result<()> {
    syncer.terminate()?;
    let ended = syncer.wait_exit(Duration::from_secs(5)).await?;
    ensure!(ended == Some(0), "ended with {ended:?}:\n{}", syncer.log()?);
    Ok(())
}

/// Puts `key` into the primary and returns the index of the entry that did.
async fn put_alone(primary: &Cluster, key: &str, value: Vec<u8>) -> Result<u64> {
    primary.client().await?.put(key, value, None).await?;
    Ok(primary.status(0).await?.raft_index())
}

async fn stored_checkpoint(client: &mut Client) -> Result<Checkpoint> {
    let key = reserved::checkpoint_key(STREAM);
    let stored = client.get(key.as_ref(), None).await?;
    let kv = stored.kvs().first().context("no checkpoint")?;
    Ok(Checkpoint::decode(kv.value())?)
}

async fn store_checkpoint(client: &mut Client, value: impl Into<Vec<u8>>) -> Result<()> {
    let key = reserved::checkpoint_key(STREAM);
    client.put(key.as_ref(), value, None).await?;
    Ok(())
}

/// Runs the program until it ends, in `folder` and without any variable of its own.
async fn run(folder: &Path, args: &[&str], envs: &[(&str, &str)]) -> Result<Output> {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_etcd-syncer"));
    command.current_dir(folder).args(args);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ETCD_SYNCER_") {
            command.env_remove(name);
        }
    }
    let ended = command
        .envs(envs.iter().copied())
        .kill_on_drop(true)
        .output();
    tokio::time::timeout(SOON, ended)
        .await
        .with_context(|| format!("{args:?} does not end"))?
        .context("can't run the program")
}
