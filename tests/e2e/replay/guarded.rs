//! A standby with auth enabled: who replays into it must log in, and so must who calls for a resync.

use anyhow::{Result, ensure};
use etcd_client::{Client, ConnectOptions};
use tokio::process::Command;

use super::{STREAM, path};
use crate::harness::{Cluster, Version};

const WORD: &str = "a-word-of-our-own";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_replays_logs_in() -> Result<()> {
    let mut primary = Cluster::builder(Version::V3_6).no_fsync().start().await?;
    let standby = Cluster::builder(Version::V3_5).no_fsync().start().await?;
    for line in [
        "user add root:root",
        "user grant-role root root",
        &format!("user add syncer:{WORD}"),
        "user grant-role syncer root",
        "auth enable",
    ] {
        let args: Vec<&str> = line.split(' ').collect();
        standby.etcdctl(&args).await?;
    }
    // With users of its own the primary makes the standby its like.
    primary.etcdctl(&["put", "key", "value"]).await?;
    for line in [
        "user add alice:alice",
        "role add reader",
        "user grant-role alice reader",
    ] {
        let args: Vec<&str> = line.split(' ').collect();
        primary.etcdctl(&args).await?;
    }
    for line in [
        "user add root:rooted",
        "user grant-role root root",
        "auth enable",
    ] {
        let args: Vec<&str> = line.split(' ').collect();
        primary.etcdctl(&args).await?;
    }
    primary.stop(0).await?;
    let release = primary.binaries()?.version.clone();
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("word");
    std::fs::write(&file, WORD)?;
    let endpoints = standby.client_endpoints();
    let syncer = |command: &str| {
        let mut process = Command::new(env!("CARGO_BIN_EXE_etcd-syncer"));
        process.args([command, "--stream", STREAM, "--standby-user", "syncer"]);
        process.args(["--standby-endpoints", &endpoints.join(",")]);
        process.kill_on_drop(true);
        process
    };
    let dir = path(primary.data_dir(0)?)?;
    let files = ["--data-dir", dir, "--primary-version", &release];
    let login = ["--standby-password-file", path(&file)?];

    let nobody = syncer("replay").args(files).output().await?;
    let said = String::from_utf8_lossy(&nobody.stderr);
    ensure!(nobody.status.code() == Some(22), "{said}");
    ensure!(said.contains("--standby-password-file"), "{said}");
    let done = syncer("replay").args(files).args(login).output().await?;
    ensure!(done.status.success(), "{done:?}");
    let options = ConnectOptions::new().with_user("root", "rooted");
    let mut client = Client::connect(&endpoints, Some(options)).await?;
    ensure!(client.get("key", None).await?.kvs().len() == 1, "the key");
    let mut users = client.user_list().await?.users().to_vec();
    users.sort();
    ensure!(users == ["alice", "root", "syncer"], "{users:?}");

    let nobody = syncer("resync").output().await?;
    ensure!(nobody.status.code() == Some(22), "{nobody:?}");
    let done = syncer("resync").args(login).output().await?;
    ensure!(done.status.success(), "{done:?}");
    let done = syncer("replay").args(files).args(login).output().await?;
    ensure!(done.status.success(), "{done:?}");
    // A password that is set again takes tokens away.
    let options = ConnectOptions::new().with_user("root", "rooted");
    let mut client = Client::connect(&endpoints, Some(options)).await?;
    ensure!(client.get("key", None).await?.kvs().len() == 1, "the key");
    Ok(())
}
