//! The body of a stream that a member dialled: what we write to it, for as long as it lasts. IO.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::shared::{Link, Seat, Shared, StreamKind};

/// Messages for the member as they come, and a link heartbeat at once and then regularly.
///
/// It ends when another dial of the same member takes its place, or when everything ends. On a
/// msgapp stream nothing but link heartbeats is ever written: a member that cannot decode what it
/// reads there ends its process.
pub(super) struct ServedStream {
    shared: Arc<Shared>,
    kind: StreamKind,
    seat: Seat,
    heartbeat: Interval,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl ServedStream {
    pub(super) fn new(shared: Arc<Shared>, link: &Arc<Link>, kind: StreamKind) -> Self {
        let mut heartbeat = interval(shared.config.link_heartbeat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        shared.stats.streams_served.increment();
        Self {
            seat: link.take_seat(kind),
            ended: Box::pin(link.ended.clone().cancelled_owned()),
            shared,
            kind,
            heartbeat,
        }
    }
}

impl Drop for ServedStream {
    fn drop(&mut self) {
        self.shared.stats.streams_served.decrement();
    }
}

impl Body for ServedStream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        match this.seat.queue.poll_recv(cx) {
            Poll::Ready(Some(bytes)) if this.kind == StreamKind::Message => {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            Poll::Ready(Some(_) | None) => return Poll::Ready(None),
            Poll::Pending => {}
        }
        // What was accepted for sending before still goes out; pending does not mean empty.
        if this.seat.queue.is_empty() && this.ended.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        if this.heartbeat.poll_tick(cx).is_ready() {
            let bytes = this.kind.link_heartbeat();
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        Poll::Pending
    }
}

/// The body of an answer of ours.
pub(super) enum ReplyBody {
    /// All of it, until it is taken.
    Whole(Option<Bytes>),
    /// A stream; boxed because it is far larger.
    Stream(Box<ServedStream>),
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Self::Stream(stream) => Pin::new(stream.as_mut()).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                let length = bytes.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
            }
            Self::Stream(_) => SizeHint::default(),
        }
    }
}
