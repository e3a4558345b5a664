//! The load of a service registry: each instance has a lease of its own, kept alive, and a key. Some
//! sign off, some just vanish, others come. The standby follows each within a second.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etcd_client::{Client, LeaseGrantOptions, PutOptions};
use tokio::task::JoinSet;

use crate::delays::{delays, observe, show};
use crate::harness::{
    Cluster, LeftOver, Syncer, Version, assert_same_keys_and_values, assert_same_lease_keys,
    attach, connect, eventually,
};

const TTL: i64 = 10;
const CLIENTS: usize = 32;
const KEEPERS: usize = 4;
const PREFIX: &str = "svc/";

fn setting(name: &str, default: usize) -> usize {
    let found = std::env::var(name).ok();
    found.and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The leases that are kept alive; those of one keeper by number.
#[derive(Debug, Default)]
struct Alive(Mutex<BTreeMap<i64, usize>>);

impl Alive {
    fn change<T>(&self, change: impl FnOnce(&mut BTreeMap<i64, usize>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn of(&self, keeper: usize) -> Vec<i64> {
        self.change(|alive| {
            let ids = alive.iter().filter(|(_, number)| **number == keeper);
            ids.map(|(id, _)| *id).collect()
        })
    }
}

/// Renews the leases of one keeper every three seconds, all in one stream.
async fn keep(client: Client, keeper: usize, alive: Arc<Alive>) -> Result<()> {
    loop {
        let started = Instant::now();
        let ids = alive.of(keeper);
        if let Some(first) = ids.first() {
            let opened = client.lease_client().keep_alive(*first).await;
            let (mut keeper, mut answers) = match opened {
                Ok(opened) => opened,
                // The first one was revoked in this moment.
                Err(_) => continue,
            };
            let count = ids.len();
            let reading = async move {
                for _ in 0..count {
                    answers.message().await?.context("the stream ended")?;
                }
                anyhow::Ok(())
            };
            let asking = async move {
                for id in ids {
                    keeper.id = id;
                    keeper.keep_alive().await?;
                }
                anyhow::Ok(keeper)
            };
            let (_keeper, ()) = tokio::try_join!(asking, reading)?;
        }
        tokio::time::sleep(Duration::from_secs(3).saturating_sub(started.elapsed())).await;
    }
}

/// Instances sign on: a lease and a key each.
async fn sign_on(endpoints: &[String], ids: Vec<i64>, alive: &Arc<Alive>) -> Result<()> {
    let mut tasks = JoinSet::new();
    for chunk in ids.chunks(ids.len().div_ceil(CLIENTS).max(1)) {
        let (chunk, alive) = (chunk.to_vec(), Arc::clone(alive));
        let mut client = connect(endpoints).await?;
        tasks.spawn(async move {
            for id in chunk {
                let options = LeaseGrantOptions::new().with_id(id);
                client.lease_grant(TTL, Some(options)).await?;
                let keeper = usize::try_from(id)? % KEEPERS;
                alive.change(|alive| alive.insert(id, keeper));
                let options = PutOptions::new().with_lease(id);
                let address = format!("10.0.{}.{}:80", id / 256 % 256, id % 256);
                client
                    .put(format!("{PREFIX}{id:08}"), address, Some(options))
                    .await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

async fn wait_same(primary: &Cluster, standby: &Cluster, syncer: &Syncer) -> Result<()> {
    let same = eventually("the standby equals", Duration::from_secs(120), async || {
        assert_same_keys_and_values(primary, standby).await?;
        assert_same_lease_keys(primary, standby, LeftOver::None).await
    });
    same.await.with_context(|| syncer.log().unwrap_or_default())
}

async fn registry(from: Version, to: Version) -> Result<()> {
    let instances = setting("ETCD_SYNCER_TEST_LEASES", 20_000);
    let seconds = setting("ETCD_SYNCER_TEST_SECONDS", 60);
    let rate = setting("ETCD_SYNCER_TEST_RATE", 200);
    println!("{from:?} -> {to:?}: {instances} leases, {rate} come and go each second");
    let primary = Cluster::builder(from)
        .no_fsync()
        .log_level("error")
        .start()
        .await?;
    let standby = Cluster::builder(to)
        .no_fsync()
        .log_level("error")
        .start()
        .await?;
    let mut syncer = attach(&primary, &standby, &[]).await?;
    let alive = Arc::new(Alive::default());
    for keeper in 0..KEEPERS {
        tokio::spawn(keep(primary.client().await?, keeper, Arc::clone(&alive)));
    }
    let endpoints = primary.client_endpoints();
    let next = i64::try_from(instances)? + 1;
    let all: VecDeque<i64> = (1..next).collect();
    let started = Instant::now();
    sign_on(&endpoints, all.iter().copied().collect(), &alive).await?;
    println!("all signed on within {:.1?}", started.elapsed());
    syncer
        .wait_status("all leases", Duration::from_secs(120), |status| {
            status["leases"]["held"].as_u64() == u64::try_from(instances).ok()
        })
        .await?;
    let there = observe(primary.client().await?, PREFIX).await?;
    let here = observe(standby.client().await?, PREFIX).await?;
    let cpu = syncer.cpu_seconds()?;
    let mut churn = Churn {
        endpoints,
        alive: Arc::clone(&alive),
        present: all,
        next,
    };
    churn.run(seconds, rate).await?;
    let cpu = (syncer.cpu_seconds()? - cpu) / seconds as f64;

    // Those that vanished are gone when their TTL is over.
    tokio::time::sleep(Duration::from_secs(20)).await;
    let came = delays(&there, &here, true);
    let went = delays(&there, &here, false);
    show("came", &came);
    show("went", &went);
    println!("{cpu:.2} processors of the syncer while {rate} came and went each second");
    println!("{}", syncer.status().await?["leases"]);
    for last in [came.last(), went.last()] {
        let last = last.context("nobody came or went")?;
        ensure!(*last < 1_000, "more than a second behind: {last} ms");
    }
    wait_same(&primary, &standby, &syncer).await?;
    let ids: BTreeSet<i64> = alive.change(|alive| alive.keys().copied().collect());
    let leases = syncer.status().await?["leases"].take();
    ensure!(
        leases["held"].as_u64() == u64::try_from(ids.len()).ok(),
        "{leases}"
    );
    ensure!(leases["lost"] == 0, "{leases}");

    away(&mut syncer, &standby, &mut churn, rate).await?;
    wait_same(&primary, &standby, &syncer).await
}

/// The program is gone for six times the primary's TTL, while instances come and go.
async fn away(
    syncer: &mut Syncer,
    standby: &Cluster,
    churn: &mut Churn,
    rate: usize,
) -> Result<()> {
    let seconds = setting("ETCD_SYNCER_TEST_AWAY_SECONDS", 60);
    syncer.kill()?;
    let here = observe(standby.client().await?, PREFIX).await?;
    churn.run(seconds, rate).await?;
    let lost = here.count(false);
    ensure!(
        lost == 0,
        "{lost} keys went while nobody wrote to the standby"
    );

    // A process that begins looks at every lease, while the stream goes on.
    syncer.respawn()?;
    let started = Instant::now();
    let present = u64::try_from(churn.present.len())?;
    let gone_by = churn.next - i64::try_from(present)?;
    let status = syncer
        .wait_status("all are renewed", Duration::from_secs(120), |status| {
            let leases = &status["leases"];
            leases["held"].as_u64() == Some(present)
                && leases["renewed"].as_u64() >= Some(present)
                && leases["unseen"] == 0
                && leases["ending"] == 0
        })
        .await?;
    let leases = &status["leases"];
    println!(
        "after {seconds} s without it, {:.1?} until all was followed up and renewed",
        started.elapsed()
    );
    ensure!(leases["lost"] == 0 && leases["restored"] == 0, "{leases}");
    for id in gone_by..churn.next {
        let key = format!("{PREFIX}{id:08}");
        ensure!(!here.has(key.as_bytes(), false), "{key} was lost");
    }
    Ok(())
}

/// Who comes and goes.
struct Churn {
    endpoints: Vec<String>,
    alive: Arc<Alive>,
    /// In the order of their ids, which have no gaps.
    present: VecDeque<i64>,
    next: i64,
}

impl Churn {
    /// Each second half of `rate` sign off, half vanish, and as many come.
    async fn run(&mut self, seconds: usize, rate: usize) -> Result<()> {
        let mut client = connect(&self.endpoints).await?;
        for _ in 0..seconds {
            let started = Instant::now();
            let mut signing_off = Vec::new();
            for number in 0..rate {
                let Some(id) = self.present.pop_front() else {
                    break;
                };
                self.alive.change(|alive| alive.remove(&id));
                if number % 2 == 0 {
                    signing_off.push(id);
                }
            }
            for id in signing_off {
                client.lease_revoke(id).await?;
            }
            let coming: Vec<i64> = (self.next..).take(rate).collect();
            self.next += i64::try_from(rate)?;
            self.present.extend(&coming);
            sign_on(&self.endpoints, coming, &self.alive).await?;
            let left = Duration::from_secs(1).saturating_sub(started.elapsed());
            tokio::time::sleep(left).await;
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registry_3_5_to_3_6() -> Result<()> {
    Box::pin(registry(Version::V3_5, Version::V3_6)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registry_3_7_to_3_4() -> Result<()> {
    Box::pin(registry(Version::V3_7, Version::V3_4)).await
}
