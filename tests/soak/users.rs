//! A primary and a standby with auth enabled, under load, while passwords and roles change.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etcd_client::{Client, ConnectOptions, Permission};
use tokio::task::JoinSet;

use crate::delays::{delays, observe, show};
use crate::harness::{Cluster, Syncer, Version, attach_within};

const PUTS_PER_SECOND: usize = 2_000;
const SECONDS: usize = 30;
const WORKERS: usize = 20;
const PREFIX: &str = "app/";
const WORD: &str = "Vb7-a-long-word";

async fn client(cluster: &Cluster, name: &str) -> Result<Client> {
    let options = ConnectOptions::new().with_user(name, WORD);
    Client::connect(cluster.client_endpoints(), Some(options))
        .await
        .with_context(|| format!("log in as {name}"))
}

/// Root, and who writes; hashes cost what they cost by default.
async fn enable(primary: &Cluster) -> Result<()> {
    let mut client = primary.client().await?;
    client.user_add("root", WORD, None).await?;
    client.user_grant_role("root", "root").await?;
    client.role_add("writer").await?;
    let all = Permission::read_write(PREFIX).with_prefix();
    client.role_grant_permission("writer", all).await?;
    client.user_add("app", WORD, None).await?;
    client.user_grant_role("app", "writer").await?;
    client.auth_enable().await?;
    Ok(())
}

/// One writer's share of the puts; its keys are new each time.
async fn write(client: Client, worker: usize) -> Result<usize> {
    let mut kv = client.kv_client();
    let each = PUTS_PER_SECOND / WORKERS;
    let started = Instant::now();
    let mut done = 0;
    while done < each * SECONDS {
        let due = Duration::from_secs_f64(done as f64 / each as f64);
        tokio::time::sleep(due.saturating_sub(started.elapsed())).await;
        kv.put(format!("{PREFIX}{worker:02}/{done:06}"), [7; 256], None)
            .await?;
        done += 1;
    }
    Ok(done)
}

/// Each second a user comes, gets a role and another password, and goes.
async fn change(mut root: Client) -> Result<()> {
    for second in 0..SECONDS {
        let started = Instant::now();
        let name = format!("guest-{second}");
        root.user_add(&name, "a first word", None).await?;
        root.user_grant_role(&name, "writer").await?;
        root.user_change_password(&name, WORD).await?;
        if second % 2 == 0 {
            root.user_delete(&name).await?;
        }
        tokio::time::sleep(Duration::from_secs(1).saturating_sub(started.elapsed())).await;
    }
    Ok(())
}

async fn under_load(from: Version, to: Version) -> Result<()> {
    let primary = Cluster::builder(from).no_fsync().start().await?;
    let standby = Cluster::builder(to).no_fsync().start().await?;
    let endpoints = format!(
        "--primary-endpoints={}",
        primary.client_endpoints().join(",")
    );
    let builder = Syncer::builder(&primary, &standby)?
        .args([endpoints.as_str(), "--primary-user=root"])
        .env("ETCD_SYNCER_STANDBY_PASSWORD", "Qw3-our-own-word")
        .env("ETCD_SYNCER_PRIMARY_PASSWORD", WORD);
    let (mut syncer, _) = attach_within(&primary, builder, Duration::from_secs(60)).await?;
    enable(&primary).await?;
    syncer
        .wait_status("auth is on", Duration::from_secs(60), |status| {
            status["standby_users"]["auth_enabled"] == true
        })
        .await?;
    let there = observe(client(&primary, "root").await?, PREFIX).await?;
    let here = observe(client(&standby, "root").await?, PREFIX).await?;
    let mut writers = JoinSet::new();
    for worker in 0..WORKERS {
        writers.spawn(write(client(&primary, "app").await?, worker));
    }
    let started = Instant::now();
    let changing = tokio::spawn(change(client(&primary, "root").await?));
    let mut written = 0;
    while let Some(done) = writers.join_next().await {
        written += done??;
    }
    let rate = written as f64 / started.elapsed().as_secs_f64();
    changing.await??;
    println!("{from:?} -> {to:?}: {written} puts, {rate:.0} each second, both with auth");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let delays = delays(&there, &here, true);
    show("puts", &delays);
    println!("{}", syncer.status().await?["standby_users"]);
    ensure!(delays.len() == written, "{} arrived", delays.len());
    let last = delays.last().context("no put")?;
    ensure!(*last < 1_000, "more than a second behind: {last} ms");
    // Who was left over gets in with the last password.
    client(&standby, "guest-1").await?;
    ensure!(
        client(&standby, "guest-2").await.is_err(),
        "guest-2 is there"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_under_load_3_5_to_3_6() -> Result<()> {
    Box::pin(under_load(Version::V3_5, Version::V3_6)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_under_load_3_7() -> Result<()> {
    Box::pin(under_load(Version::V3_7, Version::V3_7)).await
}
