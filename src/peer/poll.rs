//! Follows who is in the primary and which releases its voters run, by asking them. IO.
//!
//! The list says where to dial, and what we answer to `GET /members`. A member is new when any
//! member lists it and gone when none does; lists differ for a moment, because each member answers
//! from what it has applied. Our own `/version` mirrors the smallest of the voters: anything lower
//! would lower the cluster version of a 3.5 cluster, none at all would keep it from rising.
//!
//! # Source
//! etcd 3.5 to 3.7 `server/etcdserver/cluster_util.go` decideClusterVersion,
//! `server/etcdserver/version/monitor.go`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::handshake::Identity;
use super::inbox::Inbound;
use super::members::{Listing, Member, fetch_members, fetch_version};
use super::shared::{Link, Roster, Shared};
use super::version::Versions;
use crate::ids::{ClusterId, MemberId};

/// Polls until `ended`.
pub(super) async fn run(shared: Arc<Shared>, ended: CancellationToken) {
    tokio::select! {
        () = ended.cancelled() => {}
        () = poll(&shared) => {}
    }
}

async fn poll(shared: &Arc<Shared>) {
    let mut joined = shared.identity.subscribe();
    let Ok(identity) = joined.wait_for(Option::is_some).await.map(|i| *i) else {
        return;
    };
    let Some(identity) = identity else {
        return;
    };
    let mut poll = Poll {
        shared: Arc::clone(shared),
        identity,
        versions: BTreeMap::new(),
        stranger: None,
    };
    let mut ticks = interval(shared.config.poll_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shared.refresh.notified() => {}
        }
        Box::pin(poll.once()).await;
    }
}

struct Poll {
    shared: Arc<Shared>,
    identity: Identity,
    /// What each member last said.
    versions: BTreeMap<MemberId, Versions>,
    /// Another cluster that was reported last.
    stranger: Option<ClusterId>,
}

impl Poll {
    async fn once(&mut self) {
        let links = self.shared.links();
        let answers = join_all(links.iter().map(|link| ask(&self.shared, link))).await;
        let mut listings = Vec::new();
        for (member, listing, versions) in answers {
            if let Some(versions) = versions {
                self.versions.insert(member, versions);
            }
            match listing {
                Some(listing) if listing.cluster != self.identity.cluster => {
                    self.report_stranger(member, listing.cluster).await;
                }
                // A cluster has members: an empty list is no news of it.
                Some(listing) if listing.members.is_empty() => {}
                Some(listing) => listings.push(listing.members),
                None => {}
            }
        }
        if let Some(roster) = merge(listings) {
            self.publish(roster);
        }
        self.mirror();
    }

    async fn report_stranger(&mut self, at: MemberId, theirs: ClusterId) {
        self.versions.remove(&at);
        if self.stranger.replace(theirs) != Some(theirs) {
            let theirs = Some(theirs);
            let report = Inbound::ClusterMismatch { at, theirs };
            self.shared.outlet.report(report).await;
        }
    }

    fn publish(&self, roster: Roster) {
        self.shared.reconcile(self.identity.us, &roster.members);
        self.shared.roster.send_replace(roster);
    }

    /// Claims the smallest version of the voters, and notes all.
    fn mirror(&mut self) {
        let smallest = {
            let roster = self.shared.roster.borrow();
            let is_voter = |id: &MemberId| {
                roster
                    .members
                    .iter()
                    .any(|m| m.id == *id && !m.is_learner && m.id != self.identity.us)
            };
            self.versions.retain(|id, _| is_voter(id));
            self.versions.values().min_by_key(|v| v.server).copied()
        };
        let releases: BTreeSet<_> = self.versions.values().map(|v| v.server).collect();
        self.shared.releases.send_if_modified(|known| {
            let is_news = *known != releases;
            *known = releases;
            is_news
        });
        if smallest.is_some() {
            self.shared.versions.send_if_modified(|versions| {
                let is_news = *versions != smallest;
                *versions = smallest;
                is_news
            });
        }
    }
}

/// What one member says: its list and its version.
async fn ask(shared: &Shared, link: &Arc<Link>) -> (MemberId, Option<Listing>, Option<Versions>) {
    let Some(url) = link.url() else {
        return (link.id, None, None);
    };
    let (security, limit) = (shared.config.security, shared.config.answer_timeout);
    let (listing, versions) = tokio::join!(
        fetch_members(security, &url, limit),
        fetch_version(security, &url, limit),
    );
    if listing.is_err() && versions.is_err() {
        link.turn_url();
    }
    (link.id, listing.ok(), versions.ok())
}

/// The members that any list has, as the first one has them; fresh if all lists agree.
fn merge(listings: Vec<Vec<Member>>) -> Option<Roster> {
    let first = listings.first()?;
    let all_agree = listings.iter().all(|listing| listing == first);
    let mut members: BTreeMap<MemberId, Member> = BTreeMap::new();
    for member in listings.into_iter().flatten() {
        members.entry(member.id).or_insert(member);
    }
    Some(Roster {
        members: members.into_values().collect(),
        confirmed_at: all_agree.then(Instant::now),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, url: &str) -> Member {
        Member {
            id: MemberId(id),
            peer_urls: vec![url.into()],
            name: String::new(),
            client_urls: Vec::new(),
            is_learner: false,
        }
    }

    #[tokio::test]
    async fn a_member_is_gone_when_nobody_lists_it() {
        let (a, b, c) = (member(1, "a"), member(2, "b"), member(3, "c"));
        assert!(merge(Vec::new()).is_none());
        let lists = vec![vec![a.clone(), c.clone()], vec![a.clone(), b.clone()]];
        let roster = merge(lists).unwrap();
        assert_eq!(roster.members, [a.clone(), b.clone(), c]);
        assert_eq!(roster.confirmed_at, None);
        let roster = merge(vec![vec![a.clone(), b.clone()]; 2]).unwrap();
        assert_eq!(roster.members, [a, b]);
        assert!(roster.confirmed_at.is_some());
    }
}
