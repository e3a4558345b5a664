//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// Compares etcd-syncer with etcdctl make-mirror on this machine.
#[derive(Debug, Parser)]
#[command(name = "bench")]
pub(crate) struct Args {
    /// Release of etcd, from 3.4 to 3.7; the newest at hand unless given.
    #[arg(long, value_name = "X.Y")]
    pub(crate) etcd: Option<String>,
    /// Members of each primary.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=5))]
    pub(crate) members: u8,
    /// Keys to copy at first. [default: 100000, quick: 10000]
    #[arg(long)]
    pub(crate) keys: Option<u64>,
    /// Bytes in each value.
    #[arg(long, default_value_t = 256)]
    pub(crate) value_bytes: usize,
    /// Let all members wait for their disks, as etcd does unless told otherwise.
    #[arg(long)]
    pub(crate) fsync: bool,
    /// Writers at work at the same time.
    #[arg(long, default_value_t = 64)]
    pub(crate) writers: usize,
    /// Seconds that a first copy may take. [default: 60, quick: 10]
    #[arg(long)]
    pub(crate) copy_seconds: Option<u64>,
    /// Seconds of full-speed writing in each phase. [default: 10, quick: 4]
    #[arg(long)]
    pub(crate) seconds: Option<u64>,
    /// How often each tool follows a load; 0 for the first copy alone. [default: 2, quick: 1]
    #[arg(long)]
    pub(crate) rounds: Option<usize>,
    /// A smoke test of about a minute; its figures say little.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Write all figures to this file as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// One more argument for etcd-syncer, such as --syncer-arg=--batch-ops-max=126.
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub(crate) syncer_arg: Vec<String>,
}
