//! The life of a replicating process: listen, join, contact the standby, stream, end.
//!
//! ```text
//! listen --> join the primary --> contact the standby --> resume --> stream --> stop
//!              (waits)                (waits)                         ^  |
//!                                                        install <----+--+--> halted: shows why,
//!                                                                             waits for a person
//! ```
//!
//! Tasks are started only here and in the transport.

mod install;
mod keeping;
mod meet;
mod release;
mod resume;
mod stream;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::apply;
use crate::config::Config;
use crate::datadir::DataDir;
use crate::exit::{Exit, Fatal};
use crate::peer::{self, Inbox, Transport};
use crate::session;
use crate::status::{self, Board, Joined};
use release::Release;
use stream::{Next, Session};

/// Messages of the primary that wait for the learner; it takes them in at once, so this is only for
/// moments in which the machine is busy with something else.
const INBOX_BYTES_MAX: usize = 64 << 20;

/// Everything that lives as long as the process.
struct App {
    config: Config,
    /// Who we are to the standby.
    session: session::Session,
    board: Arc<Board>,
    stop: CancellationToken,
    transport: Transport,
}

/// Runs until `stop` or an end that needs no person, and returns the exit code. What it does is
/// shown on `board`.
///
/// # Errors
/// [`Fatal`] for whatever prevents the stream from beginning.
pub async fn run(
    config: Config,
    board: Arc<Board>,
    stop: CancellationToken,
) -> Result<Exit, Fatal> {
    let _lock = DataDir::lock(&config.data_dir)?;
    let registry = prometheus::Registry::new();
    let metrics = apply::Metrics::register(&registry)
        .map_err(|error| Fatal::new(Exit::Failed, format!("register metrics: {error}")))?;
    let status = std::net::TcpListener::bind(config.listen_status)
        .map_err(|error| listen_error("--listen-status", config.listen_status, &error))?;
    status::serve(status, Arc::clone(&board), registry)
        .map_err(|error| Fatal::new(Exit::Failed, format!("serve the status page: {error}")))?;
    let listener = tokio::net::TcpListener::bind(config.listen_peer)
        .await
        .map_err(|error| listen_error("--listen-peer-url", config.listen_peer, &error))?;
    tracing::info!(
        status = %config.listen_status,
        peer = %config.listen_peer,
        stream = %config.stream,
        scope = %config.scope.prefixes(),
        "listening"
    );
    let options = peer::Config {
        inbox_bytes_max: INBOX_BYTES_MAX,
        spool: Some(config.data_dir.join("spool")),
        ..peer::Config::default()
    };
    let (transport, inbox) = Transport::new(options);
    let ended = CancellationToken::new();
    let serving = {
        let (transport, ended) = (transport.clone(), ended.clone());
        tokio::spawn(async move { transport.run(listener, ended).await })
    };
    let app = App {
        session: session::Session::new(config.standby_login.clone()),
        config,
        board,
        stop,
        transport,
    };
    let exit = Box::pin(app.live(inbox, metrics)).await;
    ended.cancel();
    if serving.await.is_err() {
        tracing::warn!("the transport ended in a panic");
    }
    exit
}

fn listen_error(option: &str, address: SocketAddr, error: &std::io::Error) -> Fatal {
    let message = format!(
        "{option} {address}: {error}; free the address (is another etcd-syncer running?) or name \
         another one"
    );
    Fatal::new(Exit::Listen, message)
}

impl App {
    async fn live(self, inbox: Inbox, metrics: apply::Metrics) -> Result<Exit, Fatal> {
        let Some(found) = self.join().await? else {
            return Ok(Exit::Ok);
        };
        let (primary, member) = (found.identity.cluster, found.identity.us);
        tracing::info!(cluster = %primary, %member, "found ourselves in the primary");
        let joined = Joined {
            primary,
            member,
            standby: None,
            transport: self.transport.clone(),
        };
        self.board.joined.send_replace(Some(joined));
        let Some((standby, contact)) = Box::pin(self.contact(&found)).await? else {
            return Ok(Exit::Ok);
        };
        tracing::info!(
            cluster = %contact.cluster,
            txn_ops_max = contact.txn_ops_max,
            "the standby may be written"
        );
        self.board.joined.send_modify(|joined| {
            if let Some(joined) = joined {
                joined.standby = Some(contact.cluster);
            }
        });
        self.check_primary_endpoints(primary).await?;
        let release = Release::of(&found)?;
        let resumed = Box::pin(self.resume(standby, &contact, &found, release.rules)).await?;
        let Some((base, keeping)) = resumed else {
            return Ok(Exit::Ok);
        };
        let watching = (!self.config.primary_endpoints.is_empty()).then(|| {
            let clients = self.primary();
            tokio::spawn(clients.watch(primary, self.board.primary.clone()))
        });
        let (rules_in, rules) = watch::channel(Ok(release.rules));
        let session = Session {
            us: member,
            txn_ops_max: contact.txn_ops_max,
            metrics,
            rules,
        };
        self.transport
            .join(found.identity, found.members, found.versions)
            .map_err(|error| Fatal::new(Exit::Failed, error))?;
        tokio::spawn(release.follow(self.transport.clone(), rules_in));
        let next = Next {
            base,
            inbox,
            installed: None,
        };
        let exit = self.stream(session, next).await;
        self.end_keeping(keeping).await;
        if let Some(watching) = watching {
            watching.abort();
        }
        exit
    }

    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            () = self.stop.cancelled() => None,
        }
    }
}
