//! Reads what comes before the database: the raft message that says what it is. IO.
//!
//! ```text
//! u64 length, big-endian | that many bytes of raftpb.Message | the database, up to the end
//! ```
//!
//! # Source
//! etcd 3.7.1 `server/etcdserver/api/rafthttp/snapshot_sender.go` createSnapBody.

use bytes::{Buf, Bytes, BytesMut};
use hyper::body::Incoming;
use tokio::time::timeout;

use super::stored;
use super::transfer::Offer;
use crate::ids::{MemberId, RaftIndex, Term};
use crate::pb::raftpb::{ConfState, Message};
use crate::peer::Member;
use crate::peer::body::{BodyError, PIECE_TIMEOUT, Room, WHOLE_TIMEOUT, next_piece};
use crate::peer::codec;
use crate::peer::handshake::{Identity, texts};
use crate::peer::kind::MessageKind;
use crate::peer::shared::Shared;
use crate::peer::stats::Channel;

/// Longest envelope, in bytes. As etcd 3.6.14 and 3.7.1 have it.
const ENVELOPE_BYTES_MAX: usize = 64 << 20;

/// What came before the database.
#[derive(Debug)]
pub(super) struct Envelope {
    pub(super) offer: Offer,
    /// With snapshot and metadata, without the snapshot's data.
    pub(super) message: Message,
    pub(super) conf_state: ConfState,
    pub(super) members: Result<Vec<Member>, stored::Error>,
    /// The beginning of the database, as much as came along.
    pub(super) rest: BytesMut,
}

/// Why there is no envelope.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the message before the database broke off, or came too slowly")]
    Unreadable,
    #[error("what comes before the database is no snapshot message from that member for us")]
    NoSnapshot,
    #[error(transparent)]
    Codec(codec::Error),
}

impl Error {
    /// The text of the answer.
    pub(super) fn text(&self) -> &'static str {
        match self {
            Self::Unreadable => texts::UNREADABLE_MESSAGE,
            Self::NoSnapshot | Self::Codec(_) => texts::UNDECODABLE_MESSAGE,
        }
    }
}

/// Reads the envelope of a member's request.
///
/// # Errors
/// [`Error`].
pub(super) async fn read(
    shared: &Shared,
    body: &mut Incoming,
    identity: Identity,
    from: MemberId,
) -> Result<Envelope, Error> {
    // Its memory counts until the snapshot's data is read.
    let mut room = Room::new(shared);
    let read = timeout(WHOLE_TIMEOUT, read_bytes(&mut room, body)).await;
    let Ok(Ok((bytes, rest))) = read else {
        return Err(Error::Unreadable);
    };
    shared.stats.bytes(Channel::Snapshot).add(bytes.len());
    let message = codec::decode_message(bytes, ENVELOPE_BYTES_MAX).map_err(Error::Codec)?;
    open(message, rest, identity, from).ok_or(Error::NoSnapshot)
}

async fn read_bytes(
    room: &mut Room<'_>,
    body: &mut Incoming,
) -> Result<(Bytes, BytesMut), BodyError> {
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
            return Ok((bytes.split_to(length).freeze(), bytes));
        }
        let piece = next_piece(body, PIECE_TIMEOUT).await?;
        let piece = piece.ok_or(BodyError::Broken)?;
        room.grow(piece.len())?;
        bytes.extend_from_slice(&piece);
    }
}

/// None unless it is a snapshot from that member for us.
fn open(mut message: Message, rest: BytesMut, us: Identity, from: MemberId) -> Option<Envelope> {
    let is_snapshot = message.r#type == MessageKind::Snap.number();
    let is_ours = message.to == us.us.0 && message.from == from.0;
    let snapshot = message.snapshot.as_mut()?;
    let data = std::mem::take(&mut snapshot.data);
    let metadata = snapshot.metadata.as_ref()?;
    let offer = Offer {
        from,
        term: Term(message.term),
        index: RaftIndex(metadata.index),
        snapshot_term: Term(metadata.term),
    };
    let terms_fit = offer.snapshot_term > Term(0) && offer.snapshot_term <= offer.term;
    let sound = is_snapshot && is_ours && terms_fit && offer.index > RaftIndex(0);
    let conf_state = metadata.conf_state.clone().unwrap_or_default();
    sound.then(|| Envelope {
        offer,
        conf_state,
        members: stored::members(&data),
        message,
        rest,
    })
}
