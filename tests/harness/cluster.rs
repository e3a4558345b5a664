//! A cluster of real etcd members on the loopback address.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use etcd_client::{Client, StatusResponse};

use super::binaries::{Binaries, Version};
use super::client::connect;
use super::folder::Folder;
use super::member::{Flags, Member, READY_WITHIN};
use super::poll::eventually;
use super::process::Process;

const START_ATTEMPTS: usize = 3;
const LEADER_WITHIN: Duration = Duration::from_secs(20);

/// How a [`Cluster`] is to be started.
#[derive(Clone, Debug)]
pub struct ClusterBuilder {
    version: Version,
    members: usize,
    flags: Flags,
}

impl ClusterBuilder {
    /// How many members; 1 unless set.
    #[must_use]
    pub fn members(mut self, members: usize) -> Self {
        self.members = members;
        self
    }

    /// More flags for every member, after and thus stronger than those of the harness.
    #[must_use]
    pub fn extra_args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.flags.extra.extend(args.into_iter().map(Into::into));
        self
    }

    /// Doesn't wait for the disk: faster, and only a crash of the machine could tell.
    #[must_use]
    pub fn no_fsync(mut self) -> Self {
        self.flags.no_fsync = true;
        self
    }

    /// The lowest level that is logged, `info` unless set; `debug`, `warn`, `error` are others.
    #[must_use]
    pub fn log_level(mut self, level: &str) -> Self {
        level.clone_into(&mut self.flags.log_level);
        self
    }

    /// After how many entries a member writes a snapshot and cuts its log.
    #[must_use]
    pub fn snapshot_count(mut self, entries: u64) -> Self {
        self.flags.snapshot_count = Some(entries);
        self
    }

    /// How many entries a member keeps in its log behind a snapshot. Not for 3.4, whose 5000 are
    /// fixed: there the start fails.
    #[must_use]
    pub fn catch_up_entries(mut self, entries: u64) -> Self {
        self.flags.catch_up_entries = Some(entries);
        self
    }

    /// Starts the members on free ports and waits until each answers a linearizable read.
    ///
    /// # Errors
    /// If the binaries can't be had or a member does not come up within 30 seconds; the error then
    /// holds the ends of its log.
    pub async fn start(self) -> Result<Cluster> {
        if self.members == 0 {
            bail!("a cluster needs a member");
        }
        let version = self.version;
        let binaries = tokio::task::spawn_blocking(move || version.binaries())
            .await
            .context("looking for the etcd binaries panicked")??;
        for attempt in 1.. {
            let mut cluster = self.prepare(&binaries)?;
            let Err(error) = cluster.start_all().await else {
                return Ok(cluster);
            };
            // Another process was faster: with other ports it will do.
            let unlucky = cluster.members.iter_mut().any(Member::lost_its_port);
            if !unlucky || attempt == START_ATTEMPTS {
                return Err(error.context(format!("can't start a cluster of etcd {version}")));
            }
        }
        unreachable!("the last attempt returns")
    }

    fn prepare(&self, binaries: &Binaries) -> Result<Cluster> {
        let folder = Folder::new("cluster")?;
        let members = (0..self.members)
            .map(|i| Member::new(&format!("m{i}"), self.version, binaries, folder.path()))
            .collect::<Result<Vec<_>>>()?;
        let initial: Vec<String> = members.iter().map(Member::initial).collect();
        Ok(Cluster {
            members,
            flags: Flags {
                token: format!("test-{:016x}", fastrand::u64(..)),
                ..self.flags.clone()
            },
            initial_cluster: initial.join(","),
            folder,
        })
    }
}

/// A running cluster. Members are named by their index, which stays the same when others are
/// removed; ports and data stay over restarts. Dropping it kills the members and removes the data.
#[derive(Debug)]
pub struct Cluster {
    // Dropped in this order: processes before their folder.
    pub(super) members: Vec<Member>,
    pub(super) flags: Flags,
    initial_cluster: String,
    pub(super) folder: Folder,
}

impl Cluster {
    /// A cluster of one member of `version` with etcd's defaults, to be changed and started.
    pub fn builder(version: Version) -> ClusterBuilder {
        ClusterBuilder {
            version,
            members: 1,
            flags: Flags {
                token: String::new(),
                log_level: "info".to_owned(),
                no_fsync: false,
                snapshot_count: None,
                catch_up_entries: None,
                extra: Vec::new(),
            },
        }
    }

    async fn start_all(&mut self) -> Result<()> {
        for member in &mut self.members {
            member.spawn(&self.flags, &self.initial_cluster, "new")?;
        }
        self.wait_ready().await
    }

    /// Waits until every member that was started, and not killed or stopped since, answers a
    /// linearizable read.
    ///
    /// # Errors
    /// If one has ended or does not answer within 30 seconds, with the ends of its log.
    pub async fn wait_ready(&mut self) -> Result<()> {
        for member in &mut self.members {
            if member.is_started() && !member.paused {
                member.wait_ready(READY_WITHIN).await?;
            }
        }
        Ok(())
    }

    /// Where the members serve clients, such as `http://127.0.0.1:12379`; without removed ones.
    pub fn client_endpoints(&self) -> Vec<String> {
        self.present().map(Member::client_url).collect()
    }

    /// Where the members serve each other; without removed ones.
    pub fn peer_urls(&self) -> Vec<String> {
        self.present().map(Member::peer_url).collect()
    }

    fn present(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| !member.removed)
    }

    /// How many members were ever started, removed ones included: one more than the last index.
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// A client of all members.
    ///
    /// # Errors
    /// If it can't be made; the connections are only made with the first requests.
    pub async fn client(&self) -> Result<Client> {
        connect(&self.client_endpoints()).await
    }

    /// A client of member `i` alone.
    ///
    /// # Errors
    /// If there is no such member.
    pub async fn client_of(&self, i: usize) -> Result<Client> {
        connect(&[self.member(i)?.client_url()]).await
    }

    /// The index of the leader, waited for if there is none.
    ///
    /// # Errors
    /// If there is none for 20 seconds.
    pub async fn leader(&mut self) -> Result<usize> {
        eventually("the cluster has a leader", LEADER_WITHIN, async || {
            for i in 0..self.members.len() {
                let member = &mut self.members[i];
                if member.removed || member.paused || !member.is_running()? {
                    continue;
                }
                // A leader that others have replaced, unknown to itself, has no answer here.
                let leader = match self.status(i).await {
                    Ok(status) => status.leader(),
                    Err(_) => continue,
                };
                let index = self.members.iter().position(|m| m.id == Some(leader));
                if let Some(index) = index
                    && !self.members[index].paused
                    && self.members[index].is_running()?
                {
                    return Ok(index);
                }
            }
            bail!("no member names one that runs")
        })
        .await
    }

    /// What member `i` says of itself: leader, term, indexes, size.
    ///
    /// # Errors
    /// If it does not answer within a second.
    pub async fn status(&self, i: usize) -> Result<StatusResponse> {
        let mut client = self.client_of(i).await?;
        tokio::time::timeout(Duration::from_secs(1), client.status())
            .await
            .with_context(|| format!("member {i} gave no status within 1 s"))?
            .with_context(|| format!("member {i} gave no status"))
    }

    /// The id of the cluster, as in every answer's header.
    ///
    /// # Errors
    /// If no member answers.
    pub async fn cluster_id(&self) -> Result<u64> {
        let list = self.client().await?.member_list().await;
        let list = list.context("can't list the members")?;
        let header = list.header().context("the list of members has no header")?;
        Ok(header.cluster_id())
    }

    /// Runs etcdctl against all members and returns its stdout.
    ///
    /// # Errors
    /// If it fails, with its stderr.
    pub async fn etcdctl(&self, args: &[&str]) -> Result<String> {
        let first = self.members.first().context("the cluster has no member")?;
        let output = tokio::process::Command::new(&first.binaries.etcdctl)
            .arg(format!("--endpoints={}", self.client_endpoints().join(",")))
            .args(args)
            .env("ETCDCTL_API", "3")
            .env_remove("ETCDCTL_ENDPOINTS")
            .kill_on_drop(true)
            .output()
            .await
            .with_context(|| format!("can't run {}", first.binaries.etcdctl.display()))?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!("etcdctl {args:?}: {}: {}", output.status, stderr.trim());
        }
        String::from_utf8(output.stdout)
            .with_context(|| format!("the answer of etcdctl {args:?} is not UTF-8"))
    }

    /// Kills member `i` with SIGKILL; nothing happens if it does not run.
    ///
    /// # Errors
    /// If there is no such member or the system can't kill it.
    pub fn kill(&mut self, i: usize) -> Result<()> {
        self.member_mut(i)?.kill()
    }

    /// Ends member `i` with SIGTERM and waits for it.
    ///
    /// # Errors
    /// If it does not run or does not end within 15 seconds.
    pub async fn stop(&mut self, i: usize) -> Result<()> {
        self.member_mut(i)?.stop().await
    }

    /// Starts member `i`, that was killed or stopped, without waiting for it; needed where several
    /// must be up before one can answer. Same ports, same data.
    ///
    /// # Errors
    /// If it runs or the program can't be run.
    pub fn spawn(&mut self, i: usize) -> Result<()> {
        let (flags, initial) = (self.flags.clone(), self.initial_cluster.clone());
        self.member_mut(i)?.spawn(&flags, &initial, "existing")
    }

    /// Starts member `i` again, killing it first if it runs, and waits until it answers a
    /// linearizable read.
    ///
    /// # Errors
    /// If it does not come up within 30 seconds, with the ends of its log.
    pub async fn restart(&mut self, i: usize) -> Result<()> {
        self.kill(i)?;
        self.spawn(i)?;
        self.member_mut(i)?.wait_ready(READY_WITHIN).await
    }

    /// Like [`Cluster::restart`], but ends it with SIGTERM and goes on with `version`.
    ///
    /// # Errors
    /// As there, and if the binaries can't be had.
    pub async fn restart_as(&mut self, i: usize, version: Version) -> Result<()> {
        self.spawn_as(i, version).await?;
        self.member_mut(i)?.wait_ready(READY_WITHIN).await
    }

    /// Ends member `i` with SIGTERM if it runs and starts it with `version`, without waiting for it:
    /// one that checks credentials, or has an alarm, does not answer.
    ///
    /// # Errors
    /// If it does not end, or the binaries can't be had or run.
    pub async fn spawn_as(&mut self, i: usize, version: Version) -> Result<()> {
        let binaries = tokio::task::spawn_blocking(move || version.binaries())
            .await
            .context("looking for the etcd binaries panicked")??;
        let member = self.member_mut(i)?;
        if member.is_running()? {
            member.stop().await?;
        }
        member.version = version;
        member.binaries = binaries;
        self.spawn(i)
    }

    /// Stops member `i` with SIGSTOP: its connections stay and nothing answers.
    ///
    /// # Errors
    /// If it does not run.
    pub fn pause(&mut self, i: usize) -> Result<()> {
        self.member_mut(i)?.set_paused(true)
    }

    /// Lets member `i` go on after [`Cluster::pause`].
    ///
    /// # Errors
    /// If it does not run.
    pub fn resume(&mut self, i: usize) -> Result<()> {
        self.member_mut(i)?.set_paused(false)
    }

    /// The process of member `i`, for its memory and processor time.
    ///
    /// # Errors
    /// If it does not run.
    pub fn process(&mut self, i: usize) -> Result<&mut Process> {
        self.member_mut(i)?.running()
    }

    /// All that member `i` has logged, over restarts.
    ///
    /// # Errors
    /// If there is no such member or the log can't be read.
    pub fn member_logs(&self, i: usize) -> Result<String> {
        self.member(i)?.log()
    }

    /// Host and port at which member `i` serves clients.
    ///
    /// # Errors
    /// If there is no such member.
    pub fn client_address(&self, i: usize) -> Result<String> {
        Ok(self.member(i)?.client_address())
    }

    /// The full version of the etcd of member `i`, such as `3.6.14`.
    ///
    /// # Errors
    /// If there is no such member.
    pub fn release(&self, i: usize) -> Result<&str> {
        Ok(&self.member(i)?.binaries.version)
    }

    /// Whether the process of member `i` is there.
    ///
    /// # Errors
    /// If there is no such member or the system can't tell.
    pub fn is_running(&mut self, i: usize) -> Result<bool> {
        self.member_mut(i)?.is_running()
    }

    /// The data directory of member `i`.
    ///
    /// # Errors
    /// If there is no such member.
    pub fn data_dir(&self, i: usize) -> Result<&std::path::Path> {
        Ok(self.member(i)?.data_dir())
    }

    /// The database file of member `i`, which is in use while the member runs.
    ///
    /// # Errors
    /// If there is no such member.
    pub fn database(&self, i: usize) -> Result<PathBuf> {
        Ok(self.member(i)?.database())
    }

    /// The programs of the first member's release.
    ///
    /// # Errors
    /// If there is no member.
    pub fn binaries(&self) -> Result<&Binaries> {
        Ok(&self.member(0)?.binaries)
    }

    pub(super) fn member(&self, i: usize) -> Result<&Member> {
        let members = self.members.get(i);
        members.with_context(|| format!("there is no member {i}"))
    }

    pub(super) fn member_mut(&mut self, i: usize) -> Result<&mut Member> {
        let members = self.members.get_mut(i);
        members.with_context(|| format!("there is no member {i}"))
    }
}
