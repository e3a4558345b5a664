//! The life of a replicating process: listen, join, contact the standby, stream, end.
//!
//! ```text
//! listen --> join the primary --> contact the standby --> resume --> stream --> stop
//!              (waits)                (waits)                         ^  |
//!                                                        install <----+--+--> halted: shows why,
//!                                                                             waits for a person
//! ```
//!
//! Tasks are started only here, in the base of a stream and in the transport.

mod install;
mod meet;
mod record;
mod release;
mod stream;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::apply;
use crate::base::{self, Claim, Keeping, Upkeep};
use crate::config::Config;
use crate::datadir::DataDir;
use crate::exit::{Exit, Fatal};
use crate::ids::{ClusterId, MemberId};
use crate::peer::{self, Inbox, Transport};
use crate::plan::auth::Access;
use crate::resolve::Rules;
use crate::session;
use crate::standby::Etcd;
use crate::status::{self, Board, Joined, Phase};
use release::Release;
use stream::{Next, Session};

/// Messages of the primary that wait for the learner; it takes them in at once, so this is only for
/// moments in which the machine is busy with something else.
const INBOX_BYTES_MAX: usize = 64 << 20;

/// How long the last leases that are to be ended, and the last compaction, may keep a process that
/// was told to stop; what is left of the leases is empty and expires.
const LEASES_PATIENCE: Duration = Duration::from_secs(2);

type Base = base::Base<Etcd>;

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
        snapshot_bytes_max: config.snapshot_bytes_max,
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
        let release = Release::of(&found)?;
        let claimed = Box::pin(self.claim(primary, member, release.rules)).await?;
        let Some((base, keeping, txn_ops_max)) = claimed else {
            return Ok(Exit::Ok);
        };
        let watching = (!self.config.primary_endpoints.is_empty()).then(|| {
            let clients = self.primary();
            tokio::spawn(clients.watch(primary, self.board.primary.clone()))
        });
        let (rules_in, rules) = watch::channel(Ok(release.rules));
        let mut session = Session {
            us: member,
            txn_ops_max,
            metrics,
            rules,
            capture: None,
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
        let exit = self.stream(&mut session, next).await;
        keeping.end(LEASES_PATIENCE).await;
        if let Some(capture) = session.capture {
            capture.finish();
        }
        if let Some(watching) = watching {
            watching.abort();
        }
        exit
    }

    /// What the standby holds and the right to write to it, what keeps its leases, and the longest
    /// operation list that it takes; none if told to stop.
    async fn claim(
        &self,
        primary: ClusterId,
        member: MemberId,
        rules: Rules,
    ) -> Result<Option<(Base, Keeping, usize)>, Fatal> {
        let claim = Claim {
            stream: self.config.stream.clone(),
            primary,
            scope: Arc::clone(&self.config.scope),
            stop: self.stop.clone(),
        };
        let mut standby = self.standby();
        let contacting = claim.contact(&mut standby, |what| self.contacting(what));
        let Some(contact) = Box::pin(contacting).await? else {
            return Ok(None);
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
        self.contacting("loading the ledger from the standby");
        let loading = claim.load(&mut standby, &contact, rules);
        let Some(loaded) = Box::pin(loading).await? else {
            return Ok(None);
        };
        let loaded = loaded.of_member(member);
        let taking = claim.take(standby, || self.standby(), loaded, self.upkeep());
        let taken = Box::pin(taking).await?;
        Ok(taken.map(|(base, keeping)| (base, keeping, contact.txn_ops_max)))
    }

    /// How the standby is kept, shown on the board.
    fn upkeep(&self) -> Upkeep {
        let login = self.config.standby_login.as_ref();
        Upkeep {
            lease_ttl: self.config.standby_lease_ttl,
            compaction: self.config.compaction,
            user: self.config.standby_user.clone(),
            access: login.map_or(Access::NoPassword, |_| Access::Password),
            trouble: self.board.standby_trouble.clone(),
            leases: self.board.keeper.clone(),
            auth: self.board.auth.clone(),
        }
    }

    /// Shows what is done before the stream begins.
    fn contacting(&self, what: &str) {
        let phase = Phase::Contacting(what.to_owned());
        self.board.phase.send_replace(phase);
    }

    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            () = self.stop.cancelled() => None,
        }
    }
}
