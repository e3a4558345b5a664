//! What is measured: this program, make-mirror, or nothing.

use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::harness::{Cluster, Process, Syncer};
use crate::setup::Setup;

/// Which tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    None,
    Syncer,
    Mirror,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::None, Self::Syncer, Self::Mirror];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "no tool",
            Self::Syncer => "etcd-syncer",
            Self::Mirror => "make-mirror",
        }
    }
}

/// A running tool; ends with its drop.
#[derive(Debug)]
pub(crate) enum Tool {
    None,
    Syncer(Box<Syncer>),
    Mirror {
        process: Process,
        // Dropped after the process that logs into it.
        _folder: tempfile::TempDir,
    },
}

/// What a tool has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Usage {
    pub(crate) cpu_seconds: f64,
    pub(crate) peak_rss_bytes: u64,
}

/// What this program says of its batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Batches {
    pub(crate) written: u64,
    pub(crate) largest_ops: u64,
}

impl Tool {
    /// Starts a tool between two clusters, without waiting for anything.
    ///
    /// # Errors
    /// If it can't be started.
    pub(crate) async fn start(
        kind: Kind,
        setup: &Setup,
        primary: &Cluster,
        standby: &Cluster,
    ) -> Result<Self> {
        match kind {
            Kind::None => Ok(Self::None),
            Kind::Syncer => {
                let args = setup.conditions.syncer_args.iter().cloned();
                let builder = Syncer::builder(primary, standby)?.args(args);
                primary.add_learner(&builder.peer_url()).await?;
                Ok(Self::Syncer(Box::new(builder.spawn()?)))
            }
            Kind::Mirror => {
                let folder = tempfile::Builder::new()
                    .prefix("etcd-syncer-mirror-")
                    .tempdir()
                    .context("can't create a folder for make-mirror's log")?;
                let process = mirror(setup, primary, standby, &folder)?;
                Ok(Self::Mirror {
                    process,
                    _folder: folder,
                })
            }
        }
    }

    /// What it has used so far.
    ///
    /// # Errors
    /// If it has ended, with what it said.
    pub(crate) fn usage(&mut self) -> Result<Usage> {
        let (cpu, memory) = match self {
            Self::None => return Ok(Usage::default()),
            Self::Syncer(syncer) => {
                if let Some(status) = syncer.exit_status()? {
                    bail!("etcd-syncer ended with {status}:\n{}", syncer.log()?);
                }
                (syncer.cpu_seconds()?, syncer.peak_rss_bytes()?)
            }
            Self::Mirror { process, .. } => {
                if let Some(status) = process.exit_status()? {
                    bail!("make-mirror ended with {status}:\n{}", process.log_ends());
                }
                (process.cpu_seconds()?, process.peak_rss_bytes()?)
            }
        };
        Ok(Usage {
            cpu_seconds: cpu,
            peak_rss_bytes: memory,
        })
    }

    /// The ends of its log, for when it does not do what it should.
    ///
    /// # Errors
    /// If the log can't be read.
    pub(crate) fn log(&self) -> Result<String> {
        match self {
            Self::None => Ok(String::new()),
            Self::Syncer(syncer) => syncer.log(),
            Self::Mirror { process, .. } => Ok(process.log_ends()),
        }
    }

    /// Batches so far; none for other tools.
    ///
    /// # Errors
    /// If the status page can't be read.
    pub(crate) async fn batches(&self) -> Result<Option<Batches>> {
        let Self::Syncer(syncer) = self else {
            return Ok(None);
        };
        let page = syncer.status().await?;
        let number = |path: &str| page.pointer(path).and_then(|value| value.as_u64());
        Ok(Some(Batches {
            written: number("/batches/written").context("no batches")?,
            largest_ops: number("/batches/largest/ops").context("no largest batch")?,
        }))
    }
}

fn mirror(
    setup: &Setup,
    primary: &Cluster,
    standby: &Cluster,
    folder: &tempfile::TempDir,
) -> Result<Process> {
    // It wants HOST:PORT, and takes several separated by commas.
    let to: Vec<String> = standby
        .client_endpoints()
        .iter()
        .map(|url| url.trim_start_matches("http://").to_owned())
        .collect();
    let mut command = Command::new(&setup.binaries.etcdctl);
    command
        .arg(format!(
            "--endpoints={}",
            primary.client_endpoints().join(",")
        ))
        .args(["make-mirror", "--no-dest-prefix=true"])
        .arg(to.join(","))
        .env("ETCDCTL_API", "3")
        .env_remove("ETCDCTL_ENDPOINTS");
    Process::spawn("make-mirror", command, &folder.path().join("log"))
}
