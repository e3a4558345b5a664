//! When to kill, and what was hit. What the process was at is read from the standby right after its
//! end, where that tells it, and else from its status page right before.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etcd_client::{Client, GetOptions, WatchOptions};
use etcd_syncer::checkpoint::{Checkpoint, Phase};
use etcd_syncer::ids::LeaseId;
use etcd_syncer::reserved;
use serde_json::Value;
use tokio::sync::watch;

use super::Counts;
use super::load::Load;
use crate::harness::Syncer;

const STREAM: &str = "test";
/// The program's own user of the standby.
const OURS: &str = "etcd-syncer";
/// How long a moment is waited for that may not come.
const PATIENCE: Duration = Duration::from_secs(15);
const ENTRIES_BEHIND: u64 = 50;

/// When to kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// Any time.
    Any,
    /// Before it writes.
    Starting,
    /// While it replays the log.
    CatchingUp,
    /// While a snapshot is being installed.
    Installing,
    /// While a new base of the ledger is being written.
    Base,
    /// While the standby revokes a lease of many keys.
    LargeLease,
    /// While leases are being ended.
    Leases,
    /// While users change.
    Users,
}

impl Aim {
    /// Of each kill; two follow each other into an installation.
    pub(super) fn of(number: usize) -> Self {
        match number % 12 {
            3 => Self::CatchingUp,
            5 | 6 => Self::Installing,
            8 => Self::Base,
            9 => Self::LargeLease,
            10 => Self::Users,
            11 if number % 24 < 12 => Self::Leases,
            11 => Self::Starting,
            _ => Self::Any,
        }
    }
}

/// The newest of what the standby's own keys say.
#[derive(Clone, Debug, Default)]
struct Latest {
    checkpoint: Option<Checkpoint>,
    /// Highest generation of which a chunk was written.
    chunk: u64,
}

impl Latest {
    /// Some batch of an installation, by another process than `writer`, and not only its claim.
    fn installs(&self, writer: u64) -> bool {
        self.checkpoint.as_ref().is_some_and(|found| {
            found.phase != Phase::Streaming && found.writer != writer && found.batch > 0
        })
    }

    fn writes_base(&self) -> bool {
        let checkpoint = self.checkpoint.as_ref();
        checkpoint.is_some_and(|found| self.chunk > found.ledger.generation)
    }

    fn ends_lease(&self) -> bool {
        let checkpoint = self.checkpoint.as_ref();
        checkpoint.is_some_and(|found| found.ending_lease != LeaseId(0))
    }
}

/// Watches the standby's reserved keys.
#[derive(Debug)]
pub(super) struct Observer(watch::Receiver<Latest>);

fn generation(key: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(key).ok()?;
    let (_, rest) = text.split_once("/ledger/base/")?;
    u64::from_str_radix(rest.split('/').next()?, 16).ok()
}

impl Observer {
    pub(super) async fn start(standby: &Client) -> Result<Self> {
        let mut client = standby.watch_client().max_decoding_message_size(1 << 30);
        let checkpoint = reserved::checkpoint_key(STREAM);
        let first = stored(standby).await?;
        let (latest_in, latest) = watch::channel(Latest {
            checkpoint: Some(first),
            chunk: 0,
        });
        let options = WatchOptions::new().with_prefix();
        let mut stream = client
            .watch(reserved::stream_prefix(STREAM), Some(options))
            .await?;
        tokio::spawn(async move {
            while let Ok(Some(answer)) = stream.message().await {
                latest_in.send_modify(|latest| {
                    for kv in answer.events().iter().filter_map(|event| event.kv()) {
                        if kv.key() == checkpoint {
                            latest.checkpoint = Checkpoint::decode(kv.value()).ok();
                        } else if let Some(chunk) = generation(kv.key()) {
                            latest.chunk = latest.chunk.max(chunk);
                        }
                    }
                });
            }
        });
        Ok(Self(latest))
    }

    /// The process that wrote the checkpoint.
    pub(super) fn writer(&self) -> u64 {
        let latest = self.0.borrow();
        latest.checkpoint.as_ref().map_or(0, |found| found.writer)
    }

    async fn wait(&self, accepts: impl Fn(&Latest) -> bool) {
        let mut latest = self.0.clone();
        let waiting = latest.wait_for(|latest| accepts(latest));
        // It is killed all the same, and the count shows what was not hit.
        let _come = tokio::time::timeout(PATIENCE, waiting).await;
    }

    /// What was hit. `writer` wrote the checkpoint before the process was started.
    pub(super) async fn look(
        &self,
        primary: &Client,
        standby: &Client,
        status: Option<&Value>,
        writer: u64,
    ) -> Result<BTreeSet<&'static str>> {
        let mut found = BTreeSet::new();
        let checkpoint = stored(standby).await?;
        let options = GetOptions::new().with_prefix().with_keys_only();
        let bases = reserved::stream_prefix(STREAM) + "ledger/base/";
        let chunks = standby.kv_client().get(bases, Some(options)).await?;
        let mut chunks = chunks.kvs().iter().filter_map(|kv| generation(kv.key()));
        let in_force = checkpoint.ledger.generation;
        let of_old = chunks.clone().any(|chunk| chunk < in_force);
        let of_new = chunks.any(|chunk| chunk > in_force);
        let (phase, lag) = status.map_or((None, None), |status| {
            (status["phase"].as_str(), status["lag"]["entries"].as_u64())
        });
        let is_streaming = checkpoint.phase == Phase::Streaming;
        let is_ending = status.is_some_and(|s| s["leases"]["ending"].as_u64() > Some(0));
        let is_receiving = status.is_some_and(|s| s["snapshot"]["stage"] == "receiving");
        let (theirs, ours) = users(primary, standby).await?;
        let hits = [
            ("starting", checkpoint.writer == writer),
            (
                "streaming",
                phase == Some("streaming") && lag <= Some(ENTRIES_BEHIND),
            ),
            (
                "catching up",
                phase == Some("streaming") && lag > Some(ENTRIES_BEHIND),
            ),
            ("receiving a snapshot", is_receiving),
            ("installing", !is_streaming && checkpoint.writer != writer),
            ("a base half written", of_new),
            ("an old base half deleted", of_old),
            (
                "a large lease ending",
                checkpoint.ending_lease != LeaseId(0),
            ),
            ("leases ending", is_ending),
            ("users pending", is_streaming && theirs != ours),
        ];
        found.extend(
            hits.into_iter()
                .filter(|(_, hit)| *hit)
                .map(|(what, _)| what),
        );
        Ok(found)
    }
}

/// The standby's checkpoint.
async fn stored(standby: &Client) -> Result<Checkpoint> {
    let key = reserved::checkpoint_key(STREAM);
    let found = standby.kv_client().get(key.as_ref(), None).await?;
    let found = found.kvs().first().context("no checkpoint")?;
    Ok(Checkpoint::decode(found.value())?)
}

/// Of one cluster: the roles of each user, the permissions of each role.
type Store = (BTreeMap<String, Vec<String>>, BTreeMap<String, Vec<String>>);

async fn store(client: &Client) -> Result<Store> {
    let mut auth = client.auth_client();
    let mut store = Store::default();
    for user in auth.user_list().await?.users() {
        // It may go in between.
        if let Ok(found) = auth.user_get(user.as_str()).await {
            let mut roles = found.roles().to_vec();
            roles.sort_unstable();
            store.0.insert(user.clone(), roles);
        }
    }
    for role in auth.role_list().await?.roles() {
        if let Ok(found) = auth.role_get(role.as_str()).await {
            let all = found.permissions();
            let mut all: Vec<String> = all.iter().map(|one| format!("{one:?}")).collect();
            all.sort_unstable();
            store.1.insert(role.clone(), all);
        }
    }
    Ok(store)
}

/// Users and roles of both, ours left out.
pub(super) async fn users(primary: &Client, standby: &Client) -> Result<(Store, Store)> {
    let (theirs, mut ours) = (store(primary).await?, store(standby).await?);
    ours.0.remove(OURS);
    Ok((theirs, ours))
}

async fn wait_status(syncer: &Syncer, accepts: impl Fn(&Value) -> bool) {
    let waiting = async {
        while !syncer.status().await.is_ok_and(|status| accepts(&status)) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let _come = tokio::time::timeout(PATIENCE, waiting).await;
}

async fn wait_streaming(syncer: &Syncer) {
    let is_close = |status: &Value| {
        status["phase"] == "streaming"
            && status["raft"]["durable"].as_u64() > Some(0)
            && status["lag"]["entries"].as_u64() <= Some(ENTRIES_BEHIND)
    };
    wait_status(syncer, is_close).await;
}

/// Works until `moment` comes, and waits for it if it comes later.
async fn first(
    working: impl Future<Output = Result<()>>,
    moment: impl Future<Output = ()>,
) -> Result<()> {
    let mut moment = std::pin::pin!(moment);
    tokio::select! {
        done = working => done?,
        () = &mut moment => return Ok(()),
    }
    moment.await;
    Ok(())
}

/// Returns when it is time: after the first of the delays, or so soon after what is aimed at.
pub(super) async fn come(
    aim: Aim,
    (delay, soon): (Duration, Duration),
    syncer: &Syncer,
    observer: &Observer,
    load: &Load,
) -> Result<()> {
    match aim {
        Aim::Any => tokio::time::sleep(delay).await,
        Aim::Starting => {
            let is_starting =
                |status: &Value| status["phase"] == "contacting" || status["phase"] == "joining";
            wait_status(syncer, is_starting).await;
            tokio::time::sleep(soon).await;
        }
        Aim::CatchingUp => {
            let is_behind = |status: &Value| {
                status["phase"] == "streaming"
                    && status["batches"]["written"].as_u64() > Some(0)
                    && status["lag"]["entries"].as_u64() > Some(ENTRIES_BEHIND)
            };
            wait_status(syncer, is_behind).await;
        }
        Aim::Installing => {
            let writer = observer.writer();
            observer.wait(|latest| latest.installs(writer)).await;
            tokio::time::sleep(soon).await;
        }
        Aim::Base => {
            load.hurry(true);
            observer.wait(Latest::writes_base).await;
            load.hurry(false);
            tokio::time::sleep(soon / 3).await;
        }
        Aim::LargeLease => {
            wait_streaming(syncer).await;
            first(load.large_lease(), observer.wait(Latest::ends_lease)).await?;
        }
        Aim::Leases => {
            wait_streaming(syncer).await;
            let is_ending = |status: &Value| status["leases"]["ending"].as_u64() > Some(3);
            first(load.many_leases(), wait_status(syncer, is_ending)).await?;
        }
        Aim::Users => {
            wait_streaming(syncer).await;
            let round = u64::try_from(delay.as_nanos())?;
            tokio::select! {
                done = load.change_users(round) => done?,
                () = tokio::time::sleep(delay / 10) => {}
            }
        }
    }
    Ok(())
}

/// How often each was hit.
#[derive(Debug, Default)]
pub(super) struct Hits {
    counts: Counts,
    was_installing: bool,
}

impl Hits {
    pub(super) fn note(&mut self, found: &BTreeSet<&'static str>) {
        for what in found {
            *self.counts.entry(what).or_default() += 1;
        }
        let installing = found.contains("installing");
        if installing && self.was_installing {
            *self.counts.entry("installing twice in a row").or_default() += 1;
        }
        self.was_installing = installing;
    }

    pub(super) fn ensure_all(&self) -> Result<()> {
        for what in [
            "starting",
            "streaming",
            "catching up",
            "installing",
            "installing twice in a row",
            "a base half written",
            "a large lease ending",
            "leases ending",
            "users pending",
        ] {
            ensure!(
                self.counts.contains_key(what),
                "{what} was never hit: {self:?}"
            );
        }
        Ok(())
    }
}
