//! The command line: one file for each subcommand.

mod dump;
mod process;
mod progress;
mod replay;
mod resync;
mod run;
mod scope;
mod standby;
mod status;

use clap::{Parser, Subcommand};

use crate::exit::{Exit, Fatal};

/// Replicates an etcd cluster (the primary) into an independent one (the standby), as a raft
/// learner of the primary.
#[derive(Debug, Parser)]
#[command(name = "etcd-syncer", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Follow a primary and keep a standby equal to it.
    Run(Box<run::Args>),
    /// Show what a running process does.
    Status(status::Args),
    /// Bring what is on the disks of a primary, in a saved snapshot or a captured log to a standby.
    Replay(Box<replay::Args>),
    /// Make a stream begin with a snapshot of the primary again.
    Resync(resync::Args),
    /// Show what is in files of the primary, offline.
    #[command(subcommand)]
    Dump(dump::Command),
}

const EXIT_CODES: &str = "\
Exit codes:
   0  done, or stopped by SIGTERM or SIGINT with everything written
   1  failed; what was compared differs
   2  what was to be compared cannot be read
  10  the primary's URLs answer, but not as etcd peers
  11  the primary's URLs belong to different clusters
  12  the advertised peer URL belongs to a voter
  13  primary and standby are the same cluster
  14  the standby holds keys in scope and no checkpoint, or another stream has them
  15  the checkpoint belongs to another primary or scope, or cannot be read
  16  the stream cannot go on from the checkpoint with this version, or with these files
  17  this member was removed from the primary
  18  another process took the stream over
  19  the stream had halted before the process was stopped
  20  an address to listen on is taken
  21  a data directory is unusable, or in use
  22  the standby refuses us
  64  bad usage or configuration";

/// Parses the arguments and does what they say.
///
/// # Errors
/// [`Fatal`], with the code to end with.
pub fn main() -> Result<Exit, Fatal> {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let exit = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Ok
            };
            // Nothing can be done about a terminal that is gone.
            let _ = error.print();
            return Ok(exit);
        }
    };
    match cli.command {
        Command::Run(args) => run::main(*args),
        Command::Status(args) => status::main(&args),
        Command::Replay(args) => replay::main(*args),
        Command::Resync(args) => resync::main(args),
        Command::Dump(command) => dump::main(&command),
    }
}

/// The runtime of a subcommand.
fn runtime() -> Result<tokio::runtime::Runtime, Fatal> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Fatal::new(Exit::Failed, format!("start the runtime: {error}")))
}
