//! One etcd process of a cluster.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::Signal;

use super::binaries::{Binaries, Version};
use super::client::connect;
use super::http;
use super::poll::{Fatal, eventually};
use super::ports::free_port;
use super::process::{Process, read_log};

/// How long a member may take to answer after it was started.
pub const READY_WITHIN: Duration = Duration::from_secs(30);
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// What every member of a cluster is started with.
#[derive(Clone, Debug)]
pub struct Flags {
    pub token: String,
    pub log_level: String,
    pub no_fsync: bool,
    pub snapshot_count: Option<u64>,
    pub catch_up_entries: Option<u64>,
    pub extra: Vec<String>,
}

/// One member: fixed ports and folder, and the process while it runs.
#[derive(Debug)]
pub struct Member {
    pub name: String,
    pub version: Version,
    pub binaries: Binaries,
    /// Raft member id; known once the member has answered.
    pub id: Option<u64>,
    /// Whether it was taken out of the cluster.
    pub removed: bool,
    /// Whether it is stopped by SIGSTOP.
    pub paused: bool,
    peer_port: u16,
    client_port: u16,
    data_dir: PathBuf,
    log: PathBuf,
    process: Option<Process>,
}

impl Member {
    /// A member that is not started yet, with fresh ports.
    ///
    /// # Errors
    /// If there are no free ports.
    pub fn new(name: &str, version: Version, binaries: &Binaries, folder: &Path) -> Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            version,
            binaries: binaries.clone(),
            id: None,
            removed: false,
            paused: false,
            peer_port: free_port()?,
            client_port: free_port()?,
            data_dir: folder.join(name),
            log: folder.join(format!("{name}.log")),
            process: None,
        })
    }

    pub fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer_port)
    }

    pub fn client_url(&self) -> String {
        format!("http://{}", self.client_address())
    }

    /// Where it keeps its data.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Where it serves clients, as host and port.
    pub fn client_address(&self) -> String {
        format!("127.0.0.1:{}", self.client_port)
    }

    /// Its part of `--initial-cluster`.
    pub fn initial(&self) -> String {
        format!("{}={}", self.name, self.peer_url())
    }

    /// Starts the process. `initial_cluster` and `state` (`new` or `existing`) only matter while
    /// the member has no data.
    ///
    /// # Errors
    /// If it runs already, the version lacks a flag that is asked for, or the program can't be run.
    pub fn spawn(&mut self, flags: &Flags, initial_cluster: &str, state: &str) -> Result<()> {
        if self.is_running()? {
            bail!("member {} runs already", self.name);
        }
        let mut command = Command::new(&self.binaries.etcd);
        let (client_url, peer_url) = (self.client_url(), self.peer_url());
        command
            .args(["--name", &self.name])
            .arg("--data-dir")
            .arg(&self.data_dir)
            .args(["--listen-client-urls", &client_url])
            .args(["--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url])
            .args(["--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", initial_cluster])
            .args(["--initial-cluster-state", state])
            .args(["--initial-cluster-token", &flags.token])
            .args(["--logger", "zap", "--log-outputs", "stderr"])
            .args(["--log-level", &flags.log_level]);
        if flags.no_fsync {
            command.arg("--unsafe-no-fsync");
        }
        if let Some(count) = flags.snapshot_count {
            command.arg(format!("--snapshot-count={count}"));
        }
        if let Some(count) = flags.catch_up_entries {
            command.arg(format!("{}={count}", catch_up_flag(self.version)?));
        }
        command.args(&flags.extra);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ETCD_") {
                command.env_remove(name);
            }
        }
        if cfg!(not(target_arch = "x86_64")) {
            command.env("ETCD_UNSUPPORTED_ARCH", go_arch());
        }
        self.paused = false;
        self.process = Some(Process::spawn(&self.name, command, &self.log)?);
        Ok(())
    }

    /// Whether the process is there; a paused one is.
    ///
    /// # Errors
    /// If the system can't tell.
    pub fn is_running(&mut self) -> Result<bool> {
        match &mut self.process {
            Some(process) => Ok(process.exit_status()?.is_none()),
            None => Ok(false),
        }
    }

    /// Whether it was started and not killed or stopped since; it may have ended by itself.
    pub fn is_started(&self) -> bool {
        self.process.is_some()
    }

    /// Waits until the member answers a linearizable read, and learns its id.
    ///
    /// # Errors
    /// If it ends, with the ends of its log, or does not answer in time.
    pub async fn wait_ready(&mut self, within: Duration) -> Result<()> {
        let what = format!("member {} answers", self.name);
        // Its own health check costs less than a client that runs into a closed port.
        let address = self.client_address();
        let healthy = eventually(&what, within, async || {
            if let Some(reason) = self.end()? {
                return Err(Fatal::because(&anyhow!(reason)));
            }
            let answer = http::get(&address, "/health").await?;
            if answer.status == 200 {
                return Ok(());
            }
            bail!(
                "its health check answers {}: {}",
                answer.status,
                answer.body
            )
        });
        healthy.await.map_err(|error| self.with_log(error))?;
        let client = connect(&[self.client_url()]).await?;
        let id = eventually(&what, within, async || {
            if let Some(reason) = self.end()? {
                return Err(Fatal::because(&anyhow!(reason)));
            }
            let answer = client.kv_client().get("ready", None).await?;
            let header = answer.header().context("the answer has no header")?;
            Ok(header.member_id())
        });
        self.id = Some(id.await.map_err(|error| self.with_log(error))?);
        Ok(())
    }

    /// How it ended, if it does not run.
    fn end(&mut self) -> Result<Option<String>> {
        let Some(process) = &mut self.process else {
            return Ok(Some(format!("member {} is not started", self.name)));
        };
        let status = process.exit_status()?;
        Ok(status.map(|status| format!("member {} ended with {status}", self.name)))
    }

    fn with_log(&self, error: anyhow::Error) -> anyhow::Error {
        let Some(process) = &self.process else {
            return error;
        };
        error.context(format!(
            "member {} ({}) is not ready; its log:\n{}\n",
            self.name,
            self.binaries.version,
            process.log_ends()
        ))
    }

    /// Whether the process ended since one of its ports was taken.
    pub fn lost_its_port(&mut self) -> bool {
        let ended = !self.is_running().unwrap_or(true);
        let log = self.process.as_ref().map(Process::log_ends);
        ended && log.is_some_and(|log| log.contains("address already in use"))
    }

    /// Kills the process with SIGKILL; nothing happens if it does not run.
    ///
    /// # Errors
    /// If the system can't kill it.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
        }
        self.paused = false;
        Ok(())
    }

    /// Ends the process with SIGTERM and waits.
    ///
    /// # Errors
    /// If it does not run or does not end within 15 seconds.
    pub async fn stop(&mut self) -> Result<()> {
        self.running()?.terminate(STOP_WITHIN).await?;
        self.process = None;
        self.paused = false;
        Ok(())
    }

    /// Stops the process with SIGSTOP, or lets it go on with SIGCONT.
    ///
    /// # Errors
    /// If it does not run.
    pub fn set_paused(&mut self, paused: bool) -> Result<()> {
        let signal = if paused { Signal::STOP } else { Signal::CONT };
        self.running()?.signal(signal)?;
        self.paused = paused;
        Ok(())
    }

    /// The process, for its memory and processor time.
    ///
    /// # Errors
    /// If it was not started, was killed or stopped.
    pub fn running(&mut self) -> Result<&mut Process> {
        self.process
            .as_mut()
            .with_context(|| format!("member {} does not run", self.name))
    }

    /// Its database file.
    pub fn database(&self) -> PathBuf {
        self.data_dir.join("member/snap/db")
    }

    /// All it has logged so far, over restarts.
    ///
    /// # Errors
    /// If the log can't be read.
    pub fn log(&self) -> Result<String> {
        read_log(&self.log)
    }
}

fn catch_up_flag(version: Version) -> Result<&'static str> {
    match version {
        Version::V3_4 => bail!("etcd 3.4 always keeps 5000 entries for slow members"),
        Version::V3_5 => Ok("--experimental-snapshot-catchup-entries"),
        Version::V3_6 | Version::V3_7 => Ok("--snapshot-catchup-entries"),
    }
}

/// The processor as etcd names it where it asks for consent to run on it.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        other => other,
    }
}
