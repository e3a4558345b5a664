//! Keeps the leases of a stream alive on the standby, and makes and ends them beside its batches.
//! IO.
//!
//! ```text
//!             hold, release, compact
//!   stream ---------------------------> keeper ----> standby: grants      \
//!          <---------------------------              revokes               | each by itself
//!             held; gone, found                      renewals and census   |
//!                                                    inspections           |
//!                                                    compactions          /
//! ```
//!
//! - A lease on the standby has a long TTL of its own, and is renewed three times in it. So it ends
//!   when the primary's ends, and not when nobody can reach us for a while.
//! - The stream waits for grants, as its next batch needs them. It waits for nothing else.
//! - A lease that the standby lost is never made again silently: its keys are gone with it. Once in
//!   a while, and whenever a renewal finds nothing, the keeper compares what the standby has with
//!   what it holds, and hands over what is gone. After a start it looks at the keys of every lease
//!   once, and hands them over, as nobody knows what happened before.
//! - What a process before left behind, because it ended between two requests, is ended.
//! - Nothing here is guarded by the checkpoint. A process that was overtaken by another one can
//!   still renew leases and make them, which does no harm, or end an empty one that the other has
//!   made again in between; the other's keeper finds that out.

mod book;
mod handle;
mod lane;
mod rota;
mod settle;
mod work;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Compaction, Leases, Standby};
use crate::ids::LeaseId;
use crate::plan::CompactionPolicy;
use book::Book;
use handle::{Answer, Command};
pub use handle::{Error, Event, Handle};
use lane::{Kind, Lane};
use work::Done;

/// What a keeper is to do.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// TTL of the leases that it makes, whole seconds.
    pub ttl: Duration,
    /// Whether it compacts when it is told to.
    pub compaction: CompactionPolicy,
}

/// What is known of leases when a keeper begins.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Those that the standby should have.
    pub held: Vec<LeaseId>,
    /// Those that it should not have any more.
    pub ended: BTreeSet<LeaseId>,
}

/// What the keeper shows of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Leases that are kept alive.
    pub held: usize,
    /// Leases that still have to be ended on the standby; they are empty.
    pub ending: usize,
    /// True once the stream has ended, and all that it wanted to be ended or compacted is.
    pub is_done: bool,
    /// Leases whose keys have not been compared yet since the start.
    pub unseen: usize,
    /// Leases made.
    pub granted: u64,
    /// Leases ended.
    pub revoked: u64,
    /// Keep-alives that were answered.
    pub renewed: u64,
    /// Leases that the standby had lost.
    pub lost: u64,
    /// The revision at which the standby was compacted last, 0 for none.
    pub compacted: i64,
    /// What the standby refuses or does not answer, if anything.
    pub trouble: Option<String>,
}

/// Leases that a process before may have left behind: it ended between two requests.
#[derive(Debug)]
enum Strangers {
    /// The standby was not asked yet: of these leases those are to be ended that it has.
    Ended(BTreeSet<LeaseId>),
    /// It had these as well, and nobody knows why. One of them that comes and goes in one batch was
    /// made by the process before for the same entry.
    Unknown(BTreeSet<LeaseId>),
}

/// Commands that wait for the keeper; it takes them at once unless it has too much to do.
const COMMANDS_MAX: usize = 16;
/// With more leases to end than this, about 20 MB, the stream waits.
const ENDING_MAX: usize = 100_000;
/// Grants or revokes in one turn.
const TURN_MAX: usize = 1_000;
/// Leases whose keys are looked at in one turn.
const INSPECTED_MAX: usize = 256;
/// Time between two turns of renewals.
const TICK: Duration = Duration::from_secs(1);
/// Time between two looks at all leases, with few of them; each takes 12 bytes on the way.
const CENSUS_PERIOD: Duration = Duration::from_secs(60);
const CENSUS_PER_LEASE: Duration = Duration::from_millis(1);
/// A lease that one answer called gone and another did not is asked about again so soon.
const DOUBT: Duration = Duration::from_secs(2);

/// Why the stream waits for a lease though the standby answers.
const RESTING: &str = "a lease comes again whose revoke had no answer: for up to two minutes a copy \
                       of that revoke may still arrive, and would delete the keys of the new lease";

/// The task.
pub struct Keeper<S> {
    started: Instant,
    ttl: i64,
    compaction: CompactionPolicy,
    book: Book,
    /// In the order of [`Kind`].
    lanes: [Lane<S>; 5],
    working: FuturesUnordered<BoxFuture<'static, Done<S>>>,
    commands: mpsc::Receiver<Command>,
    gone: mpsc::UnboundedSender<Vec<LeaseId>>,
    found: mpsc::Sender<Vec<(LeaseId, Vec<Bytes>)>>,
    /// Who waits for the end of a lease.
    awaiting_end: Option<(LeaseId, Answer<()>)>,
    /// Who waits for the keys of a lease.
    inspecting: Option<(LeaseId, Answer<Option<Vec<Bytes>>>)>,
    /// Whose keys are still to be looked at.
    unseen: VecDeque<LeaseId>,
    strangers: Strangers,
    /// Who waits for what is wanted.
    holding: Option<Answer<()>>,
    /// Who waits for the next census.
    asking: Vec<Answer<Vec<LeaseId>>>,
    census_at: Duration,
    /// The standby lists its leases. It may have too many for one answer.
    has_lists: bool,
    renew_at: Duration,
    compact_to: Option<i64>,
    view: watch::Sender<View>,
}

impl<S> std::fmt::Debug for Keeper<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper")
            .field("ttl", &self.ttl)
            .field("book", &self.book)
            .finish_non_exhaustive()
    }
}

impl<S: Standby + Leases + Compaction + 'static> Keeper<S> {
    /// A keeper of the leases that are known; `standby` makes a handle for each kind of work.
    #[must_use]
    pub fn new(
        mut standby: impl FnMut() -> S,
        options: Options,
        known: Known,
        view: watch::Sender<View>,
    ) -> (Self, Handle) {
        let (command_sender, commands) = mpsc::channel(COMMANDS_MAX);
        let (gone, gone_receiver) = mpsc::unbounded_channel();
        let (found, found_receiver) = mpsc::channel(1);
        let ttl = options.ttl;
        let mut book = Book::new(ttl);
        for id in &known.held {
            // Nobody knows for how long they were not renewed.
            book.rota.add(*id, Duration::ZERO);
        }
        let keeper = Self {
            started: Instant::now(),
            compaction: options.compaction,
            ttl: i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX),
            book,
            lanes: [
                Kind::Grants,
                Kind::Revokes,
                Kind::Renewals,
                Kind::Inspections,
                Kind::Compactions,
            ]
            .map(|kind| Lane::new(kind, standby())),
            working: FuturesUnordered::new(),
            commands,
            gone,
            found,
            awaiting_end: None,
            inspecting: None,
            unseen: known.held.into(),
            strangers: Strangers::Ended(known.ended),
            holding: None,
            asking: Vec::new(),
            census_at: Duration::ZERO,
            has_lists: true,
            renew_at: Duration::ZERO,
            compact_to: None,
            view,
        };
        let handle = Handle {
            commands: command_sender,
            gone: gone_receiver,
            found: found_receiver,
        };
        (keeper, handle)
    }

    /// Runs until told to stop. A stream that has ended is no reason to let its leases expire.
    ///
    /// # Cancel safety
    /// Cancel safe; leases that were being ended may be left, empty, until they expire.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            self.start_work();
            self.show();
            let wake = self.started + self.wake_at();
            let takes_commands = self.book.ending() < ENDING_MAX && !self.is_left();
            let found = self.found.clone();
            let waits_for_room = !self.unseen.is_empty() && found.capacity() == 0;
            tokio::select! {
                () = stop.cancelled() => return,
                command = self.commands.recv(), if takes_commands => {
                    if let Some(command) = command {
                        self.obey(command);
                    }
                }
                Some(done) = self.working.next(), if !self.working.is_empty() => self.settle(done),
                Ok(_) = found.reserve(), if waits_for_room => {}
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    /// What was said last may still wait here when nobody is left to say more.
    fn is_left(&self) -> bool {
        self.commands.is_closed() && self.commands.is_empty()
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn obey(&mut self, command: Command) {
        let now = self.now();
        match command {
            Command::Hold(ids, answer) => {
                self.book.hold(ids, now);
                self.holding = Some(answer);
                self.answer_hold();
                if self.book.rested_at().is_some() {
                    tracing::warn!("{RESTING}");
                }
            }
            Command::Release(ids) => self.book.release(ids),
            Command::Pass(ids) => self.pass(&ids),
            Command::End(id, answer) => {
                self.book.release([id]);
                self.awaiting_end = Some((id, answer));
            }
            Command::Compact(revision) => match self.compaction {
                CompactionPolicy::Follow => self.compact_to = Some(revision),
                CompactionPolicy::None => {}
            },
            Command::Inspect(id, answer) => self.inspecting = Some((id, answer)),
            Command::Missing(answer) => {
                self.asking.push(answer);
                self.census_at = now;
            }
        }
    }

    /// Puts every lane to work that has something to do.
    fn start_work(&mut self) {
        let (now, ttl) = (self.now(), self.ttl);
        if self.is_free(Kind::Grants) {
            let ids = self.book.take_grants(now, TURN_MAX);
            if !ids.is_empty() {
                self.begin(Kind::Grants, |standby| {
                    Box::pin(work::grant(standby, ids, ttl))
                });
            }
        }
        if self.is_free(Kind::Revokes) {
            let ids = self.book.take_revokes(TURN_MAX);
            if !ids.is_empty() {
                self.begin(Kind::Revokes, |standby| {
                    Box::pin(work::revoke(standby, ids))
                });
            }
        }
        if self.is_free(Kind::Renewals) {
            if self.census_at <= now && self.needs_census() {
                let mark = self.book.rota.mark();
                self.begin(Kind::Renewals, |standby| {
                    Box::pin(work::list(standby, mark))
                });
            } else if self.renew_at <= now {
                self.renew_at = now + TICK;
                let ids = self.book.rota.take(now);
                if !ids.is_empty() {
                    self.begin(Kind::Renewals, |standby| {
                        Box::pin(work::renew(standby, ids))
                    });
                }
            }
        }
        if self.is_free(Kind::Inspections) {
            let ids = self.next_inspection();
            if !ids.is_empty() {
                self.begin(Kind::Inspections, |standby| {
                    Box::pin(work::inspect(standby, ids))
                });
            }
        }
        if self.is_free(Kind::Compactions)
            && let Some(revision) = self.compact_to
        {
            self.begin(Kind::Compactions, |standby| {
                Box::pin(work::compact(standby, revision))
            });
        }
    }

    /// The leases whose keys are to be looked at now.
    fn next_inspection(&mut self) -> Vec<LeaseId> {
        if let Some((id, _)) = &self.inspecting {
            return vec![*id];
        }
        // First those go that are gone, and what is found must be taken away.
        if self.census_at == Duration::ZERO || self.found.capacity() == 0 {
            return Vec::new();
        }
        let count = self.unseen.len().min(INSPECTED_MAX);
        let unseen = self.unseen.drain(..count);
        unseen.filter(|id| self.book.rota.holds(*id)).collect()
    }

    fn needs_census(&self) -> bool {
        let knows_strangers = matches!(self.strangers, Strangers::Unknown(_));
        self.book.rota.len() > 0 || !self.asking.is_empty() || !knows_strangers
    }

    /// These leases came and went in one batch.
    fn pass(&mut self, ids: &[LeaseId]) {
        match &mut self.strangers {
            Strangers::Ended(ended) => ended.extend(ids),
            Strangers::Unknown(unknown) => {
                let left = ids.iter().filter(|id| unknown.remove(id));
                self.book.release(left.copied());
            }
        }
    }

    fn lane(&mut self, kind: Kind) -> &mut Lane<S> {
        let [grants, revokes, renewals, inspections, compactions] = &mut self.lanes;
        match kind {
            Kind::Grants => grants,
            Kind::Revokes => revokes,
            Kind::Renewals => renewals,
            Kind::Inspections => inspections,
            Kind::Compactions => compactions,
        }
    }

    fn is_free(&mut self, kind: Kind) -> bool {
        let now = self.now();
        self.lane(kind).is_free(now)
    }

    fn begin(&mut self, kind: Kind, work: impl FnOnce(S) -> BoxFuture<'static, Done<S>>) {
        if let Some(standby) = self.lane(kind).take() {
            self.working.push(work(standby));
        }
    }

    /// When there may be something to do that no command and no answer tells of.
    fn wake_at(&self) -> Duration {
        let now = self.now();
        let resting = self.lanes.iter().filter_map(Lane::rests_until);
        let later = resting
            .chain(self.book.rested_at())
            .chain([self.renew_at, self.census_at]);
        let next = later.filter(|at| *at > now).min();
        next.map_or(now + TICK, |at| at.min(now + TICK))
    }

    fn show(&mut self) {
        let (held, ending) = (self.book.rota.len(), self.book.ending());
        let unseen = self.unseen.len();
        let is_done = self.is_left() && ending == 0 && self.compact_to.is_none();
        let trouble = self.lanes.iter().find_map(Lane::trouble);
        let trouble = trouble.map(ToString::to_string);
        let resting = self.book.rested_at().map(|_| RESTING.to_owned());
        let trouble = trouble.or(resting);
        self.view.send_if_modified(|view| {
            let is_new = view.held != held
                || view.ending != ending
                || view.unseen != unseen
                || view.is_done != is_done
                || view.trouble != trouble;
            view.held = held;
            view.unseen = unseen;
            view.ending = ending;
            view.is_done = is_done;
            view.trouble = trouble;
            is_new
        });
    }
}
