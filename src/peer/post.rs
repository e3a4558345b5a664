//! POSTs our messages to a member that has not dialled our message stream. IO.
//!
//! That is the case only for a moment after joining or after its stream broke. One request at a
//! time, each on its own connection; what cannot be delivered is lost, as raft expects of it.

use std::sync::Arc;

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, StatusCode};

use super::dial::chain;
use super::handshake;
use super::http::{self, Call};
use super::shared::{Link, Shared};

/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 4 << 10;

/// POSTs what is queued for a member until it is gone.
pub(super) async fn run(shared: Arc<Shared>, link: Arc<Link>) {
    let Some(mut queue) = link.take_post_queue() else {
        return;
    };
    loop {
        let message = tokio::select! {
            () = link.ended.cancelled() => return,
            message = queue.recv() => message,
        };
        let Some(message) = message else {
            return;
        };
        let taken = tokio::select! {
            () = link.ended.cancelled() => return,
            taken = Box::pin(post(&shared, &link, message)) => taken,
        };
        if !taken {
            shared.stats.send_failures.increment();
            link.turn_url();
        }
    }
}

/// True if the member took the message.
async fn post(shared: &Shared, link: &Link, message: Bytes) -> bool {
    let (Some(identity), Some(version)) = (shared.identity(), shared.version()) else {
        return false;
    };
    let Some(Ok(target)) = link.target() else {
        return false;
    };
    let mut headers = handshake::request_headers(identity, version, None);
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/protobuf"),
    );
    let call = Call {
        method: Method::POST,
        path: "/raft".into(),
        headers,
        body: message,
    };
    let config = &shared.config;
    let limit = config.answer_timeout;
    match http::call(config.security, &target, call, limit, ANSWER_BYTES_MAX).await {
        Ok(reply) => {
            if reply.status != StatusCode::NO_CONTENT {
                tracing::debug!(member = %link.id, status = %reply.status, "a POST is refused");
            }
            reply.status == StatusCode::NO_CONTENT
        }
        Err(error) => {
            tracing::debug!(member = %link.id, error = chain(&error), "post a message");
            false
        }
    }
}
