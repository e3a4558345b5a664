//! Dials one stream of one member, reads it, and dials again when it ends. IO.
//!
//! ```text
//! dial --200--> read --ends, silent, corrupt--> pause --> dial
//!   |             +--unknown field--> report, never again
//!   +--410 from our cluster--> report, once per 5 s from then on
//!   +--all else--> pause, up to a second
//! ```
//!
//! A stream is read continuously, whatever becomes of its messages: a member drops one that is
//! not read for five seconds.
//!
//! # Source
//! etcd 3.7.1 `server/etcdserver/api/rafthttp/stream.go` streamReader.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, sleep, timeout};

use super::codec::{self, Frame, MessageDecoder, MsgAppDecoder};
use super::handshake::{self, DialAnswer, Identity};
use super::http::{self, Call};
use super::inbox::Inbound;
use super::shared::{Link, Shared, StreamKind};
use super::stats::Channel;
use super::version::Version;

/// Shortest time between two dials of one stream: ten per second, as members do.
const DIAL_INTERVAL: Duration = Duration::from_millis(100);

/// Longest time between two dials of one stream.
const DIAL_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// A stream that lasts less than this counts as one more failure.
const STREAM_TIME_MIN: Duration = Duration::from_secs(1);

/// Time between two dials once we were told that we are removed.
const REMOVED_INTERVAL: Duration = Duration::from_secs(5);

/// Longest part of an answer that is no stream that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 4 << 10;

/// Reads one stream of one member until the member is gone.
pub(super) async fn run(shared: Arc<Shared>, link: Arc<Link>, kind: StreamKind) {
    let ended = link.ended.clone();
    let mut dialer = Dialer {
        shared,
        link,
        kind,
        failures: 0,
        reported: None,
    };
    tokio::select! {
        () = ended.cancelled() => {}
        () = dialer.run() => {}
    }
    tracing::debug!(member = %dialer.link.id, kind = kind.name(), "dial no more");
}

struct Dialer {
    shared: Arc<Shared>,
    link: Arc<Link>,
    kind: StreamKind,
    /// Dials in a row that did not end in a stream that lasted.
    failures: u32,
    /// The answer last reported, which is not reported again until it changes.
    reported: Option<DialAnswer>,
}

/// How one dial ended.
enum Outcome {
    /// There was a stream, and now there is none.
    Streamed,
    /// There was none.
    Failed,
    /// We are removed.
    Removed,
    /// The stream carries what we do not know.
    Unknown,
}

impl Dialer {
    async fn run(&mut self) {
        loop {
            let Some((identity, version)) = self.joined().await else {
                return;
            };
            let begun = Instant::now();
            let pause = match Box::pin(self.dial(identity, version)).await {
                Outcome::Streamed if begun.elapsed() >= STREAM_TIME_MIN => {
                    self.failures = 0;
                    jittered(DIAL_INTERVAL)
                }
                Outcome::Streamed => {
                    self.failures = self.failures.saturating_add(1);
                    backoff(self.failures)
                }
                Outcome::Failed => {
                    self.shared.stats.dial_failures.increment();
                    self.failures = self.failures.saturating_add(1);
                    backoff(self.failures)
                }
                Outcome::Removed => REMOVED_INTERVAL,
                Outcome::Unknown => return,
            };
            sleep(pause).await;
        }
    }

    /// Waits until we know who we are and which version to claim.
    async fn joined(&self) -> Option<(Identity, Version)> {
        let mut identity = self.shared.identity.subscribe();
        let mut versions = self.shared.versions.subscribe();
        let identity = (*identity.wait_for(Option::is_some).await.ok()?)?;
        let versions = (*versions.wait_for(Option::is_some).await.ok()?)?;
        Some((identity, versions.server))
    }

    async fn dial(&mut self, identity: Identity, version: Version) -> Outcome {
        let target = match self.link.target() {
            None => return Outcome::Failed,
            Some(Ok(target)) => target,
            Some(Err(error)) => {
                self.note_failure(&error);
                return Outcome::Failed;
            }
        };
        let mut call = Call::get(format!("/raft/stream/{}/{}", self.kind.name(), identity.us));
        call.headers = handshake::request_headers(identity, version, Some(self.link.id));
        let config = &self.shared.config;
        let opened = http::open(config.security, &target, call, config.answer_timeout).await;
        let exchange = match opened {
            Ok(exchange) => exchange,
            Err(error) => {
                self.note_failure(&error);
                return Outcome::Failed;
            }
        };
        let status = exchange.response.status();
        let headers = exchange.response.headers().clone();
        if handshake::read_dial_answer(status, &headers, b"", identity) == DialAnswer::Streaming {
            return self.stream(exchange, identity).await;
        }
        let read = timeout(config.answer_timeout, exchange.read(ANSWER_BYTES_MAX)).await;
        let body = read.ok().and_then(Result::ok).map(|reply| reply.body);
        let body = body.unwrap_or_default();
        let answer = handshake::read_dial_answer(status, &headers, &body, identity);
        self.take_refusal(answer).await
    }

    async fn stream(&mut self, mut exchange: http::Exchange, identity: Identity) -> Outcome {
        self.reported = None;
        tracing::info!(member = %self.link.id, kind = self.kind.name(), "stream is up");
        let up = Up::new(&self.shared, &self.link, self.kind);
        let read = self.read(exchange.response.body_mut(), identity).await;
        drop(up);
        let (member, kind) = (self.link.id, self.kind.name());
        match read {
            Ok(why) => tracing::info!(%member, kind, why, "stream is down"),
            Err(error) if self.shared.report_unknown(member, &error).await => {
                return Outcome::Unknown;
            }
            Err(error) => {
                self.shared.stats.stream_errors.increment();
                let error = chain(&error);
                tracing::warn!(%member, kind, error, "stream is down");
            }
        }
        Outcome::Streamed
    }

    /// Reads until the stream ends, and says why it did.
    ///
    /// A process that was stopped for a while finds the rest of a stream in its own buffers that
    /// the member gave up long ago. As long as that counted as a stream, the leader would be
    /// answered and, having no other way, would send by POST what no POST can hold.
    async fn read(
        &self,
        body: &mut Incoming,
        identity: Identity,
    ) -> Result<&'static str, codec::Error> {
        let mut decoder = Decoder::new(self.kind, &self.shared, &self.link, identity);
        let received = self.shared.stats.bytes(match self.kind {
            StreamKind::MsgApp => Channel::MsgApp,
            StreamKind::Message => Channel::Message,
        });
        loop {
            let asked = Instant::now();
            let frame = match timeout(self.shared.config.silence, body.frame()).await {
                Err(_) => return Ok("it was silent for too long"),
                Ok(None) => return Ok("the member closed it"),
                Ok(Some(Err(_))) => return Ok("the connection broke"),
                Ok(Some(Ok(frame))) => frame,
            };
            if asked.elapsed() >= GIVEN_UP_AFTER {
                return Ok("the member has given it up");
            }
            let Ok(chunk) = frame.into_data() else {
                continue;
            };
            received.add(chunk.len());
            decoder.push(&chunk);
            while let Some(frame) = decoder.next_frame()? {
                self.shared.take_frame(identity.us, self.link.id, frame);
            }
        }
    }

    async fn take_refusal(&mut self, answer: DialAnswer) -> Outcome {
        let (member, kind) = (self.link.id, self.kind.name());
        let is_news = self.reported != Some(answer);
        self.reported = Some(answer);
        if is_news {
            tracing::warn!(%member, kind, ?answer, "stream is refused");
        }
        match answer {
            DialAnswer::Removed => {
                if is_news {
                    self.shared
                        .outlet
                        .report(Inbound::Removed { by: member })
                        .await;
                }
                Outcome::Removed
            }
            DialAnswer::ClusterMismatch { theirs } => {
                if is_news {
                    let report = Inbound::ClusterMismatch { at: member, theirs };
                    self.shared.outlet.report(report).await;
                }
                self.link.turn_url();
                Outcome::Failed
            }
            DialAnswer::ToMismatch => {
                self.link.turn_url();
                Outcome::Failed
            }
            DialAnswer::Streaming
            | DialAnswer::NotKnownYet
            | DialAnswer::IncompatibleVersion
            | DialAnswer::Unexpected(_) => Outcome::Failed,
        }
    }

    fn note_failure(&mut self, error: &(dyn std::error::Error + 'static)) {
        self.link.turn_url();
        self.reported = None;
        let (member, kind) = (self.link.id, self.kind.name());
        let error = chain(error);
        if self.failures == 0 {
            tracing::warn!(%member, kind, error, "dial a stream");
        } else {
            tracing::debug!(%member, kind, error, "dial a stream");
        }
    }
}

/// Shows in the gauges as long as it exists.
struct Up {
    shared: Arc<Shared>,
    link: Arc<Link>,
    kind: StreamKind,
}

impl Up {
    fn new(shared: &Arc<Shared>, link: &Arc<Link>, kind: StreamKind) -> Self {
        link.set_dialled(kind, true);
        shared.stats.streams_dialled.increment();
        Self {
            shared: Arc::clone(shared),
            link: Arc::clone(link),
            kind,
        }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.link.set_dialled(self.kind, false);
        self.shared.stats.streams_dialled.decrement();
    }
}

enum Decoder {
    MsgApp(MsgAppDecoder),
    Message(MessageDecoder),
}

impl Decoder {
    fn new(kind: StreamKind, shared: &Shared, link: &Link, identity: Identity) -> Self {
        let limit_bytes = shared.config.frame_bytes_max;
        match kind {
            StreamKind::MsgApp => {
                Self::MsgApp(MsgAppDecoder::new(link.id, identity.us, limit_bytes))
            }
            StreamKind::Message => Self::Message(MessageDecoder::new(limit_bytes)),
        }
    }

    fn push(&mut self, chunk: &[u8]) {
        match self {
            Self::MsgApp(decoder) => decoder.push(chunk),
            Self::Message(decoder) => decoder.push(chunk),
        }
    }

    fn next_frame(&mut self) -> Result<Option<Frame>, codec::Error> {
        match self {
            Self::MsgApp(decoder) => decoder.next_frame(),
            Self::Message(decoder) => decoder.next_frame(),
        }
    }
}

/// The pause after this many failures in a row: doubled each time, up to a second, jittered.
fn backoff(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(10);
    jittered((DIAL_INTERVAL * 2_u32.pow(doublings)).min(DIAL_INTERVAL_MAX))
}

/// Up to a quarter longer.
fn jittered(pause: Duration) -> Duration {
    pause + pause.mul_f64(fastrand::f64() / 4.0)
}

/// An error and its sources on one line.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        line.push_str(": ");
        line.push_str(&error.to_string());
        source = error.source();
    }
    line
}

/// A member sends a link heartbeat every 1.7 s and closes a stream that takes nothing for 5 s.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_second_and_a_quarter() {
        let bounds = [100, 200, 400, 800, 1000, 1000];
        for (failures, least) in (1..).zip(bounds) {
            let pause = backoff(failures);
            let least = Duration::from_millis(least);
            assert!(
                pause >= least && pause <= least * 5 / 4,
                "{failures}: {pause:?}"
            );
        }
        assert!(backoff(u32::MAX) <= Duration::from_millis(1250));
    }
}
