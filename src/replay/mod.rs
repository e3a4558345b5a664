//! A stream from files: what is on the disks of a primary, in a saved snapshot or in a captured log
//! goes the way of entries that a running primary hands out. IO.
//!
//! ```text
//! data directories --+
//! saved snapshot ----+--Source--Plan--> database, if need be --install--+--> standby
//! captured log ------+             `--> entries behind it ----apply-----+
//! ```
//!
//! Everything that can be checked is checked before the first write. A process that follows the
//! primary for the same stream is fenced by the first write, as by any other process.

mod entries;
mod feed;
mod plan;
mod release;
mod report;
mod source;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::apply::{self, Apply};
use crate::base::{Base, Claim, Room, Upkeep};
use crate::checkpoint::Checkpoint;
use crate::exit::{Exit, Fatal};
use crate::halt::Halt;
use crate::ids::{ClusterId, RaftIndex, Revision};
use crate::install::Target;
use crate::pipeline::{self, HistoryPolicy, Pipeline};
use crate::plan::auth::Access;
use crate::plan::{CompactionPolicy, Limits};
use crate::resolve::Rules;
use crate::scope::Scope;
use crate::session::Session;
use crate::standby::{self, Etcd};
use crate::statefile;
use crate::version::Version;
use feed::Feed;
use plan::Plan;
use source::Source;

pub use report::{Listed, Report, Tail};

/// Where entries come from.
#[derive(Clone, Debug)]
pub enum From {
    /// Data directories of stopped members of one primary.
    DataDirs(Vec<PathBuf>),
    /// A saved snapshot, and the log behind it.
    Snapshot {
        /// The file.
        file: PathBuf,
        /// A member's log.
        wal: Option<PathBuf>,
    },
    /// A captured log.
    Log(PathBuf),
}

/// What to replay, and how far.
#[derive(Clone, Debug)]
pub struct Options {
    /// The files.
    pub from: From,
    /// The release of the primary, where it is known better than the files tell.
    pub primary_version: Option<Version>,
    /// The primary's cluster, where the files do not tell.
    pub primary_cluster: Option<ClusterId>,
    /// Apply entries that may have been committed, or not.
    pub include_undetermined: bool,
    /// The last entry to apply.
    pub until_index: Option<RaftIndex>,
    /// The last revision to apply.
    pub until_revision: Option<Revision>,
    /// The standby.
    pub standby: standby::Options,
    /// The name of our own user of the standby.
    pub standby_user: String,
    /// Who we are to the standby, if it asks.
    pub standby_session: Session,
    /// TTL of leases on the standby, whole seconds.
    pub standby_lease_ttl: Duration,
    /// Whether compactions are carried over.
    pub compaction: CompactionPolicy,
    /// Name of the stream.
    pub stream: String,
    /// Which keys are replicated, and under which names.
    pub scope: Arc<Scope>,
    /// What to do with a key that changed several times.
    pub history: HistoryPolicy,
    /// Most operations in a batch.
    pub batch_ops_max: usize,
    /// Most bytes in a batch.
    pub batch_bytes_max: usize,
    /// Where to write the primary's state at the end.
    pub dump_state: Option<PathBuf>,
}

/// How long the last leases that are to be ended, and the last compaction, may keep us; what is
/// left of the leases is empty and expires.
const LEASES_PATIENCE: Duration = Duration::from_secs(30);

impl Options {
    /// A way to the standby; nothing is connected yet.
    fn standby(&self) -> Etcd {
        Etcd::new(self.standby.clone())
            .in_session(self.standby_session.clone())
            .for_scope(Arc::clone(&self.scope))
    }

    /// How the standby is kept; nobody watches.
    fn upkeep(&self) -> Upkeep {
        let login = self.standby_session.credentials();
        Upkeep {
            lease_ttl: self.standby_lease_ttl,
            compaction: self.compaction,
            user: self.standby_user.clone(),
            access: login.map_or(Access::NoPassword, |_| Access::Password),
            trouble: watch::Sender::default(),
            leases: watch::Sender::default(),
            auth: watch::Sender::default(),
        }
    }
}

/// Replays until the end of the files or the last entry that is wanted.
///
/// # Errors
/// [`Fatal`]; the standby is then at the index of its checkpoint, and the same command goes on
/// there.
pub async fn run(options: Options, stop: CancellationToken) -> Result<Report, Fatal> {
    let started = Instant::now();
    let source = tokio::task::block_in_place(|| Source::open(&options))?;
    let primary = source.cluster(options.primary_cluster)?;
    let rules = release::rules(&source, options.primary_version)?;
    let claim = Claim {
        stream: options.stream.clone(),
        primary,
        scope: Arc::clone(&options.scope),
        stop: stop.clone(),
    };
    let mut standby = options.standby();
    let contacting = claim.contact(&mut standby, |_| {});
    let contact = Box::pin(contacting).await?.ok_or_else(stopped)?;
    let loading = claim.load(&mut standby, &contact, rules);
    let mut loaded = Box::pin(loading).await?.ok_or_else(stopped)?;
    if let (true, Some(member)) = (loaded.is_first(), source.learner()) {
        loaded = loaded.of_member(member);
    }
    let planned = || Plan::of(&source, loaded.checkpoint(), loaded.is_first(), &options);
    let plan = tokio::task::block_in_place(planned)?;
    let tails = tokio::task::block_in_place(|| source.undetermined(&plan.checkpoint))?;
    let mut report = Report::new(loaded.checkpoint(), &options.stream, tails);
    let taking = claim.take(standby, || options.standby(), loaded, options.upkeep());
    let (base, keeping) = Box::pin(taking).await?.ok_or_else(stopped)?;
    let replay = Replay {
        rules,
        txn_ops_max: contact.txn_ops_max,
        stop: stop.clone(),
        options,
    };
    let replayed = Box::pin(replay.run(source, base, plan.install, &mut report)).await;
    let ending = keeping.end(LEASES_PATIENCE);
    // What is left when we are told to stop is for the next process.
    let _ended = stop.run_until_cancelled(ending).await;
    report.finish(&replayed?, started.elapsed());
    Ok(report)
}

fn stopped() -> Fatal {
    let message = "stopped before the end; the same command goes on where this one was";
    Fatal::new(Exit::Failed, message)
}

/// What applying entries needs to know.
struct Replay {
    options: Options,
    rules: Rules,
    txn_ops_max: usize,
    stop: CancellationToken,
}

impl Replay {
    /// Installs the database, if there is one, and applies the entries behind it.
    async fn run(
        self,
        source: Source,
        mut base: Base<Etcd>,
        install: Option<Target>,
        report: &mut Report,
    ) -> Result<Checkpoint, Fatal> {
        if let Some(target) = install {
            report.installed = Some(target.index);
            tracing::info!(index = %target.index, "installing {}", target.path.display());
            let room = Room {
                txn_ops_max: self.txn_ops_max,
                bytes_max: self.options.batch_bytes_max,
            };
            let progress = watch::Sender::new(None);
            let installing = Box::pin(base.install(target, self.rules, room, progress));
            let installed = self.stop.run_until_cancelled(installing).await;
            installed
                .ok_or_else(stopped)?
                .map_err(|halt| Fatal::new(halt.exit, halt.reason))?;
        }
        Box::pin(self.entries(source, base, report)).await
    }

    /// Applies the entries behind the base's checkpoint.
    async fn entries(
        self,
        source: Source,
        base: Base<Etcd>,
        report: &mut Report,
    ) -> Result<Checkpoint, Fatal> {
        let options = self.options;
        let limits = Limits {
            batch_ops_max: options.batch_ops_max,
            batch_bytes_max: options.batch_bytes_max,
            txn_ops_max: self.txn_ops_max,
        };
        let (handouts_in, handouts) = mpsc::unbounded_channel();
        let (durable_in, durable) = watch::channel(base.checkpoint.index);
        let (rules_in, rules) = watch::channel(Ok(self.rules));
        let feed = Feed::new(handouts_in, durable, rules_in, options.until_index);
        let checkpoint = base.checkpoint.clone();
        let feeding = tokio::task::spawn_blocking(move || feed.run(&source, &checkpoint));
        let view = watch::Sender::<apply::View>::default();
        let metrics = apply::Metrics::register(&prometheus::Registry::new())
            .map_err(|error| Fatal::new(Exit::Failed, format!("register metrics: {error}")))?;
        let pipeline = Pipeline::new(base.state, base.scope, limits, options.history);
        let apply = Apply::new(
            pipeline.until(options.until_revision),
            (base.writer, base.reconciler),
            (base.checkpoint, base.ledger),
            self.txn_ops_max,
            apply::Channels {
                handouts,
                durable: durable_in,
                rules,
                keeper: base.keeper,
            },
            view.clone(),
            metrics,
        );
        let left = Box::pin(apply.run(self.stop)).await;
        let fed = feeding.await;
        let fed = fed.map_err(|_| Fatal::new(Exit::Failed, "reading ended in a panic"))?;
        report.note(&view.borrow());
        let at = &left.checkpoint;
        let failed = |exit, reason: &dyn std::fmt::Display| {
            let (index, revision) = (at.index, at.revision);
            let place = format!("the standby is at index {index}, revision {revision}");
            Fatal::new(exit, format!("{reason}; {place}"))
        };
        match &left.end {
            apply::End::Alone => fed.map_err(|fatal| failed(fatal.exit, &fatal))?,
            apply::End::Pipeline(beyond @ pipeline::Error::Beyond { .. }) => {
                report.stopped_by = Some(beyond.to_string());
            }
            end @ (apply::End::Stopped
            | apply::End::StoppedInFlight
            | apply::End::Pipeline(_)
            | apply::End::Version(_)
            | apply::End::Standby(_)
            | apply::End::TooLarge { .. }
            | apply::End::KeysLost { .. }
            | apply::End::Ledger(_)) => {
                let halt = Halt::of_apply(end);
                let halt = halt.ok_or_else(|| failed(Exit::Failed, &stopped()))?;
                return Err(failed(halt.exit, &halt.reason));
            }
        }
        if let Some(path) = &options.dump_state {
            statefile::write(path, &left.state)?;
        }
        Ok(left.checkpoint)
    }
}
