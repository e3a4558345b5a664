//! Reads a snapshot, and writes what differs. IO.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::diff::{Diff, Tally};
use super::piece::Piece;
use super::progress::{Progress, Stage};
use crate::checkpoint::{Basis, Checkpoint, Phase};
use crate::ids::{LeaseId, MemberId, RaftIndex, Revision, Term};
use crate::ledger::Ledger;
use crate::plan::{Nested, Write, list_max, nest};
use crate::resolve::{PrimaryState, Put, Settings, Value};
use crate::scope::Scope;
use crate::snapshot::{self, Contents, DbFile};
use crate::standby::{self, Auth, Failure, Reconciler, Standby, Writer, keeper};

/// Pieces that are ready before they are written.
const PIECES_AHEAD: usize = 2;
/// Operations in a piece. Its keys need no history, so it may be large; beyond this the standby
/// takes no more of them per second.
const OPS_MAX: usize = 1_000;

/// Why a snapshot was not installed. What was written of it is in the ledger, so the next
/// installation goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database cannot be opened.
    #[error("open the snapshot: {0}")]
    Open(#[from] snapshot::FileError),
    /// The database is not what etcd writes.
    #[error("read the snapshot: {0}")]
    Read(#[from] snapshot::Error),
    /// A value cannot be read.
    #[error("read a value of the snapshot: {0}")]
    Value(#[from] snapshot::bbolt::Error),
    /// It is of another moment than was said.
    #[error(
        "the snapshot is said to be at index {said}, and its database at {found}: it is none of this \
         cluster, or was changed on its way"
    )]
    Index {
        /// What the leader said.
        said: RaftIndex,
        /// What the database says.
        found: RaftIndex,
    },
    /// The primary went back.
    #[error(
        "the snapshot is at revision {found}, and the standby holds {held} of this primary already: \
         the primary was restored from a backup, or lost entries; `etcd-syncer resync` makes the \
         standby its copy again"
    )]
    Older {
        /// The snapshot's revision.
        found: Revision,
        /// The checkpoint's.
        held: Revision,
    },
    /// The standby cannot be written.
    #[error(transparent)]
    Standby(#[from] standby::Error),
    /// Leases cannot be made or ended there.
    #[error("make and end leases on the standby: {0}")]
    Leases(#[from] keeper::Error),
    /// A single key does not fit into a request.
    #[error(
        "a key of the snapshot does not fit into a request of the standby ({0}): raise \
         --max-request-bytes and --max-txn-ops on the standby to a little more than the primary's"
    )]
    TooLarge(Failure),
    /// A thread ended in a panic.
    #[error("reading the snapshot ended in a panic; see the log")]
    Panicked,
}

/// What is to be installed.
#[derive(Clone, Debug)]
pub struct Target {
    /// The database.
    pub path: PathBuf,
    /// Where in the primary's log it stands.
    pub index: RaftIndex,
    /// Term of the entry there.
    pub term: Term,
    /// The primary's voters there.
    pub voters: Vec<MemberId>,
    /// The primary's learners there.
    pub learners: Vec<MemberId>,
}

/// The standby, and all that is known of it.
#[derive(Debug)]
pub struct Install<'a, S> {
    /// The one who writes.
    pub writer: &'a mut Writer<S>,
    /// The one who keeps users and roles.
    pub reconciler: &'a mut Reconciler,
    /// What it last wrote.
    pub checkpoint: &'a mut Checkpoint,
    /// The ledger.
    pub ledger: &'a mut Ledger,
    /// What keeps the leases.
    pub keeper: &'a mut keeper::Handle,
    /// For the state after it.
    pub settings: Settings,
    /// Which keys the standby is to hold.
    pub scope: Arc<Scope>,
    /// The standby's `--max-txn-ops`.
    pub txn_ops_max: usize,
    /// Bytes in one transaction.
    pub bytes_max: usize,
    /// Where to show how far it is.
    pub progress: watch::Sender<Option<Progress>>,
}

/// What a snapshot is compared with.
struct Known {
    before: PrimaryState,
    /// The revision of which the standby holds everything, if it holds one.
    held: Option<Revision>,
    scope: Arc<Scope>,
}

/// What the reading thread hands over.
enum Message {
    Contents {
        keys: usize,
        revision: Revision,
        leases: Vec<LeaseId>,
    },
    Piece(Box<Piece>, Tally),
    End(Box<(Piece, PrimaryState, Tally)>),
}

/// Brings a standby that holds `before` to `target`; returns the primary's state there.
///
/// # Errors
/// [`Error`]; the standby is then somewhere between, as its checkpoint says.
///
/// # Cancel safety
/// Not cancel safe: dropped half-way, the writer is of no more use.
pub async fn install<S: Standby + Auth>(
    mut to: Install<'_, S>,
    mut before: PrimaryState,
    target: Target,
) -> Result<PrimaryState, Error> {
    to.progress.send_replace(Some(beginning(&target)));
    let basis = match to.checkpoint.phase {
        Phase::Streaming => Basis::Ledger,
        Phase::Installing { basis, .. } => basis,
    };
    let held = (basis == Basis::Ledger).then_some(to.checkpoint.revision);
    let installing = Phase::Installing {
        index: target.index,
        term: target.term,
        basis,
    };
    to.forget_lost(&mut before, installing).await?;
    let had_auth = before.auth().is_used();
    let known = Known {
        before,
        held,
        scope: Arc::clone(&to.scope),
    };
    let (reading, mut messages) = start(&target, known, to.settings.clone(), to.bytes_max);
    let mut after = None;
    while let Some(message) = messages.recv().await {
        match message {
            Message::Contents {
                keys,
                revision,
                leases,
            } => {
                tracing::info!(%revision, keys, "the snapshot is sound, writing what differs");
                to.hold(leases).await?;
                to.checkpoint.phase = installing;
                to.show(|progress| {
                    progress.stage = Stage::Writing;
                    progress.keys = keys;
                    progress.read = Some(Instant::now());
                });
            }
            Message::Piece(piece, tally) => {
                to.write(*piece).await?;
                to.show(|progress| progress.tally = tally);
            }
            Message::End(end) => {
                let (piece, state, tally) = *end;
                to.show(|progress| progress.tally = tally);
                to.end(piece, &state, had_auth, &target).await?;
                after = Some(state);
            }
        }
    }
    reading.await.map_err(|_| Error::Panicked)??;
    let state = after.ok_or(Error::Panicked)?;
    to.show(|progress| progress.stage = Stage::Done);
    if let Some(progress) = to.progress.borrow().as_ref() {
        tell(progress);
    }
    Ok(state)
}

fn beginning(target: &Target) -> Progress {
    Progress {
        index: target.index,
        bytes: std::fs::metadata(&target.path).map_or(0, |metadata| metadata.len()),
        stage: Stage::Reading,
        began: Instant::now(),
        read: None,
        keys: 0,
        tally: Tally::default(),
    }
}

fn tell(progress: &Progress) {
    let Progress { tally, .. } = progress;
    let read = progress.read.unwrap_or(progress.began);
    tracing::info!(
        index = %progress.index,
        bytes = progress.bytes,
        keys = tally.compared,
        puts = tally.puts,
        deletes = tally.deletes,
        same_value = tally.same_value,
        value_bytes = tally.value_bytes,
        seconds_reading = (read - progress.began).as_secs_f64(),
        seconds_writing = read.elapsed().as_secs_f64(),
        "the snapshot is installed"
    );
}

/// Starts to read.
fn start(
    target: &Target,
    known: Known,
    settings: Settings,
    bytes_max: usize,
) -> (JoinHandle<Result<(), Error>>, mpsc::Receiver<Message>) {
    let (messages_in, messages) = mpsc::channel(PIECES_AHEAD);
    let target = target.clone();
    let reading = tokio::task::spawn_blocking(move || {
        read(&target, &known, settings, bytes_max, &messages_in)
    });
    (reading, messages)
}

/// Runs on a thread of its own, as it reads files and compares many keys.
fn read(
    target: &Target,
    known: &Known,
    settings: Settings,
    bytes_max: usize,
    messages: &mpsc::Sender<Message>,
) -> Result<(), Error> {
    let source = DbFile::open(&target.path)?;
    let mut contents = snapshot::read(&source)?;
    check(&contents, target, known.held)?;
    // Up to 3.4 not every entry is noted in the database.
    contents.raft.index = target.index;
    let keys = contents.keys.len();
    let revision = contents.revision;
    let leases = contents.leases.iter().map(|lease| lease.id).collect();
    // The receiver goes away when the standby cannot be written, which it reports itself.
    if messages
        .blocking_send(Message::Contents {
            keys,
            revision,
            leases,
        })
        .is_err()
    {
        return Ok(());
    }
    let both = (&contents, &known.before);
    let mut diff = Diff::new(&source, both, &known.scope, OPS_MAX, bytes_max);
    while let Some(piece) = diff.next_piece()? {
        let tally = diff.tally();
        if messages
            .blocking_send(Message::Piece(Box::new(piece), tally))
            .is_err()
        {
            return Ok(());
        }
    }
    let tally = diff.tally();
    let (piece, state) = diff.finish(settings);
    let _gone = messages.blocking_send(Message::End(Box::new((piece, state, tally))));
    Ok(())
}

fn check(contents: &Contents, target: &Target, held: Option<Revision>) -> Result<(), Error> {
    let found = contents.raft.index;
    // 3.5 and later note every entry; before, only those that changed keys or users.
    let is_noted = contents.raft.term.is_some();
    if found > target.index || (is_noted && found != target.index) {
        let said = target.index;
        return Err(Error::Index { said, found });
    }
    match held {
        Some(held) if contents.revision < held => Err(Error::Older {
            found: contents.revision,
            held,
        }),
        _ => Ok(()),
    }
}

impl<S: Standby + Auth> Install<'_, S> {
    fn show(&self, change: impl FnOnce(&mut Progress)) {
        self.progress.send_modify(|progress| {
            if let Some(progress) = progress {
                change(progress);
            }
        });
    }

    /// Writes a piece, in parts if the standby takes less.
    pub(super) async fn write(&mut self, piece: Piece) -> Result<(), Error> {
        let mut pieces = vec![piece];
        while let Some(piece) = pieces.pop() {
            if piece.is_empty() {
                continue;
            }
            let checkpoint = self.checkpoint.clone();
            if let Err(failure) = self.send(&piece, checkpoint).await? {
                let (first, second) = piece.split().ok_or(Error::TooLarge(failure))?;
                pieces.push(second);
                pieces.push(first);
            }
        }
        Ok(())
    }

    /// Writes what follows all keys.
    async fn end(
        &mut self,
        piece: Piece,
        state: &PrimaryState,
        had_auth: bool,
        target: &Target,
    ) -> Result<(), Error> {
        let ended = piece.rest.revoked.clone();
        // Before the ledger says so: it keeps no hash, so nobody could do it later.
        if state.auth().is_used() || had_auth {
            let bring = self
                .reconciler
                .bring_behind(self.writer, state.auth(), state.digest_key());
            bring.await?;
            // The checkpoint claims those users no earlier than the journal names them.
            self.ledger
                .note_not_carried(self.reconciler.not_carried().clone());
        }
        self.write(piece).await?;
        self.finish(state, target).await?;
        self.release(ended).await
    }

    async fn finish(&mut self, state: &PrimaryState, target: &Target) -> Result<(), Error> {
        let mut checkpoint = self.checkpoint.clone();
        let position = state.position();
        checkpoint.phase = Phase::Streaming;
        checkpoint.index = target.index;
        checkpoint.term = target.term;
        checkpoint.voters.clone_from(&target.voters);
        checkpoint.learners.clone_from(&target.learners);
        checkpoint.revision = position.revision;
        checkpoint.compact_revision = position.compact_revision;
        checkpoint.ending_lease = LeaseId(0);
        let sent = self.send(&Piece::default(), checkpoint).await?;
        sent.map_err(Error::TooLarge)
    }

    /// Sends one transaction; the inner error is that the standby refuses its size.
    async fn send(
        &mut self,
        piece: &Piece,
        mut checkpoint: Checkpoint,
    ) -> Result<Result<(), Failure>, Error> {
        let list_max = list_max(self.txn_ops_max);
        let Some(mut writes) = nest(piece.writes(&self.scope), list_max) else {
            return Ok(Err(Failure::TooManyOps(
                "too many for one transaction".into(),
            )));
        };
        let journal = self
            .ledger
            .journal(&piece.delta(), &self.settings.digest_key);
        let mut journal_bytes = 0;
        if let Some((key, record, place)) = journal {
            journal_bytes = record.len();
            writes.push(own_put(key, record));
            checkpoint.ledger = place;
        }
        checkpoint.batch += 1;
        match self.writer.write(writes, &checkpoint).await {
            Ok(_) => {
                self.ledger
                    .journaled(checkpoint.ledger.clone(), journal_bytes);
                *self.checkpoint = checkpoint;
                Ok(Ok(()))
            }
            Err(standby::Error::Refused(
                failure @ (Failure::TooLarge(_) | Failure::TooManyOps(_)),
            )) => Ok(Err(failure)),
            Err(error) => Err(error.into()),
        }
    }
}

/// A write under a key of ours.
fn own_put(key: Bytes, record: Bytes) -> Nested<Write> {
    Nested::Op(Write::Put(Put {
        key,
        value: Value::Given(record),
        lease: LeaseId(0),
    }))
}
