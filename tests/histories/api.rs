//! Random histories that clients make on real clusters, while leaders are killed or members are
//! upgraded.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use fastrand::Rng;
use tokio::task::JoinSet;

use crate::clients::{self, Shared};
use crate::gauges::Gauges;
use crate::generate::{Generator, Style};
use crate::harness::{Cluster, Version, eventually, http_get};
use crate::inject::FLAGS;
use crate::raw;
use crate::requests::{Ask as _, enable, put};
use crate::rpc::Answer;
use crate::verdict::{Report, Verdict};

/// What a history is like; all of it follows from its seed.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) version: Version,
    /// Releases that all members are upgraded to one after the other, each after so many requests.
    pub(crate) upgrades: Vec<Version>,
    pub(crate) seed: u64,
    pub(crate) members: usize,
    pub(crate) clients: usize,
    pub(crate) requests: usize,
    pub(crate) kills: usize,
    /// Tokens with the auth revision of their login, instead of those that members keep.
    pub(crate) jwt: bool,
    /// So little space that it runs out.
    pub(crate) is_small: bool,
    /// Members keep so few entries that who falls behind needs a snapshot.
    pub(crate) is_cut: bool,
    pub(crate) style: Style,
}

const QUIET_WITHIN: Duration = Duration::from_secs(20);

impl Plan {
    pub(crate) fn new(version: Version, seed: u64, requests: usize) -> Self {
        let mut rng = Rng::with_seed(seed);
        let members = if rng.bool() { 1 } else { 3 };
        let kills = if rng.u32(0..3) == 0 {
            rng.usize(1..3)
        } else {
            0
        };
        let minor = minor(version);
        let is_small = rng.u32(0..8) == 0;
        Self {
            version,
            upgrades: Vec::new(),
            seed,
            members,
            clients: rng.usize(1..5),
            requests,
            kills,
            jwt: rng.u32(0..3) > 0,
            is_small,
            is_cut: false,
            style: Style {
                minor,
                is_raw: false,
                // After a restart a member is not the proposer any more, which the log cannot tell.
                top_ranges: kills == 0 || minor == 7,
                reputs: kills == 0 && rng.bool(),
                alarms: rng.u32(0..3) == 0,
                large_values: is_small,
                odd_permissions: rng.u32(0..3) == 0,
                odd_passwords: rng.u32(0..4) == 0,
            },
        }
    }

    /// From the oldest release to the newest.
    pub(crate) fn with_upgrades(seed: u64, requests: usize) -> Self {
        let [version, upgrades @ ..] = Version::ALL;
        let mut plan = Self::new(version, seed, requests);
        plan.upgrades = upgrades.to_vec();
        (plan.kills, plan.is_small) = (0, false);
        // Up to 3.5 a member that starts while one is raised checks more than others.
        (plan.style.alarms, plan.style.large_values) = (false, false);
        plan
    }

    /// 3.6 cannot start with what 3.4 logs for a health check, so when members are upgraded that
    /// must lie behind a snapshot; the files of the log stay.
    pub(crate) async fn start(&self, folder: &Path) -> Result<Cluster> {
        let mut args: Vec<String> = FLAGS.map(str::to_owned).to_vec();
        if self.jwt {
            args.push(signed(&folder.join("key"))?);
        }
        if self.is_small {
            args.push("--quota-backend-bytes=150000".to_owned());
        }
        // A learner may be added at once.
        args.push("--strict-reconfig-check=false".to_owned());
        let entries = match (self.is_cut, self.upgrades.is_empty()) {
            (true, _) => 50,
            (false, true) => 1_000_000,
            (false, false) => 25,
        };
        let mut builder = Cluster::builder(self.version);
        if self.is_cut {
            builder = builder.catch_up_entries(10);
        }
        builder
            .members(self.members)
            .no_fsync()
            .snapshot_count(entries)
            .log_level("error")
            .extra_args(args)
            .start()
            .await
    }

    /// Makes the history, and says whether what we resolve of it is what each member holds.
    pub(crate) async fn run(&self) -> Result<Report> {
        let folder = tempfile::tempdir()?;
        let mut cluster = self.start(folder.path()).await?;
        let shared = Shared::new(cluster.client_endpoints())?;
        for request in raw::prelude() {
            let answer = shared.send(0, &request, None).await?;
            ensure!(matches!(answer, Answer::Done(_)), "{request:?}: {answer:?}");
        }
        shared.send(0, &enable(), None).await?;
        let mut switches = vec![(0, cluster.release(0)?.to_owned())];
        let mut restarted = vec![false; self.members];
        for phase in 0..=self.upgrades.len() {
            self.work(&mut cluster, &shared, phase, &mut restarted)
                .await?;
            if let Some(next) = self.upgrades.get(phase) {
                self.settle(&cluster, &shared).await?;
                let applied = quiet(&cluster, self.members).await?;
                for member in 0..self.members {
                    cluster.spawn_as(member, *next).await?;
                    back(&cluster, member).await?;
                }
                upgraded(&cluster, *next).await?;
                switches.push((applied, cluster.release(0)?.to_owned()));
            }
        }
        let applied = quiet(&cluster, self.members).await?;
        let answers = shared.counts.lock().expect("no client panics").clone();
        let verdict = Verdict {
            switches,
            restarted,
            applied,
        };
        verdict.give(&mut cluster, answers).await
    }

    /// Has all clients do their part of the requests.
    pub(crate) async fn work(
        &self,
        cluster: &mut Cluster,
        shared: &Arc<Shared>,
        phase: usize,
        restarted: &mut [bool],
    ) -> Result<()> {
        let mut style = self.style;
        let all = [self.version].into_iter().chain(self.upgrades.clone());
        style.minor = all.clone().nth(phase).map_or(style.minor, minor);
        let mut workers = JoinSet::new();
        for number in 0..self.clients {
            let salt = u64::try_from(phase * 100 + number)?;
            let seed = self.seed.wrapping_mul(1000).wrapping_add(salt);
            let generator = Generator::new(seed, style);
            let count = self.requests / self.clients / (1 + self.upgrades.len());
            workers.spawn(clients::work(Arc::clone(shared), generator, number, count));
        }
        for _ in 0..self.kills {
            tokio::time::sleep(Duration::from_millis(500)).await;
            self.kill(cluster, shared, restarted).await?;
        }
        while let Some(worker) = workers.join_next().await {
            worker??;
        }
        Ok(())
    }

    /// Makes a revision and waits until it is on disk; true if it did. 3.4 applies what comes after
    /// the last one again when it starts, so nothing may that depends on what came later.
    async fn settle(&self, cluster: &Cluster, shared: &Shared) -> Result<bool> {
        quiet(cluster, self.members).await?;
        let put = put("g/1", "settled").ask();
        let done = shared.as_root(0, &put).await?;
        tokio::time::sleep(Duration::from_millis(250)).await;
        Ok(matches!(done, Answer::Done(_)))
    }

    /// Kills the leader and starts it again.
    async fn kill(
        &self,
        cluster: &mut Cluster,
        shared: &Arc<Shared>,
        restarted: &mut [bool],
    ) -> Result<()> {
        let leader = leader(cluster, self.members).await?;
        // Up to 3.5 a member that starts while an alarm is raised checks more than others.
        let fragile = self.style.minor <= 5;
        shared.hushed.store(fragile, Ordering::Relaxed);
        if fragile {
            shared.clear_alarms(leader).await?;
            tokio::time::sleep(Duration::from_millis(250)).await;
            shared.clear_alarms(leader).await?;
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        // 3.4 applies some entries again after a start: none may come after the last that counts.
        let alone = self.style.minor == 4 && self.members == 1;
        let _turn = if alone {
            Some(shared.turn.write().await)
        } else {
            None
        };
        if alone && !self.settle(cluster, shared).await? {
            shared.hushed.store(false, Ordering::Relaxed);
            return Ok(());
        }
        cluster.kill(leader)?;
        restarted[leader] = true;
        tokio::time::sleep(Duration::from_millis(300)).await;
        cluster.spawn(leader)?;
        back(cluster, leader).await?;
        // Until it has told its name, a member up to 3.5 is not known to have started.
        tokio::time::sleep(Duration::from_millis(200)).await;
        shared.hushed.store(false, Ordering::Relaxed);
        Ok(())
    }
}

/// Has members sign their tokens with the key that is put into this file.
pub(crate) fn signed(key: &Path) -> Result<String> {
    std::fs::write(
        key,
        b"not much of a secret, and long enough for a signature",
    )?;
    let key = key.display();
    let how = format!("jwt,priv-key={key},sign-method=HS256,ttl=10m");
    Ok(format!("--auth-token={how}"))
}

/// Waits until nothing is under way, and says how far all members got.
pub(crate) async fn quiet(cluster: &Cluster, members: usize) -> Result<u64> {
    let started = Instant::now();
    let mut last = (0, Instant::now());
    while started.elapsed() < QUIET_WITHIN {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut all = Vec::new();
        for member in 0..members {
            all.extend(Gauges::of(cluster, member).await);
        }
        let first = all.first().map_or(0, |gauges| gauges.applied);
        let level = |g: &Gauges| g.has_leader && (g.applied, g.committed) == (first, first);
        if all.len() < members || !all.iter().all(level) || first != last.0 {
            last = (first, Instant::now());
        } else if last.1.elapsed() > Duration::from_millis(300) {
            return Ok(first);
        }
    }
    bail!("the cluster does not come to rest")
}

async fn leader(cluster: &Cluster, members: usize) -> Result<usize> {
    let started = Instant::now();
    while started.elapsed() < QUIET_WITHIN {
        for member in 0..members {
            let gauges = Gauges::of(cluster, member).await;
            if gauges.is_ok_and(|gauges| gauges.is_leader) {
                return Ok(member);
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("no member leads")
}

/// Waits until a member that was started has caught up.
async fn back(cluster: &Cluster, member: usize) -> Result<()> {
    eventually(
        &format!("member {member} is back"),
        QUIET_WITHIN,
        async || {
            let gauges = Gauges::of(cluster, member).await?;
            ensure!(
                gauges.has_leader && gauges.applied >= gauges.committed,
                "{gauges:?}"
            );
            Ok(())
        },
    )
    .await
}

/// Waits until the members agree on the version, without which the next upgrade fails.
async fn upgraded(cluster: &Cluster, version: Version) -> Result<()> {
    let wanted = format!("\"etcdcluster\":\"{version}.");
    let address = cluster.client_address(0)?;
    eventually("the cluster is upgraded", QUIET_WITHIN, async || {
        let answer = http_get(&address, "/version").await?;
        ensure!(answer.body.contains(&wanted), "{}", answer.body);
        Ok(())
    })
    .await
}

fn minor(version: Version) -> u32 {
    match version {
        Version::V3_4 => 4,
        Version::V3_5 => 5,
        Version::V3_6 => 6,
        Version::V3_7 => 7,
    }
}
