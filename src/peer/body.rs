//! Reads request bodies with limits on size, time and the memory of all of them together. IO.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout, timeout_at};

use super::shared::Shared;

/// Why a body could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    /// Longer than its limit.
    TooLong,
    /// All bodies together would exceed theirs.
    NoRoom,
    /// It broke off.
    Broken,
    /// It came too slowly.
    TimedOut,
}

/// Longest wait for the next piece; members wait as long.
pub(super) const PIECE_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest time for a whole message body.
pub(super) const WHOLE_TIMEOUT: Duration = Duration::from_secs(60);

/// A body, which counts as memory in use until it is dropped.
#[derive(Debug)]
pub(super) struct Whole<'a> {
    pub(super) bytes: Bytes,
    _room: Room<'a>,
}

/// A part of the memory for request bodies.
#[derive(Debug)]
pub(super) struct Room<'a> {
    used: &'a AtomicUsize,
    limit_bytes: usize,
    taken_bytes: usize,
}

impl<'a> Room<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        Self {
            used: &shared.body_bytes,
            limit_bytes: shared.config.bodies_bytes_max,
            taken_bytes: 0,
        }
    }

    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), BodyError> {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        self.taken_bytes += bytes;
        if before.saturating_add(bytes) > self.limit_bytes {
            return Err(BodyError::NoRoom);
        }
        Ok(())
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.used.fetch_sub(self.taken_bytes, Ordering::Relaxed);
    }
}

/// The next piece of a body; None at its end.
pub(super) async fn next_piece(
    body: &mut Incoming,
    wait: Duration,
) -> Result<Option<Bytes>, BodyError> {
    loop {
        let frame = timeout(wait, body.frame())
            .await
            .map_err(|_| BodyError::TimedOut)?;
        match frame {
            None => return Ok(None),
            Some(Err(_)) => return Err(BodyError::Broken),
            Some(Ok(frame)) => {
                if let Ok(piece) = frame.into_data() {
                    return Ok(Some(piece));
                }
            }
        }
    }
}

/// Reads a whole body of at most `limit_bytes`; memory grows as bytes arrive.
pub(super) async fn read_whole(
    shared: &Shared,
    mut body: Incoming,
    limit_bytes: usize,
) -> Result<Whole<'_>, BodyError> {
    let deadline = Instant::now() + WHOLE_TIMEOUT;
    let mut room = Room::new(shared);
    let mut bytes = BytesMut::new();
    let read = async {
        while let Some(piece) = next_piece(&mut body, PIECE_TIMEOUT).await? {
            if bytes.len().saturating_add(piece.len()) > limit_bytes {
                return Err(BodyError::TooLong);
            }
            room.grow(piece.len())?;
            bytes.extend_from_slice(&piece);
        }
        Ok(())
    };
    timeout_at(deadline, read)
        .await
        .map_err(|_| BodyError::TimedOut)??;
    Ok(Whole {
        bytes: bytes.freeze(),
        _room: room,
    })
}
