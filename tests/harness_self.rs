//! The test harness itself, on real etcd clusters of all versions.

mod harness;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{
    Cluster, Counters, Version, Workload, assert_same_keys_and_values, assert_same_leases,
    read_keys, read_leases,
};

async fn small(version: Version) -> Result<Cluster> {
    Cluster::builder(version).no_fsync().start().await
}

async fn put_and_get(version: Version) -> Result<()> {
    let cluster = small(version).await?;
    let mut client = cluster.client().await?;
    client.put("key", "value", None).await?;
    let answer = client.get("key", None).await?;
    let kv = answer.kvs().first().context("the key is not there")?;
    assert_eq!(kv.value(), b"value");
    let printed = cluster
        .etcdctl(&["get", "key", "--print-value-only"])
        .await?;
    assert_eq!(printed, "value\n");
    let status = cluster.status(0).await?;
    assert!(
        status
            .version()
            .starts_with(&format!("{}.", version.minor())),
        "etcd {version} says it is {}",
        status.version()
    );
    assert_ne!(cluster.cluster_id().await?, 0);

    let counters = Workload::new(7).operations(500).run(&cluster).await?;
    check_mix(&counters)?;
    let (revision, keys) = read_keys(&client).await?;
    ensure!(revision >= counters.revision, "read at {revision}");
    ensure!(keys.len() > 20, "only {} keys are left", keys.len());
    Ok(())
}

fn check_mix(counters: &Counters) -> Result<()> {
    assert_eq!(counters.total(), 500);
    assert_eq!((counters.unknown, counters.given_up), (0, 0));
    let Counters {
        done,
        refused,
        swapped,
        not_swapped,
        txn_then,
        txn_else,
        ..
    } = counters;
    for (what, count) in [
        ("done", done),
        ("refused", refused),
        ("swapped", swapped),
        ("not swapped", not_swapped),
        ("then", txn_then),
        ("else", txn_else),
    ] {
        ensure!(*count > 0, "none {what}: {counters:?}");
    }
    ensure!(counters.kinds.len() >= 12, "few kinds: {counters:?}");
    for expected in [
        "lease not found",
        "key not found",
        "future revision",
        "duplicate key",
    ] {
        let found = counters.refusals.keys().any(|text| text.contains(expected));
        ensure!(found, "nothing refused with {expected:?}: {counters:?}");
    }
    Ok(())
}

#[tokio::test]
async fn etcd_3_4_serves() -> Result<()> {
    put_and_get(Version::V3_4).await
}

#[tokio::test]
async fn etcd_3_5_serves() -> Result<()> {
    put_and_get(Version::V3_5).await
}

#[tokio::test]
async fn etcd_3_6_serves() -> Result<()> {
    put_and_get(Version::V3_6).await
}

#[tokio::test]
async fn etcd_3_7_serves() -> Result<()> {
    put_and_get(Version::V3_7).await
}

#[tokio::test]
async fn three_members_outlive_their_leader() -> Result<()> {
    let builder = Cluster::builder(Version::V3_6).members(3).no_fsync();
    let mut cluster = builder.start().await?;
    let work = Workload::new(3)
        .operations(400)
        .pause(Duration::from_millis(20));
    let work = tokio::spawn(work.run_on(cluster.client_endpoints()));

    let first = cluster.leader().await?;
    cluster.kill(first)?;
    let second = cluster.leader().await?;
    assert_ne!(first, second);
    cluster.restart(first).await?;

    // Nobody hears from a paused leader either.
    cluster.pause(second)?;
    let third = cluster.leader().await?;
    assert_ne!(second, third);
    cluster.resume(second)?;

    let counters = work.await??;
    assert_eq!(counters.total(), 400);
    ensure!(counters.done > 300, "too little done: {counters:?}");

    cluster.move_leader(first).await?;
    assert_eq!(cluster.leader().await?, first);
    let process = cluster.process(first)?;
    ensure!(process.peak_rss_bytes()? > 1 << 20, "no memory used");
    ensure!(process.cpu_seconds()? > 0.0, "no processor time used");
    Ok(())
}

#[tokio::test]
async fn members_come_and_go() -> Result<()> {
    let mut cluster = small(Version::V3_5).await?;
    let learner = cluster.add_learner("http://127.0.0.1:9").await?;
    let listed = cluster.member_list().await?;
    ensure!(listed.iter().any(|m| m.id() == learner && m.is_learner()));
    cluster.remove_member(learner).await?;

    let added = cluster.add_member().await?;
    assert_eq!((added, cluster.client_endpoints().len()), (1, 2));
    cluster.remove_member(cluster.member_id(added)?).await?;
    assert_eq!(cluster.member_list().await?.len(), 1);
    assert_eq!(cluster.peer_urls().len(), 1);

    cluster.restart_as(0, Version::V3_6).await?;
    ensure!(cluster.status(0).await?.version().starts_with("3.6."));
    ensure!(cluster.member_logs(0)?.contains("raft"));
    Ok(())
}

#[tokio::test]
async fn a_start_that_fails_shows_the_log() -> Result<()> {
    let builder = Cluster::builder(Version::V3_7).extra_args(["--no-such-flag"]);
    let error = builder.start().await.err().context("no such flag")?;
    let shown = format!("{error:#}");
    assert!(shown.contains("no-such-flag"), "{shown}");
    Ok(())
}

#[tokio::test]
async fn a_difference_is_found() -> Result<()> {
    let primary = small(Version::V3_6).await?;
    let standby = small(Version::V3_7).await?;
    let mut from = primary.client().await?;
    let mut to = standby.client().await?;
    for client in [&mut from, &mut to] {
        for page in 0..21 {
            let keys = page * 50..page * 50 + 50;
            let puts: Vec<_> = keys
                .map(|i| etcd_client::TxnOp::put(format!("k{i:04}"), format!("{i}"), None))
                .collect();
            client.txn(etcd_client::Txn::new().and_then(puts)).await?;
        }
        let id = etcd_client::LeaseGrantOptions::new().with_id(77);
        client.lease_grant(600, Some(id)).await?;
    }
    to.put("-etcd-syncer-meta-/test/checkpoint", "own", None)
        .await?;
    assert_eq!(read_keys(&from).await?.1.len(), 1050);
    assert_same_keys_and_values(&primary, &standby).await?;
    assert_same_leases(&primary, &standby).await?;

    to.put("k0007", "other", None).await?;
    to.put("added", "", None).await?;
    to.delete("k1049", None).await?;
    let attached = etcd_client::PutOptions::new().with_lease(77);
    to.put("k0008", "8", Some(attached)).await?;
    let error = assert_same_keys_and_values(&primary, &standby).await;
    let report = format!("{:#}", error.err().context("three keys differ")?);
    for expected in [
        "3 keys differ",
        "\"added\": only on the standby: \"\"",
        "\"k0007\": primary \"7\"",
        "standby \"other\"",
        "\"k1049\": missing on the standby; primary \"1049\"",
    ] {
        assert!(report.contains(expected), "{expected:?} not in {report}");
    }
    let error = assert_same_leases(&primary, &standby).await;
    let report = format!("{:#}", error.err().context("a lease differs")?);
    assert!(
        report.contains("lease 4d: primary 600 s on [], standby 600 s on [\"k0008\"]"),
        "{report}"
    );
    assert_eq!(read_leases(&to).await?[&77].keys.len(), 1);
    Ok(())
}

#[tokio::test]
async fn one_client_leaves_the_same_on_all_versions() -> Result<()> {
    let oldest = small(Version::V3_4).await?;
    let work = Workload::new(11).clients(1).operations(1500).keys(60);
    // Not the refusals: versions differ in which of two reasons they name.
    let ended = |c: Counters| (c.done, c.refused, c.swapped, c.txn_then, c.txn_else);
    let first = ended(work.run(&oldest).await?);
    for version in [Version::V3_5, Version::V3_6, Version::V3_7] {
        let other = small(version).await?;
        assert_eq!(ended(work.run(&other).await?), first, "etcd {version}");
        assert_same_keys_and_values(&oldest, &other).await?;
        assert_same_leases(&oldest, &other).await?;
    }
    Ok(())
}

#[test]
fn the_same_seed_asks_for_the_same() {
    let of = |seed: u64, client: usize| {
        let stream = Workload::new(seed).stream(client);
        stream.take(300).collect::<Vec<_>>()
    };
    assert_eq!(of(1, 2), of(1, 2));
    assert_ne!(of(1, 2), of(1, 3));
    assert_ne!(of(1, 2), of(2, 2));
}
