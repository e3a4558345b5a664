//! Meets the other two: finds this process in the primary, and asks the standby whether it may be
//! written. Waits for whatever waiting can bring.

use std::sync::Arc;
use std::time::Duration;

use super::App;
use crate::backoff::Backoff;
use crate::exit::{Exit, Fatal};
use crate::ids::ClusterId;
use crate::peer::join::{self, Found, Lookup};
use crate::peer::{self, members};
use crate::primary;
use crate::standby::{Claim, Contact, ContactError, Etcd, Options, Standby, first_contact};
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

    /// Waits until the standby answers; none if told to stop.
    pub(super) async fn contact(&self, found: &Found) -> Result<Option<(Etcd, Contact)>, Fatal> {
        let mut standby = self.standby();
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        self.board
            .phase
            .send_replace(Phase::Contacting("asking the standby".to_owned()));
        loop {
            let claim = Claim {
                stream: &self.config.stream,
                primary: found.identity.cluster,
                scope: &self.config.scope,
            };
            let asked = first_contact(&mut standby, &claim);
            let Some(answer) = self.unless_stopped(asked).await else {
                return Ok(None);
            };
            let error = match answer {
                Ok(contact) => return Ok(Some((standby, contact))),
                Err(error) => error,
            };
            let Some(exit) = contact_exit(&error) else {
                let what = format!("{error}; is it up, and has it a quorum?");
                if self.board.phase.borrow().clone() != Phase::Contacting(what.clone()) {
                    tracing::warn!("{what}");
                }
                self.board.phase.send_replace(Phase::Contacting(what));
                standby.try_another_endpoint();
                if self
                    .unless_stopped(tokio::time::sleep(backoff.next_wait()))
                    .await
                    .is_none()
                {
                    return Ok(None);
                }
                continue;
            };
            return Err(Fatal::new(exit, error));
        }
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

fn contact_exit(error: &ContactError) -> Option<Exit> {
    match error {
        ContactError::Unreachable(_) => None,
        ContactError::Refused(_) => Some(Exit::StandbyRefuses),
        ContactError::SameCluster(_) => Some(Exit::SameCluster),
        ContactError::NotEmpty { .. } | ContactError::OtherStream { .. } => {
            Some(Exit::StandbyNotEmpty)
        }
        ContactError::TooManyRanges { .. } => Some(Exit::StandbyRefuses),
        ContactError::OtherPrimary { .. }
        | ContactError::OtherScope { .. }
        | ContactError::UnreadableScope { .. }
        | ContactError::Unreadable { .. } => Some(Exit::ForeignCheckpoint),
    }
}
