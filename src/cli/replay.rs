//! `etcd-syncer replay`.

use std::io::{self, Write};
use std::path::PathBuf;

use serde_json::{Value, json};

use super::standby::given;
use crate::config::{self, LogFormat};
use crate::exit::{Exit, Fatal};
use crate::ids::{ClusterId, RaftIndex, Revision};
use crate::range::KeyRange;
use crate::replay::{self, From, Listed, Report, Tail};
use crate::session::Session;
use crate::version::Version;

/// Options of `replay`.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("from").required(true).args(["data_dir", "snapshot", "log"])))]
pub(super) struct Args {
    /// Data directory of a stopped member of the primary; once for each that is there. With those
    /// of a majority of the voters everything that was committed is known.
    #[arg(long, value_name = "DIR")]
    data_dir: Vec<PathBuf>,
    /// Snapshot that `etcdctl snapshot save` wrote.
    #[arg(long, value_name = "FILE")]
    snapshot: Option<PathBuf>,
    /// Log behind the snapshot: a data directory of a stopped member, or the folder with its WAL
    /// files.
    #[arg(long, value_name = "DIR", requires = "snapshot")]
    wal: Option<PathBuf>,
    /// Log that `etcd-syncer run --capture` wrote.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    #[command(flatten)]
    standby: super::standby::StandbyArgs,
    /// Name of the replication.
    #[arg(
        long,
        env = "ETCD_SYNCER_STREAM",
        value_name = "NAME",
        default_value = "default"
    )]
    stream: String,
    #[command(flatten)]
    scope: super::scope::ScopeArgs,
    /// TTL of every lease on the standby: how long they outlive the last process that kept them
    /// alive. [default: 24h]
    #[arg(long, env = "ETCD_SYNCER_STANDBY_LEASE_TTL", value_name = "TIME")]
    standby_lease_ttl: Option<String>,
    /// Whether the standby's history is compacted where the primary's was. [default: follow]
    #[arg(long, env = "ETCD_SYNCER_COMPACTION", value_name = "follow|none")]
    compaction: Option<String>,
    /// Release of etcd that the primary ran, such as 3.5.33. Without it the last known patch
    /// release of the minor release that the files tell.
    #[arg(long, value_name = "VERSION", value_parser = version)]
    primary_version: Option<Version>,
    /// The primary's cluster id in hexadecimal, for a snapshot without a log.
    #[arg(long, value_name = "ID", value_parser = cluster)]
    primary_cluster_id: Option<ClusterId>,
    /// Apply entries too of which it is not known whether they were committed.
    #[arg(long, conflicts_with = "log")]
    include_undetermined: bool,
    /// Last entry to apply.
    #[arg(long, value_name = "INDEX")]
    until_index: Option<u64>,
    /// Last revision of the primary to apply: one less than that of a mistake.
    #[arg(long, value_name = "REVISION")]
    until_revision: Option<i64>,
    /// What to do with a key that changed several times in one batch: auto, keep, last.
    #[arg(long, env = "ETCD_SYNCER_HISTORY", value_name = "auto|keep|last")]
    history: Option<String>,
    /// Most operations in one batch.
    #[arg(
        long,
        env = "ETCD_SYNCER_BATCH_OPS_MAX",
        value_name = "N",
        default_value_t = config::BATCH_OPS_MAX,
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..)
    )]
    batch_ops_max: usize,
    /// Most bytes of keys and values in one batch; below the standby's --max-request-bytes.
    #[arg(
        long,
        env = "ETCD_SYNCER_BATCH_BYTES_MAX",
        value_name = "BYTES",
        default_value_t = config::BATCH_BYTES_MAX,
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..)
    )]
    batch_bytes_max: usize,
    /// Write what is known of the primary's keys and leases, without values, to this file at the
    /// end.
    #[arg(long, value_name = "FILE", conflicts_with = "until_revision")]
    dump_state: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn main(args: Args) -> Result<Exit, Fatal> {
    let usage = |error: config::Error| Fatal::new(Exit::Usage, error);
    let from = match (args.snapshot, args.log) {
        (Some(file), _) => From::Snapshot {
            file,
            wal: args.wal,
        },
        (None, Some(log)) => From::Log(log),
        (None, None) => From::DataDirs(args.data_dir),
    };
    let (standby, login) = args.standby.check()?;
    let options = replay::Options {
        from,
        primary_version: args.primary_version,
        primary_cluster: args.primary_cluster_id,
        include_undetermined: args.include_undetermined,
        until_index: args.until_index.map(RaftIndex),
        until_revision: args.until_revision.map(Revision),
        standby,
        standby_user: login.user,
        standby_session: Session::new(login.credentials),
        standby_lease_ttl: config::standby_lease_ttl(given(args.standby_lease_ttl))
            .map_err(usage)?,
        compaction: config::compaction(given(args.compaction)).map_err(usage)?,
        stream: config::stream(args.stream).map_err(usage)?,
        scope: args.scope.check()?,
        history: config::history(given(args.history)).map_err(usage)?,
        batch_ops_max: args.batch_ops_max,
        batch_bytes_max: args.batch_bytes_max,
        dump_state: args.dump_state,
    };
    super::process::start_log(LogFormat::Text);
    let report = super::runtime()?.block_on(async {
        let stop = super::process::stop_on_signals()?;
        Box::pin(replay::run(options, stop)).await
    })?;
    let mut out = io::stdout().lock();
    let printed = if args.json {
        writeln!(out, "{}", as_json(&report))
    } else {
        print(&report, &mut out)
    };
    printed
        .and_then(|()| out.flush())
        .map_err(|error| Fatal::new(Exit::Failed, format!("print the report: {error}")))?;
    Ok(Exit::Ok)
}

fn version(text: &str) -> Result<Version, String> {
    Version::parse(text).ok_or_else(|| "it is no release of etcd, such as 3.5.33".to_owned())
}

fn cluster(text: &str) -> Result<ClusterId, String> {
    ClusterId::parse_hex(text).ok_or_else(|| "it is no hexadecimal number".to_owned())
}

fn print(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let mut line = |name: &str, text: String| writeln!(out, "{name:<13} {text}");
    line("stream", report.stream.clone())?;
    line("primary", report.primary.to_string())?;
    line("from", format!("index {}", report.from))?;
    if let Some(index) = report.installed {
        line("installed", format!("the database at index {index}"))?;
    }
    let (to, term, revision) = (report.to, report.term, report.revision);
    line(
        "to",
        format!("index {to}, term {term}, revision {revision}"),
    )?;
    for (kind, tally) in &report.tallies {
        let (with, without) = (tally.with_effect, tally.without_effect);
        line(
            "entries",
            format!("{kind}: {with} with effect, {without} without"),
        )?;
    }
    for index in &report.disagreements {
        line(
            "disagreement",
            format!("members of the primary may have applied entry {index} differently"),
        )?;
    }
    line("batches", report.batches.to_string())?;
    line("seconds", format!("{:.3}", report.took.as_secs_f64()))?;
    if let Some(why) = &report.stopped_by {
        line("stopped by", why.clone())?;
    }
    if report.undetermined.is_empty() {
        return line("undetermined", "0".to_owned());
    }
    for tail in &report.undetermined {
        print_tail(tail, out)?;
    }
    Ok(())
}

fn print_tail(tail: &Tail, out: &mut impl Write) -> io::Result<()> {
    let done = if tail.is_taken {
        "applied, as asked for"
    } else {
        "not applied"
    };
    let (count, member) = (tail.count, tail.member);
    writeln!(
        out,
        "undetermined  {count} entries in the log of member {member}, {done}:"
    )?;
    for entry in &tail.listed {
        let keys: Vec<String> = entry.keys.iter().map(words).collect();
        let (index, term, kind) = (entry.index, entry.term, entry.kind);
        writeln!(
            out,
            "  index {index} term {term} {kind} {}",
            keys.join(", ")
        )?;
    }
    let listed = u64::try_from(tail.listed.len()).unwrap_or(u64::MAX);
    match count.saturating_sub(listed) {
        0 => Ok(()),
        more => writeln!(out, "  and {more} more, which `etcd-syncer dump wal` shows"),
    }
}

fn words(range: &KeyRange) -> String {
    let shown = |key: &[u8]| key.escape_ascii().to_string();
    match (range.as_single(), range.end()) {
        (Some(key), _) => format!("\"{}\"", shown(key)),
        (None, Some(end)) => format!("\"{}\"..\"{}\"", shown(range.start()), shown(end)),
        (None, None) => format!("\"{}\"..", shown(range.start())),
    }
}

fn as_json(report: &Report) -> Value {
    let entries = report.tallies.iter();
    let entries: serde_json::Map<String, Value> = entries
        .map(|(kind, tally)| ((*kind).to_owned(), json!(tally)))
        .collect();
    let tails: Vec<Value> = report.undetermined.iter().map(tail_json).collect();
    json!({
        "stream": report.stream,
        "primary": report.primary.to_string(),
        "from_index": report.from,
        "installed_index": report.installed,
        "to_index": report.to,
        "to_term": report.term,
        "revision": report.revision,
        "entries": entries,
        "disagreements": report.disagreements,
        "batches": report.batches,
        "seconds": report.took.as_secs_f64(),
        "stopped_by": report.stopped_by,
        "undetermined": tails,
    })
}

fn tail_json(tail: &Tail) -> Value {
    let listed = |entry: &Listed| {
        let keys: Vec<String> = entry.keys.iter().map(words).collect();
        json!({
            "index": entry.index,
            "term": entry.term,
            "kind": entry.kind,
            "keys": keys,
        })
    };
    let entries: Vec<Value> = tail.listed.iter().map(listed).collect();
    json!({
        "member": tail.member.to_string(),
        "applied": tail.is_taken,
        "count": tail.count,
        "entries": entries,
    })
}
