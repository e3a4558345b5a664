//! A process that ends at any moment is followed by one that goes on exactly where it was.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etcd_client::{Client, DeleteOptions, EventType, PutOptions, Txn, TxnOp, WatchOptions};

use crate::harness::{
    Cluster, Version, assert_same_keys_and_values, attach, wait_same_keys_and_values,
};
use crate::state::{Dump, assert_same_state};

/// How often the process is killed, unless the environment says otherwise.
const KILLS: usize = 8;
const KEYS: usize = 60;
const CLIENTS: usize = 4;

/// Puts, deletes, ranges, transactions, leases: every value is written once only.
async fn work(mut client: Client, number: usize, stop: Arc<AtomicBool>) -> Result<usize> {
    let mut rng = fastrand::Rng::with_seed(number as u64);
    let mut done = 0;
    let lease = client.lease_grant(3600, None).await?.id();
    while !stop.load(Ordering::Relaxed) {
        let mut key = || format!("k/{:03}", rng.usize(..KEYS));
        let (one, two) = (key(), key());
        let value = format!("{number}-{done}");
        match done % 10 {
            0 => {
                client.delete(one, None).await?;
            }
            1 => {
                let (from, to) = (one.clone().min(two.clone()), one.max(two));
                let range = DeleteOptions::new().with_range(to);
                client.delete(from, Some(range)).await?;
            }
            2 | 3 if one != two => {
                let puts = [one, two].map(|key| TxnOp::put(key, value.clone(), None));
                client.txn(Txn::new().and_then(puts.to_vec())).await?;
            }
            4 => {
                let leased = PutOptions::new().with_lease(lease);
                client.put(one, value, Some(leased)).await?;
            }
            _ => {
                client.put(one, value, None).await?;
            }
        }
        done += 1;
    }
    Ok(done)
}

type Histories = BTreeMap<Vec<u8>, Vec<Option<Vec<u8>>>>;

/// Everything that ever happened to each key below `k/`, in order.
async fn histories(cluster: &Cluster) -> Result<Histories> {
    let mut client = cluster.client().await?;
    let end = client.put("k-end", "", None).await?;
    let end = end.header().context("a header")?.revision();
    let options = WatchOptions::new()
        .with_range("k0")
        .with_start_revision(1)
        .with_progress_notify();
    let mut stream = client.watch("k", Some(options)).await?;
    let mut histories = Histories::new();
    loop {
        let answer = tokio::time::timeout(Duration::from_secs(20), stream.message()).await??;
        let answer = answer.context("the watch ended")?;
        ensure!(!answer.canceled(), "the history was compacted");
        for event in answer.events() {
            let kv = event.kv().context("an event without a key")?;
            if kv.key() == b"k-end" {
                if kv.mod_revision() == end {
                    return Ok(histories);
                }
                continue;
            }
            let value = (event.event_type() == EventType::Put).then(|| kv.value().to_vec());
            histories.entry(kv.key().to_vec()).or_default().push(value);
        }
    }
}

async fn killed(from: Version, to: Version, seed: u64) -> Result<()> {
    let kills = std::env::var("ETCD_SYNCER_TEST_KILLS");
    let kills = kills.ok().map_or(Ok(KILLS), |kills| kills.parse())?;
    println!("{from:?} -> {to:?}: seed {seed}, {kills} kills");
    let mut rng = fastrand::Rng::with_seed(seed);
    // The whole log stays, so each process can go on by it, however long it takes to start.
    let primary = Cluster::builder(from)
        .no_fsync()
        .snapshot_count(1_000_000)
        .start()
        .await?;
    let standby = Cluster::builder(to).no_fsync().start().await?;
    let folder = tempfile::tempdir()?;
    let dump = folder.path().join("state");
    let file = dump.to_str().context("a path")?;
    let mut syncer = attach(
        &primary,
        &standby,
        &["--history", "keep", "--dump-state", file],
    )
    .await?;
    let stop = Arc::new(AtomicBool::new(false));
    let mut working = Vec::new();
    for number in 0..CLIENTS {
        working.push(tokio::spawn(work(
            primary.client().await?,
            number,
            Arc::clone(&stop),
        )));
    }
    for kill in 0..kills {
        tokio::time::sleep(Duration::from_millis(rng.u64(50..1500))).await;
        if kill % 4 == 3 {
            syncer.terminate()?;
            let code = syncer.wait_exit(Duration::from_secs(15)).await?;
            ensure!(code == Some(0), "{code:?}: {}", syncer.log()?);
        } else {
            syncer.kill()?;
        }
        syncer.respawn()?;
    }
    stop.store(true, Ordering::Relaxed);
    let mut done = 0;
    for worker in working {
        done += worker.await??;
    }
    println!("{from:?} -> {to:?}: {done} operations");
    let same = wait_same_keys_and_values(&primary, &standby, Duration::from_secs(60)).await;
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
    assert_same_keys_and_values(&primary, &standby).await?;
    assert_same_state(&Dump::read(&dump)?, &primary).await?;
    let (there, here) = (histories(&primary).await?, histories(&standby).await?);
    for (key, events) in &there {
        let ours = here.get(key).map(Vec::as_slice).unwrap_or_default();
        ensure!(
            ours == events,
            "{}: not each state once",
            String::from_utf8_lossy(key)
        );
    }
    ensure!(there.len() == here.len(), "keys that the primary never had");
    let log = syncer.log()?;
    ensure!(log.contains("going on from the checkpoint"), "{log}");
    Ok(())
}

macro_rules! killed {
    ($name:ident, $from:ident, $to:ident, $seed:literal) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() -> Result<()> {
            killed(Version::$from, Version::$to, $seed).await
        }
    };
}

killed!(each_state_comes_once_over_kills_3_4, V3_4, V3_6, 4);
killed!(each_state_comes_once_over_kills_3_5, V3_5, V3_7, 5);
