//! A learner of a real primary, without a standby: what is handed out counts as durable.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use etcd_syncer::ids::RaftIndex;
use etcd_syncer::learner::{Cut, End};
use etcd_syncer::peer::join::{Found, Lookup, find_self};
use etcd_syncer::peer::net::Security;
use etcd_syncer::peer::{Config, Inbox, Received, Transport};
use raft::eraftpb::ConfState;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::etcd::{Cluster, Version, eventually, free_port, http_get};
use crate::learner_snapshots::Running;

/// Longest wait for anything that must come.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Puts this many keys of this name, one entry for each, from several clients at a time. What is
/// not answered is put again, so that there may be more entries.
pub(crate) async fn put(primary: &Cluster, name: &str, count: usize) -> Result<()> {
    const CLIENTS: usize = 32;
    let client = primary.client().await?;
    let tasks = (0..CLIENTS).map(|first| {
        let mut client = client.clone();
        async move {
            for number in (first..count).step_by(CLIENTS) {
                let key = format!("{name}/{number}");
                eventually(&key, SOON, async || {
                    Ok(client.put(key.as_str(), "value", None).await?)
                })
                .await?;
            }
            anyhow::Ok(())
        }
    });
    futures_util::future::try_join_all(tasks).await?;
    Ok(())
}

/// The sum of a member's metrics that begin like this.
pub(crate) async fn metric(primary: &Cluster, member: usize, name: &str) -> Result<f64> {
    let address = primary.client_endpoints()[member].replace("http://", "");
    let metrics = http_get(&address, "/metrics").await?.body;
    let lines = metrics.lines().filter(|line| line.starts_with(name));
    Ok(lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum())
}

/// Snapshots that a member has begun to send us.
pub(crate) async fn snapshots_begun(primary: &Cluster, member: usize) -> Result<f64> {
    let mut sum = 0.0;
    for name in [
        "etcd_network_snapshot_send_success{",
        "etcd_network_snapshot_send_failures{",
        "etcd_network_snapshot_send_inflights_total{",
    ] {
        sum += metric(primary, member, name).await?;
    }
    Ok(sum)
}

/// We, as a member of a real primary.
pub(crate) struct Us {
    pub(crate) transport: Transport,
    pub(crate) found: Found,
    pub(crate) url: String,
    folder: tempfile::TempDir,
    ended: CancellationToken,
    run: JoinHandle<()>,
}

impl Us {
    /// Joins the primary as a new learner.
    pub(crate) async fn join(primary: &Cluster, config: Config) -> Result<(Self, Inbox)> {
        let url = format!("http://127.0.0.1:{}", free_port()?);
        primary.add_learner(&url).await?;
        Self::come_back(primary, config, &url).await
    }

    /// Joins as the learner that the primary has under this URL.
    pub(crate) async fn come_back(
        primary: &Cluster,
        mut config: Config,
        url: &str,
    ) -> Result<(Self, Inbox)> {
        let folder = tempfile::tempdir()?;
        let own = || folder.path().join("spool");
        config.spool.get_or_insert_with(own);
        let listener = TcpListener::bind(url.trim_start_matches("http://")).await?;
        let (transport, inbox) = Transport::new(config);
        let ended = CancellationToken::new();
        let run = {
            let (transport, ended) = (transport.clone(), ended.clone());
            tokio::spawn(async move { transport.run(listener, ended).await })
        };
        let urls = primary.peer_urls();
        let found = eventually("the primary lists us", SOON, async || {
            let limit = Duration::from_secs(1);
            match find_self(Security::Plain, &urls, url, limit).await? {
                Lookup::Found(found) if found.versions.is_some() => Ok(found),
                other => bail!("{other:?}"),
            }
        })
        .await?;
        transport.join(found.identity, found.members.clone(), found.versions)?;
        let us = Self {
            transport,
            found,
            url: url.to_owned(),
            folder,
            ended,
            run,
        };
        Ok((us, inbox))
    }

    pub(crate) fn spool(&self) -> PathBuf {
        self.folder.path().join("spool")
    }

    /// Learns from here on.
    pub(crate) fn learn(&self, cut: Cut, inbox: Inbox, first: Option<Received>) -> Learning {
        let peer = (inbox, self.transport.clone());
        Learning {
            next: cut.index.next(),
            last: cut.clone(),
            running: Running::start(self.found.identity.us, cut, peer, first),
            ended: None,
            put: Vec::new(),
        }
    }

    /// Ends as a process ends that is told to.
    pub(crate) async fn leave(self) -> Result<()> {
        self.ended.cancel();
        timeout(SOON, self.run).await.context("it ends")??;
        Ok(())
    }
}

/// A learner whose entries are looked at.
pub(crate) struct Learning {
    pub(crate) running: Running,
    ended: Option<End>,
    /// The index that must come next.
    next: RaftIndex,
    /// Where a node would be cut that holds all that was handed out.
    pub(crate) last: Cut,
    /// Names of the keys put by the entries, as [`put`] makes them.
    pub(crate) put: Vec<String>,
}

impl Learning {
    /// Takes entries, each in its order, up to this index, and says that they are durable.
    pub(crate) async fn follow_to(&mut self, index: u64) -> Result<()> {
        let deadline = Instant::now() + SOON;
        while self.next.0 <= index {
            let handouts = tokio::time::timeout_at(deadline, self.running.handouts.recv()).await;
            let handouts = handouts.with_context(|| {
                let view = self.running.view.borrow().clone();
                format!("entry {} does not come up to {index}: {view:?}", self.next)
            })?;
            let Some(handouts) = handouts else {
                let end = self.end().await?;
                let why = format!("the learner has ended: {end}");
                self.ended = Some(end);
                bail!(why);
            };
            for handout in handouts {
                let entry = handout.entry;
                ensure!(
                    entry.index == self.next,
                    "{} instead of {}",
                    entry.index,
                    self.next
                );
                self.next = entry.index.next();
                self.last.index = entry.index;
                self.last.term = entry.term;
                if let Some(members) = handout.members {
                    self.last.members = members;
                }
                self.put.extend(key_in(&entry.data));
            }
            self.running.durable.send_replace(self.last.index);
        }
        Ok(())
    }

    async fn end(&mut self) -> Result<End> {
        match self.ended.take() {
            Some(end) => Ok(end),
            None => Ok(timeout(SOON, &mut self.running.end)
                .await
                .context("it ends")??),
        }
    }

    /// The snapshot that the learner ends with.
    pub(crate) async fn snapshot(&mut self) -> Result<(Received, Inbox)> {
        match self.end().await.context("no snapshot comes")? {
            End::Snapshot {
                snapshot, inbox, ..
            } => Ok((snapshot, inbox)),
            other => bail!("it ended otherwise: {other}"),
        }
    }

    /// Ends it.
    pub(crate) async fn stop(mut self) -> Result<Cut> {
        self.running.stop.cancel();
        match self.end().await? {
            End::Stopped => Ok(self.last),
            other => bail!("it ended otherwise: {other}"),
        }
    }
}

/// The key of [`put`] in an entry, if there is one.
fn key_in(data: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(data);
    let name = ["early/", "held/", "late/", "more/"]
        .iter()
        .find_map(|name| text.find(name).map(|at| &text[at..]))?;
    let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '/');
    Some(name[..end.unwrap_or(name.len())].to_owned())
}

/// Where a node begins that follows the log from its beginning.
pub(crate) fn beginning() -> Cut {
    Cut {
        members: ConfState::default(),
        ..Cut::default()
    }
}

/// What etcd's own tool says of a database: its revision and its number of keys.
pub(crate) async fn judge(version: Version, database: &Path) -> Result<(i64, u64)> {
    let binaries = version.binaries()?;
    let tool = binaries.etcdutl.unwrap_or(binaries.etcdctl);
    let output = tokio::process::Command::new(&tool)
        .args(["snapshot", "status", "-w", "json"])
        .arg(database)
        .env("ETCDCTL_API", "3")
        .output()
        .await?;
    ensure!(
        output.status.success(),
        "{} of {}: {}",
        tool.display(),
        database.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    let status: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let revision = status["revision"].as_i64().context("a revision")?;
    let keys = status["totalKey"].as_u64().context("a number of keys")?;
    Ok((revision, keys))
}

/// The first pages of a bbolt file: both are meta pages, and the file is whole pages long.
pub(crate) fn assert_bbolt(database: &Path) {
    let bytes = std::fs::read(database).unwrap();
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let page = u32_at(16 + 8) as usize;
    assert!(page.is_power_of_two() && page >= 512, "{page}");
    for meta in [16, page + 16] {
        assert_eq!((u32_at(meta), u32_at(meta + 4)), (0xed0c_daed, 2));
    }
    assert_eq!(bytes.len() % page, 0);
}
