//! `POST /raft/snapshot`: a leader sends its whole database, as its log no longer reaches back to
//! where we are. IO.
//!
//! ```text
//! wait for its turn --> envelope --> body --spool--> Inbound::Snapshot --held--> installed: 204
//!                         |           |                                  |
//!                         +-----------+---- failed --> say nothing ------+--> cut
//!                                     +---- over: another leader, another request --> cut at once
//! ```
//!
//! - The body goes to disk as fast as it comes: as long as it comes, the leader keeps a read
//!   transaction open. The answer can wait for any length of time; until then the leader keeps
//!   its log, in memory. So what is no longer of use is cut at once.
//! - After a failure a leader sends all of it again with the next heartbeat that is answered. So
//!   nothing is said to it for a while (module `retry`), and its request is cut only when it may
//!   count us as inactive; to an inactive member it sends no snapshot.
//! - No answer but 204 after the installation, and 400 to what is no snapshot.
//!
//! # Source
//! etcd 3.7.1 `server/etcdserver/api/rafthttp/snapshot_sender.go`; raft v3.7.0 `raft.go`
//! maybeSendAppend (RecentActive), stepLeader (MsgSnapStatus).

mod envelope;
mod progress;
mod received;
pub(super) mod retry;
mod spool;
mod stored;
mod transfer;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use hyper::body::Incoming;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until};

use super::answer::{Answer, Status};
use super::body::{BodyError, next_piece};
use super::handshake::Identity;
use super::inbox::Inbound;
use super::kind::MessageKind;
use super::routes::Cut;
use super::shared::{Link, Shared};
use super::stats::Channel;
use envelope::Envelope;
pub use progress::{Phase, Progress};
pub use received::{Over, Received, Request};
use spool::{BLOCK_BYTES, SpoolFile, Writer};
pub use stored::Error as MembersError;
use transfer::Transfer;
pub(super) use transfer::Transfers;

/// Requests of one member at a time. A leader has one under way, and may have an older one from
/// before it lost leadership and won it again.
const REQUESTS_MAX: usize = 4;

/// Least that must come within [`super::Config::snapshot_silence`], in bytes.
const PROGRESS_BYTES_MIN: u64 = 64 << 10;

/// What a piece of a body has at most, as a rule, in bytes.
const PIECE_BYTES: usize = 64 << 10;

/// Prepares the spool: makes its folder and removes what an earlier process left there.
pub(super) async fn clear_spool(shared: &Shared) {
    let Some(folder) = shared.config.spool.clone() else {
        return;
    };
    match tokio::task::spawn_blocking(move || spool::clear(&folder)).await {
        Ok(Ok(0)) | Err(_) => {}
        Ok(Ok(count)) => tracing::info!(count, "removed what was left of received snapshots"),
        // Whoever sends a snapshot will show whether it still matters.
        Ok(Err(error)) => tracing::warn!(%error, "prepare the spool"),
    }
}

/// Takes a snapshot of a member.
///
/// # Errors
/// [`Cut`] for all that was not installed.
pub(super) async fn take(
    shared: &Arc<Shared>,
    mut body: Incoming,
    identity: Identity,
    link: &Arc<Link>,
) -> Result<Answer, Cut> {
    let place = Place::take(link);
    if place.is_none() {
        until_ended(link, sleep(shared.config.hold_after_mute)).await?;
        return Err(Cut);
    }
    wait_for_turn(shared, link).await?;
    let envelope = match envelope::read(shared, &mut body, identity, link.id).await {
        Ok(envelope) => envelope,
        Err(envelope::Error::Codec(error)) if shared.report_unknown(link.id, &error).await => {
            return hold_until_muted(shared, link).await;
        }
        Err(error) => {
            tracing::warn!(member = %link.id, %error, "a snapshot cannot be taken");
            transfer::pause(&shared.config, link);
            until_ended(link, sleep(shared.config.hold_after_mute)).await?;
            return Ok(Answer::text(Status::BadRequest, error.text()));
        }
    };
    shared.note_received(link.id, MessageKind::Snap, &envelope.message);
    let (from, index, term) = (link.id, envelope.offer.index, envelope.offer.term);
    match Transfer::begin(shared, link, envelope.offer) {
        Ok(transfer) => {
            tracing::info!(member = %from, %index, %term, "a snapshot comes in");
            take_one(shared, body, envelope, transfer, link).await
        }
        Err(refused @ transfer::Refused::Stale { .. }) => {
            tracing::info!(member = %from, %index, %refused, "a snapshot is not taken");
            Err(Cut)
        }
        Err(refused @ transfer::Refused::SecondLeader { .. }) => {
            tracing::warn!(member = %from, %index, %refused, "a snapshot is not taken");
            transfer::pause(&shared.config, link);
            until_ended(link, sleep(shared.config.hold_after_mute)).await?;
            Err(Cut)
        }
    }
}

/// One of the requests of a member.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(link: &'a Link) -> Option<Self> {
        let place = Self(&link.snapshots);
        (place.0.fetch_add(1, Ordering::Relaxed) < REQUESTS_MAX).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn until_ended<T>(link: &Link, work: impl Future<Output = T>) -> Result<T, Cut> {
    tokio::select! {
        biased;
        () = link.ended.cancelled() => Err(Cut),
        done = work => Ok(done),
    }
}

/// Lets nobody send while nothing is said to anybody, or to this member: such a request is held
/// unread until the time is over, or cut once the leader may count us as inactive.
async fn wait_for_turn(shared: &Shared, link: &Link) -> Result<(), Cut> {
    let hold = shared.config.hold_after_mute;
    let mut muted = shared.muted_since.subscribe();
    loop {
        let muted_since = *muted.borrow_and_update();
        let pause = link.retry().pause(Instant::now().into_std());
        let (until, is_cut) = match (muted_since, pause) {
            (Some(since), _) => (since + hold, true),
            (None, None) => return Ok(()),
            (None, Some(pause)) => {
                let inactive = pause.since + hold;
                (inactive.min(pause.until).into(), inactive < pause.until)
            }
        };
        let waited = async {
            tokio::select! {
                () = sleep_until(until) => true,
                _ = muted.changed() => false,
            }
        };
        if until_ended(link, waited).await? && is_cut {
            return Err(Cut);
        }
    }
}

/// Waits until nothing has been said to anybody for long enough.
async fn hold_until_muted(shared: &Shared, link: &Link) -> Result<Answer, Cut> {
    let mut muted = shared.muted_since.subscribe();
    loop {
        let waited = async { muted.wait_for(Option::is_some).await.is_ok() };
        if !until_ended(link, waited).await? {
            return Err(Cut);
        }
        wait_for_turn(shared, link).await?;
    }
}

/// Why a transfer failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("it broke off after {bytes} bytes")]
    Truncated { bytes: u64 },
    #[error("less than {PROGRESS_BYTES_MIN} bytes came within {within:?}, {bytes} in all")]
    Slow { bytes: u64, within: Duration },
    #[error(
        "the database is larger than {limit_bytes} bytes: if the primary's really is, raise \
         --snapshot-bytes-max"
    )]
    TooLarge { limit_bytes: u64 },
    #[error("it has no database")]
    Empty,
    #[error(transparent)]
    Spool(#[from] spool::Error),
}

/// How a transfer ended that was not over before.
enum End {
    Installed,
    Failed(Failure),
    /// Its holder did not install it; what follows from that is done.
    GivenBack,
}

/// The leader's request as long as we work on it. If its connection ends, all this is dropped.
struct Running {
    transfer: Transfer,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Receiving,
    Held,
    Ended,
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.stage != Stage::Ended {
            self.transfer.end(Over::Disconnected);
        }
        if self.stage == Stage::Receiving {
            self.transfer.fail(&Over::Disconnected);
        }
        self.transfer.leave();
    }
}

async fn take_one(
    shared: &Arc<Shared>,
    body: Incoming,
    envelope: Envelope,
    transfer: Transfer,
    link: &Link,
) -> Result<Answer, Cut> {
    let mut running = Running {
        transfer: transfer.clone(),
        stage: Stage::Receiving,
    };
    let end = tokio::select! {
        biased;
        over = transfer.ends() => Err(over),
        end = carry(shared, body, envelope, &mut running) => Ok(end),
    };
    running.stage = Stage::Ended;
    match end {
        Err(over) => {
            tracing::info!(member = %link.id, %over, "a snapshot's request ends");
            return Err(Cut);
        }
        Ok(End::Installed) => return Ok(Answer::taken()),
        Ok(End::Failed(failure)) => transfer.fail(&failure),
        Ok(End::GivenBack) => {}
    }
    drop(running);
    until_ended(link, sleep(shared.config.hold_after_mute)).await?;
    Err(Cut)
}

async fn carry(
    shared: &Arc<Shared>,
    body: Incoming,
    envelope: Envelope,
    running: &mut Running,
) -> End {
    let transfer = running.transfer.clone();
    let file = match receive(shared, body, envelope.rest, &transfer).await {
        Ok(file) => file,
        Err(failure) => return End::Failed(failure),
    };
    running.stage = Stage::Held;
    transfer.hold(file.bytes());
    let (answer, answered) = oneshot::channel();
    let received = Received::new(
        envelope.message,
        envelope.conf_state,
        envelope.members,
        file,
        transfer,
        answer,
    );
    shared.outlet.report(Inbound::Snapshot(received)).await;
    match answered.await {
        Ok(()) => End::Installed,
        Err(_) => End::GivenBack,
    }
}

/// Brings the database to disk.
async fn receive(
    shared: &Shared,
    mut body: Incoming,
    mut block: BytesMut,
    transfer: &Transfer,
) -> Result<SpoolFile, Failure> {
    let config = &shared.config;
    let limit_bytes = config.snapshot_bytes_max;
    let within = config.snapshot_silence;
    let spool = transfer.spool().ok_or(spool::Error::NoFolder)?;
    let mut writer = Writer::begin(spool, transfer.name());
    let mut flow = Flow::new();
    let mut piece_bytes = block.len();
    loop {
        let bytes = flow.note(shared, transfer, piece_bytes);
        if bytes > limit_bytes {
            return Err(Failure::TooLarge { limit_bytes });
        }
        if block.len() >= BLOCK_BYTES {
            writer.write(block.freeze()).await?;
            // Room for a last piece beyond the block.
            block = BytesMut::with_capacity(BLOCK_BYTES + PIECE_BYTES);
        }
        let piece = match next_piece(&mut body, within).await {
            Ok(Some(piece)) => piece,
            Ok(None) if bytes == 0 => return Err(Failure::Empty),
            Ok(None) => break,
            Err(BodyError::TimedOut) => return Err(Failure::Slow { bytes, within }),
            Err(BodyError::Broken | BodyError::TooLong | BodyError::NoRoom) => {
                return Err(Failure::Truncated { bytes });
            }
        };
        if !flow.is_enough(within) {
            return Err(Failure::Slow { bytes, within });
        }
        piece_bytes = piece.len();
        block.extend_from_slice(&piece);
    }
    if !block.is_empty() {
        writer.write(block.freeze()).await?;
    }
    Ok(writer.finish().await?)
}

/// How much came, and how fast.
struct Flow {
    bytes: u64,
    meter: progress::Meter,
    /// Beginning of the present stretch of time, and what had come by then.
    mark: (Instant, u64),
}

impl Flow {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            bytes: 0,
            meter: progress::Meter::new(now.into_std()),
            mark: (now, 0),
        }
    }

    /// Notes what came, and returns how much that is in all.
    fn note(&mut self, shared: &Shared, transfer: &Transfer, piece_bytes: usize) -> u64 {
        shared.stats.bytes(Channel::Snapshot).add(piece_bytes);
        let piece_bytes = u64::try_from(piece_bytes).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_add(piece_bytes);
        let rate = self.meter.note(Instant::now().into_std(), piece_bytes);
        transfer.advance(self.bytes, rate);
        self.bytes
    }

    /// False if the sender only keeps us busy.
    fn is_enough(&mut self, within: Duration) -> bool {
        let (since, bytes) = self.mark;
        if since.elapsed() < within {
            return true;
        }
        self.mark = (Instant::now(), self.bytes);
        self.bytes - bytes >= PROGRESS_BYTES_MIN
    }
}
