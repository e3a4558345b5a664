//! Members restored from a saved snapshot: what their log lacks, only the database has.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use etcd_syncer::ids::RaftIndex;
use etcd_syncer::offline::{DataDir, Error, Recovery};
use serde_json::Value;

use super::at_the_beginning;
use super::dumped::{dump, dump_json};
use crate::harness::{Cluster, Version, Workload};

/// Restores a saved snapshot as the one member of a new cluster.
async fn restore(cluster: &Cluster, saved: &Path, into: &Path) -> Result<()> {
    let binaries = cluster.binaries()?;
    let program = binaries.etcdutl.as_ref().unwrap_or(&binaries.etcdctl);
    let mut command = tokio::process::Command::new(program);
    command.args(["snapshot", "restore"]).arg(saved);
    command.args(["--name", "m0", "--initial-cluster", "m0=http://127.0.0.1:1"]);
    command.args(["--initial-advertise-peer-urls", "http://127.0.0.1:1"]);
    command.arg("--data-dir").arg(into).env("ETCDCTL_API", "3");
    let output = command.output().await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    Ok(())
}

async fn check(version: Version) -> Result<()> {
    let mut cluster = Cluster::builder(version).no_fsync().start().await?;
    Workload::new(11).operations(300).run(&cluster).await?;
    let folder = tempfile::tempdir()?;
    let saved = folder.path().join("saved.db");
    let saved_text = saved.to_str().context("a path")?;
    cluster.etcdctl(&["snapshot", "save", saved_text]).await?;
    Workload::new(12).operations(300).run(&cluster).await?;
    cluster.stop(0).await?;

    // Behind the saved state each entry did what it did when all are worked out from the first.
    let release = cluster.binaries()?.version.clone();
    let dir = cluster.data_dir(0)?;
    let args = ["wal", "--json", "--etcd-version", &release];
    let whole = dump_json(&args, dir).await?;
    let args = [&args[..], &["--state", saved_text]].concat();
    let behind = dump_json(&args, dir).await?;
    ensure!(behind.len() == whole.len());
    let mut compared = 0;
    // 3.4 notes an index only when keys change: leases may be ahead of it until then.
    let mut leases_are_ahead = version == Version::V3_4;
    let entry = |line: &&Value| line.get("index").is_some();
    for (one, other) in behind.iter().filter(entry).zip(whole.iter().filter(entry)) {
        let is_worked_out = one.get("effect").is_some() || one.get("no_effect").is_some();
        leases_are_ahead &= !is_worked_out || one["effect"]["puts"].is_null();
        let is_lease = one["kind"]
            .as_str()
            .is_some_and(|kind| kind.starts_with("lease_"));
        ensure!(
            one == other || (!is_worked_out && compared == 0) || (is_lease && leases_are_ahead),
            "{one} {other}"
        );
        compared += usize::from(is_worked_out);
    }
    let all = whole.len();
    ensure!((100..all - 100).contains(&compared), "{compared} of {all}");

    let restored = folder.path().join("restored");
    restore(&cluster, &saved, &restored).await?;
    let found = Recovery::of(vec![DataDir::open(&restored, None)?])?;
    ensure!(found.bound() == RaftIndex(1));
    let refused = found.behind(&at_the_beginning(found.cluster())).err();
    ensure!(
        matches!(refused, Some(Error::Restored { .. })),
        "{refused:?}"
    );
    let members = found.dirs()[0].membership_at(RaftIndex(1))?;
    let members = members.context("no members")?;
    let members: Vec<_> = members.members().collect();
    ensure!(members.len() == 1 && members[0].peer_urls == ["http://127.0.0.1:1"]);
    drop(found);
    let output = dump(&["wal", "--etcd-version", &release], &restored).await?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(
        output.status.code() == Some(64) && said.contains("was restored"),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn a_member_restored_by_3_4() -> Result<()> {
    check(Version::V3_4).await
}

#[tokio::test]
async fn a_member_restored_by_3_5() -> Result<()> {
    check(Version::V3_5).await
}

#[tokio::test]
async fn a_member_restored_by_3_6() -> Result<()> {
    check(Version::V3_6).await
}

#[tokio::test]
async fn a_member_restored_by_3_7() -> Result<()> {
    check(Version::V3_7).await
}
