//! A process as the program runs one, from its first contact to its end, but for the primary, whose
//! entries and snapshots are handed to it.

use std::sync::Arc;
use std::time::Duration;

use etcd_syncer::apply::{self, Apply, End, Left};
use etcd_syncer::base::{Base, Claim, Keeping, Room, Upkeep};
use etcd_syncer::checkpoint::Checkpoint;
use etcd_syncer::exit::Fatal;
use etcd_syncer::ids::{ClusterId, MemberId, RaftIndex};
use etcd_syncer::install::Target;
use etcd_syncer::learner::Handout;
use etcd_syncer::ledger::Sizes;
use etcd_syncer::pipeline::{HistoryPolicy, Pipeline};
use etcd_syncer::plan::auth::Access;
use etcd_syncer::plan::{CompactionPolicy, Limits};
use etcd_syncer::resolve::{DigestKey, Rules, Settings, Version};
use etcd_syncer::scope::Scope;
use etcd_syncer::standby::{Compaction, Leases, Standby, keeper};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::way::Way;
use crate::auth_model::OURS;

pub(crate) const STREAM: &str = "s";
pub(crate) const PRIMARY: ClusterId = ClusterId(1);
pub(crate) const MEMBER: MemberId = MemberId(9);
/// What one batch takes.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// How a process is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    /// TTL of leases on the standby.
    pub(crate) hold: Duration,
    pub(crate) history: HistoryPolicy,
    pub(crate) sizes: Sizes,
    /// How many entries come at a time, the next when the last ones are durable.
    pub(crate) at_a_time: usize,
}

/// A process between two pieces of work.
pub(crate) struct Process {
    setup: Setup,
    base: Base<Way>,
    txn_ops_max: usize,
    view: watch::Receiver<keeper::View>,
    keeping: Keeping,
}

pub(crate) fn rules() -> Rules {
    Rules::of(Version::new(3, 6, 14)).unwrap()
}

pub(crate) fn settings(digest_key: DigestKey, voters: usize) -> Settings {
    Settings {
        digest_key,
        lease_ttl_min: 2,
        rules: rules(),
        voters,
    }
}

fn claim() -> Claim {
    Claim {
        stream: STREAM.to_owned(),
        primary: PRIMARY,
        scope: Arc::new(Scope::all()),
        stop: CancellationToken::new(),
    }
}

/// What a process holds that begins with what a standby has: the standby, the keeper of its leases,
/// and its `--max-txn-ops`.
pub(crate) async fn take<S>(
    standby: &S,
    hold: Duration,
    leases: watch::Sender<keeper::View>,
) -> Result<(Base<S>, Keeping, usize), Fatal>
where
    S: Standby + Leases + Compaction + Clone + 'static,
{
    let (claim, mut way) = (claim(), standby.clone());
    let contact = claim.contact(&mut way, |_| {}).await?.unwrap();
    let loaded = claim.load(&mut way, &contact, rules()).await?.unwrap();
    let upkeep = Upkeep {
        lease_ttl: hold,
        compaction: CompactionPolicy::Follow,
        user: OURS.to_owned(),
        access: Access::Password,
        trouble: watch::Sender::new(None),
        leases,
        auth: watch::Sender::new(None),
    };
    let another = || standby.clone();
    let taken = claim.take(way, another, loaded.of_member(MEMBER), upkeep);
    let (base, keeping) = taken.await?.unwrap();
    Ok((base, keeping, contact.txn_ops_max))
}

impl Process {
    /// Takes the standby over.
    pub(crate) async fn begin(way: &Way, setup: Setup) -> Self {
        let leases = watch::Sender::default();
        let view = leases.subscribe();
        let taken = take(way, setup.hold, leases).await;
        let (mut base, keeping, txn_ops_max) = taken.unwrap();
        base.ledger.set_sizes(setup.sizes);
        Self {
            setup,
            base,
            txn_ops_max,
            view,
            keeping,
        }
    }

    pub(crate) fn checkpoint(&self) -> &Checkpoint {
        &self.base.checkpoint
    }

    /// Applies entries, until the standby has them all.
    pub(crate) async fn stream(self, entries: Vec<Handout>) -> Self {
        Box::pin(self.run(entries, false)).await
    }

    /// Goes on without entries, until the leases are as they should be.
    pub(crate) async fn settle(self) -> Self {
        Box::pin(self.run(Vec::new(), true)).await
    }

    /// Applies entries, until one of them ends it.
    pub(crate) async fn halt(self, entries: Vec<Handout>) -> End {
        Box::pin(self.apply(entries, false)).await.1
    }

    async fn run(self, entries: Vec<Handout>, settles: bool) -> Self {
        let (process, end) = self.apply(entries, settles).await;
        assert!(matches!(end, End::Alone), "{end}");
        process
    }

    async fn apply(mut self, entries: Vec<Handout>, settles: bool) -> (Self, End) {
        let base = self.base;
        let (handouts_in, handouts) = mpsc::unbounded_channel();
        let (durable, seen) = watch::channel(base.checkpoint.index);
        let feeding = feed(entries, self.setup.at_a_time, handouts_in.clone(), seen);
        let mut view = self.view.clone();
        tokio::spawn(async move {
            feeding.await;
            if settles {
                let settled = view.wait_for(|view| view.ending == 0 && view.unseen == 0);
                let _has_ended = settled.await;
            }
            drop(handouts_in);
        });
        let (_rules, rules) = watch::channel(Ok(rules()));
        let channels = apply::Channels {
            handouts,
            durable,
            rules,
            keeper: base.keeper,
        };
        let limits = Limits {
            batch_ops_max: 100,
            batch_bytes_max: BATCH_BYTES_MAX,
            txn_ops_max: self.txn_ops_max,
        };
        let scope = Arc::clone(&base.scope);
        let apply = Apply::new(
            Pipeline::new(base.state, Arc::clone(&scope), limits, self.setup.history),
            (base.writer, base.reconciler),
            (base.checkpoint, base.ledger),
            self.txn_ops_max,
            channels,
            watch::Sender::default(),
            apply::Metrics::register(&prometheus::Registry::new()).unwrap(),
        );
        let left: Left<Way> = apply.run(CancellationToken::new()).await;
        self.base = Base {
            writer: left.writer,
            reconciler: left.reconciler,
            checkpoint: left.checkpoint,
            state: left.state,
            ledger: left.ledger,
            scope,
            keeper: left.keeper,
        };
        (self, left.end)
    }

    /// Installs a database.
    pub(crate) async fn install(&mut self, target: Target) {
        let room = Room {
            txn_ops_max: self.txn_ops_max,
            bytes_max: BATCH_BYTES_MAX,
        };
        let progress = watch::Sender::default();
        let installing = self.base.install(target, rules(), room, progress);
        tokio::select! {
            biased;
            installed = installing => installed.unwrap(),
            () = tick() => unreachable!("it never ends"),
        };
    }

    /// Ends as a process does that is told to.
    pub(crate) async fn end(self) {
        self.keeping.end(Duration::from_secs(2)).await;
    }

    /// Leases that the standby was found to have lost.
    pub(crate) fn lost(&self) -> u64 {
        self.view.borrow().lost
    }
}

/// Lets time go on while a thread reads a database: the runtime does not by itself.
async fn tick() {
    loop {
        std::thread::sleep(Duration::from_micros(200));
        tokio::time::advance(Duration::from_millis(20)).await;
    }
}

/// Hands entries out, so many at a time, each time when the last ones are durable.
async fn feed(
    entries: Vec<Handout>,
    at_a_time: usize,
    handouts: mpsc::UnboundedSender<Vec<Handout>>,
    mut durable: watch::Receiver<RaftIndex>,
) {
    for some in entries.chunks(at_a_time) {
        let last = some[some.len() - 1].entry.index;
        if handouts.send(some.to_vec()).is_err() {
            return;
        }
        if durable.wait_for(|index| *index >= last).await.is_err() {
            return;
        }
    }
}
