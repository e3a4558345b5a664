//! A snapshot that a leader sends, which this version cannot install. IO.
//!
//! ```text
//! envelope --read--> Inbound::SnapshotOffered --> hold --muted for a while--> cut
//! ```
//!
//! Any failure makes a leader send the whole database again at the next heartbeat that we answer,
//! ten times a second. So the request is held, without reading the database and without an
//! answer, until answers have been muted long enough for the leader to count us as inactive; to
//! an inactive member it sends no snapshot. What is no snapshot is not refused at once either,
//! for the same reason.
//!
//! # Source
//! etcd 3.7.1 `server/etcdserver/api/rafthttp/snapshot_sender.go`; raft v3.7.0 `raft.go`
//! maybeSendAppend (RecentActive).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use hyper::body::Incoming;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::answer::{Answer, Status};
use super::body::{BodyError, PIECE_TIMEOUT, Room, WHOLE_TIMEOUT, next_piece};
use super::codec;
use super::handshake::{Identity, texts};
use super::inbox::Inbound;
use super::kind::MessageKind;
use super::routes::Cut;
use super::shared::{Link, Shared};
use super::stats::Channel;
use crate::ids::{MemberId, RaftIndex, Term};
use crate::pb::raftpb::{Message, Snapshot};

/// Longest envelope, in bytes: the message before the database. As etcd 3.6.14 and 3.7.1 have it.
const ENVELOPE_BYTES_MAX: usize = 64 << 20;

/// Snapshots of one member held at a time. A leader sends one, and may have an older one under
/// way from before it lost leadership and won it again.
const HOLDS_MAX: usize = 4;

/// Reads the envelope, reports it and holds the request.
///
/// Returns an answer only if there is no snapshot to speak of.
///
/// # Errors
/// [`Cut`] after the hold.
pub(super) async fn take(
    shared: &Arc<Shared>,
    body: Incoming,
    identity: Identity,
    link: &Link,
) -> Result<Answer, Cut> {
    let place = Hold::begin(link);
    if place.is_none() {
        sleep(shared.config.hold_after_mute).await;
        return Err(Cut);
    }
    take_one(shared, body, identity, link.id).await
}

/// One of the snapshots held for a member.
struct Hold<'a>(&'a AtomicUsize);

impl<'a> Hold<'a> {
    fn begin(link: &'a Link) -> Option<Self> {
        let hold = Self(&link.holds);
        (hold.0.fetch_add(1, Ordering::Relaxed) < HOLDS_MAX).then_some(hold)
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn take_one(
    shared: &Arc<Shared>,
    mut body: Incoming,
    identity: Identity,
    from: MemberId,
) -> Result<Answer, Cut> {
    let read = timeout(WHOLE_TIMEOUT, read_envelope(shared, &mut body)).await;
    let undecodable = || Answer::text(Status::BadRequest, texts::UNDECODABLE_MESSAGE);
    let Ok(Ok(bytes)) = read else {
        sleep(shared.config.hold_after_mute).await;
        return Ok(Answer::text(Status::BadRequest, texts::UNREADABLE_MESSAGE));
    };
    shared.stats.bytes(Channel::Snapshot).add(bytes.len());
    let message = match codec::decode_message(bytes, ENVELOPE_BYTES_MAX) {
        Ok(message) => message,
        Err(error) => {
            if shared.report_unknown(from, &error).await {
                hold(shared).await;
                return Err(Cut);
            }
            sleep(shared.config.hold_after_mute).await;
            return Ok(undecodable());
        }
    };
    let Some(offer) = read_offer(&message, identity, from) else {
        sleep(shared.config.hold_after_mute).await;
        return Ok(undecodable());
    };
    shared
        .filter()
        .note_received(from, MessageKind::Snap, &message);
    drop(message);
    tracing::warn!(member = %from, "a snapshot is offered, which cannot be installed");
    shared.outlet.report(offer).await;
    hold(shared).await;
    Err(Cut)
}

/// Waits until answers have been muted long enough.
async fn hold(shared: &Shared) {
    let mut muted = shared.muted_since.subscribe();
    loop {
        let since = *muted.borrow_and_update();
        let over = since.map(|at| at + shared.config.hold_after_mute);
        let until = over.unwrap_or_else(|| Instant::now() + FAR);
        tokio::select! {
            () = sleep_until(until), if over.is_some() => return,
            changed = muted.changed() => if changed.is_err() { return },
        }
    }
}

/// Any time far enough away; not waited for.
const FAR: Duration = Duration::from_secs(1 << 20);

async fn read_envelope(shared: &Shared, body: &mut Incoming) -> Result<Bytes, BodyError> {
    let mut room = Room::new(shared);
    let mut bytes = BytesMut::new();
    let mut length = None;
    loop {
        if length.is_none() && bytes.len() >= 8 {
            length = Some(
                usize::try_from(bytes.get_u64())
                    .ok()
                    .filter(|length| *length <= ENVELOPE_BYTES_MAX)
                    .ok_or(BodyError::TooLong)?,
            );
        }
        if let Some(length) = length
            && bytes.len() >= length
        {
            // The rest is the beginning of the database.
            return Ok(bytes.split_to(length).freeze());
        }
        let piece = next_piece(body, PIECE_TIMEOUT).await?;
        let piece = piece.ok_or(BodyError::Broken)?;
        room.grow(piece.len())?;
        bytes.extend_from_slice(&piece);
    }
}

/// None unless it is a snapshot from that member for us.
fn read_offer(message: &Message, identity: Identity, from: MemberId) -> Option<Inbound> {
    let is_snapshot = message.r#type == MessageKind::Snap.number();
    let is_ours = message.to == identity.us.0 && message.from == from.0;
    let snapshot: &Snapshot = message.snapshot.as_ref()?;
    let metadata = snapshot.metadata.as_ref()?;
    let sound = is_snapshot && is_ours && message.term > 0 && metadata.index > 0;
    sound.then(|| Inbound::SnapshotOffered {
        from,
        term: Term(message.term),
        index: RaftIndex(metadata.index),
        snapshot_term: Term(metadata.term),
        conf_state: metadata.conf_state.clone().unwrap_or_default(),
    })
}
