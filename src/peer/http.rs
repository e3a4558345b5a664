//! Our requests to members: one connection for each, closed at the end. IO.
//!
//! No pool (members close a connection that idles for five seconds), no redirects, no proxies.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Incoming};
use hyper::header::{HOST, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::net::{Security, Stream, Target, UrlError};
use crate::ids::ClusterId;
use crate::peer::handshake;

/// Why a request of ours has no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL cannot be used.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// No connection.
    #[error("connect")]
    Connect(#[source] std::io::Error),
    /// The connection broke, or does not carry HTTP.
    #[error("exchange a request for an answer")]
    Exchange(#[source] hyper::Error),
    /// The header of the request cannot be written.
    #[error("write a request header")]
    Header(#[source] hyper::http::Error),
    /// No answer in time.
    #[error("no answer within {} ms", waited.as_millis())]
    Timeout {
        /// How long was waited.
        waited: Duration,
    },
    /// The answer is longer than it may be.
    #[error("the answer exceeds {limit_bytes} bytes")]
    TooLong {
        /// The limit.
        limit_bytes: usize,
    },
}

/// A request to a member.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Call {
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            path: path.into(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }
}

/// An answer whose body is still to be read. The connection ends with it.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) response: Response<Incoming>,
    _connection: AbortOnDropHandle<()>,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) cluster: Option<ClusterId>,
    pub(super) body: Bytes,
}

/// Sends a request and waits for the head of the answer, all within `limit`.
///
/// # Errors
/// [`Error`], except [`Error::TooLong`].
pub(super) async fn open(
    security: Security,
    target: &Target,
    call: Call,
    limit: Duration,
) -> Result<Exchange, Error> {
    let opened = Box::pin(open_unlimited(security, target, call));
    tokio::time::timeout(limit, opened)
        .await
        .map_err(|_| Error::Timeout { waited: limit })?
}

async fn open_unlimited(
    security: Security,
    target: &Target,
    call: Call,
) -> Result<Exchange, Error> {
    let stream = Stream::connect(security, target)
        .await
        .map_err(Error::Connect)?;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(RECEIVE_BUFFER_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(Error::Exchange)?;
    let connection = AbortOnDropHandle::new(tokio::spawn(async move {
        // How it ended shows in the answer or its body.
        let _ = connection.await;
    }));
    let mut request = Request::builder()
        .method(call.method)
        .uri(call.path)
        .body(Full::new(call.body))
        .map_err(Error::Header)?;
    *request.headers_mut() = call.headers;
    let host = HeaderValue::from_str(target.authority()).map_err(|e| Error::Header(e.into()))?;
    request.headers_mut().insert(HOST, host);
    let response = sender
        .send_request(request)
        .await
        .map_err(Error::Exchange)?;
    Ok(Exchange {
        response,
        _connection: connection,
    })
}

/// Sends a request and reads the whole answer, of at most `limit_bytes`, all within `limit`.
///
/// # Errors
/// [`Error`].
pub(super) async fn call(
    security: Security,
    target: &Target,
    call: Call,
    limit: Duration,
    limit_bytes: usize,
) -> Result<Reply, Error> {
    let deadline = Instant::now() + limit;
    let exchange = open(security, target, call, limit).await?;
    timeout_at(deadline, exchange.read(limit_bytes))
        .await
        .map_err(|_| Error::Timeout { waited: limit })?
}

impl Exchange {
    /// Reads the rest of the answer.
    pub(super) async fn read(self, limit_bytes: usize) -> Result<Reply, Error> {
        let (head, body) = self.response.into_parts();
        Ok(Reply {
            status: head.status,
            cluster: handshake::cluster(&head.headers),
            body: read_body(body, limit_bytes).await?,
        })
    }
}

/// Reads a body of at most `limit_bytes`. It grows as bytes arrive, whatever was announced.
async fn read_body(mut body: Incoming, limit_bytes: usize) -> Result<Bytes, Error> {
    let mut whole = BytesMut::new();
    while !body.is_end_stream() {
        let Some(frame) = body.frame().await else {
            break;
        };
        if let Ok(chunk) = frame.map_err(Error::Exchange)?.into_data() {
            if whole.len().saturating_add(chunk.len()) > limit_bytes {
                return Err(Error::TooLong { limit_bytes });
            }
            whole.extend_from_slice(&chunk);
        }
    }
    Ok(whole.freeze())
}

/// Largest read from a connection, in bytes; also bounds the head of an answer.
const RECEIVE_BUFFER_BYTES: usize = 256 << 10;
