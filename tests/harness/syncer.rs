//! The `etcd-syncer` process under test.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde_json::Value;

use super::cluster::Cluster;
use super::folder::Folder;
use super::http;
use super::poll::{Fatal, eventually};
use super::ports::free_port;
use super::process::Process;

/// How a [`Syncer`] is to be started.
#[derive(Debug)]
pub struct SyncerBuilder {
    primary_peer_urls: Vec<String>,
    standby_endpoints: Vec<String>,
    stream: String,
    peer_port: u16,
    status_port: u16,
    data_dir: PathBuf,
    args: Vec<OsString>,
    envs: Vec<(OsString, OsString)>,
    folder: Folder,
}

impl SyncerBuilder {
    /// The URL under which the primary reaches it, for adding the learner beforehand.
    pub fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer_port)
    }

    /// The name of the stream; `test` unless set.
    #[must_use]
    pub fn stream(mut self, stream: &str) -> Self {
        stream.clone_into(&mut self.stream);
        self
    }

    /// Other peer URLs than the primary's own, such as those of a proxy.
    #[must_use]
    pub fn primary_peer_urls(mut self, urls: Vec<String>) -> Self {
        self.primary_peer_urls = urls;
        self
    }

    /// Other endpoints than the standby's own, such as those of a proxy.
    #[must_use]
    pub fn standby_endpoints(mut self, endpoints: Vec<String>) -> Self {
        self.standby_endpoints = endpoints;
        self
    }

    /// A data folder that outlives the syncer; one of its own unless set.
    #[must_use]
    pub fn data_dir(mut self, folder: &Path) -> Self {
        folder.clone_into(&mut self.data_dir);
        self
    }

    /// More arguments, after those of the harness.
    #[must_use]
    pub fn args<S: Into<OsString>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// A variable of its environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.envs.push((name.into(), value.into()));
        self
    }

    /// Starts the process, without waiting for anything.
    ///
    /// # Errors
    /// If it can't be run.
    pub fn spawn(self) -> Result<Syncer> {
        let process = self.run()?;
        Ok(Syncer {
            process,
            settings: self,
        })
    }

    fn run(&self) -> Result<Process> {
        let peer_url = self.peer_url();
        let mut command = Command::new(env!("CARGO_BIN_EXE_etcd-syncer"));
        command
            .arg("run")
            .args(["--primary-peer-urls", &self.primary_peer_urls.join(",")])
            .args(["--listen-peer-url", &peer_url])
            .args(["--advertise-peer-url", &peer_url])
            .args(["--standby-endpoints", &self.standby_endpoints.join(",")])
            .args(["--stream", &self.stream])
            .arg("--data-dir")
            .arg(&self.data_dir)
            .args(["--listen-status", &self.status_address()])
            .args(&self.args)
            .envs(self.envs.iter().map(|(name, value)| (name, value)));
        Process::spawn("etcd-syncer", command, &self.log_file())
    }

    /// Where it will serve status and metrics.
    pub fn status_address(&self) -> String {
        format!("127.0.0.1:{}", self.status_port)
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("etcd-syncer.log")
    }
}

/// A started `etcd-syncer`. Dropping it kills the process and removes its folder.
#[derive(Debug)]
pub struct Syncer {
    // Dropped in this order: the process before its folder.
    process: Process,
    settings: SyncerBuilder,
}

impl Syncer {
    /// A syncer from `primary` to `standby`, to be changed and spawned.
    ///
    /// # Errors
    /// If there is no free port or no temporary folder.
    pub fn builder(primary: &Cluster, standby: &Cluster) -> Result<SyncerBuilder> {
        let folder = Folder::new("syncer")?;
        Ok(SyncerBuilder {
            primary_peer_urls: primary.peer_urls(),
            standby_endpoints: standby.client_endpoints(),
            stream: "test".to_owned(),
            peer_port: free_port()?,
            status_port: free_port()?,
            data_dir: folder.path().join("data"),
            args: Vec::new(),
            envs: Vec::new(),
            folder,
        })
    }

    /// Starts it again with the same settings, ports and data, killing it first if it runs.
    ///
    /// # Errors
    /// If it can't be killed or run.
    pub fn respawn(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process = self.settings.run()?;
        Ok(())
    }

    /// As [`Syncer::respawn`], with these arguments in place of those that were added.
    ///
    /// # Errors
    /// If it can't be killed or run.
    pub fn respawn_with<S: Into<OsString>>(
        &mut self,
        args: impl IntoIterator<Item = S>,
    ) -> Result<()> {
        self.settings.args = args.into_iter().map(Into::into).collect();
        self.respawn()
    }

    /// One argument more from the next start on.
    pub fn add_arg(&mut self, arg: impl Into<OsString>) {
        self.settings.args.push(arg.into());
    }

    /// The URL under which the primary reaches it.
    pub fn peer_url(&self) -> String {
        self.settings.peer_url()
    }

    /// Where it serves status and metrics.
    pub fn status_address(&self) -> String {
        self.settings.status_address()
    }

    /// Its data folder.
    pub fn data_dir(&self) -> &Path {
        &self.settings.data_dir
    }

    /// What it answers at `path` of its status address, whatever the status code.
    ///
    /// # Errors
    /// If there is no answer within 5 seconds.
    pub async fn get(&self, path: &str) -> Result<http::Response> {
        http::get(&self.settings.status_address(), path).await
    }

    /// What it answers at `/status`.
    ///
    /// # Errors
    /// If there is no answer, or none with code 200 and JSON.
    pub async fn status(&self) -> Result<Value> {
        let answer = self.ok("/status").await?;
        serde_json::from_str(&answer).with_context(|| format!("/status is not JSON: {answer:?}"))
    }

    /// What it answers at `/metrics`.
    ///
    /// # Errors
    /// If there is no answer with code 200.
    pub async fn metrics(&self) -> Result<String> {
        self.ok("/metrics").await
    }

    /// The value of one line of `/metrics`, named with its labels if it has any.
    ///
    /// # Errors
    /// If there is no such line with a number.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let metrics = self.metrics().await?;
        metrics
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .and_then(|value| value.trim().parse().ok())
            .with_context(|| format!("/metrics has no {name}"))
    }

    async fn ok(&self, path: &str) -> Result<String> {
        let answer = self.get(path).await?;
        if answer.status != 200 {
            bail!("{path} answers {}: {}", answer.status, answer.body);
        }
        Ok(answer.body)
    }

    /// Waits for a status that `accepts`, and returns it.
    ///
    /// # Errors
    /// At the deadline, with the last status, or as soon as the process has ended; either way with
    /// the ends of its log.
    pub async fn wait_status(
        &mut self,
        what: &str,
        within: Duration,
        accepts: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let status = eventually(what, within, async || {
            if let Some(status) = self.process.exit_status()? {
                let error = anyhow::anyhow!("etcd-syncer ended with {status}");
                return Err(Fatal::because(&error));
            }
            let status = self.status().await?;
            anyhow::ensure!(accepts(&status), "the last status is {status}");
            Ok(status)
        });
        status.await.map_err(|error| {
            let log = self.process.log_ends();
            error.context(format!("etcd-syncer's log:\n{log}\n"))
        })
    }

    /// How it ended, or none while it runs.
    ///
    /// # Errors
    /// If the system can't tell.
    pub fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        self.process.exit_status()
    }

    /// Waits for its end and returns its exit code, none if a signal ended it.
    ///
    /// # Errors
    /// If it still runs at the deadline, with the ends of its log.
    pub async fn wait_exit(&mut self, within: Duration) -> Result<Option<i32>> {
        let status = self.process.wait_exit(within).await;
        let status = status.with_context(|| {
            let log = self.process.log_ends();
            format!("etcd-syncer's log:\n{log}\n")
        })?;
        Ok(status.code())
    }

    /// Sends SIGTERM, without waiting.
    ///
    /// # Errors
    /// If it has ended.
    pub fn terminate(&mut self) -> Result<()> {
        self.process.signal(Signal::TERM)
    }

    /// Kills it with SIGKILL; nothing happens if it has ended.
    ///
    /// # Errors
    /// If the system can't kill it.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill().map(drop)
    }

    /// Stops it with SIGSTOP.
    ///
    /// # Errors
    /// If it has ended.
    pub fn pause(&mut self) -> Result<()> {
        self.process.signal(Signal::STOP)
    }

    /// Lets it go on after [`Syncer::pause`].
    ///
    /// # Errors
    /// If it has ended.
    pub fn resume(&mut self) -> Result<()> {
        self.process.signal(Signal::CONT)
    }

    /// All it has logged, over respawns.
    ///
    /// # Errors
    /// If the log can't be read.
    pub fn log(&self) -> Result<String> {
        self.process.log()
    }

    /// The most memory it has had resident so far, in bytes.
    ///
    /// # Errors
    /// If it has ended.
    pub fn peak_rss_bytes(&self) -> Result<u64> {
        self.process.peak_rss_bytes()
    }

    /// The processor time it has used so far, user and system, in seconds.
    ///
    /// # Errors
    /// If it has ended.
    pub fn cpu_seconds(&self) -> Result<f64> {
        self.process.cpu_seconds()
    }
}
