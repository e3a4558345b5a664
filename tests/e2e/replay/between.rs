//! A primary that is lost while its snapshot is being installed in the standby.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etcd_client::{Txn, TxnOp};
use etcd_syncer::checkpoint::{Checkpoint, Phase};
use etcd_syncer::reserved;

use super::{STREAM, keys, path, refused, replayed};
use crate::harness::{
    Cluster, Syncer, Version, Workload, assert_same_keys_and_values, eventually,
    wait_same_keys_and_values,
};
use crate::state::{Dump, assert_same_state};

/// It takes a while to write them one by one.
const KEYS: usize = 3_000;
const SOON: Duration = Duration::from_secs(30);

async fn checkpoint(standby: &Cluster) -> Result<Option<Checkpoint>> {
    let key = reserved::checkpoint_key(STREAM);
    let mut kv = standby.client().await?.kv_client();
    let found = kv.get(key.as_ref(), None).await?;
    let found = found.kvs().first();
    Ok(found
        .map(|found| Checkpoint::decode(found.value()))
        .transpose()?)
}

async fn is_between(standby: &Cluster) -> Result<bool> {
    let found = checkpoint(standby).await?;
    Ok(found.is_some_and(|found| found.phase != Phase::Streaming))
}

/// Kills the process as soon as it has begun to write a snapshot.
async fn killed_half_way(syncer: &mut Syncer, standby: &Cluster) -> Result<()> {
    let begun = eventually("some of the keys", SOON, async || {
        let held = keys(standby).await?;
        ensure!(held.len() > KEYS / 10, "{} yet", held.len());
        Ok(())
    });
    let begun = begun.await;
    begun.with_context(|| syncer.log().unwrap_or_default())?;
    syncer.kill()?;
    ensure!(is_between(standby).await?, "it was done too soon");
    Ok(())
}

async fn halfway(version: Version) -> Result<()> {
    let mut primary = Cluster::builder(version)
        .no_fsync()
        .snapshot_count(100)
        .catch_up_entries(100)
        .start()
        .await?;
    let standby = Cluster::builder(Version::V3_6).no_fsync().start().await?;
    let folder = tempfile::tempdir()?;
    let (dump, log) = (folder.path().join("state"), folder.path().join("log"));
    let (dump, log) = (path(&dump)?.to_owned(), path(&log)?.to_owned());
    Workload::new(31).operations(500).run(&primary).await?;
    let mut kv = primary.client().await?.kv_client();
    for first in (0..KEYS).step_by(100) {
        let puts = (first..first + 100)
            .map(|number| TxnOp::put(format!("many/{number:05}"), number.to_string(), None));
        kv.txn(Txn::new().and_then(puts.collect::<Vec<_>>()))
            .await?;
    }
    Workload::new(32).operations(500).run(&primary).await?;
    // A transaction for each key.
    let builder = Syncer::builder(&primary, &standby)?;
    let builder = builder.args(["--batch-bytes-max", "20", "--capture", &log]);
    primary.add_learner(&builder.peer_url()).await?;
    let mut syncer = builder.spawn()?;
    killed_half_way(&mut syncer, &standby).await?;
    primary.stop(0).await?;
    let release = primary.binaries()?.version.clone();
    let data_dir = path(primary.data_dir(0)?)?.to_owned();
    let args = ["--data-dir", &data_dir, "--primary-version", &release];

    // The log alone says nothing of the keys before.
    let wal = format!("{data_dir}/member/wal");
    let alone = ["--data-dir", &wal, "--primary-version", &release];
    let words = ["between two states", "--data-dir"];
    refused(&standby, &alone, 16, &words).await?;
    let early = [&args[..], &["--until-index", "1"]].concat();
    refused(
        &standby,
        &early,
        16,
        &["between two states", "--until-index"],
    )
    .await?;

    let with_dump = [&args[..], &["--dump-state", &dump]].concat();
    let report = replayed(&standby, &with_dump).await?;
    ensure!(report["installed_index"].as_u64() > Some(0), "{report}");
    primary.restart(0).await?;
    assert_same_keys_and_values(&primary, &standby).await?;
    assert_same_state(&Dump::read(dump.as_ref())?, &primary).await?;

    // The stream goes on behind it, with the entries.
    syncer.respawn()?;
    let client = primary.client().await?;
    client.kv_client().put("later", "", None).await?;
    let same = wait_same_keys_and_values(&primary, &standby, SOON).await;
    same.with_context(|| syncer.log().unwrap_or_default())?;
    syncer.kill()?;
    primary.stop(0).await?;

    // Whatever else is in the standby, it becomes the primary's copy again.
    let mut theirs = standby.client().await?;
    for key in keys(&standby).await?.into_iter().step_by(3) {
        theirs.delete(key, None).await?;
    }
    theirs.put("not/of/the/primary", "", None).await?;
    let mut resync = Command::new(env!("CARGO_BIN_EXE_etcd-syncer"));
    resync.args(["resync", "--stream", STREAM, "--standby-endpoints"]);
    let done = resync.arg(standby.client_endpoints().join(",")).output()?;
    ensure!(done.status.success(), "{done:?}");
    let words = ["between two states", "--data-dir"];
    refused(&standby, &["--log", &log], 16, &words).await?;
    replayed(&standby, &with_dump).await?;
    primary.restart(0).await?;
    assert_same_keys_and_values(&primary, &standby).await?;
    assert_same_state(&Dump::read(dump.as_ref())?, &primary).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_in_an_installation_of_3_5() -> Result<()> {
    Box::pin(halfway(Version::V3_5)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_in_an_installation_of_3_7() -> Result<()> {
    Box::pin(halfway(Version::V3_7)).await
}
