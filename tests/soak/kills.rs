//! The process is killed again and again, at random moments and in the middle of everything that
//! takes more than one step, while keys, leases and users of the primary change. Afterwards both
//! clusters are equal, and the standby's own history shows that it took each revision of the primary
//! once.

mod history;
mod load;
mod moments;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etcd_client::{Client, ConnectOptions};

use self::history::Shown;
use self::load::{Load, Words};
use self::moments::{Aim, Hits, Observer};
use crate::harness::{
    Cluster, Syncer, Version, attach_within, eventually, key_differences, lease_differences,
    read_keys, read_leases,
};
use crate::state::{Dump, assert_same_state_of};

const KILLS: usize = 100;
const WORD: &str = "Vb7-word-of-root";
const EQUAL_WITHIN: Duration = Duration::from_secs(120);
/// A member keeps so many entries behind its last snapshot, and at most twice as many.
const LOG_ENTRIES: u64 = 500;
/// One transaction of the standby carries some 900 operations, so a lease may have too many keys.
const STANDBY: [&str; 3] = [
    "--bcrypt-cost=4",
    "--max-txn-ops=24",
    "--quota-backend-bytes=8589934592",
];

/// Two clusters with auth enabled, and the program between them.
struct World {
    name: String,
    primary: Cluster,
    standby: Cluster,
    syncer: Syncer,
    /// Both as root.
    there: Client,
    here: Client,
    rng: fastrand::Rng,
}

async fn root(endpoints: &[String]) -> Result<Client> {
    let options = ConnectOptions::new()
        .with_user("root", WORD)
        .with_timeout(Duration::from_secs(5));
    Client::connect(endpoints, Some(options))
        .await
        .context("log in as root")
}

/// Whether a cluster knows this user by this password.
async fn lets_in(cluster: &Cluster, name: &str, word: &str) -> Result<bool> {
    let options = ConnectOptions::new().with_user(name, word);
    match Client::connect(cluster.client_endpoints(), Some(options)).await {
        Ok(_) => Ok(true),
        Err(error) if error.to_string().contains("authentication failed") => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn enable_auth(primary: &Cluster) -> Result<()> {
    let mut client = primary.client().await?;
    client.user_add("root", WORD, None).await?;
    client.user_grant_role("root", "root").await?;
    client.auth_enable().await?;
    Ok(())
}

impl World {
    async fn start(from: Version, to: Version, seed: u64, dump: &str) -> Result<Self> {
        let primary = Cluster::builder(from)
            .members(3)
            .no_fsync()
            .snapshot_count(LOG_ENTRIES)
            .catch_up_entries(LOG_ENTRIES)
            .extra_args(["--bcrypt-cost=4"])
            .start()
            .await?;
        let standby = Cluster::builder(to).no_fsync().extra_args(STANDBY);
        let standby = standby.start().await?;
        let endpoints = format!(
            "--primary-endpoints={}",
            primary.client_endpoints().join(",")
        );
        let builder = Syncer::builder(&primary, &standby)?
            .args([&endpoints, "--primary-user=root", "--history=keep"])
            .args(["--dump-state", dump])
            .env("ETCD_SYNCER_STANDBY_PASSWORD", "Qw3-our-own-word")
            .env("ETCD_SYNCER_PRIMARY_PASSWORD", WORD);
        let (mut syncer, _) = attach_within(&primary, builder, EQUAL_WITHIN).await?;
        enable_auth(&primary).await?;
        syncer
            .wait_status("auth is on", EQUAL_WITHIN, |status| {
                status["standby_users"]["auth_enabled"] == true
            })
            .await?;
        let there = root(&primary.client_endpoints()).await?;
        let here = root(&standby.client_endpoints()).await?;
        Ok(Self {
            name: format!("{from} -> {to}"),
            primary,
            standby,
            syncer,
            there,
            here,
            rng: fastrand::Rng::with_seed(seed),
        })
    }

    /// Another member leads, so the log behind the last leader's snapshot is gone for us, too: a
    /// leader that has sent a snapshot keeps its log for half a minute.
    async fn move_leader(&self) -> Result<()> {
        eventually("another leads", EQUAL_WITHIN, async || {
            let leader = self.there.maintenance_client().status().await?.leader();
            let ids = (0..3).map(|member| self.primary.member_id(member));
            let ids = ids.collect::<Result<Vec<_>>>()?;
            let at = ids.iter().position(|id| *id == leader);
            let at = at.context("nobody leads")?;
            let leading = root(&self.primary.client_endpoints()[at..=at]).await?;
            let mut maintenance = leading.maintenance_client();
            maintenance.move_leader(ids[(at + 1) % 3]).await?;
            Ok(())
        })
        .await
    }

    /// Kills it, again and again.
    async fn kill_all(&mut self, kills: usize, load: &Load, hits: &mut Hits) -> Result<()> {
        let observer = Observer::start(&self.here).await?;
        for number in 0..kills {
            let aim = Aim::of(number);
            let writer = observer.writer();
            let delay = Duration::from_millis(self.rng.u64(50..1500));
            let soon = Duration::from_millis(self.rng.u64(0..30));
            let aiming = moments::come(aim, (delay, soon), &self.syncer, &observer, load);
            aiming.await?;
            let status = self.syncer.status().await.ok();
            let ended = self.syncer.exit_status()?;
            let halted = status.as_ref().is_some_and(|s| s["phase"] == "halted");
            ensure!(
                ended.is_none() && !halted,
                "kill {number}: {ended:?}, {status:?}: {}",
                self.syncer.log()?
            );
            self.syncer.kill()?;
            // Asking is refused while roles change.
            let found = eventually("it is seen what was hit", EQUAL_WITHIN, async || {
                observer
                    .look(&self.there, &self.here, status.as_ref(), writer)
                    .await
            })
            .await?;
            println!("{}: kill {number}, aimed at {aim:?}: {found:?}", self.name);
            hits.note(&found);
            let next = Aim::of(number + 1);
            if next == Aim::CatchingUp {
                load.burst(LOG_ENTRIES / 2).await?;
            } else if next == Aim::Installing && aim != Aim::Installing {
                load.burst(3 * LOG_ENTRIES).await?;
                self.move_leader().await?;
                load.burst(LOG_ENTRIES / 5).await?;
            }
            self.syncer.respawn()?;
        }
        Ok(())
    }

    /// Waits until nothing differs; returns how many keys there are, and how many empty leases the
    /// standby has beyond those of the primary: a lease that was made for a batch that a killed
    /// process did not write expires by itself, if a snapshot then passes over its grant and its
    /// end.
    async fn equal(&mut self) -> Result<(usize, usize)> {
        let mut seen = (0, 0);
        let same = eventually("the standby equals the primary", EQUAL_WITHIN, async || {
            let (revision, there) = read_keys(&self.there).await?;
            let (_, here) = read_keys(&self.here).await?;
            let differences = key_differences(&there, &here);
            ensure!(differences.is_empty(), "{:?}", &differences[..1]);
            let mut leases = [
                read_leases(&self.there).await?,
                read_leases(&self.here).await?,
            ];
            for lease in leases.iter_mut().flat_map(|leases| leases.values_mut()) {
                lease.granted_ttl = 0;
            }
            let [theirs, ours] = &mut leases;
            let before = ours.len();
            ours.retain(|id, lease| theirs.contains_key(id) || !lease.keys.is_empty());
            let left_over = before - ours.len();
            let differences = lease_differences(theirs, ours);
            ensure!(differences.is_empty(), "{:?}", &differences[..1]);
            let (theirs, ours) = moments::users(&self.there, &self.here).await?;
            ensure!(theirs == ours, "{ours:?} for {theirs:?}");
            let status = self.syncer.status().await?;
            ensure!(
                status["revision"]["primary"].as_i64() == Some(revision),
                "{status}"
            );
            seen = (there.len(), left_over);
            Ok(())
        });
        same.await
            .with_context(|| self.syncer.log().unwrap_or_default())?;
        Ok(seen)
    }

    /// Whoever the primary lets in is let in, and nobody else.
    async fn same_words(&self, words: &Words) -> Result<(usize, usize)> {
        let (mut tried, mut known) = (0, 0);
        for (name, words) in words {
            for word in words {
                let there = lets_in(&self.primary, name, word).await?;
                let here = lets_in(&self.standby, name, word).await?;
                ensure!(there == here, "{name}: {here} for {there}");
                tried += 1;
                known += usize::from(there);
            }
        }
        Ok((tried, known))
    }
}

async fn kills(from: Version, to: Version, seed: u64) -> Result<()> {
    let kills = std::env::var("ETCD_SYNCER_TEST_KILLS");
    let kills = kills.ok().map_or(Ok(KILLS), |kills| kills.parse())?;
    let folder = tempfile::tempdir()?;
    let dump = folder.path().join("state");
    let started = Instant::now();
    let mut world = World::start(from, to, seed, dump.to_str().context("a path")?).await?;
    let load = Load::start(&world.primary, seed).await?;
    let mut hits = Hits::default();
    let killed = world.kill_all(kills, &load, &mut hits).await;
    killed.with_context(|| world.syncer.log().unwrap_or_default())?;
    println!("{}: {kills} kills hit {hits:?}", world.name);
    let (done, words) = load.stop().await?;
    let (keys, left_over) = world.equal().await?;
    let status = world.syncer.status().await?;
    ensure!(
        status["standby_users"]["not_carried"] == serde_json::json!([]),
        "{}",
        status["standby_users"]
    );
    let (tried, known) = world.same_words(&words).await?;
    world.syncer.terminate()?;
    let code = world.syncer.wait_exit(Duration::from_secs(30)).await?;
    ensure!(code == Some(0), "{code:?}: {}", world.syncer.log()?);
    assert_same_state_of(&Dump::read(&dump)?, &world.there).await?;
    println!(
        "{}: equal after {done:?}: {keys} keys, {left_over} empty leases beyond; {known} of {tried} passwords \
         let in on both sides",
        world.name
    );
    let there = history::of_primary(&world.there).await?;
    let here = history::of_standby(&world.here).await?;
    let shown: Shown = history::compare(&there, &here)?;
    println!(
        "{}: {shown:?}, {:.0} s in all",
        world.name,
        started.elapsed().as_secs_f64()
    );
    let installed = world
        .syncer
        .log()?
        .matches("the snapshot is installed")
        .count();
    println!("{}: {installed} snapshots installed", world.name);
    ensure!(left_over == 0 || installed > 0, "{left_over} empty leases");
    if kills >= KILLS {
        hits.ensure_all()?;
        ensure!(
            installed > 0 && shown.revisions_by_snapshot > 0,
            "{shown:?}"
        );
        ensure!(shown.bases > 1, "{shown:?}");
    }
    Ok(())
}

/// By name, for whoever prints it.
type Counts = BTreeMap<&'static str, usize>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_anywhere_3_5_to_3_6() -> Result<()> {
    Box::pin(kills(Version::V3_5, Version::V3_6, 356)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_anywhere_3_7_to_3_7() -> Result<()> {
    Box::pin(kills(Version::V3_7, Version::V3_7, 377)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_anywhere_3_6_to_3_5() -> Result<()> {
    Box::pin(kills(Version::V3_6, Version::V3_5, 365)).await
}
