//! A process as the program runs one, from its first contact to its end, but for the primary, whose
//! entries and snapshots are handed to it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use etcd_syncer::apply::{self, Apply, End, Left};
use etcd_syncer::checkpoint::{Basis, Checkpoint, Phase, Place};
use etcd_syncer::ids::{ClusterId, LeaseId, MemberId, RaftIndex, Revision, Term};
use etcd_syncer::install::{self, Install, Target, content_of};
use etcd_syncer::learner::Handout;
use etcd_syncer::ledger::{Damaged, Ledger, Loaded, Loader, Sizes};
use etcd_syncer::pipeline::{HistoryPolicy, Pipeline};
use etcd_syncer::plan::auth::{Access, Given};
use etcd_syncer::plan::{CompactionPolicy, Limits};
use etcd_syncer::range::KeyRange;
use etcd_syncer::reserved;
use etcd_syncer::resolve::{DigestKey, Position, PrimaryState, Rules, Settings, Version};
use etcd_syncer::scope::{Prefixes, Scope};
use etcd_syncer::standby::keeper::{self, Keeper};
use etcd_syncer::standby::{
    Claim, Contact, ContactError, KeyValue, Pages, Reconciler, Standby, Writer, first_contact,
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

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

/// What the standby holds, and who may write to it.
struct Base {
    writer: Writer<Way>,
    reconciler: Reconciler,
    checkpoint: Checkpoint,
    state: PrimaryState,
    ledger: Ledger,
    keeper: keeper::Handle,
}

/// A process between two pieces of work.
pub(crate) struct Process {
    setup: Setup,
    base: Base,
    txn_ops_max: usize,
    view: watch::Receiver<keeper::View>,
    _keeps: DropGuard,
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

/// What the standby says at a first contact.
pub(crate) async fn contact<S: Standby>(standby: &mut S) -> Result<Contact, ContactError> {
    let scope = Scope::all();
    let claim = Claim {
        stream: STREAM,
        primary: PRIMARY,
        scope: &scope,
    };
    first_contact(standby, &claim).await
}

fn beginning() -> (Checkpoint, Loaded) {
    let digest_key = DigestKey::new(&[7; 32]);
    let checkpoint = Checkpoint {
        primary: PRIMARY,
        member: MEMBER,
        index: RaftIndex(0),
        term: Term(0),
        voters: Vec::new(),
        learners: Vec::new(),
        revision: Revision(1),
        compact_revision: Revision(-1),
        phase: Phase::Streaming,
        writer: 0,
        batch: 0,
        ledger: Place::empty(*digest_key.random()),
        ending_lease: LeaseId(0),
        scope: Prefixes::default(),
    };
    let ledger = Ledger::new(STREAM, None, &digest_key);
    let state = PrimaryState::new(settings(digest_key, 1), Position::START);
    (checkpoint, Loaded::new(state, ledger))
}

/// To be compared with the standby's own keys: nothing in the ledger counts any more.
pub(crate) fn without_ledger(checkpoint: &Checkpoint) -> (Checkpoint, Loaded) {
    let digest_key = DigestKey::new(&[8; 32]);
    let ledger = Ledger::new(STREAM, Some(&checkpoint.ledger), &digest_key);
    let mut checkpoint = checkpoint.clone();
    checkpoint.ledger = ledger.place().clone();
    checkpoint.phase = Phase::Installing {
        index: RaftIndex(0),
        term: Term(0),
        basis: Basis::Content,
    };
    let voters = checkpoint.voters.len().max(1);
    let state = PrimaryState::new(settings(digest_key, voters), Position::START);
    (checkpoint, Loaded::new(state, ledger))
}

/// The ledger that a checkpoint names; reading it must not fail for good.
pub(crate) async fn load<S: Standby>(
    standby: &mut S,
    checkpoint: &Checkpoint,
) -> Result<Loaded, Damaged> {
    let place = checkpoint.ledger.clone();
    let settings = settings(
        DigestKey::new(&place.digest_key),
        checkpoint.voters.len().max(1),
    );
    let position = Position {
        index: checkpoint.index,
        revision: checkpoint.revision,
        compact_revision: checkpoint.compact_revision,
    };
    let base = reserved::ledger_base(STREAM, place.generation);
    let journals = KeyRange::between(
        reserved::ledger_journal(STREAM, place.first_journal),
        reserved::ledger_journal(STREAM, place.next_journal),
    );
    let mut loader = Loader::new(STREAM, place, settings, position);
    for range in [Some(base), journals].into_iter().flatten() {
        let mut pages = Pages::new(range.clone());
        while loader.next_key().is_some_and(|key| range.contains(&key)) {
            let Ok(page) = pages.next(standby).await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            if page.is_empty() {
                break;
            }
            for KeyValue { key, value, .. } in page {
                if loader.next_key().is_some_and(|next| range.contains(&next)) {
                    loader.take_in(&key, &value)?;
                }
            }
        }
    }
    loader.finish()
}

pub(crate) fn is_by_content(checkpoint: &Checkpoint) -> bool {
    let by_content = Basis::Content;
    matches!(checkpoint.phase, Phase::Installing { basis, .. } if basis == by_content)
}

/// A keeper of the leases that the state has.
fn keep(
    way: &Way,
    setup: &Setup,
    state: &PrimaryState,
    mut ended: BTreeSet<LeaseId>,
    ending: LeaseId,
) -> (keeper::Handle, watch::Receiver<keeper::View>, DropGuard) {
    let leases = state.leases().map(|(id, _)| id);
    let held = leases.filter(|id| *id != ending).collect();
    if ending != LeaseId(0) {
        ended.insert(ending);
    }
    let options = keeper::Options {
        ttl: setup.hold,
        compaction: CompactionPolicy::Follow,
    };
    let shown = watch::Sender::default();
    let view = shown.subscribe();
    let known = keeper::Known { held, ended };
    let (task, handle) = Keeper::new(|| way.clone(), options, known, shown);
    let stop = CancellationToken::new();
    tokio::spawn(task.run(stop.clone()));
    (handle, view, stop.drop_guard())
}

impl Process {
    /// Takes the standby over. `number` tells processes apart.
    pub(crate) async fn begin(way: &Way, setup: Setup, number: u64) -> Self {
        let mut way = way.clone();
        let contact = loop {
            match contact(&mut way).await {
                Err(ContactError::Unreachable(_)) => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                answer => break answer.unwrap(),
            }
        };
        let (mut checkpoint, loaded) = match &contact.checkpoint {
            None => beginning(),
            Some(checkpoint) if is_by_content(checkpoint) => without_ledger(checkpoint),
            Some(checkpoint) => match load(&mut way, checkpoint).await {
                Ok(loaded) => (checkpoint.clone(), loaded),
                Err(_damaged) => without_ledger(checkpoint),
            },
        };
        checkpoint.writer = number;
        checkpoint.batch = 0;
        let trouble = watch::Sender::new(None);
        let key = reserved::checkpoint_key(STREAM);
        let mut writer = Writer::new(way.clone(), key, contact.guard, trouble.clone());
        writer.write(Vec::new(), &checkpoint).await.unwrap();
        let Loaded {
            state,
            mut ledger,
            ended,
        } = loaded;
        ledger.set_sizes(setup.sizes);
        let (keeper, view, keeps) = keep(&way, &setup, &state, ended, checkpoint.ending_lease);
        let given = Given::restored(state.auth());
        let shown = watch::Sender::new(None);
        let base = Base {
            writer,
            reconciler: Reconciler::new(OURS, Access::Password, given, shown, trouble),
            checkpoint,
            state,
            ledger,
            keeper,
        };
        Self {
            setup,
            base,
            txn_ops_max: contact.txn_ops_max,
            view,
            _keeps: keeps,
        }
    }

    pub(crate) fn checkpoint(&self) -> &Checkpoint {
        &self.base.checkpoint
    }

    /// Applies entries, until the standby has them all.
    pub(crate) async fn stream(self, entries: Vec<Handout>) -> Self {
        self.run(entries, false).await
    }

    /// Goes on without entries, until the leases are as they should be.
    pub(crate) async fn settle(self) -> Self {
        self.run(Vec::new(), true).await
    }

    async fn run(mut self, entries: Vec<Handout>, settles: bool) -> Self {
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
        let scope = Arc::new(Scope::all());
        let apply = Apply::new(
            Pipeline::new(base.state, scope, limits, self.setup.history),
            (base.writer, base.reconciler),
            (base.checkpoint, base.ledger),
            self.txn_ops_max,
            channels,
            watch::Sender::default(),
            apply::Metrics::register(&prometheus::Registry::new()).unwrap(),
        );
        let left: Left<Way> = apply.run(CancellationToken::new()).await;
        assert!(matches!(left.end, End::Alone), "{}", left.end);
        self.base = Base {
            writer: left.writer,
            reconciler: left.reconciler,
            checkpoint: left.checkpoint,
            state: left.state,
            ledger: left.ledger,
            keeper: left.keeper,
        };
        self
    }

    /// Installs a database.
    pub(crate) async fn install(&mut self, target: Target) {
        let base = &mut self.base;
        let settings = Settings {
            voters: target.voters.len().max(1),
            ..base.state.settings().clone()
        };
        let scope = Arc::new(Scope::all());
        let before = if is_by_content(&base.checkpoint) {
            base.checkpoint.phase = Phase::Installing {
                index: RaftIndex(0),
                term: Term(0),
                basis: Basis::Content,
            };
            let reading = content_of(base.writer.standby(), &scope, settings.clone());
            reading.await.unwrap()
        } else {
            base.state.clone()
        };
        let install = Install {
            writer: &mut base.writer,
            reconciler: &mut base.reconciler,
            checkpoint: &mut base.checkpoint,
            ledger: &mut base.ledger,
            keeper: &mut base.keeper,
            settings,
            scope,
            txn_ops_max: self.txn_ops_max,
            bytes_max: BATCH_BYTES_MAX,
            progress: watch::Sender::default(),
        };
        let installing = install::install(install, before, target);
        base.state = tokio::select! {
            biased;
            installed = installing => installed.unwrap(),
            () = tick() => unreachable!("it never ends"),
        };
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
