//! The real standby, through etcd's public client API.
//!
//! One endpoint at a time: an ordered writer gains nothing from spreading its requests, and after a
//! failure the next endpoint is tried. The client's own retry of writes is not used.
//!
//! With credentials, a request that the standby refuses for want of a token, or of a newer one, was
//! not applied: it is sent once more behind a login. A token that grows old is renewed before.

mod auth;

mod compaction;
mod leases;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, DeleteOptions, GetOptions, PutOptions, Txn, TxnOp,
};

use super::{About, Answer, Failure, Guard, KeyValue, Standby, Stored, Transaction};
use crate::ids::{ClusterId, LeaseId};
use crate::plan::{Nested, Write};
use crate::range::KeyRange;
use crate::reserved;
use crate::resolve::{Put, Value};
use crate::scope::Scope;
use crate::secret::Credentials;
use crate::session::{self, Connection, Login, Session};

/// How to reach a standby.
#[derive(Clone, Debug)]
pub struct Options {
    /// Client URLs, tried one at a time.
    pub endpoints: Vec<String>,
    /// How long one request may take.
    pub request_timeout: Duration,
}

/// A standby reached over the network.
pub struct Etcd {
    options: Options,
    scope: Arc<Scope>,
    endpoint: usize,
    connection: Option<Connection>,
    session: Session,
    /// Since when it has no version yet.
    unsettled_since: Option<Instant>,
}

impl std::fmt::Debug for Etcd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Etcd")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Beyond this length of an operation list no standby is asked whether it takes it.
const TXN_OPS_PROBED_MAX: usize = 4096;

/// The largest value that is read. Of several keys the client's own limit of 4 MiB counts, so that
/// they are asked for in smaller pages.
const VALUE_BYTES_MAX: usize = 512 << 20;

impl Etcd {
    /// A standby at one of `options.endpoints`; nothing is connected yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            options,
            scope: Arc::default(),
            endpoint: 0,
            connection: None,
            session: Session::new(None),
            unsettled_since: None,
        }
    }

    /// Logs in as this user whenever the standby asks for that.
    #[must_use]
    pub fn log_in_as(self, credentials: Option<Credentials>) -> Self {
        self.in_session(Session::new(credentials))
    }

    /// Logs in for all who share `session`.
    #[must_use]
    pub fn in_session(self, session: Session) -> Self {
        Self { session, ..self }
    }

    /// Which keys of it are the stream's; all unless said otherwise.
    #[must_use]
    pub fn for_scope(self, scope: Arc<Scope>) -> Self {
        Self { scope, ..self }
    }

    /// The endpoint that is used now.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.options.endpoints[self.endpoint]
    }

    async fn connection(&mut self) -> Result<Connection, Failure> {
        let connection = match &self.connection {
            Some(connection) => connection.clone(),
            None => {
                let connection = self.connect().await?;
                self.connection = Some(connection.clone());
                connection
            }
        };
        if self.session.is_login_due() {
            self.log_in(&connection).await?;
        }
        Ok(connection)
    }

    async fn connect(&self) -> Result<Connection, Failure> {
        let options = ConnectOptions::new()
            .with_connect_timeout(self.options.request_timeout)
            .with_keep_alive(Duration::from_secs(5), Duration::from_secs(5));
        let connect = self.session.connect(self.endpoint(), true, options);
        Box::pin(connect)
            .await
            .map_err(|error| Failure::NotApplied(self.told_by(&error.to_string())))
    }

    async fn log_in(&self, connection: &Connection) -> Result<Login, Failure> {
        let log_in = async {
            let login = self.session.log_in(connection).await;
            login.map_err(etcd_client::Error::GRpcStatus)
        };
        match self.within(Box::pin(log_in)).await? {
            Ok(login) => Ok(login),
            Err(error) => Err(match Failure::of(&error) {
                // Whatever was to come behind the login was not sent.
                Failure::Unknown(what) | Failure::NotApplied(what) => {
                    Failure::NotApplied(self.told_by(&what))
                }
                Failure::Refused(what) => Failure::Refused(self.refused_login(&what)),
                same @ (Failure::NoSpace(_)
                | Failure::TooLarge(_)
                | Failure::TooManyOps(_)
                | Failure::Diverged(_)
                | Failure::LeaseNotFound(_)
                | Failure::Already(_)) => same,
            }),
        }
    }

    fn refused_login(&self, what: &str) -> String {
        let name = self.session.credentials().map(|user| user.name.as_str());
        format!(
            "{what}: it does not let user {:?} in; --standby-user and --standby-password-file must \
             name a user of the standby that has role root, and its password",
            name.unwrap_or_default()
        )
    }

    /// The library's client, for requests of several answers or many at a time. One that is refused
    /// for want of a login was not applied, and the next connection logs in.
    async fn client(&mut self) -> Result<Client, Failure> {
        Ok(*self.connection().await?.client)
    }

    /// A request that is repeated behind a login if the standby asks for one.
    async fn call<T, F>(&mut self, request: impl Fn(Connection) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let connection = self.connection().await?;
        let first = self.ask(Box::pin(request(connection.clone()))).await;
        if first.is_ok() || !self.session.is_refused() {
            return first;
        }
        self.log_in(&connection).await?;
        self.ask(Box::pin(request(connection))).await
    }

    /// One attempt, with its deadline.
    async fn ask<T>(
        &self,
        request: impl Future<Output = Result<T, etcd_client::Error>>,
    ) -> Result<T, Failure> {
        self.within(request).await?.map_err(|error| {
            let etcd_client::Error::GRpcStatus(status) = &error else {
                return Failure::of(&error).from_endpoint(self.endpoint());
            };
            if session::wants_login(status) {
                self.session.note_refused();
                if self.session.credentials().is_none() {
                    return Failure::Refused(format!("{}: {AUTH_IS_ON}", status.message()));
                }
            }
            if status.message().contains("permission denied") {
                return Failure::Refused(self.not_root(status.message()));
            }
            Failure::of(&error).from_endpoint(self.endpoint())
        })
    }

    fn not_root(&self, what: &str) -> String {
        match self.session.credentials() {
            Some(user) => format!(
                "{what}: user {:?} needs role root there: `etcdctl user grant-role {} root`",
                user.name, user.name
            ),
            None => format!("{what}: {AUTH_IS_ON}"),
        }
    }

    async fn within<T>(&self, request: impl Future<Output = T>) -> Result<T, Failure> {
        let timeout = self.options.request_timeout;
        tokio::time::timeout(timeout, request)
            .await
            .map_err(|_| Failure::Unknown(self.told_by(&format!("nothing within {timeout:?}"))))
    }

    fn told_by(&self, what: &str) -> String {
        format!("{what} from {}", self.endpoint())
    }

    async fn takes_txn_ops(&mut self, count: usize) -> Result<bool, Failure> {
        // Only reads and no write, so it never enters the standby's log; the list is checked first.
        let compare = Compare::version("-", CompareOp::Less, 0);
        let txn = Txn::new().when(vec![compare; count]);
        let asked = self.call(|mut to| {
            let txn = txn.clone();
            async move { to.client.txn(txn).await }
        });
        match asked.await {
            Ok(_) => Ok(true),
            Err(Failure::TooManyOps(_)) => Ok(false),
            Err(other) => Err(other),
        }
    }
}

const AUTH_IS_ON: &str = "the standby has auth enabled, and no user to log in as is configured: set \
                          --standby-user and --standby-password-file to a user with role root";

impl Standby for Etcd {
    async fn write(&mut self, transaction: &Transaction) -> Result<Answer, Failure> {
        let scope = Arc::clone(&self.scope);
        let scope = scope.as_ref();
        let asked = self.call(|mut to| async move { to.client.txn(txn(transaction, scope)).await });
        let response = asked.await?;
        if !response.succeeded() {
            return Ok(Answer::GuardFailed);
        }
        match response.header() {
            Some(header) => Ok(Answer::Applied(header.revision())),
            None => Err(Failure::Unknown("an answer without a header".to_owned())),
        }
    }

    async fn read(&mut self, key: &Bytes) -> Result<Option<Stored>, Failure> {
        let asked = self.call(|mut to| async move { to.client.get(key.as_ref(), None).await });
        let mut response = asked.await?;
        Ok(response.take_kvs().into_iter().next().map(|kv| {
            let mod_revision = kv.mod_revision();
            let (_, value) = kv.into_key_value();
            Stored {
                value: value.into(),
                mod_revision,
            }
        }))
    }

    async fn read_range(
        &mut self,
        range: &KeyRange,
        limit: usize,
    ) -> Result<Vec<KeyValue>, Failure> {
        let asked = self.call(|to| async move {
            let options = GetOptions::new()
                .with_range(range.request_end())
                .with_limit(i64::try_from(limit).unwrap_or(i64::MAX));
            let mut kv = to.client.kv_client();
            if limit == 1 {
                kv = kv.max_decoding_message_size(VALUE_BYTES_MAX);
            }
            kv.get(range.start().as_ref(), Some(options)).await
        });
        let mut response = asked.await?;
        let found = response.take_kvs().into_iter().map(|kv| {
            let lease = LeaseId(kv.lease());
            let (key, value) = kv.into_key_value();
            KeyValue {
                key: key.into(),
                value: value.into(),
                lease,
            }
        });
        Ok(found.collect())
    }

    async fn about(&mut self) -> Result<About, Failure> {
        let asked = self.call(|mut to| async move {
            let options = GetOptions::new().with_count_only();
            to.client.get(reserved::PREFIX, Some(options)).await
        });
        let response = asked.await?;
        let header = response
            .header()
            .ok_or_else(|| Failure::Unknown("an answer without a header".to_owned()))?;
        Ok(About {
            cluster: ClusterId(header.cluster_id()),
            revision: header.revision(),
        })
    }

    async fn foreign_keys(&mut self, limit: usize) -> Result<Vec<Bytes>, Failure> {
        let mut found = Vec::new();
        let scope = Arc::clone(&self.scope);
        for range in scope.standby_ranges() {
            let wanted = i64::try_from(limit - found.len()).unwrap_or(i64::MAX);
            if wanted == 0 {
                break;
            }
            let asked = self.call(|mut to| async move {
                let options = GetOptions::new()
                    .with_range(range.request_end())
                    .with_limit(wanted)
                    .with_keys_only();
                to.client.get(range.start().as_ref(), Some(options)).await
            });
            let mut response = asked.await?;
            found.extend(
                response
                    .take_kvs()
                    .into_iter()
                    .map(|kv| kv.into_key_value().0.into()),
            );
        }
        Ok(found)
    }

    async fn txn_ops_max(&mut self) -> Result<usize, Failure> {
        // The answer is in lowest..highest.
        let (mut lowest, mut highest) = (1, TXN_OPS_PROBED_MAX);
        if self.takes_txn_ops(128).await? {
            lowest = 128;
            if !self.takes_txn_ops(129).await? {
                return Ok(128);
            }
        }
        while lowest + 1 < highest {
            let middle = lowest.midpoint(highest);
            if self.takes_txn_ops(middle).await? {
                lowest = middle;
            } else {
                highest = middle;
            }
        }
        Ok(lowest)
    }

    fn try_another_endpoint(&mut self) {
        self.connection = None;
        self.endpoint = (self.endpoint + 1) % self.options.endpoints.len();
    }
}

fn txn(transaction: &Transaction, scope: &Scope) -> Txn {
    let mut ops = vec![TxnOp::put(
        transaction.checkpoint_key.as_ref(),
        transaction.checkpoint.as_ref(),
        None,
    )];
    ops.extend(transaction.writes.iter().map(operation));
    Txn::new().when(compares(transaction, scope)).and_then(ops)
}

fn compares(transaction: &Transaction, scope: &Scope) -> Vec<Compare> {
    let key = transaction.checkpoint_key.as_ref();
    match transaction.guard {
        Guard::WrittenAt(revision) => {
            vec![Compare::mod_revision(key, CompareOp::Equal, revision)]
        }
        Guard::NothingThere => {
            // A range compare holds if each key in the range has version 0, so if there is no key.
            let empty = scope.standby_ranges().iter().map(|range| {
                Compare::version(range.start().as_ref(), CompareOp::Equal, 0)
                    .with_range(range.request_end())
            });
            std::iter::once(Compare::version(key, CompareOp::Equal, 0))
                .chain(empty)
                .collect()
        }
    }
}

fn operation(nested: &Nested<Write>) -> TxnOp {
    match nested {
        Nested::Txn(inner) => {
            TxnOp::txn(Txn::new().and_then(inner.iter().map(operation).collect::<Vec<_>>()))
        }
        Nested::Op(Write::Put(Put { key, value, lease })) => {
            let options = PutOptions::new().with_lease(lease.0);
            match value {
                Value::Given(value) => TxnOp::put(key.as_ref(), value.as_ref(), Some(options)),
                Value::Kept => TxnOp::put(key.as_ref(), [], Some(options.with_ignore_value())),
            }
        }
        Nested::Op(Write::Delete(range)) => {
            let options = DeleteOptions::new().with_range(range.request_end());
            TxnOp::delete(range.start().as_ref(), Some(options))
        }
    }
}
