//! Captured logs.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{keys, path, refused, replayed};
use crate::harness::{
    Cluster, Syncer, Version, Workload, assert_same_keys_and_values, attach,
    wait_same_keys_and_values,
};
use crate::state::{Dump, assert_same_state};

async fn captured(version: Version) -> Result<()> {
    let primary = Cluster::builder(version).no_fsync().start().await?;
    let standby = Cluster::builder(Version::V3_7).no_fsync().start().await?;
    let other = Cluster::builder(Version::V3_5).no_fsync().start().await?;
    let folder = tempfile::tempdir()?;
    let (file, dump) = (folder.path().join("log"), folder.path().join("state"));
    let (file, dump) = (path(&file)?, path(&dump)?);
    let mut syncer = attach(&primary, &standby, &["--capture", file]).await?;
    let work = Workload::new(12).operations(1_000);
    let working = tokio::spawn(work.run_on(primary.client_endpoints()));
    // The file goes on over restarts, clean and not.
    for round in 0..4 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        if round % 2 == 0 {
            syncer.kill()?;
        } else {
            syncer.terminate()?;
            syncer.wait_exit(Duration::from_secs(15)).await?;
        }
        syncer.respawn()?;
    }
    working.await??;
    streaming(&mut syncer).await?;
    let same = wait_same_keys_and_values(&primary, &standby, Duration::from_secs(30)).await;
    same.with_context(|| syncer.log().unwrap_or_default())?;
    syncer.terminate()?;
    let code = syncer.wait_exit(Duration::from_secs(15)).await?;
    let log = syncer.log()?;
    ensure!(code == Some(0) && !log.contains("ERROR"), "{code:?} {log}");

    let report = replayed(&other, &["--log", file, "--dump-state", dump]).await?;
    ensure!(report["from_index"] == 0, "{report}");
    assert_same_keys_and_values(&primary, &other).await?;
    assert_same_state(&Dump::read(dump.as_ref())?, &primary).await?;

    // A file that begins later needs a standby that is there.
    let earlier = folder.path().join("earlier");
    std::fs::rename(file, &earlier)?;
    let client = primary.client().await?;
    client.kv_client().put("later/1", "", None).await?;
    syncer.respawn()?;
    streaming(&mut syncer).await?;
    client.kv_client().put("later/2", "", None).await?;
    wait_same_keys_and_values(&primary, &standby, Duration::from_secs(30)).await?;
    syncer.terminate()?;
    syncer.wait_exit(Duration::from_secs(15)).await?;
    let empty = Cluster::builder(Version::V3_7).no_fsync().start().await?;
    let words = ["the standby is empty", "--snapshot"];
    refused(&empty, &["--log", file], 16, &words).await?;
    let report = replayed(&other, &["--log", file]).await?;
    ensure!(report["from_index"].as_u64() > Some(0), "{report}");
    let held = keys(&other).await?;
    ensure!(held.iter().any(|key| key == "later/2"), "{held:?}");
    assert_same_keys_and_values(&primary, &other).await
}

async fn streaming(syncer: &mut Syncer) -> Result<()> {
    let streams = |status: &serde_json::Value| status["phase"] == "streaming";
    let within = Duration::from_secs(30);
    let waiting = syncer.wait_status("the stream to begin", within, streams);
    waiting.await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_captured_log_of_3_4() -> Result<()> {
    Box::pin(captured(Version::V3_4)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_captured_log_of_3_6() -> Result<()> {
    Box::pin(captured(Version::V3_6)).await
}
