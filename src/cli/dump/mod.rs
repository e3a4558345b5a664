//! `etcd-syncer dump`: what is in files of the primary, one subcommand for each kind.

mod lines;
mod log;
mod shown;
mod wal;

use std::io::{BufWriter, Write};

use serde_json::{Map, Value, json};

use crate::exit::{Exit, Fatal};
use crate::offline::{Compared, Effects};
use crate::resolve::{DigestKey, Position, PrimaryState, Rules, Settings, Version};

/// What to dump.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
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
    /// Print values of keys.
    #[arg(long)]
    show_values: bool,
    /// Print passwords, their hashes and tokens.
    #[arg(long)]
    show_secrets: bool,
}

pub(super) fn main(command: &Command) -> Result<Exit, Fatal> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let dumped = match command {
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
        Err(Stop::Usage(why)) => Err(Fatal::new(Exit::Usage, why)),
    }
}

/// Why a dump ends early.
#[derive(Debug)]
enum Stop {
    /// What is read cannot be.
    Input(String),
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

/// What works out effects from the first entry of a cluster on.
fn from_the_beginning(rules: Rules, compared: Compared) -> Effects {
    let settings = Settings {
        digest_key: DigestKey::new(&std::array::from_fn(|_| fastrand::u8(..))),
        lease_ttl_min: LEASE_TTL_MIN,
        rules,
        voters: 1,
    };
    let state = PrimaryState::new(settings, Position::START);
    Effects::new(state, compared)
}

/// Smallest lease TTL in seconds that members with etcd's default timeouts grant.
const LEASE_TTL_MIN: i64 = 2;

/// The rules of a release by its name.
fn rules(version: &str) -> Result<Rules, String> {
    let version = Version::parse(version)
        .ok_or_else(|| format!("{version:?} is no release of etcd, such as 3.5.33"))?;
    Rules::of(version).map_err(|error| error.to_string())
}
