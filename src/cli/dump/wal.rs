//! `etcd-syncer dump wal`.

use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::lines::Lines;
use super::{Entries, Stop};
use crate::ids::RaftIndex;
use crate::learner::Membership;
use crate::offline::{Compared, Effects, committed};
use crate::wal::{self, Directory, End, Wal};

/// Options of `dump wal`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// A member's data directory, or the folder with its WAL files.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Work out what each entry did, as this release of etcd applies it, such as 3.5.33. The log
    /// must begin with the first entry.
    #[arg(long, value_name = "VERSION")]
    etcd_version: Option<String>,
    #[command(flatten)]
    entries: Entries,
}

pub(super) fn dump(args: &Args, out: &mut impl Write) -> Result<(), Stop> {
    let wal = wal::locate(&args.dir).and_then(Wal::open);
    let wal = wal.map_err(Stop::input)?;
    super::summary("wal", summary(&wal), args.entries.json, out)?;
    let effects = match &args.etcd_version {
        None => None,
        Some(version) => Some(effects(&wal, version)?),
    };
    let mut lines = Lines::new(out, &args.entries, effects, wal.commit());
    let mut membership = Membership::default();
    for entry in wal.all_entries() {
        lines.entry(committed(entry.map_err(Stop::input)?), &mut membership)?;
    }
    lines.finish()?;
    match wal.end() {
        End::Clean | End::Torn { .. } => Ok(()),
        End::Suspect { .. } => Err(Stop::Input(format!(
            "{}: what follows the last entry shown cannot be read: {}",
            args.dir.display(),
            end(wal.end())
        ))),
    }
}

/// A state to begin with, if the log begins with the first entry.
fn effects(wal: &Wal<Directory>, version: &str) -> Result<Effects, Stop> {
    let rules = super::rules(version).map_err(Stop::Usage)?;
    if wal.first() != RaftIndex(1) {
        return Err(Stop::Usage(format!(
            "the log begins with entry {}, so what entries did cannot be worked out; leave out \
             --etcd-version",
            wal.first()
        )));
    }
    let mut compared = Compared::default();
    for entry in wal.all_entries() {
        compared.look_at(&committed(entry.map_err(Stop::input)?));
    }
    Ok(super::from_the_beginning(rules, compared))
}

/// What there is to say about the whole log, in order.
fn summary(wal: &Wal<Directory>) -> Vec<(&'static str, Value)> {
    let metadata = wal.metadata();
    let state = wal.hard_state();
    let (last, last_term) = wal.last().unwrap_or_default();
    let files: Vec<Value> = wal.files().map(|name| name.to_string().into()).collect();
    let mut summary = vec![
        ("files", files.into()),
        ("cluster", metadata.cluster.to_string().into()),
        ("member", metadata.member.to_string().into()),
        ("term", state.term.0.into()),
        ("vote", state.vote.to_string().into()),
        ("commit", state.commit.0.into()),
        ("first", wal.first().0.into()),
        ("last", last.0.into()),
        ("last_term", last_term.0.into()),
        ("overwritten", wal.overwritten().into()),
        ("undetermined", state.commit.distance_to(last).into()),
    ];
    if let Some(start) = wal.start() {
        let snapshot = json!({"index": start.index.0, "term": start.term.0});
        summary.push(("snapshot", snapshot));
    }
    for gap in wal.gaps() {
        summary.push(("missing", json!([gap.first.0, gap.last.0])));
    }
    summary.push(("end", end(wal.end()).into()));
    summary
}

fn end(end: &End) -> String {
    match end {
        End::Clean => "clean".to_owned(),
        End::Torn {
            file,
            offset,
            problem,
        } => format!("interrupted write in {file}, offset {offset}: {problem}"),
        End::Suspect {
            file,
            offset,
            problem,
            records,
        } => {
            let what = problem.as_ref().map_or_else(
                || "a length of zero".to_owned(),
                |problem| problem.to_string(),
            );
            let behind = if *records {
                "records follow"
            } else {
                "something follows"
            };
            format!("{what} in {file}, offset {offset}, and {behind}")
        }
    }
}
