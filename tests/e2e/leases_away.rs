//! What happens to leases on the standby while no process looks after them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etcd_client::{Client, LeaseGrantOptions, PutOptions};
use etcd_syncer::checkpoint::{Basis, Checkpoint, Phase};
use etcd_syncer::ids::{RaftIndex, Term};
use etcd_syncer::reserved;

use crate::harness::{
    Cluster, LeftOver, Syncer, Version, assert_same_keys_and_values, assert_same_lease_keys,
    attach, eventually,
};

const SOON: Duration = Duration::from_secs(20);
const TTL: i64 = 600;
/// How often the process is killed, unless the environment says otherwise.
const KILLS: usize = 6;

async fn grant(client: &Client, id: i64) -> Result<()> {
    let options = LeaseGrantOptions::new().with_id(id);
    client.lease_client().grant(TTL, Some(options)).await?;
    Ok(())
}

async fn revoke(client: &Client, id: i64) -> Result<()> {
    client.lease_client().revoke(id).await?;
    Ok(())
}

async fn put(client: &Client, key: &str, lease: i64) -> Result<()> {
    let options = PutOptions::new().with_lease(lease);
    client.kv_client().put(key, "value", Some(options)).await?;
    Ok(())
}

async fn wait_same(primary: &Cluster, standby: &Cluster, syncer: &Syncer) -> Result<()> {
    let same = eventually("the standby equals the primary", SOON, async || {
        assert_same_keys_and_values(primary, standby).await?;
        assert_same_lease_keys(primary, standby, LeftOver::None).await
    });
    let same = same.await;
    if same.is_ok() {
        return same;
    }
    let status = syncer.status().await?;
    let log = syncer.log()?;
    same.with_context(|| format!("{status}\n{log}"))
}

async fn halted(syncer: &mut Syncer, reason: &str) -> Result<()> {
    let status = syncer.wait_status("a halt", SOON, |status| {
        let shown = status["halted"]["reason"].as_str().unwrap_or_default();
        shown.contains(reason)
    });
    status.await.map(drop)
}

/// What the standby lost or has otherwise is put right, or shown, by each process that begins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_lost_while_away() -> Result<()> {
    let primary = Cluster::builder(Version::V3_5).no_fsync().start().await?;
    let standby = Cluster::builder(Version::V3_6).no_fsync().start().await?;
    let mut syncer = attach(&primary, &standby, &[]).await?;
    let (ours, theirs) = (primary.client().await?, standby.client().await?);
    for id in [1, 2, 3] {
        grant(&ours, id).await?;
    }
    put(&ours, "k2", 2).await?;
    put(&ours, "k3", 3).await?;
    put(&ours, "k0", 0).await?;
    wait_same(&primary, &standby, &syncer).await?;

    // One lease without keys, and one whose key is still there.
    syncer.kill()?;
    revoke(&theirs, 1).await?;
    put(&theirs, "k2", 0).await?;
    revoke(&theirs, 2).await?;
    syncer.respawn()?;
    wait_same(&primary, &standby, &syncer).await?;

    // Keys that are attached elsewhere.
    syncer.kill()?;
    put(&theirs, "k3", 2).await?;
    put(&theirs, "k0", 1).await?;
    syncer.respawn()?;
    wait_same(&primary, &standby, &syncer).await?;

    // A key that went with its lease: that is shown by each process until the key is back.
    syncer.kill()?;
    revoke(&theirs, 3).await?;
    for _ in 0..3 {
        syncer.respawn()?;
        halted(&mut syncer, "lost lease 3").await?;
        syncer.kill()?;
    }
    put(&theirs, "k3", 0).await?;
    syncer.respawn()?;
    wait_same(&primary, &standby, &syncer).await
}

/// Says in the checkpoint that a snapshot is being installed, as a process does that ends half-way.
async fn mark_installing(standby: &Client, basis: Basis) -> Result<()> {
    let key = reserved::checkpoint_key("test");
    let mut kv = standby.kv_client();
    let found = kv.get(key.as_ref(), None).await?;
    let found = found.kvs().first().context("a checkpoint")?;
    let mut checkpoint = Checkpoint::decode(found.value())?;
    checkpoint.phase = Phase::Installing {
        index: RaftIndex(0),
        term: Term(0),
        basis,
    };
    kv.put(key.as_ref(), checkpoint.encode(), None).await?;
    Ok(())
}

/// A snapshot brings back what went with a lease, also where the ledger says that it is there.
async fn a_snapshot_brings_lost_keys_back(basis: Basis) -> Result<()> {
    let primary = Cluster::builder(Version::V3_6)
        .no_fsync()
        .snapshot_count(100)
        .catch_up_entries(100)
        .start()
        .await?;
    let standby = Cluster::builder(Version::V3_5).no_fsync().start().await?;
    let mut syncer = attach(&primary, &standby, &[]).await?;
    let (ours, theirs) = (primary.client().await?, standby.client().await?);
    for id in [1, 2, 3] {
        grant(&ours, id).await?;
    }
    for key in ["k1", "l1", "m1"] {
        put(&ours, key, 1).await?;
    }
    put(&ours, "k2", 2).await?;
    wait_same(&primary, &standby, &syncer).await?;
    syncer.kill()?;
    for id in [1, 2, 3] {
        revoke(&theirs, id).await?;
    }
    // The log is cut; meanwhile a lease ends, another begins, keys move.
    revoke(&ours, 2).await?;
    grant(&ours, 4).await?;
    put(&ours, "l1", 4).await?;
    put(&ours, "m1", 0).await?;
    for n in 0..400 {
        put(&ours, &format!("n/{}", n % 7), 0).await?;
    }
    mark_installing(&theirs, basis).await?;
    syncer.respawn()?;
    wait_same(&primary, &standby, &syncer).await?;
    let log = syncer.log()?;
    ensure!(log.contains("the snapshot is installed"), "{log}");
    let status = syncer.status().await?;
    ensure!(status["phase"] == "streaming", "{status}");
    // The stream goes on with leases as they are now.
    put(&ours, "k4", 4).await?;
    revoke(&ours, 1).await?;
    wait_same(&primary, &standby, &syncer).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_brings_lost_keys_back_by_the_ledger() -> Result<()> {
    Box::pin(a_snapshot_brings_lost_keys_back(Basis::Ledger)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_brings_lost_keys_back_by_content() -> Result<()> {
    Box::pin(a_snapshot_brings_lost_keys_back(Basis::Content)).await
}

/// Grants, revokes and puts under a few ids, again and again.
async fn churn(client: Client, number: i64, stop: Arc<AtomicBool>) -> Result<usize> {
    let mut rng = fastrand::Rng::with_seed(number.unsigned_abs());
    let mut done = 0;
    while !stop.load(Ordering::Relaxed) {
        let id = number * 10 + rng.i64(1..=4);
        let key = format!("c/{number}/{}", rng.u8(..6));
        // Each may be refused, as the state of the id is none of its business.
        let _refused = match rng.u8(..4) {
            0 => grant(&client, id).await,
            1 => revoke(&client, id).await,
            _ => put(&client, &key, id).await,
        };
        done += 1;
    }
    Ok(done)
}

async fn churn_over_kills(from: Version, to: Version, seed: u64) -> Result<()> {
    let kills = std::env::var("ETCD_SYNCER_TEST_KILLS");
    let kills = kills.ok().map_or(Ok(KILLS), |kills| kills.parse())?;
    let mut rng = fastrand::Rng::with_seed(seed);
    let primary = Cluster::builder(from)
        .no_fsync()
        .snapshot_count(1_000_000)
        .start()
        .await?;
    let standby = Cluster::builder(to).no_fsync().start().await?;
    let mut syncer = attach(&primary, &standby, &[]).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let mut working = Vec::new();
    for number in 1..=3 {
        working.push(tokio::spawn(churn(
            primary.client().await?,
            number,
            Arc::clone(&stop),
        )));
    }
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(rng.u64(50..1500))).await;
        syncer.respawn()?;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    stop.store(true, Ordering::Relaxed);
    let mut done = 0;
    for worker in working {
        done += worker.await??;
    }
    println!("{from:?} -> {to:?}: seed {seed}, {kills} kills, {done} requests");
    wait_same(&primary, &standby, &syncer).await?;
    let status = syncer.status().await?;
    ensure!(status["leases"]["lost"] == 0, "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn churn_over_kills_3_4() -> Result<()> {
    churn_over_kills(Version::V3_4, Version::V3_6, 34).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn churn_over_kills_3_7() -> Result<()> {
    churn_over_kills(Version::V3_7, Version::V3_5, 37).await
}
