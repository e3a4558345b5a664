//! A connection to one endpoint of an etcd cluster, and the token that its requests carry. IO.
//!
//! ```text
//! Session (user, token) --connect--> Connection (client of the library, raw calls)
//!                       --log in--> a new token, on every connection of the session
//! ```
//!
//! The library's client keeps its token to itself, and it cannot send every request that etcd
//! takes. So the token is put into the requests here, below the library, and what the library
//! lacks is sent as it is. A token holds on every member, so it outlives a connection.
//!
//! # Source
//! etcd `server/auth/simple_token.go`: a simple token lives for `--auth-token-ttl`, counted on each
//! member from its last use there. `server/auth/jwt.go`: a JWT from when it was made.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use etcd_client::{BalancedChannelBuilder, Client, ConnectOptions};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::http::{HeaderValue, Request, Response};
use tonic::codegen::{Service, StdError};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;
use tower::ServiceExt as _;
use tower::util::BoxCloneSyncService;

use crate::pb::etcdpb;
use crate::secret::Credentials;

/// A token that has not been renewed or used for so long is renewed: half of what etcd gives it by
/// default.
const TOKEN_AGE_MAX: Duration = Duration::from_secs(150);

/// Who we are to one cluster. Clones share one token.
#[derive(Clone, Debug)]
pub struct Session {
    credentials: Option<Credentials>,
    token: Token,
}

/// What came of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    /// There is a new token.
    Done,
    /// The cluster does not check requests, and there is no token.
    AuthIsOff,
}

/// A connection to one endpoint.
#[derive(Clone)]
pub struct Connection {
    /// The library's client, which is large.
    pub client: Box<Client>,
    channel: WithToken,
    leader_required: bool,
}

impl Session {
    /// Somebody with these credentials, or nobody.
    #[must_use]
    pub fn new(credentials: Option<Credentials>) -> Self {
        Self {
            credentials,
            token: Token::default(),
        }
    }

    /// Who we are.
    #[must_use]
    pub fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// A connection to `endpoint`, made with the first request.
    ///
    /// # Errors
    /// If the endpoint or an option cannot be used.
    pub async fn connect(
        &self,
        endpoint: &str,
        leader_required: bool,
        options: ConnectOptions,
    ) -> Result<Connection, etcd_client::Error> {
        let mut channel = None;
        let tap = Tap {
            token: self.token.clone(),
            channel: &mut channel,
        };
        let options = options.with_require_leader(leader_required);
        let connect = Client::connect_with_balanced_channel([endpoint], Some(options), tap);
        let client = Box::pin(connect).await?;
        let Some(channel) = channel else {
            let message = "no channel was made".to_owned();
            return Err(etcd_client::Error::Internal(message));
        };
        Ok(Connection {
            client: Box::new(client),
            channel,
            leader_required,
        })
    }

    /// Notes that the cluster did not take our token, or asked for one.
    pub fn note_refused(&self) {
        self.token.held().is_refused = true;
    }

    /// True if the cluster asked for a token and none was taken since.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.credentials.is_some() && self.token.held().is_refused
    }

    /// True if a request would better wait for a login: it would be refused otherwise, or soon.
    #[must_use]
    pub fn is_login_due(&self) -> bool {
        let held = self.token.held();
        let is_old = held.text.is_some()
            && held
                .fresh_at
                .is_none_or(|fresh_at| fresh_at.elapsed() > TOKEN_AGE_MAX);
        self.credentials.is_some() && (held.is_refused || is_old)
    }

    /// Forgets the token.
    pub fn forget(&self) {
        *self.token.held() = Held::default();
    }

    /// Gets a new token.
    ///
    /// # Errors
    /// What the cluster answers; the old token stays.
    pub async fn log_in(&self, connection: &Connection) -> Result<Login, Status> {
        let Some(credentials) = &self.credentials else {
            return Err(Status::unauthenticated("no user is configured"));
        };
        let password = std::str::from_utf8(credentials.password.expose());
        let request = etcdpb::AuthenticateRequest {
            name: credentials.name.clone(),
            password: password.unwrap_or_default().to_owned(),
            simple_token: String::new(),
        };
        let answer = connection.call(AUTHENTICATE, request).await;
        let answer: etcdpb::AuthenticateResponse = match answer {
            Ok(answer) => answer,
            Err(status) if is_auth_off(&status) => {
                self.forget();
                return Ok(Login::AuthIsOff);
            }
            Err(status) => return Err(status),
        };
        *self.token.held() = Held::of(&answer.token)?;
        Ok(Login::Done)
    }
}

/// True if the answer asks for a token, or for another one. Nothing was done then.
#[must_use]
pub fn wants_login(status: &Status) -> bool {
    LOGIN_TEXTS
        .iter()
        .any(|text| status.message().contains(text))
}

/// True if the answer to a login says that the cluster does not check requests.
fn is_auth_off(status: &Status) -> bool {
    status.code() == Code::FailedPrecondition
        && status.message().contains("authentication is not enabled")
}

const AUTHENTICATE: &str = "/etcdserverpb.Auth/Authenticate";

/// # Source
/// etcd `api/v3rpc/rpctypes/error.go`; the third is that of releases before 3.4.19 and 3.5.2.
const LOGIN_TEXTS: [&str; 4] = [
    "invalid auth token",
    "revision of auth store is old",
    "revision in header is old",
    "user name is empty",
];

impl Connection {
    /// Sends one request to `path`, such as `/etcdserverpb.Auth/UserAdd`, as it is.
    ///
    /// # Errors
    /// What the endpoint answers, or that it cannot be reached.
    pub async fn call<Q, A>(&self, path: &'static str, request: Q) -> Result<A, Status>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        grpc.ready()
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let mut request = tonic::Request::new(request);
        if self.leader_required {
            let value = tonic::metadata::MetadataValue::from_static("true");
            request.metadata_mut().insert("hasleader", value);
        }
        let path = PathAndQuery::from_static(path);
        let codec = ProstCodec::<Q, A>::default();
        Ok(grpc.unary(request, path, codec).await?.into_inner())
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

/// The token of a session.
#[derive(Clone, Default)]
struct Token(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    text: Option<HeaderValue>,
    is_renewed_by_use: bool,
    fresh_at: Option<Instant>,
    is_refused: bool,
}

impl Held {
    fn of(token: &str) -> Result<Self, Status> {
        let mut text =
            HeaderValue::from_str(token).map_err(|_| Status::internal("the token is no text"))?;
        text.set_sensitive(true);
        Ok(Self {
            text: Some(text),
            // A simple token is a word, a dot and a number; each use renews it.
            is_renewed_by_use: token.matches('.').count() < 2,
            fresh_at: Some(Instant::now()),
            is_refused: false,
        })
    }
}

impl Token {
    fn held(&self) -> MutexGuard<'_, Held> {
        // Whoever held it only assigned fields.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The header of a request that goes out now.
    fn header(&self) -> Option<HeaderValue> {
        let mut held = self.held();
        if held.is_renewed_by_use && held.text.is_some() {
            held.fresh_at = Some(Instant::now());
        }
        held.text.clone()
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[token]")
    }
}

/// A channel whose requests carry the token.
#[derive(Clone)]
struct WithToken {
    channel: Channel,
    token: Token,
}

impl Service<Request<Body>> for WithToken {
    type Response = Response<Body>;
    type Error = tonic::transport::Error;
    type Future = <Channel as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::poll_ready(&mut self.channel, cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if request.uri().path() != AUTHENTICATE
            && let Some(token) = self.token.header()
        {
            request.headers_mut().insert("token", token);
        }
        self.channel.call(request)
    }
}

/// Puts the token under the library's client, and keeps a channel for what the library lacks.
struct Tap<'a> {
    token: Token,
    channel: &'a mut Option<WithToken>,
}

impl BalancedChannelBuilder for Tap<'_> {
    type Error = tonic::transport::Error;

    fn balanced_channel(
        self,
        buffer_size: usize,
    ) -> Result<(etcd_client::Channel, EndpointUpdater), Self::Error> {
        let (channel, updater) = Channel::balance_channel(buffer_size);
        let channel = WithToken {
            channel,
            token: self.token,
        };
        *self.channel = Some(channel.clone());
        let boxed = BoxCloneSyncService::new(channel.map_err(StdError::from));
        Ok((etcd_client::Channel::Custom(boxed), updater))
    }
}

type EndpointUpdater = tokio::sync::mpsc::Sender<
    tonic::transport::channel::Change<tonic::codegen::http::Uri, tonic::transport::Endpoint>,
>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn session(token: &str) -> Session {
        let credentials = Credentials {
            name: "n".to_owned(),
            password: Secret::new("p"),
        };
        let session = Session::new(Some(credentials));
        *session.token.held() = Held::of(token).unwrap();
        session
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_renewed_before_etcd_forgets_it() {
        let (simple, jwt) = (session("abcdefgh.12"), session("head.body.sign"));
        for _ in 0..3 {
            tokio::time::advance(TOKEN_AGE_MAX).await;
            assert!(!simple.is_login_due());
            assert!(simple.token.header().is_some(), "used");
        }
        assert!(
            jwt.token.header().is_some(),
            "a JWT does not live longer by that"
        );
        assert!(jwt.is_login_due());
        tokio::time::advance(TOKEN_AGE_MAX * 2).await;
        assert!(simple.is_login_due(), "not used for too long");
        assert!(!simple.is_refused());
    }

    #[test]
    fn a_refused_token_is_renewed_and_shown_nowhere() {
        let session = session("abcdefgh.12");
        assert!(!session.is_login_due());
        session.note_refused();
        assert!(session.is_login_due() && session.is_refused());
        let shown = format!("{session:?} {:?}", session.token.header());
        assert!(!shown.contains("abcdefgh"), "{shown}");
        session.forget();
        assert!(!session.is_login_due() && session.token.header().is_none());
        let nobody = Session::new(None);
        nobody.note_refused();
        assert!(!nobody.is_login_due() && !nobody.is_refused());
    }
}
