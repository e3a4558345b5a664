//! Accepts connections on the peer port and serves them, within limits. IO.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::net::Stream;
use super::routes;
use super::shared::Shared;

/// Longest time from the connection to the end of the request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest head of a request and largest read, in bytes.
const RECEIVE_BUFFER_BYTES: usize = 64 << 10;

/// Most headers of a request.
const HEADERS_MAX: usize = 64;

/// How long the last answers may take to go out when everything ends. An acknowledgement lost
/// there can cost a snapshot: the leader resumes at the last one it got.
const FLUSH_TIME_MAX: Duration = Duration::from_millis(500);

/// Wait after an accept that failed, which happens when files run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections until `ended`.
///
/// # Cancel safety
/// Connections accepted go on in tasks of `tasks`.
pub(super) async fn run(
    shared: Arc<Shared>,
    listener: TcpListener,
    tasks: TaskTracker,
    ended: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            () = ended.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((tcp, address)) => {
                if let Some(place) = Place::take(&shared, address.ip()) {
                    tasks.spawn(serve(tcp, place, ended.clone()));
                } else {
                    shared.stats.connections_refused.increment();
                }
            }
            Err(error) => {
                tracing::warn!(%error, "accept a connection");
                tokio::select! {
                    () = ended.cancelled() => return,
                    () = sleep(ACCEPT_PAUSE) => {}
                }
            }
        }
    }
}

/// One of the connections there may be.
struct Place {
    shared: Arc<Shared>,
    address: IpAddr,
}

impl Place {
    /// None if there are too many connections, in all or from this address: one that floods us
    /// must not keep the members out.
    fn take(shared: &Arc<Shared>, address: IpAddr) -> Option<Self> {
        let connections_max = shared.config.connections_max;
        let mut connections = shared.connections();
        let in_all: usize = connections.values().sum();
        let from_address = connections.get(&address).copied().unwrap_or(0);
        if in_all >= connections_max || from_address >= connections_max.div_ceil(2) {
            return None;
        }
        connections.insert(address, from_address + 1);
        shared.stats.connections.increment();
        Some(Self {
            shared: Arc::clone(shared),
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut connections = self.shared.connections();
        let left = connections.get(&self.address).copied().unwrap_or(0);
        if left > 1 {
            connections.insert(self.address, left - 1);
        } else {
            connections.remove(&self.address);
        }
        self.shared.stats.connections.decrement();
    }
}

async fn serve(tcp: TcpStream, place: Place, ended: CancellationToken) {
    let shared = Arc::clone(&place.shared);
    let security = shared.config.security;
    let Ok(Ok(stream)) = timeout(HEAD_TIMEOUT, Stream::accept(security, tcp)).await else {
        return;
    };
    let service = service_fn(move |request| routes::answer(Arc::clone(&shared), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .keep_alive(false)
        .max_buf_size(RECEIVE_BUFFER_BYTES)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // How a connection ends matters to nobody here: what was lost shows in the counters.
    tokio::select! {
        () = ended.cancelled() => {
            let _ = timeout(FLUSH_TIME_MAX, connection).await;
        }
        _ = &mut connection => {}
    }
    drop(place);
}
