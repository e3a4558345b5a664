//! The members inside a `.snap` file: a tree of etcd's v2 store in JSON. Pure.
//!
//! The tree may hold more than is wanted, keys of the v2 API above all. What is not wanted is
//! passed over without being kept, at any depth.
//!
//! # Source
//! etcd `server/etcdserver/api/v2store/store.go`, `membership/storev2.go`; from 3.6 on
//! `server/etcdserver/cluster_util.go`, `GetMembershipInfoInV2Format`.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::ids::MemberId;
use crate::peer::Member;

/// What the tree says of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tree {
    pub(super) members: Vec<Member>,
    pub(super) removed: Vec<MemberId>,
}

/// No cluster has more members, present and removed.
const MEMBERS_MAX: usize = 10_000;

/// Reads the tree.
///
/// # Errors
/// What is wrong with it, without any content.
pub(super) fn parse(json: &[u8]) -> Result<Tree, String> {
    // Positions only: the text of an error could quote a value.
    let failed = |error: serde_json::Error| {
        let (line, column) = (error.line(), error.column());
        format!("no tree of members at line {line}, column {column}")
    };
    let store: Store = serde_json::from_slice(json).map_err(failed)?;
    let Some(cluster) = store.root.children.and_then(|root| root.cluster) else {
        return Err("the tree has no members".to_owned());
    };
    let cluster = cluster.children.unwrap_or_default();
    let mut tree = Tree::default();
    for (id, node) in children(cluster.members) {
        let id = MemberId::parse_hex(&id).ok_or("a member's id is no hexadecimal number")?;
        tree.members
            .push(member(id, node.children.unwrap_or_default())?);
    }
    for (id, _) in children(cluster.removed) {
        let id = MemberId::parse_hex(&id).ok_or("a member's id is no hexadecimal number")?;
        tree.removed.push(id);
    }
    Ok(tree)
}

fn children<T>(node: Option<Node<Few<T>>>) -> impl Iterator<Item = (String, T)> {
    let few = node.and_then(|node| node.children);
    few.map(|few| few.0).unwrap_or_default().into_iter()
}

fn member(id: MemberId, node: MemberChildren) -> Result<Member, String> {
    let of = |leaf: &Option<Leaf>, what: &str| {
        let text = leaf.as_ref().map_or("{}", |leaf| leaf.value.as_str());
        serde_json::from_str::<Attributes>(text)
            .map_err(|_| format!("the {what} of member {id} are no JSON that etcd writes"))
    };
    let raft = of(&node.raft, "raft attributes")?;
    let other = of(&node.other, "attributes")?;
    Ok(Member {
        id,
        peer_urls: raft.peer_urls.unwrap_or_default(),
        is_learner: raft.is_learner,
        name: other.name,
        client_urls: other.client_urls.unwrap_or_default(),
    })
}

#[derive(Deserialize)]
struct Store {
    #[serde(rename = "Root")]
    root: Node<RootChildren>,
}

/// A folder of the tree.
#[derive(Deserialize)]
struct Node<T> {
    #[serde(rename = "Children", default = "Option::default")]
    children: Option<T>,
}

#[derive(Deserialize)]
struct RootChildren {
    #[serde(rename = "0", default)]
    cluster: Option<Node<ClusterChildren>>,
}

#[derive(Default, Deserialize)]
struct ClusterChildren {
    #[serde(default)]
    members: Option<Node<Few<Node<MemberChildren>>>>,
    #[serde(rename = "removed_members", default)]
    removed: Option<Node<Few<serde::de::IgnoredAny>>>,
}

#[derive(Default, Deserialize)]
struct MemberChildren {
    #[serde(rename = "raftAttributes", default)]
    raft: Option<Leaf>,
    #[serde(rename = "attributes", default)]
    other: Option<Leaf>,
}

#[derive(Deserialize)]
struct Leaf {
    #[serde(rename = "Value", default)]
    value: String,
}

#[derive(Deserialize)]
struct Attributes {
    #[serde(rename = "peerURLs", default)]
    peer_urls: Option<Vec<String>>,
    #[serde(rename = "isLearner", default)]
    is_learner: bool,
    #[serde(default)]
    name: String,
    #[serde(rename = "clientURLs", default)]
    client_urls: Option<Vec<String>>,
}

/// An object with a limited number of fields.
struct Few<T>(BTreeMap<String, T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FewVisitor(PhantomData))
    }
}

struct FewVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for FewVisitor<T> {
    type Value = Few<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MEMBERS_MAX} members")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Few<T>, A::Error> {
        let mut few = BTreeMap::new();
        while let Some((name, node)) = map.next_entry()? {
            if few.len() == MEMBERS_MAX {
                return Err(serde::de::Error::invalid_length(few.len() + 1, &self));
            }
            few.insert(name, node);
        }
        Ok(Few(few))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(cluster: &str) -> String {
        format!(
            r#"{{"Root":{{"Path":"/","Children":{{"0":{cluster},
            "1":{{"Path":"/1","Children":{{"k":{{"Value":"v","Children":null}}}}}}}}}},
            "WatcherHub":{{"EventHistory":{{"Queue":{{"Events":[null]}}}}}},"CurrentVersion":2}}"#
        )
    }

    #[test]
    fn members_are_read_and_everything_else_passed_over() {
        let json = tree(
            r#"{"Path":"/0","Children":{"members":{"Children":{
                "a1":{"Children":{
                    "attributes":{"Value":"{\"name\":\"m0\",\"clientURLs\":[\"http://c\"]}"},
                    "raftAttributes":{"Value":"{\"peerURLs\":[\"http://p\"]}"}}},
                "b2":{"Children":{"raftAttributes":{
                    "Value":"{\"peerURLs\":[\"http://q\"],\"isLearner\":true}"}}}}},
                "removed_members":{"Children":{"c3":{"Value":"","Children":null}}},
                "version":{"Value":"3.4.0"}}}"#,
        );
        let tree = parse(json.as_bytes()).unwrap();
        let member = |id, url: &str, is_learner| Member {
            id: MemberId(id),
            peer_urls: vec![url.to_owned()],
            is_learner,
            name: String::new(),
            client_urls: vec![],
        };
        let named = Member {
            name: "m0".to_owned(),
            client_urls: vec!["http://c".to_owned()],
            ..member(0xa1, "http://p", false)
        };
        assert_eq!(tree.members, [named, member(0xb2, "http://q", true)]);
        assert_eq!(tree.removed, [MemberId(0xc3)]);
    }

    #[test]
    fn a_tree_without_sense_is_refused_without_a_word_of_it() {
        let node = |id: &str, value: &str| {
            tree(&format!(
                r#"{{"Children":{{"members":{{"Children":{{"{id}":
                {{"Children":{{"attributes":{{"Value":"{value}"}}}}}}}}}}}}}}"#
            ))
        };
        for (json, why) in [
            ("", "no tree of members at line"),
            (r#"{"Root":{"Children":null}}"#, "the tree has no members"),
            (r#"{"Root":"secret"}"#, "no tree of members at line"),
            (&node("xyz", "{}"), "a member's id is no hexadecimal number"),
            (&node("a1", "secret"), "the attributes of member a1"),
        ] {
            let error = parse(json.as_bytes()).unwrap_err();
            assert!(error.starts_with(why), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        assert!(parse(node("a1", "{}").as_bytes()).is_ok());
    }

    #[test]
    fn neither_depth_nor_number_is_without_limit() {
        let deep = format!(
            r#"{{"WatcherHub":{}{}}}"#,
            "[".repeat(1 << 20),
            "]".repeat(1 << 20)
        );
        assert!(parse(deep.as_bytes()).is_err());
        let many = |count| {
            let members: Vec<String> = (0..count).map(|id| format!(r#""{id:x}":{{}}"#)).collect();
            tree(&format!(
                r#"{{"Children":{{"members":{{"Children":{{{}}}}}}}}}"#,
                members.join(",")
            ))
        };
        assert_eq!(
            parse(many(10_000).as_bytes()).unwrap().members.len(),
            10_000
        );
        assert!(parse(many(10_001).as_bytes()).is_err());
    }
}
