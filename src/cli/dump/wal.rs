//! `etcd-syncer dump wal`.

use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::lines::Lines;
use super::{Entries, Stop, effects};
use crate::learner::Membership;
use crate::offline::{self, Compared, Effects, committed};
use crate::wal::{self, Directory, End, Wal};

/// Options of `dump wal`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// A member's data directory, or the folder with its WAL files.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Work out what each entry did, as this release of etcd applies it, such as 3.5.33: from the
    /// first entry on, or from --state.
    #[arg(long, value_name = "VERSION")]
    etcd_version: Option<String>,
    #[command(flatten)]
    entries: Entries,
}

pub(super) fn dump(args: &Args, out: &mut impl Write) -> Result<(), Stop> {
    let wal = wal::locate(&args.dir).and_then(Wal::open);
    let wal = wal.map_err(Stop::input)?;
    super::summary("wal", summary(&wal), args.entries.json, out)?;
    let effects = effects(&wal, args)?;
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

/// What works out effects, if the options ask for it.
fn effects(wal: &Wal<Directory>, args: &Args) -> Result<Option<Effects>, Stop> {
    let Some(version) = &args.etcd_version else {
        if args.entries.state.is_some() {
            return Err(Stop::Usage("--state needs --etcd-version".to_owned()));
        }
        return Ok(None);
    };
    let rules = effects::rules(version).map_err(Stop::Usage)?;
    if args.entries.state.is_none()
        && let Some(restored) = offline::restored_at(wal).map_err(Stop::input)?
    {
        return Err(Stop::Usage(format!(
            "the member was restored from a snapshot, which the log before entry {restored} does \
             not hold; give that snapshot or the member's database with --state"
        )));
    }
    let mut compared = Compared::default();
    for entry in wal.all_entries() {
        compared.look_at(&committed(entry.map_err(Stop::input)?));
    }
    let begun = effects::begin(&args.entries, wal.first(), rules, compared)?;
    match begun {
        Some(effects) => Ok(Some(effects)),
        None => Err(Stop::Usage(format!(
            "the log begins with entry {}, so what entries did cannot be worked out without a \
             --state that reaches there",
            wal.first()
        ))),
    }
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
