//! A child process with a log file, signals and a sure end.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::poll::eventually;

/// A child process whose stdout and stderr are appended to a log file. Killed and waited for on
/// drop.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    log_start: u64,
    exited: Option<ExitStatus>,
}

impl Process {
    /// Starts `command`; `name` stands for it in errors.
    ///
    /// # Errors
    /// If the log file can't be opened or the program can't be run.
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("can't open the log of {name}, {}", log.display()))?;
        let log_start = file.metadata().map(|data| data.len()).unwrap_or(0);
        let errors = file
            .try_clone()
            .with_context(|| format!("can't open the log of {name} twice"))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("can't run {name}, {:?}", command.get_program()))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
            log_start,
            exited: None,
        })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How the process ended, or none while it runs.
    ///
    /// # Errors
    /// If the system can't tell.
    pub fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        if self.exited.is_none() {
            self.exited = self
                .child
                .try_wait()
                .with_context(|| format!("can't ask for the state of {}", self.name))?;
        }
        Ok(self.exited)
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// If the process has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if let Some(status) = self.exit_status()? {
            bail!("{} has ended with {status}: no {signal:?} sent", self.name);
        }
        // Not reaped yet, so the id still belongs to this process.
        kill_process(Pid::from_child(&self.child), signal)
            .with_context(|| format!("can't send {signal:?} to {}", self.name))
    }

    /// Waits for the process to end by itself.
    ///
    /// # Errors
    /// If it still runs at the deadline.
    pub async fn wait_exit(&mut self, within: Duration) -> Result<ExitStatus> {
        let what = format!("{} ends", self.name);
        eventually(&what, within, async || {
            self.exit_status()?.context("it still runs")
        })
        .await
    }

    /// Sends SIGTERM, wakes the process if it is stopped, and waits for its end.
    ///
    /// # Errors
    /// If it had ended before or still runs at the deadline.
    pub async fn terminate(&mut self, within: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.signal(Signal::CONT)?;
        self.wait_exit(within).await
    }

    /// Kills the process with SIGKILL and waits for its end; nothing happens if it has ended.
    ///
    /// # Errors
    /// If the system can't kill it.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.exit_status()? {
            return Ok(status);
        }
        self.child
            .kill()
            .with_context(|| format!("can't kill {}", self.name))?;
        let status = self
            .child
            .wait()
            .with_context(|| format!("can't wait for {}", self.name))?;
        self.exited = Some(status);
        Ok(status)
    }

    /// What this and earlier processes with the same log file wrote to stdout and stderr.
    ///
    /// # Errors
    /// If the log file can't be read.
    pub fn log(&self) -> Result<String> {
        read_log(&self.log)
    }

    /// What this process wrote, shortened to its first 5 and last 25 lines: some programs say what
    /// is wrong first and then how they are to be used.
    pub fn log_ends(&self) -> String {
        let own = match fs::read(&self.log) {
            Ok(bytes) => {
                let start = usize::try_from(self.log_start).unwrap_or(usize::MAX);
                String::from_utf8_lossy(bytes.get(start..).unwrap_or_default()).into_owned()
            }
            Err(error) => return format!("(no log at {}: {error})", self.log.display()),
        };
        let lines: Vec<&str> = own.lines().collect();
        if lines.len() <= 30 {
            return lines.join("\n");
        }
        let (first, last) = (&lines[..5], &lines[lines.len() - 25..]);
        format!("{}\n...\n{}", first.join("\n"), last.join("\n"))
    }

    /// The most memory the running process has had resident so far, in bytes.
    ///
    /// # Errors
    /// If the process has ended.
    pub fn peak_rss_bytes(&self) -> Result<u64> {
        let status = self.proc_file("status")?;
        let kib: u64 = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|rest| rest.trim().strip_suffix(" kB"))
            .and_then(|number| number.parse().ok())
            .with_context(|| format!("no peak memory of {}; has it ended?", self.name))?;
        Ok(kib * 1024)
    }

    /// The processor time the process has used so far, user and system, in seconds.
    ///
    /// # Errors
    /// If the process has ended and was waited for.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let stat = self.proc_file("stat")?;
        // The program's name, in parentheses, can hold spaces; what follows are numbers.
        let ticks: Option<u64> = stat.rsplit_once(") ").and_then(|(_, rest)| {
            let mut fields = rest.split(' ').skip(11);
            let user: u64 = fields.next()?.parse().ok()?;
            let system: u64 = fields.next()?.parse().ok()?;
            Some(user + system)
        });
        let ticks = ticks.with_context(|| format!("no processor time in {stat:?}"))?;
        Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    fn proc_file(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        fs::read_to_string(&path).with_context(|| format!("can't read {path} of {}", self.name))
    }
}

impl Drop for Process {
    #[allow(clippy::print_stderr, reason = "nobody takes an error here")]
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("{error:#}");
        }
    }
}

/// A whole log file; empty if nothing was written yet.
///
/// # Errors
/// If it is there and can't be read.
pub fn read_log(path: &Path) -> Result<String> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error).with_context(|| format!("can't read {}", path.display())),
    }
}
