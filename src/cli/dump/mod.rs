//! `etcd-syncer dump`: what is in files of the primary, one subcommand for each kind.

mod diff;
mod effects;
mod items;
mod lines;
mod log;
mod shown;
mod snapshot;
mod wal;

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use self::items::Show;
use crate::exit::{Exit, Fatal};

/// What to dump.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Show what a database holds: a saved snapshot, or that of a stopped member.
    Snapshot(snapshot::Args),
    /// Show what differs between two databases.
    Diff(diff::Args),
    /// Show the raft log in a data directory of a member.
    Wal(wal::Args),
    /// Show a captured log.
    Log(log::Args),
}

/// Options of every dump of entries.
#[derive(Debug, clap::Args)]
pub(super) struct Entries {
    /// Print one JSON object for each line.
    #[arg(long)]
    json: bool,
    /// Begin with the entry of this index.
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    from: u64,
    /// End with the entry of this index.
    #[arg(long, value_name = "INDEX", default_value_t = u64::MAX)]
    to: u64,
    /// Work out what the entries behind this database did: a saved snapshot, a database file, or
    /// the data directory of a stopped member.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    #[command(flatten)]
    show: Show,
}

pub(super) fn main(command: &Command) -> Result<Exit, Fatal> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let dumped = match command {
        Command::Snapshot(args) => snapshot::dump(args, &mut out),
        Command::Diff(args) => diff::dump(args, &mut out),
        Command::Wal(args) => wal::dump(args, &mut out),
        Command::Log(args) => log::dump(args, &mut out),
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
        Err(Stop::Usage(why)) => Err(Fatal::new(Exit::Usage, why)),
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
    /// The options make no sense together.
    Usage(String),
    /// Nothing can be printed any more.
    Output(std::io::Error),
}

impl Stop {
    fn input(error: impl ToString) -> Self {
        Self::Input(error.to_string())
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::Output(error)
    }
}

/// Prints what there is to say about a whole file.
fn summary(
    what: &str,
    pairs: Vec<(&'static str, Value)>,
    as_json: bool,
    out: &mut impl Write,
) -> Result<(), Stop> {
    if as_json {
        let pairs = pairs.into_iter();
        let pairs: Map<String, Value> = pairs.map(|(name, v)| (name.to_owned(), v)).collect();
        writeln!(out, "{}", json!({ what: pairs }))?;
    } else {
        for (name, value) in pairs {
            writeln!(out, "{name:<13} {value}")?;
        }
    }
    Ok(())
}
