//! `etcd-syncer dump log`.

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::lines::Lines;
use super::{Entries, Stop, effects};
use crate::ids::RaftIndex;
use crate::offline::Compared;
use crate::offline::capture::{CaptureEnd, Reader};

/// Options of `dump log`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// A captured log.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    entries: Entries,
}

pub(super) fn dump(args: &Args, out: &mut impl Write) -> Result<(), Stop> {
    let mut log = open(&args.file)?;
    let header = log.header().clone();
    let ids = |ids: &[u64]| -> Vec<String> { ids.iter().map(|id| format!("{id:x}")).collect() };
    let summary = vec![
        ("cluster", json!(header.primary.to_string())),
        ("member", json!(header.member.to_string())),
        ("etcd_version", json!(header.etcd_version)),
        ("behind", json!(header.index.0)),
        ("behind_term", json!(header.term.0)),
        ("voters", json!(ids(&header.conf_state.voters))),
        ("learners", json!(ids(&header.conf_state.learners))),
    ];
    super::summary("log", summary, args.entries.json, out)?;
    let rules = effects::rules(&header.etcd_version).map_err(Stop::input)?;
    let mut compared = Compared::default();
    for captured in open(&args.file)? {
        compared.look_at(&captured.map_err(Stop::input)?.entry);
    }
    let effects = effects::begin(&args.entries, header.index.next(), rules, compared)?;
    // A captured log holds committed entries only.
    let mut lines = Lines::new(out, &args.entries, effects, RaftIndex(u64::MAX));
    let mut membership = header.membership();
    for captured in log.by_ref() {
        let captured = captured.map_err(Stop::input)?;
        if let (Some(version), Some(effects)) = (&captured.etcd_version, lines.effects()) {
            effects.set_rules(effects::rules(version).map_err(Stop::input)?);
        }
        lines.entry(captured.entry, &mut membership)?;
    }
    lines.finish()?;
    if log.end() == Some(CaptureEnd::Torn) {
        let torn = vec![("end", json!("interrupted write"))];
        super::summary("log", torn, args.entries.json, out)?;
    }
    Ok(())
}

fn open(path: &Path) -> Result<Reader<BufReader<File>>, Stop> {
    let failed = |error: String| Stop::Input(format!("{}: {error}", path.display()));
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    Reader::open(BufReader::new(file)).map_err(|error| failed(error.to_string()))
}
