//! What the primary says of itself on its client URLs, as a check on what reaches us as a learner.
//! IO.
//!
//! A learner that was cut off does not know what it misses. With the primary's client URLs the lag
//! is measured against the primary's own commit index.
//!
//! A login leaves an entry in the primary's log, so there is one only where the primary asks for
//! it, and its token is kept.

use std::time::Duration;

use etcd_client::{ConnectOptions, StatusResponse};
use tokio::sync::watch;

use crate::ids::{ClusterId, RaftIndex};
use crate::secret::Credentials;
use crate::session::{self, Connection, Session};

/// The primary's own figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Its commit index.
    pub index: RaftIndex,
    /// Its revision.
    pub revision: i64,
}

/// Time between two questions.
const PERIOD: Duration = Duration::from_secs(1);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The primary's client URLs.
#[derive(Debug)]
pub struct Clients {
    session: Session,
    /// Each endpoint with its connection while that is good.
    endpoints: Vec<(String, Option<Connection>)>,
}

impl Clients {
    /// Asks these endpoints, as this user if need be.
    #[must_use]
    pub fn new(endpoints: Vec<String>, credentials: Option<Credentials>) -> Self {
        let endpoints = endpoints.into_iter();
        Self {
            session: Session::new(credentials),
            endpoints: endpoints.map(|endpoint| (endpoint, None)).collect(),
        }
    }

    /// The cluster that answers at the first endpoint that does.
    ///
    /// # Errors
    /// What the last endpoint said, if none answers.
    pub async fn cluster(mut self) -> Result<ClusterId, String> {
        let mut last = "no endpoint".to_owned();
        for (endpoint, connection) in &mut self.endpoints {
            match ask(&self.session, endpoint, connection).await {
                Ok((cluster, _)) => return Ok(cluster),
                Err(error) => last = format!("{endpoint}: {error}"),
            }
        }
        Err(last)
    }

    /// Asks again and again, until dropped. The view is none while nobody answers.
    pub async fn watch(mut self, expected: ClusterId, view: watch::Sender<Option<View>>) {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let mut seen = None;
            for (endpoint, connection) in &mut self.endpoints {
                match ask(&self.session, endpoint, connection).await {
                    Ok((cluster, answer)) if cluster == expected => {
                        seen = Some(answer);
                        break;
                    }
                    Ok((cluster, _)) => {
                        tracing::warn!(%endpoint, %cluster, "a primary endpoint is another cluster");
                    }
                    Err(error) => tracing::debug!(%endpoint, %error, "ask the primary"),
                }
            }
            view.send_replace(seen);
        }
    }
}

async fn ask(
    session: &Session,
    endpoint: &str,
    connection: &mut Option<Connection>,
) -> Result<(ClusterId, View), String> {
    // Only a connection over which an answer came is used again.
    let old = connection.take();
    let asked = Box::pin(async {
        let connected = match old {
            Some(connected) => connected,
            None => {
                let options = ConnectOptions::new().with_connect_timeout(PATIENCE);
                session.connect(endpoint, false, options).await?
            }
        };
        let status = status(session, &connected).await?;
        Ok::<_, etcd_client::Error>((connected, status))
    });
    let (connected, status) = tokio::time::timeout(PATIENCE, asked)
        .await
        .map_err(|_| format!("nothing within {PATIENCE:?}"))?
        .map_err(|error| error.to_string())?;
    *connection = Some(connected);
    let header = status.header().ok_or("an answer without a header")?;
    let view = View {
        index: RaftIndex(status.raft_index()),
        revision: header.revision(),
    };
    Ok((ClusterId(header.cluster_id()), view))
}

async fn status(
    session: &Session,
    connection: &Connection,
) -> Result<StatusResponse, etcd_client::Error> {
    let mut client = connection.client.clone();
    match client.status().await {
        Err(etcd_client::Error::GRpcStatus(status))
            if session::wants_login(&status) && session.credentials().is_some() =>
        {
            let login = session.log_in(connection).await;
            login.map_err(etcd_client::Error::GRpcStatus)?;
            client.status().await
        }
        answer => answer,
    }
}
