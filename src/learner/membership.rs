//! Follows the primary's membership through the conf changes in its log. Pure.
//!
//! etcd commits a conf change first and validates it when applying it, so a refused one stays in
//! the log and does nothing. The rules of that validation are repeated here. One cannot be: since
//! 3.6 the number of learners is limited by a flag of each member, which is not in the log. A
//! second learner is taken as added; being wrong about it costs nothing, because learners have no
//! vote.
//!
//! # Source
//! etcd `server/etcdserver/api/membership/cluster.go`, `ValidateConfigurationChange` (3.4 to 3.7).

use std::collections::{BTreeMap, BTreeSet};

use raft::eraftpb;
use serde::Deserialize;

use crate::ids::{MemberId, RaftIndex};
use crate::pb::raftpb;
use crate::peer::Member;

/// What a conf change did to the membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// A voter or a learner was added.
    Added(Member),
    /// A learner became a voter.
    Promoted(MemberId),
    /// A member was removed.
    Removed(MemberId),
    /// A member's peer URLs changed.
    Updated(MemberId, Vec<String>),
    /// etcd refused the change when it applied it, for this reason.
    Refused(&'static str),
}

/// A conf change that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The number stands for no conf change that etcd writes.
    #[error("conf change at index {index} has the unknown type {kind}")]
    Kind {
        /// Where.
        index: RaftIndex,
        /// What.
        kind: u32,
    },
    /// The member inside is not the JSON that etcd writes.
    #[error("conf change at index {index} names no readable member")]
    Context {
        /// Where.
        index: RaftIndex,
    },
    /// The bytes are no conf change.
    #[error("conf change at index {index} does not decode")]
    Bytes {
        /// Where.
        index: RaftIndex,
    },
}

/// The members as of one index of the log.
#[derive(Clone, Debug, Default)]
pub struct Membership {
    members: BTreeMap<MemberId, Member>,
    removed: BTreeSet<MemberId>,
}

/// The member inside a conf change, as etcd writes it.
#[derive(Deserialize)]
struct Context {
    id: u64,
    #[serde(rename = "peerURLs", default)]
    peer_urls: Option<Vec<String>>,
    #[serde(rename = "isLearner", default)]
    is_learner: bool,
    #[serde(default)]
    name: String,
    #[serde(rename = "clientURLs", default)]
    client_urls: Option<Vec<String>>,
    #[serde(rename = "isPromote", default)]
    is_promote: bool,
}

impl Membership {
    /// The membership of a log that is cut where raft's group was `group`. Of its members those in
    /// `members` are known with their URLs.
    pub fn new(members: impl IntoIterator<Item = Member>, group: &eraftpb::ConfState) -> Self {
        let mut known: BTreeMap<MemberId, Member> = members
            .into_iter()
            .map(|member| (member.id, member))
            .collect();
        let voters = group.get_voters().iter().map(|id| (*id, false));
        let learners = group.get_learners().iter().map(|id| (*id, true));
        for (id, is_learner) in voters.chain(learners) {
            let member = Member {
                id: MemberId(id),
                peer_urls: Vec::new(),
                is_learner,
                name: String::new(),
                client_urls: Vec::new(),
            };
            // Who votes is known better from raft than from any list.
            known.entry(member.id).or_insert(member).is_learner = is_learner;
        }
        Self {
            members: known,
            removed: BTreeSet::new(),
        }
    }

    /// The same, where these had been removed before.
    #[must_use]
    pub fn without(mut self, removed: impl IntoIterator<Item = MemberId>) -> Self {
        self.removed.extend(removed);
        self
    }

    /// The members, ascending.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// Voters and learners.
    #[must_use]
    pub fn conf_state(&self) -> eraftpb::ConfState {
        let ids = |is_learner| {
            let of_kind = self.members().filter(|m| m.is_learner == is_learner);
            of_kind.map(|member| member.id.0).collect::<Vec<_>>()
        };
        eraftpb::ConfState::from((ids(false), ids(true)))
    }

    /// Applies one conf change, as etcd does.
    ///
    /// # Errors
    /// [`Error`] for anything that etcd does not write.
    pub fn apply(
        &mut self,
        index: RaftIndex,
        change: &raftpb::ConfChange,
    ) -> Result<MemberChange, Error> {
        let id = MemberId(change.node_id);
        match change.r#type {
            0 => {
                let context = parse(index, change)?;
                if context.is_promote {
                    Ok(self.promote(id))
                } else {
                    Ok(self.add(context, false))
                }
            }
            1 => Ok(self.remove(id)),
            2 => Ok(self.update(id, parse(index, change)?.peer_urls.unwrap_or_default())),
            3 => Ok(self.add(parse(index, change)?, true)),
            kind => Err(Error::Kind { index, kind }),
        }
    }

    fn add(&mut self, context: Context, is_learner: bool) -> MemberChange {
        let id = MemberId(context.id);
        let peer_urls = context.peer_urls.unwrap_or_default();
        if self.removed.contains(&id) {
            return MemberChange::Refused("the id was removed before");
        }
        if self.members.contains_key(&id) {
            return MemberChange::Refused("the id is a member already");
        }
        if self.url_taken(&peer_urls, None) {
            return MemberChange::Refused("a peer URL belongs to another member");
        }
        let member = Member {
            id,
            peer_urls,
            is_learner: is_learner || context.is_learner,
            name: context.name,
            client_urls: context.client_urls.unwrap_or_default(),
        };
        self.members.insert(id, member.clone());
        MemberChange::Added(member)
    }

    fn promote(&mut self, id: MemberId) -> MemberChange {
        match self.members.get_mut(&id) {
            None => MemberChange::Refused("the id is no member"),
            Some(member) if !member.is_learner => MemberChange::Refused("the member is no learner"),
            Some(member) => {
                member.is_learner = false;
                MemberChange::Promoted(id)
            }
        }
    }

    fn remove(&mut self, id: MemberId) -> MemberChange {
        if self.members.remove(&id).is_none() {
            return MemberChange::Refused("the id is no member");
        }
        self.removed.insert(id);
        MemberChange::Removed(id)
    }

    fn update(&mut self, id: MemberId, peer_urls: Vec<String>) -> MemberChange {
        if self.url_taken(&peer_urls, Some(id)) {
            return MemberChange::Refused("a peer URL belongs to another member");
        }
        match self.members.get_mut(&id) {
            None => MemberChange::Refused("the id is no member"),
            Some(member) => {
                member.peer_urls.clone_from(&peer_urls);
                MemberChange::Updated(id, peer_urls)
            }
        }
    }

    fn url_taken(&self, urls: &[String], except: Option<MemberId>) -> bool {
        self.members
            .values()
            .filter(|member| Some(member.id) != except)
            .any(|member| member.peer_urls.iter().any(|url| urls.contains(url)))
    }
}

impl MemberChange {
    /// What raft-rs is to be told; None where raft's configuration does not change.
    pub(crate) fn for_raft(&self) -> Option<eraftpb::ConfChange> {
        let (change_type, id) = match self {
            Self::Added(member) if member.is_learner => {
                (eraftpb::ConfChangeType::AddLearnerNode, member.id)
            }
            Self::Added(member) => (eraftpb::ConfChangeType::AddNode, member.id),
            Self::Promoted(id) => (eraftpb::ConfChangeType::AddNode, *id),
            Self::Removed(id) => (eraftpb::ConfChangeType::RemoveNode, *id),
            Self::Updated(..) | Self::Refused(_) => return None,
        };
        let mut change = eraftpb::ConfChange::default();
        change.set_change_type(change_type);
        change.node_id = id.0;
        Some(change)
    }
}

/// Can these be the voters and learners of an etcd cluster? raft-rs ends the process over some that
/// cannot.
///
/// # Errors
/// Why not.
pub(crate) fn check(group: &eraftpb::ConfState) -> Result<(), &'static str> {
    let mut seen = BTreeSet::new();
    let all = group.voters.iter().chain(&group.learners);
    let is_joint = !group.voters_outgoing.is_empty() || !group.learners_next.is_empty();
    if group.voters.is_empty() {
        Err("there is no voter")
    } else if is_joint || group.auto_leave {
        Err("they change in a way that etcd does not use")
    } else if !all.into_iter().all(|id| *id != 0 && seen.insert(*id)) {
        Err("one is there twice or has no id")
    } else {
        Ok(())
    }
}

fn parse(index: RaftIndex, change: &raftpb::ConfChange) -> Result<Context, Error> {
    serde_json::from_slice(&change.context).map_err(|_| Error::Context { index })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(r#type: u32, node_id: u64, context: &str) -> raftpb::ConfChange {
        let context = bytes::Bytes::copy_from_slice(context.as_bytes());
        raftpb::ConfChange {
            id: 0,
            r#type,
            node_id,
            context,
        }
    }

    fn apply(membership: &mut Membership, r#type: u32, id: u64, context: &str) -> MemberChange {
        membership
            .apply(RaftIndex(9), &change(r#type, id, context))
            .unwrap()
    }

    fn member(id: u64, url: &str, is_learner: bool) -> Member {
        Member {
            id: MemberId(id),
            peer_urls: vec![url.to_owned()],
            is_learner,
            name: String::new(),
            client_urls: vec![],
        }
    }

    #[test]
    fn members_come_change_and_go() {
        let mut of = Membership::default();
        let voter = apply(
            &mut of,
            0,
            7,
            r#"{"id":7,"peerURLs":["http://a"],"name":"m1"}"#,
        );
        let named = Member {
            name: "m1".to_owned(),
            ..member(7, "http://a", false)
        };
        assert_eq!(voter, MemberChange::Added(named));
        let learner = apply(
            &mut of,
            3,
            8,
            r#"{"id":8,"peerURLs":["http://b"],"isLearner":true}"#,
        );
        assert_eq!(learner, MemberChange::Added(member(8, "http://b", true)));
        let moved = apply(&mut of, 2, 8, r#"{"id":8,"peerURLs":["http://c"]}"#);
        assert_eq!(
            moved,
            MemberChange::Updated(MemberId(8), vec!["http://c".to_owned()])
        );
        let promoted = apply(
            &mut of,
            0,
            8,
            r#"{"id":8,"peerURLs":null,"isPromote":true}"#,
        );
        assert_eq!(promoted, MemberChange::Promoted(MemberId(8)));
        assert_eq!(
            of.members[&MemberId(8)].peer_urls,
            ["http://c"],
            "a promotion keeps them"
        );
        assert_eq!(apply(&mut of, 1, 8, ""), MemberChange::Removed(MemberId(8)));
    }

    #[test]
    fn what_etcd_refuses_does_nothing() {
        let mut of = Membership::new(
            [member(7, "http://a", false), member(8, "http://b", true)],
            &eraftpb::ConfState::default(),
        );
        apply(&mut of, 1, 8, "");
        for (r#type, id, context, why) in [
            (
                0,
                7,
                r#"{"id":7,"peerURLs":["http://x"]}"#,
                "the id is a member already",
            ),
            (
                3,
                8,
                r#"{"id":8,"peerURLs":["http://x"]}"#,
                "the id was removed before",
            ),
            (
                3,
                9,
                r#"{"id":9,"peerURLs":["http://a"]}"#,
                "a peer URL belongs to another member",
            ),
            (
                0,
                7,
                r#"{"id":7,"isPromote":true}"#,
                "the member is no learner",
            ),
            (0, 9, r#"{"id":9,"isPromote":true}"#, "the id is no member"),
            (1, 9, "", "the id is no member"),
            (
                2,
                9,
                r#"{"id":9,"peerURLs":["http://x"]}"#,
                "the id is no member",
            ),
        ] {
            let refused = apply(&mut of, r#type, id, context);
            assert_eq!(refused, MemberChange::Refused(why));
            assert_eq!(refused.for_raft(), None);
        }
        assert_eq!(of.members.len(), 1);
    }

    #[test]
    fn etcds_numbers_are_not_raft_rs_numbers() {
        use eraftpb::ConfChangeType::{AddLearnerNode, AddNode, RemoveNode};
        let url = vec!["http://a".to_owned()];
        for (change, raft) in [
            (
                MemberChange::Added(member(7, "http://a", true)),
                Some(AddLearnerNode),
            ),
            (
                MemberChange::Added(member(7, "http://a", false)),
                Some(AddNode),
            ),
            (MemberChange::Promoted(MemberId(7)), Some(AddNode)),
            (MemberChange::Removed(MemberId(7)), Some(RemoveNode)),
            (MemberChange::Updated(MemberId(7), url), None),
        ] {
            assert_eq!(
                change.for_raft().map(|change| change.get_change_type()),
                raft
            );
        }
    }

    #[test]
    fn members_known_only_by_id_are_members() {
        let group = eraftpb::ConfState {
            voters: vec![7, 6],
            learners: vec![8],
            ..eraftpb::ConfState::default()
        };
        let mut of = Membership::new([member(7, "http://a", true)], &group);
        assert_eq!(of.members[&MemberId(7)], member(7, "http://a", false));
        assert!(of.members[&MemberId(8)].is_learner);
        assert_eq!(
            apply(&mut of, 0, 8, r#"{"id":8,"isPromote":true}"#),
            MemberChange::Promoted(MemberId(8))
        );
        assert_eq!(apply(&mut of, 1, 6, ""), MemberChange::Removed(MemberId(6)));
    }

    #[test]
    fn groups_that_raft_rs_would_choke_on_are_refused() {
        let group = |voters: &[u64], learners: &[u64]| eraftpb::ConfState {
            voters: voters.to_vec(),
            learners: learners.to_vec(),
            ..eraftpb::ConfState::default()
        };
        assert_eq!(check(&group(&[1, 2], &[3])), Ok(()));
        for bad in [
            group(&[], &[3]),
            group(&[1, 1], &[3]),
            group(&[1, 3], &[3]),
            group(&[1, 0], &[3]),
            eraftpb::ConfState {
                voters_outgoing: vec![1],
                ..group(&[1], &[3])
            },
            eraftpb::ConfState {
                learners_next: vec![1],
                ..group(&[1], &[3])
            },
            eraftpb::ConfState {
                auto_leave: true,
                ..group(&[1], &[3])
            },
        ] {
            assert!(check(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_etcd_never_writes_is_an_error() {
        let mut of = Membership::default();
        let index = RaftIndex(9);
        assert_eq!(
            of.apply(index, &change(4, 1, "{}")),
            Err(Error::Kind { index, kind: 4 })
        );
        assert_eq!(
            of.apply(index, &change(0, 1, "no")),
            Err(Error::Context { index })
        );
    }
}
