//! The load of a service registry: each instance has a lease of its own, kept alive, and a key. Some
//! sign off, some just vanish, others come. The standby follows each within a second.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etcd_client::{Client, EventType, LeaseGrantOptions, PutOptions, WatchOptions};
use tokio::task::JoinSet;

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

type Seen = Arc<Mutex<BTreeMap<(Vec<u8>, bool), Instant>>>;

/// Notes when each key is seen to come (true) and go (false).
async fn observe(cluster: &Cluster) -> Result<Seen> {
    let seen = Seen::default();
    let mut client = cluster.client().await?;
    let options = WatchOptions::new().with_prefix();
    let mut stream = client.watch(PREFIX, Some(options)).await?;
    let noted = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok(Some(answer)) = stream.message().await {
            let now = Instant::now();
            let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
            for event in answer.events() {
                if let Some(kv) = event.kv() {
                    let came = event.event_type() == EventType::Put;
                    noted.insert((kv.key().to_vec(), came), now);
                }
            }
        }
    });
    Ok(seen)
}

/// From the primary's event to the standby's, in milliseconds, ascending; those of `came` only.
fn delays(primary: &Seen, standby: &Seen, came: bool) -> Vec<u128> {
    let primary = primary.lock().unwrap_or_else(PoisonError::into_inner);
    let standby = standby.lock().unwrap_or_else(PoisonError::into_inner);
    let mut delays: Vec<u128> = primary
        .iter()
        .filter(|((_, kind), _)| *kind == came)
        .filter_map(|(event, there)| {
            let here = standby.get(event)?;
            Some(here.saturating_duration_since(*there).as_millis())
        })
        .collect();
    delays.sort_unstable();
    delays
}

fn show(what: &str, delays: &[u128]) -> u128 {
    let at = |hundredth: usize| delays.get(delays.len() * hundredth / 100).copied();
    let (half, most) = (at(50).unwrap_or(0), at(99).unwrap_or(0));
    let last = delays.last().copied().unwrap_or(0);
    println!(
        "{what}: {} events, half within {half} ms, 99 of 100 within {most} ms, all within {last} ms",
        delays.len()
    );
    most
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
    let mut next = i64::try_from(instances)? + 1;
    let all: VecDeque<i64> = (1..next).collect();
    let started = Instant::now();
    sign_on(&endpoints, all.iter().copied().collect(), &alive).await?;
    println!("all signed on within {:.1?}", started.elapsed());
    syncer
        .wait_status("all leases", Duration::from_secs(120), |status| {
            status["leases"]["held"].as_u64() == u64::try_from(instances).ok()
        })
        .await?;
    let (there, here) = (observe(&primary).await?, observe(&standby).await?);
    let cpu = syncer.cpu_seconds()?;
    let churn = Churn {
        endpoints,
        alive: Arc::clone(&alive),
        present: all,
    };
    churn.run(&mut next, seconds, rate).await?;
    let cpu = (syncer.cpu_seconds()? - cpu) / seconds as f64;

    // Those that vanished are gone when their TTL is over.
    tokio::time::sleep(Duration::from_secs(20)).await;
    let came = show("came", &delays(&there, &here, true));
    let went = show("went", &delays(&there, &here, false));
    println!("{cpu:.2} processors of the syncer while {rate} came and went each second");
    println!("{}", syncer.status().await?["leases"]);
    ensure!(came < 1_000 && went < 1_000, "more than a second behind");
    wait_same(&primary, &standby, &syncer).await?;
    let ids: BTreeSet<i64> = alive.change(|alive| alive.keys().copied().collect());
    let leases = syncer.status().await?["leases"].take();
    ensure!(
        leases["held"].as_u64() == u64::try_from(ids.len()).ok(),
        "{leases}"
    );
    ensure!(leases["lost"] == 0, "{leases}");

    // A process that begins looks at every lease, while the stream goes on.
    syncer.respawn()?;
    let started = Instant::now();
    let count = u64::try_from(ids.len()).ok();
    let status = syncer
        .wait_status("all are renewed", Duration::from_secs(120), |status| {
            let leases = &status["leases"];
            leases["renewed"].as_u64() >= count && leases["unseen"] == 0
        })
        .await?;
    let leases = &status["leases"];
    println!(
        "a new process saw and renewed all within {:.1?}",
        started.elapsed()
    );
    ensure!(leases["lost"] == 0 && leases["restored"] == 0, "{leases}");
    wait_same(&primary, &standby, &syncer).await
}

/// Who comes and goes.
struct Churn {
    endpoints: Vec<String>,
    alive: Arc<Alive>,
    present: VecDeque<i64>,
}

impl Churn {
    /// Each second half of `rate` sign off, half vanish, and as many come.
    async fn run(mut self, next: &mut i64, seconds: usize, rate: usize) -> Result<()> {
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
            let coming: Vec<i64> = (*next..).take(rate).collect();
            *next += i64::try_from(rate)?;
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
