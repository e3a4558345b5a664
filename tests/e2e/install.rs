//! A primary whose log does not begin at 1 any more is attached by a snapshot, and a process that was
//! away for too long comes back by one.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etcd_client::GetOptions;

use crate::harness::{
    Cluster, LeftOver, Syncer, Version, Workload, assert_same_keys_and_values,
    assert_same_lease_keys, attach, wait_same_keys_and_values,
};
use crate::state::{Dump, assert_same_state};

/// Waits until all is equal, stops the program, and compares what it knew.
async fn settle(
    primary: &Cluster,
    standby: &Cluster,
    syncer: &mut Syncer,
    dump: &str,
) -> Result<()> {
    let same = wait_same_keys_and_values(primary, standby, Duration::from_secs(60)).await;
    same.with_context(|| syncer.log().unwrap_or_default())?;
    let (revision, _) = crate::harness::read_keys(&primary.client().await?).await?;
    syncer
        .wait_status("the last revision", Duration::from_secs(20), |status| {
            status["revision"]["primary"].as_i64() == Some(revision)
        })
        .await?;
    syncer.terminate()?;
    let code = syncer.wait_exit(Duration::from_secs(15)).await?;
    ensure!(code == Some(0), "{code:?}: {}", syncer.log()?);
    assert_same_keys_and_values(primary, standby).await?;
    assert_same_lease_keys(primary, standby, LeftOver::Allowed).await?;
    assert_same_state(&Dump::read(dump.as_ref())?, primary).await
}

fn snapshots_installed(syncer: &Syncer) -> Result<usize> {
    Ok(syncer.log()?.matches("the snapshot is installed").count())
}

async fn attached_late(from: Version, to: Version, seed: u64) -> Result<()> {
    println!("{from:?} -> {to:?}: seed {seed}");
    let primary = Cluster::builder(from)
        .members(3)
        .no_fsync()
        .snapshot_count(100);
    // 3.4 keeps 5,000 entries, whatever it is told.
    let keeps_many = from == Version::V3_4;
    let mut primary = if keeps_many {
        primary.start().await?
    } else {
        primary.catch_up_entries(100).start().await?
    };
    let standby = Cluster::builder(to).no_fsync().start().await?;
    let folder = tempfile::tempdir()?;
    let dump = folder.path().join("state");
    let file = dump.to_str().context("a path")?;
    let operations = if keeps_many { 9_000 } else { 3_000 };
    let before = Workload::new(seed)
        .clients(8)
        .operations(operations)
        .keys(300);
    before.run(&primary).await?;
    let during = Workload::new(seed + 1)
        .clients(4)
        .operations(2_000)
        .keys(300);
    let working = tokio::spawn(during.run_on(primary.client_endpoints()));
    let args = ["--dump-state", file, "--history", "keep"];
    let mut syncer = attach(&primary, &standby, &args).await?;
    working.await??;
    settle(&primary, &standby, &mut syncer, file).await?;
    ensure!(snapshots_installed(&syncer)? == 1, "{}", syncer.log()?);

    // Away until the log is cut. The leader that sent the snapshot keeps its log for 30 s more.
    let (leader, size) = (primary.leader().await?, primary.size());
    primary.move_leader((leader + 1) % size).await?;
    let away = Workload::new(seed + 2)
        .clients(8)
        .operations(1_500)
        .keys(400);
    away.run(&primary).await?;
    syncer.respawn()?;
    settle(&primary, &standby, &mut syncer, file).await?;
    let expected = if keeps_many { 1 } else { 2 };
    ensure!(
        snapshots_installed(&syncer)? == expected,
        "{}",
        syncer.log()?
    );
    Ok(())
}

/// A ledger that lacks a record, or has a damaged one, is not trusted: the standby's own keys are
/// compared instead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_ledger_is_replaced() -> Result<()> {
    let mut primary = Cluster::builder(Version::V3_6)
        .no_fsync()
        .snapshot_count(100)
        .catch_up_entries(100)
        .start()
        .await?;
    let standby = Cluster::builder(Version::V3_5).no_fsync().start().await?;
    let folder = tempfile::tempdir()?;
    let dump = folder.path().join("state");
    let file = dump.to_str().context("a path")?;
    let work = Workload::new(1).clients(4).operations(1_000).keys(200);
    work.run(&primary).await?;
    let mut syncer = attach(&primary, &standby, &["--dump-state", file]).await?;
    settle(&primary, &standby, &mut syncer, file).await?;

    let mut client = standby.client().await?;
    let prefix = "-etcd-syncer-meta-/test/ledger/journal/";
    let journals = client
        .get(prefix, Some(GetOptions::new().with_prefix()))
        .await?;
    let journal = journals.kvs().first().context("a journal")?;
    let mut damaged = journal.value().to_vec();
    *damaged.last_mut().context("a record")? ^= 1;
    client.put(journal.key(), damaged, None).await?;
    // What somebody else did to the standby meanwhile goes as well.
    client.put("not of the primary", "", None).await?;
    syncer.respawn()?;
    syncer
        .wait_status(
            "the need of a snapshot",
            Duration::from_secs(10),
            |status| status["phase"] == "installing",
        )
        .await?;
    // A leader that believes that we are up to date sends no snapshot; the next one believes
    // nothing.
    primary.kill(0)?;
    primary.restart(0).await?;
    let work = Workload::new(2).clients(4).operations(600).keys(200);
    work.run(&primary).await?;
    settle(&primary, &standby, &mut syncer, file).await?;
    let log = syncer.log()?;
    let key = String::from_utf8(journal.key().to_vec())?;
    for words in [
        "the ledger cannot be trusted",
        key.as_str(),
        "it is damaged",
    ] {
        ensure!(log.contains(words), "no {words:?} in {log}");
    }
    ensure!(!log.contains("same_value=0 value_bytes=0"), "{log}");
    syncer.respawn()?;
    settle(&primary, &standby, &mut syncer, file).await
}

/// On a primary whose log is whole no snapshot comes: the log is taken from its first entry.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resync_of_a_young_primary_takes_its_whole_log() -> Result<()> {
    let mut primary = Cluster::builder(Version::V3_5).no_fsync().start().await?;
    let standby = Cluster::builder(Version::V3_7).no_fsync().start().await?;
    let folder = tempfile::tempdir()?;
    let dump = folder.path().join("state");
    let file = dump.to_str().context("a path")?;
    let work = Workload::new(3).clients(4).operations(500).keys(100);
    work.run(&primary).await?;
    let mut syncer = attach(&primary, &standby, &["--dump-state", file]).await?;
    wait_same_keys_and_values(&primary, &standby, Duration::from_secs(20)).await?;
    let mut client = standby.client().await?;
    client.put("not of the primary", "", None).await?;

    let endpoints = standby.client_endpoints().join(",");
    let mut resync = Command::new(env!("CARGO_BIN_EXE_etcd-syncer"));
    resync.args(["resync", "--standby-endpoints", &endpoints, "--stream"]);
    let output = resync.arg("test").output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{output:?}");
    ensure!(said.contains("was at index"), "{said}");
    primary.client().await?.put("late", "", None).await?;
    let code = syncer.wait_exit(Duration::from_secs(15)).await?;
    ensure!(code == Some(18), "{code:?}: {}", syncer.log()?);

    syncer.respawn()?;
    syncer
        .wait_status(
            "the need of a snapshot",
            Duration::from_secs(10),
            |status| status["phase"] == "installing",
        )
        .await?;
    syncer.terminate()?;
    syncer.wait_exit(Duration::from_secs(15)).await?;
    let members = primary.member_list().await?;
    let learner = members.iter().find(|member| member.is_learner());
    primary
        .remove_member(learner.context("a learner")?.id())
        .await?;
    primary.add_learner(&syncer.peer_url()).await?;
    syncer.respawn()?;
    settle(&primary, &standby, &mut syncer, file).await?;
    let log = syncer.log()?;
    ensure!(log.contains("beginning anew"), "{log}");

    let output = resync
        .arg("--standby-timeout=1s")
        .arg("--stream=none")
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(64),
        "twice the stream: {output:?}, {said}"
    );
    Ok(())
}

macro_rules! attached_late {
    ($name:ident, $from:ident, $to:ident, $seed:literal) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() -> Result<()> {
            attached_late(Version::$from, Version::$to, $seed).await
        }
    };
}

attached_late!(a_cut_log_is_joined_by_a_snapshot_3_4, V3_4, V3_5, 104);
attached_late!(a_cut_log_is_joined_by_a_snapshot_3_5, V3_5, V3_6, 105);
attached_late!(a_cut_log_is_joined_by_a_snapshot_3_6, V3_6, V3_7, 106);
attached_late!(a_cut_log_is_joined_by_a_snapshot_3_7, V3_7, V3_4, 107);
