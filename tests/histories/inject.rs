//! A member alone in its cluster that is given a log: it applies what no client can propose, each
//! entry as a member that did not propose it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use etcd_syncer::entry::Committed;
use etcd_syncer::pb::etcdpb::InternalRaftRequest as Request;
use prost::Message as _;

use crate::disk::Database;
use crate::gauges::Gauges;
use crate::harness::{Cluster, Version};
use crate::picture::Picture;
use crate::wal::Log;

const APPLIED_WITHIN: Duration = Duration::from_secs(30);
/// After this a member has written what it applied before.
const BATCH_INTERVAL: Duration = Duration::from_millis(150);
/// Entries that a member adds when it starts: one that opens its term, one with its name.
const OF_START: u64 = 2;

/// The smallest TTL that members with [`FLAGS`] give: three half election timeouts, rounded up.
pub(crate) const LEASE_TTL_MIN: i64 = 1;
pub(crate) const FLAGS: [&str; 3] = [
    "--heartbeat-interval=20",
    "--election-timeout=200",
    "--bcrypt-cost=4",
];

/// What came of a log.
pub(crate) enum Outcome {
    /// The member applied it.
    Applied {
        log: Vec<Committed>,
        picture: Box<Picture>,
    },
    /// The member crashed on it; the end of what it wrote.
    Crashed(String),
}

pub(crate) struct Bench {
    cluster: Cluster,
    /// Files of a member that did nothing yet.
    template: Vec<(PathBuf, Bytes)>,
    log: Log,
}

impl Bench {
    pub(crate) async fn start(version: Version) -> Result<Self> {
        Self::start_with(version, None).await
    }

    /// The same, whose logs begin with the addition of a learner at this URL.
    pub(crate) async fn start_with(version: Version, learner: Option<&str>) -> Result<Self> {
        let mut cluster = Cluster::builder(version)
            .no_fsync()
            .snapshot_count(1_000_000)
            .log_level("error")
            .extra_args(FLAGS)
            .start()
            .await?;
        if let Some(url) = learner {
            cluster.add_learner(url).await?;
        }
        cluster.stop(0).await?;
        let dir = cluster.data_dir(0)?.to_owned();
        let log = Log::read(&dir)?;
        let database = Database::read(&dir.join("member/snap/db"))?;
        let wal = Bytes::from(std::fs::read(&log.file)?);
        let template = vec![
            (dir.join("member/snap/db"), database.trimmed()),
            (log.file.clone(), wal.slice(..usize::try_from(log.end)?)),
        ];
        Ok(Self {
            cluster,
            template,
            log,
        })
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub(crate) fn release(&self) -> Result<&str> {
        self.cluster.release(0)
    }

    /// The entries that every log begins with.
    pub(crate) fn head(&self) -> &[Committed] {
        &self.log.entries
    }

    /// Gives the entries to a fresh member, and stops it when it has applied them.
    pub(crate) async fn apply(&mut self, requests: &[Request]) -> Result<Outcome> {
        self.apply_for(requests, Duration::ZERO).await
    }

    /// The same, and leaves the member some time for what it does in the background.
    pub(crate) async fn apply_for(
        &mut self,
        requests: &[Request],
        rest: Duration,
    ) -> Result<Outcome> {
        if let Err(crash) = self.serve(requests).await? {
            return Ok(Outcome::Crashed(crash));
        }
        tokio::time::sleep(rest).await;
        let dir = self.stop().await?;
        let log = Log::read(&dir)?.entries;
        let picture = Box::new(Picture::of_database(&dir)?);
        Ok(Outcome::Applied { log, picture })
    }

    /// Gives the entries to a fresh member, which goes on; the last entry that it applied, or how it
    /// crashed.
    pub(crate) async fn serve(&mut self, requests: &[Request]) -> Result<Result<u64, String>> {
        let dir = self.cluster.data_dir(0)?.to_owned();
        std::fs::remove_dir_all(&dir)?;
        for (path, bytes) in &self.template {
            std::fs::create_dir_all(path.parent().context("a file in a folder")?)?;
            std::fs::write(path, bytes)?;
        }
        let mut log = self.log.clone();
        log.append(
            requests
                .iter()
                .map(|request| request.encode_to_vec().into()),
        )?;
        self.cluster.spawn(0)?;
        let last = log.last() + OF_START;
        let crash = self.wait_applied(last).await?;
        Ok(crash.map_or(Ok(last), Err))
    }

    /// Stops the member, and says where its data is.
    pub(crate) async fn stop(&mut self) -> Result<PathBuf> {
        if self.release()?.starts_with("3.4.") {
            // It may end before it has written its last batch.
            tokio::time::sleep(BATCH_INTERVAL).await;
        }
        self.cluster.stop(0).await?;
        Ok(self.cluster.data_dir(0)?.to_owned())
    }

    async fn wait_applied(&mut self, index: u64) -> Result<Option<String>> {
        let started = Instant::now();
        while started.elapsed() < APPLIED_WITHIN {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if !self.cluster.is_running(0)? {
                let crash = self.cluster.process(0)?.log_ends();
                self.cluster.kill(0)?;
                return Ok(Some(crash));
            }
            let Ok(gauges) = Gauges::of(&self.cluster, 0).await else {
                continue;
            };
            ensure!(
                gauges.applied <= index,
                "more entries than expected: {gauges:?}"
            );
            if gauges.applied == index {
                return Ok(None);
            }
        }
        let end = self.cluster.process(0)?.log_ends();
        self.cluster.kill(0)?;
        bail!("entry {index} is not applied after {APPLIED_WITHIN:?}:\n{end}")
    }
}
