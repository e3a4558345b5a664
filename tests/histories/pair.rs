//! A random history on a real primary, and the real program that carries it to a real standby,
//! while the program and the standby are killed now and then.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use etcd_syncer::checkpoint::Checkpoint;
use etcd_syncer::reserved;
use fastrand::Rng;
use serde_json::Value;

use crate::api::{Plan, quiet, signed};
use crate::carried::{self, Told};
use crate::clients::Shared;
use crate::generate::PASSWORDS;
use crate::harness::{Cluster, Syncer, SyncerBuilder, Version, connect, eventually, http_get};
use crate::inject::{FLAGS, LEASE_TTL_MIN};
use crate::judge::{Judge, View};
use crate::leaks::{self, OUR_WORD, OURS};
use crate::logins;
use crate::picture::Picture;
use crate::raw;
use crate::requests::{enable, give_role, password, user_add};
use crate::rpc::Answer;
use crate::verdict::{Report, Verdict};

/// What is between two clusters; all of it follows from a seed.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) history: Plan,
    pub(crate) to: Version,
    standby_members: usize,
    joins: Joins,
    /// How often the program is killed and started again.
    kills: usize,
    /// How often a member of the standby is.
    pub(crate) standby_kills: usize,
    /// Whether the last thing is to enable auth, so that everybody can log in.
    enables: bool,
    tokens: Tokens,
    /// How often the leader of the primary hands over.
    transfers: usize,
    /// Whether the primary has a user with the name of ours on the standby.
    is_taken: bool,
    /// Whether the standby keeps its history, of which then every revision is compared.
    keeps_history: bool,
}

/// What the standby gives to who logs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tokens {
    /// Valid as long as they are used.
    Simple,
    /// Gone when they were not used for a second.
    Short,
    /// Old with each change of users and roles.
    Signed,
}

/// When the program comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Joins {
    First,
    BehindUsers,
    Midway,
}

const SOON: Duration = Duration::from_secs(30);
/// A lease whose revoke had no answer comes again only after two minutes.
const ARRIVED_WITHIN: Duration = Duration::from_secs(180);
/// Before its end 3.4 may not write its last batch otherwise.
const WRITTEN_WITHIN: Duration = Duration::from_millis(250);

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) report: Report,
    /// What the standby has that the primary has not, or lacks, or what was shown.
    pub(crate) found: Vec<String>,
    /// Up to which entry the standby is.
    pub(crate) index: u64,
    /// Logins that were tried on both sides.
    pub(crate) logins: usize,
    pub(crate) not_carried: usize,
    /// Revisions of the standby that were held against what the primary had then.
    pub(crate) compared: usize,
    pub(crate) keys: usize,
    pub(crate) snapshots: usize,
    pub(crate) notes: Vec<&'static str>,
}

/// What is known of the program and the standby before they end.
struct Seen {
    status: Value,
    found: Vec<String>,
    logins: usize,
    shown: leaks::Shown,
}

impl Pair {
    pub(crate) fn new(version: Version, seed: u64, requests: usize) -> Self {
        let mut history = Plan::new(version, seed, requests);
        let mut rng = Rng::with_seed(seed ^ 0x5eed);
        // Members that disagree leave nothing to compare with.
        let agree = history.style.minor == 7 || history.members == 1 && rng.u32(0..3) == 0;
        history.style.top_ranges &= agree;
        history.is_cut = version != Version::V3_4 && rng.u32(0..3) == 0;
        if history.is_cut && history.members > 1 {
            // A member that falls behind gets a snapshot too, and has no whole log to judge by.
            history.kills = 0;
        }
        let near = [
            version,
            version,
            Version::ALL[rng.usize(0..4)],
            newer(version),
        ];
        Self {
            history,
            to: near[rng.usize(0..4)],
            standby_members: if rng.u32(0..4) == 0 { 3 } else { 1 },
            joins: match rng.u32(0..4) {
                0 | 1 => Joins::First,
                2 => Joins::BehindUsers,
                _ => Joins::Midway,
            },
            kills: [0, 0, 1, 1, 2, 4][rng.usize(0..6)],
            standby_kills: [0, 0, 0, 0, 0, 0, 1, 2][rng.usize(0..8)],
            enables: rng.u32(0..4) > 0,
            tokens: [Tokens::Simple, Tokens::Short, Tokens::Signed][rng.usize(0..3)],
            transfers: [0, 0, 1, 3][rng.usize(0..4)],
            is_taken: rng.u32(0..6) == 0,
            keeps_history: rng.bool(),
        }
    }

    async fn start_standby(&self, folder: &Path) -> Result<Cluster> {
        let builder = Cluster::builder(self.to).members(self.standby_members);
        let builder = builder.no_fsync().log_level("error").extra_args(FLAGS);
        let builder = match self.tokens {
            Tokens::Simple => builder,
            Tokens::Short => builder.extra_args(["--auth-token-ttl=1"]),
            Tokens::Signed => builder.extra_args([signed(&folder.join("standby-key"))?]),
        };
        let standby = builder.start().await?;
        versioned(&standby, self.to).await?;
        Ok(standby)
    }

    /// Makes the history, and says what is different on the standby when it has arrived.
    pub(crate) async fn run(&self) -> Result<Outcome> {
        let folder = tempfile::tempdir()?;
        let standby = self.start_standby(folder.path());
        let (primary, standby) = tokio::join!(self.history.start(folder.path()), standby);
        let (mut primary, mut standby) = (primary?, standby?);
        let mut syncer = program(&primary, &standby, folder.path())?;
        if self.keeps_history {
            syncer = syncer.args(["--compaction", "none"]);
        }
        primary.add_learner(&syncer.peer_url()).await?;
        let shared = Shared::new(primary.client_endpoints())?;
        let mut syncer = syncer.spawn()?;
        if self.joins == Joins::First {
            arrive(&mut syncer, 1, false).await?;
        } else {
            syncer.kill()?;
        }
        for request in raw::prelude() {
            let answer = shared.send(0, &request, None).await?;
            ensure!(matches!(answer, Answer::Done(_)), "{request:?}: {answer:?}");
        }
        if self.is_taken {
            for request in [user_add(OURS, OUR_WORD), give_role(OURS, "r")] {
                let answer = shared.send(0, &request, None).await?;
                ensure!(matches!(answer, Answer::Done(_)), "{request:?}: {answer:?}");
            }
        }
        shared.send(0, &enable(), None).await?;
        if self.joins == Joins::BehindUsers {
            syncer.respawn()?;
        }
        let release = primary.release(0)?.to_owned();
        let mut restarted = vec![false; self.history.members];
        let hand_over = self.hand_over(primary.client_endpoints());
        let work = self.history.work(&mut primary, &shared, 0, &mut restarted);
        let disturb = self.disturb(&mut syncer, &mut standby);
        let (worked, disturbed, handed) = tokio::join!(work, disturb, hand_over);
        worked?;
        disturbed?;
        handed?;
        if self.enables {
            enable_again(&shared).await?;
        }
        let seen = self.settle(&primary, &standby, &mut syncer).await;
        let mut seen = seen.map_err(|error| anyhow!("{error:#}\n{}", tail(&syncer)))?;
        syncer.terminate()?;
        let code = syncer.wait_exit(SOON).await?;
        let halted = seen.status["halted"]["exit_code"].as_i64();
        ensure!(
            code.map(i64::from) == Some(halted.unwrap_or(0)),
            "it ended with {code:?}:\n{}",
            tail(&syncer)
        );
        seen.shown.insert("log".to_owned(), syncer.log()?.into());
        leaks::of_folder(syncer.data_dir(), &mut seen.shown)?;
        let verdict = Verdict {
            switches: vec![(0, release)],
            restarted,
            applied: quiet(&primary, self.history.members).await?,
        };
        let answers = shared.counts.lock().expect("no client panics").clone();
        let report = verdict.give(&mut primary, answers).await?;
        tokio::time::sleep(WRITTEN_WITHIN).await;
        for member in 0..self.standby_members {
            standby.stop(member).await?;
        }
        self.judge(report, &standby, seen, &shared.tokens())
    }

    /// Kills the program and members of the standby at random moments.
    async fn disturb(&self, syncer: &mut Syncer, standby: &mut Cluster) -> Result<()> {
        let mut rng = Rng::with_seed(self.history.seed ^ 0xd15);
        if self.joins == Joins::Midway {
            pause(&mut rng, 1500).await;
            syncer.respawn()?;
        }
        let mut turns = vec![true; self.kills];
        turns.extend(vec![false; self.standby_kills]);
        rng.shuffle(&mut turns);
        for of_syncer in turns {
            pause(&mut rng, 1200).await;
            if of_syncer {
                syncer.kill()?;
                pause(&mut rng, 800).await;
                syncer.respawn()?;
            } else {
                let member = rng.usize(0..self.standby_members);
                standby.kill(member)?;
                pause(&mut rng, 500).await;
                standby.spawn(member)?;
            }
        }
        Ok(())
    }

    /// Has the leader of the primary hand over to another member now and then, if that is allowed.
    async fn hand_over(&self, endpoints: Vec<String>) -> Result<()> {
        let mut rng = Rng::with_seed(self.history.seed ^ 0xa5);
        for _ in 0..self.transfers.min(self.history.members - 1) {
            pause(&mut rng, 1200).await;
            let mut ids = Vec::new();
            let mut clients = Vec::new();
            for endpoint in &endpoints {
                let mut client = connect(std::slice::from_ref(endpoint)).await?;
                let status = tokio::time::timeout(Duration::from_secs(1), client.status()).await;
                if let Ok(Ok(status)) = status {
                    ids.extend(status.header().map(|header| header.member_id()));
                    clients.push(client);
                }
            }
            let Some(to) = ids.get(rng.usize(0..ids.len().max(1))).copied() else {
                continue;
            };
            // Only the leader does, and none that is killed meanwhile.
            for mut client in clients {
                let moved = client.move_leader(to);
                let _refused = tokio::time::timeout(Duration::from_secs(1), moved).await;
            }
        }
        Ok(())
    }

    /// Waits until everything is on the standby, and looks at both sides.
    async fn settle(
        &self,
        primary: &Cluster,
        standby: &Cluster,
        syncer: &mut Syncer,
    ) -> Result<Seen> {
        let applied = quiet(primary, self.history.members).await?;
        let status = arrive(syncer, applied, true).await?;
        if status["phase"] == "halted" {
            return Ok(Seen {
                shown: shown(syncer).await?,
                status,
                found: Vec::new(),
                logins: 0,
            });
        }
        let mut found = Vec::new();
        let theirs = logins::of(&primary.client_endpoints()).await?;
        let ours = logins::of(&standby.client_endpoints()).await?;
        let applied = quiet(primary, self.history.members).await?;
        let status = arrive(syncer, applied, true).await?;
        let told = Told::of(&status)?;
        let logins = match (&theirs, &ours) {
            (Some(theirs), Some(ours)) => {
                found.extend(logins::differences(theirs, ours, &told.not_carried));
                theirs.len()
            }
            (None, None) => 0,
            _ => {
                let is = |side: bool| if side { "on" } else { "off" };
                let (a, b) = (is(theirs.is_some()), is(ours.is_some()));
                found.push(format!("auth is {a} on the primary, {b} on the standby"));
                0
            }
        };
        Ok(Seen {
            shown: shown(syncer).await?,
            status,
            found,
            logins,
        })
    }

    fn judge(
        &self,
        report: Report,
        standby: &Cluster,
        mut seen: Seen,
        tokens: &[String],
    ) -> Result<Outcome> {
        let dir = standby.data_dir(0)?;
        let theirs = Picture::of_database(dir)?;
        leaks::of_standby(dir, &mut seen.shown)?;
        let mut found = seen.found;
        found.extend(leaks::find(&seen.shown, tokens));
        let key = reserved::checkpoint_key("test");
        let record = theirs.keys.get(&key).context("no checkpoint")?;
        let index = Checkpoint::decode(&record.value)?.index.0;
        let members = View::Voters(self.history.members);
        let mut judge = Judge::new(&report.release, members, LEASE_TTL_MIN)?;
        let (compared, lines) = carried::on_the_way(&mut judge, &report.log, &theirs)?;
        let is_on_its_way = lines.is_empty();
        found.extend(lines);
        let by_the_clock = judge.tally.disagreements.contains_key("FormerRecord");
        let snapshots = usize::from(!seen.status["snapshot"].is_null());
        let mut notes = Vec::new();
        let mut not_carried = 0;
        if let Some(why) = seen.status["halted"]["reason"].as_str() {
            notes.push("halted");
            let fed = usize::try_from(judge.state().position().index.0)?;
            let at = judge.feed_all(&report.log[fed..])?.unwrap_or(0);
            let is_expected = by_the_clock || why.contains(&format!("resolve entry {at} ("));
            if !is_expected && snapshots == 0 {
                found.push(format!("halted, and not at entry {at}: {why}"));
            }
        } else {
            let told = Told::of(&seen.status)?;
            not_carried = told.not_carried.len();
            found.extend(self.unfounded(&told));
            let own_hashes = self.history.version == Version::V3_4;
            if by_the_clock {
                notes.push("by the clock");
            } else if !judge.tally.halts.is_empty() {
                notes.push("a snapshot went over what cannot be told");
                if snapshots == 0 {
                    found.push(format!("no halt: {:?}", judge.tally.halts));
                }
            } else if is_on_its_way {
                let lines = carried::differences(&judge.picture()?, &theirs, &told, own_hashes);
                found.extend(lines.into_iter().map(|line| format!("resolved: {line}")));
            }
            if usize::try_from(index)? < report.log.len() {
                notes.push("entries came behind it");
            } else if by_the_clock || !judge.tally.disagreements.is_empty() {
                notes.push("members may differ");
            } else {
                notes.push("beside the primary's database");
                for picture in &report.pictures {
                    found.extend(carried::differences(picture, &theirs, &told, own_hashes));
                }
            }
        }
        Ok(Outcome {
            report,
            found,
            index,
            logins: seen.logins,
            not_carried,
            compared,
            keys: theirs.keys.len(),
            snapshots,
            notes,
        })
    }

    /// What should have been carried and is said not to be.
    fn unfounded(&self, told: &Told) -> Vec<String> {
        let mut found = Vec::new();
        for (user, why) in &told.not_carried {
            let is_empty = self.history.style.odd_passwords && why.contains("empty");
            let is_hash = self.to == Version::V3_4 && why.contains("takes no hash");
            if !is_empty && !is_hash {
                found.push(format!("user {user} is not carried: {why}"));
            }
        }
        if told.is_ours_taken != self.is_taken {
            found.push(format!("our name is taken: {}", told.is_ours_taken));
        }
        if let Some(why) = &told.pending {
            found.push(format!("auth is not enabled: {why}"));
        }
        found
    }
}

fn newer(version: Version) -> Version {
    let mut later = Version::ALL.into_iter().filter(|other| *other > version);
    later.next().unwrap_or(version)
}

fn program(primary: &Cluster, standby: &Cluster, folder: &Path) -> Result<SyncerBuilder> {
    Ok(Syncer::builder(primary, standby)?
        .env("ETCD_SYNCER_STANDBY_PASSWORD", OUR_WORD)
        .env("RUST_LOG", "debug,etcd_syncer=trace")
        .args([format!("--standby-user={OURS}")])
        .data_dir(&folder.join("data")))
}

/// Waits until a cluster knows its version: before it takes no hashes.
pub(crate) async fn versioned(cluster: &Cluster, version: Version) -> Result<()> {
    let wanted = format!("\"etcdcluster\":\"{version}.");
    let address = cluster.client_address(0)?;
    eventually("the cluster has a version", SOON, async || {
        let answer = http_get(&address, "/version").await?;
        ensure!(answer.body.contains(&wanted), "{}", answer.body);
        Ok(())
    })
    .await
}

async fn pause(rng: &mut Rng, millis_max: u64) {
    tokio::time::sleep(Duration::from_millis(rng.u64(0..millis_max))).await;
}

/// Waits until the standby has what this entry did, or the stream halts before.
pub(crate) async fn arrive(syncer: &mut Syncer, index: u64, has_users: bool) -> Result<Value> {
    let what = format!("entry {index} is on the standby");
    let status = syncer.wait_status(&what, ARRIVED_WITHIN, |status| {
        let is_there = status["phase"] == "streaming"
            && status["raft"]["durable"].as_u64() >= Some(index)
            && status["leases"]["ending"] == 0
            && (!has_users || status["standby_users"].is_object());
        is_there || status["phase"] == "halted"
    });
    let status = status.await?;
    Ok(status)
}

async fn shown(syncer: &Syncer) -> Result<leaks::Shown> {
    let mut shown = leaks::Shown::new();
    for path in ["/status", "/metrics", "/readyz"] {
        let answer = syncer.get(path).await?;
        shown.insert(path.to_owned(), answer.body.into());
    }
    Ok(shown)
}

/// Gives root what auth needs, as far as anybody still may.
async fn enable_again(shared: &Shared) -> Result<()> {
    if shared.login(0, "root").await? {
        return Ok(());
    }
    for request in [
        user_add("root", PASSWORDS[0]),
        password("root", PASSWORDS[0], ""),
        give_role("root", "root"),
        enable(),
    ] {
        shared.send(0, &request, None).await?;
    }
    Ok(())
}

/// The end of the program's log, without what only a developer of it wants to know.
fn tail(syncer: &Syncer) -> String {
    let log = syncer.log().unwrap_or_default();
    let is_said = |line: &&str| !line.contains(" TRACE ") && !line.contains(" DEBUG ");
    let lines: Vec<&str> = log.lines().filter(is_said).collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}
