//! The members inside a snapshot's message. Pure.
//!
//! Beside the database, a snapshot's message carries a tree of keys as JSON. In all releases the
//! membership is in it, below `/0/members`; up to 3.5 also keys that users wrote by the old API,
//! which are passed over.
//!
//! ```text
//! Root / 0 / members / <id, hexadecimal> / raftAttributes = {"peerURLs":[..],"isLearner":true}
//!                                        / attributes     = {"name":"..","clientURLs":[..]}
//! ```
//!
//! # Source
//! etcd 3.4 to 3.7 `server/etcdserver/api/v2store/node.go` (exported fields of `node`);
//! `server/etcdserver/api/membership/storev2.go`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::ids::MemberId;
use crate::peer::Member;

/// Why there are no members to be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no tree of keys, or a member's attributes are not what they should be.
    #[error("read the membership of the snapshot: {0}")]
    Json(#[from] serde_json::Error),
    /// The tree has no members.
    #[error("the snapshot's membership has no members")]
    NoMembers,
    /// A member's name is no id, or it has no peer URLs.
    #[error("the snapshot's membership has a member {0:?} that cannot be read")]
    Member(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tree {
    root: Branch,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Branch {
    value: String,
    children: Option<BTreeMap<String, Branch>>,
}

#[derive(Deserialize)]
struct RaftAttributes {
    #[serde(rename = "peerURLs")]
    peer_urls: Vec<String>,
    #[serde(rename = "isLearner", default)]
    is_learner: bool,
}

#[derive(Default, Deserialize)]
struct Attributes {
    #[serde(default)]
    name: String,
    #[serde(rename = "clientURLs", default)]
    client_urls: Option<Vec<String>>,
}

impl Branch {
    fn child(&self, name: &str) -> Option<&Self> {
        self.children.as_ref()?.get(name)
    }
}

/// The members as of the snapshot, ascending by ID.
///
/// # Errors
/// [`Error`].
pub(super) fn members(json: &[u8]) -> Result<Vec<Member>, Error> {
    let tree: Tree = serde_json::from_slice(json)?;
    let of_cluster = tree.root.child("0").and_then(|root| root.child("members"));
    let listed = of_cluster.and_then(|members| members.children.as_ref());
    let listed = listed
        .filter(|listed| !listed.is_empty())
        .ok_or(Error::NoMembers)?;
    let mut members = listed
        .iter()
        .map(|(id, branch)| member(id, branch))
        .collect::<Result<Vec<_>, _>>()?;
    members.sort_by_key(|member| member.id);
    Ok(members)
}

fn member(name: &str, branch: &Branch) -> Result<Member, Error> {
    let unreadable = || Error::Member(name.to_owned());
    let id = MemberId::parse_hex(name).ok_or_else(unreadable)?;
    let raft = branch.child("raftAttributes").ok_or_else(unreadable)?;
    let raft: RaftAttributes = serde_json::from_str(&raft.value)?;
    // A member that has never run has none.
    let attributes = match branch.child("attributes") {
        Some(attributes) => serde_json::from_str(&attributes.value)?,
        None => Attributes::default(),
    };
    Ok(Member {
        id,
        peer_urls: raft.peer_urls,
        is_learner: raft.is_learner,
        name: attributes.name,
        client_urls: attributes.client_urls.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As 3.4 to 3.7 write it, without the long list of past events.
    const TREE: &str = r#"{"Root":{"Path":"/","CreatedIndex":0,"ModifiedIndex":0,
        "ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{
        "0":{"Path":"/0","Value":"","Children":{
            "members":{"Path":"/0/members","Value":"","Children":{
                "e4a0bfe645534f65":{"Path":"x","Value":"","Children":{
                    "attributes":{"Path":"x","Value":
                        "{\"name\":\"m1\",\"clientURLs\":[\"http://c\"]}","Children":null},
                    "raftAttributes":{"Path":"x","Value":
                        "{\"peerURLs\":[\"http://a\"]}","Children":null}}},
                "535bc51940892e3":{"Path":"x","Value":"","Children":{
                    "raftAttributes":{"Path":"x","Value":
                        "{\"peerURLs\":[\"http://b\"],\"isLearner\":true}"}}}}},
            "removed_members":{"Path":"x","Value":"","Children":{}},
            "version":{"Path":"x","Value":"3.4.0","Children":null}}},
        "1":{"Path":"/1","Value":"","Children":{"user":{"Path":"x","Value":"data"}}}}},
        "WatcherHub":{"EventHistory":{"Queue":{"Events":[null,null],"Size":0}}},
        "CurrentIndex":5,"Stats":{"getsSuccess":1},"CurrentVersion":2}"#;

    #[test]
    fn members_are_read_and_all_else_is_passed_over() {
        let learner = Member {
            id: MemberId(0x0535_bc51_9408_92e3),
            peer_urls: vec!["http://b".into()],
            name: String::new(),
            client_urls: Vec::new(),
            is_learner: true,
        };
        let voter = Member {
            id: MemberId(0xe4a0_bfe6_4553_4f65),
            peer_urls: vec!["http://a".into()],
            name: "m1".into(),
            client_urls: vec!["http://c".into()],
            is_learner: false,
        };
        assert_eq!(members(TREE.as_bytes()).unwrap(), [learner, voter]);
    }

    #[test]
    fn what_is_no_membership_is_an_error() {
        let nested = "[".repeat(1 << 20);
        let changed = |from, to| TREE.replace(from, to);
        for (json, wanted) in [
            ("{{{".to_owned(), "read the membership"),
            (nested, "read the membership"),
            (r#"{"Root":{}}"#.to_owned(), "no members"),
            (changed("\"members\"", "\"member\""), "no members"),
            (changed("535bc51940892e3", "xyz"), "\"xyz\""),
            (
                changed("raftAttributes", "attributes2"),
                "\"535bc51940892e3\"",
            ),
            (
                changed(r#"{\"peerURLs\":[\"http://a\"]}"#, "{}"),
                "peerURLs",
            ),
        ] {
            let error = members(json.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
