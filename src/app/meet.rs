//! Meets the primary: finds this process among its members. Waits for whatever waiting can bring.

use std::sync::Arc;
use std::time::Duration;

use super::App;
use crate::backoff::Backoff;
use crate::exit::{Exit, Fatal};
use crate::ids::ClusterId;
use crate::peer::join::{self, Found, Lookup};
use crate::peer::{self, members};
use crate::primary;
use crate::standby::{Etcd, Options};
use crate::status::Phase;

/// How long a member may take to answer a question about the membership.
const JOIN_TIMEOUT: Duration = Duration::from_secs(3);
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(3);

impl App {
    /// Waits until the primary lists us; none if told to stop.
    pub(super) async fn join(&self) -> Result<Option<Found>, Fatal> {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut said = String::new();
        loop {
            let lookup = join::find_self(
                peer::net::Security::Plain,
                &self.config.primary_peer_urls,
                &self.config.advertise_peer_url,
                JOIN_TIMEOUT,
            );
            let Some(lookup) = self.unless_stopped(lookup).await else {
                return Ok(None);
            };
            let waiting_for = match lookup {
                Ok(Lookup::Found(found)) if found.versions.is_some() => return Ok(Some(found)),
                Ok(Lookup::Found(_)) => {
                    "no member of the primary says which release of etcd it runs".to_owned()
                }
                Ok(Lookup::NotListed { cluster, members }) => self.how_to_add(cluster, &members),
                Err(error) => match join_exit(&error) {
                    Some(exit) => return Err(Fatal::new(exit, error)),
                    None => error.to_string(),
                },
            };
            if waiting_for != said {
                tracing::warn!("{waiting_for}");
                said.clone_from(&waiting_for);
            }
            self.board.phase.send_replace(Phase::Joining(waiting_for));
            if self
                .unless_stopped(tokio::time::sleep(backoff.next_wait()))
                .await
                .is_none()
            {
                return Ok(None);
            }
        }
    }

    fn how_to_add(&self, cluster: ClusterId, members: &[peer::Member]) -> String {
        let endpoints: Vec<_> = members
            .iter()
            .flat_map(|member| member.client_urls.iter().cloned())
            .collect();
        let (url, stream) = (&self.config.advertise_peer_url, &self.config.stream);
        format!(
            "no member of the primary {cluster} has the peer URL {url}: waiting for \
             `etcdctl --endpoints={} member add etcd-syncer-{stream} --learner --peer-urls={url}`",
            endpoints.join(",")
        )
    }

    /// A way to the standby; nothing is connected yet.
    pub(super) fn standby(&self) -> Etcd {
        Etcd::new(Options {
            endpoints: self.config.standby_endpoints.clone(),
            request_timeout: self.config.standby_timeout,
        })
        .in_session(self.session.clone())
        .for_scope(Arc::clone(&self.config.scope))
    }

    /// The primary's client URLs, to be asked.
    pub(super) fn primary(&self) -> primary::Clients {
        let endpoints = self.config.primary_endpoints.clone();
        primary::Clients::new(endpoints, self.config.primary_login.clone())
    }

    pub(super) async fn check_primary_endpoints(&self, expected: ClusterId) -> Result<(), Fatal> {
        if self.config.primary_endpoints.is_empty() {
            return Ok(());
        }
        match self.primary().cluster().await {
            Ok(cluster) if cluster == expected => Ok(()),
            Ok(cluster) => Err(Fatal::new(
                Exit::ClusterMismatch,
                format!(
                    "--primary-endpoints belong to cluster {cluster}, but --primary-peer-urls to \
                     {expected}: name one cluster only"
                ),
            )),
            Err(why) => {
                tracing::warn!(%why, "the primary's client URLs do not answer, going on without");
                Ok(())
            }
        }
    }
}

/// The code with which an error of joining ends the process; none if waiting can help.
fn join_exit(error: &join::Error) -> Option<Exit> {
    match error {
        join::Error::NoUrls => Some(Exit::Usage),
        join::Error::DifferentClusters { .. } => Some(Exit::ClusterMismatch),
        join::Error::Voter { .. } | join::Error::Ambiguous { .. } => Some(Exit::NotALearner),
        // If nobody can be reached, somebody may be later. If everybody answers, and not as a
        // member does, the URLs are wrong: client URLs, for example.
        join::Error::NoAnswer(causes) => causes
            .0
            .iter()
            .all(|(_, cause)| !matches!(cause, members::Error::Http(_)))
            .then_some(Exit::NotAPeer),
    }
}
