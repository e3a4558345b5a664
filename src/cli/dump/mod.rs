//! `etcd-syncer dump`: what is in files of the primary, one subcommand for each kind.

mod diff;
mod items;
mod snapshot;

use std::io::{BufWriter, Write};

use crate::exit::{Exit, Fatal};

/// What to dump.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Show what a database holds: a saved snapshot, or that of a stopped member.
    Snapshot(snapshot::Args),
    /// Show what differs between two databases.
    Diff(diff::Args),
}

pub(super) fn main(command: &Command) -> Result<Exit, Fatal> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let dumped = match command {
        Command::Snapshot(args) => snapshot::dump(args, &mut out),
        Command::Diff(args) => diff::dump(args, &mut out),
    };
    let flushed = out.flush().map_err(Stop::Output);
    match dumped.and(flushed) {
        Ok(()) => Ok(Exit::Ok),
        // Whoever reads has seen enough.
        Err(Stop::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Exit::Ok),
        Err(Stop::Output(error)) => Err(Fatal::new(Exit::Failed, format!("print: {error}"))),
        Err(Stop::Input(why)) => Err(Fatal::new(Exit::Failed, why)),
        Err(Stop::Differs) => Ok(Exit::Failed),
        Err(Stop::CannotTell(why)) => Err(Fatal::new(Exit::CannotTell, why)),
    }
}

/// Why a dump ends early, or does not end well.
#[derive(Debug)]
enum Stop {
    /// What is read cannot be.
    Input(String),
    /// What was compared is not the same, as was printed.
    Differs,
    /// What is to be compared cannot be read.
    CannotTell(String),
    /// Nothing can be printed any more.
    Output(std::io::Error),
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::Output(error)
    }
}
