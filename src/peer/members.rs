//! Asks members who is in the cluster and which release they run. IO.
//!
//! # Source
//! etcd 3.7.1 `server/etcdserver/api/etcdhttp/peer.go` peerMembersHandler, `version.go`;
//! `server/etcdserver/api/membership/member.go` Member.

use std::time::Duration;

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::http::{self, Call, Reply};
use super::net::{Security, Target};
use super::version::{ClusterVersion, Version, Versions};
use crate::ids::{ClusterId, MemberId};

/// A member of the primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its ID.
    pub id: MemberId,
    /// Its peer URLs, as registered.
    pub peer_urls: Vec<String>,
    /// Its name; empty until it has started, and for learners like us for ever.
    pub name: String,
    /// Its client URLs; empty as long as the name is.
    pub client_urls: Vec<String>,
    /// Whether it has no vote.
    pub is_learner: bool,
}

/// What `GET /members` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The cluster that answered.
    pub cluster: ClusterId,
    /// Its members, ascending by ID.
    pub members: Vec<Member>,
}

/// Why a member gives no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer.
    #[error(transparent)]
    Http(#[from] http::Error),
    /// An answer that says no.
    #[error("answered with status {status}: {text}")]
    Status {
        /// The status.
        status: StatusCode,
        /// Beginning of the body.
        text: String,
    },
    /// An answer in another form than members give.
    #[error("the answer is none of an etcd member")]
    NotEtcd(#[source] serde_json::Error),
    /// The same, without a cluster ID.
    #[error("the answer is none of an etcd member: it names no cluster")]
    NoCluster,
    /// The same, with a version that cannot be read.
    #[error("the answer is none of an etcd member: {text:?} is no version")]
    NoVersion {
        /// What stands there.
        text: String,
    },
    /// Two members of one ID.
    #[error("the answer lists member {id} twice")]
    Twice {
        /// The ID.
        id: MemberId,
    },
}

/// Longest answer that is read, in bytes; a member takes a few hundred.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Asks the member at `url` for the members of its cluster.
///
/// # Errors
/// Any of [`Error`] but [`Error::NoVersion`].
pub async fn fetch_members(
    security: Security,
    url: &str,
    limit: Duration,
) -> Result<Listing, Error> {
    let reply = fetch(security, url, "/members", limit).await?;
    let cluster = reply.cluster.ok_or(Error::NoCluster)?;
    let listed: Vec<MemberJson> = serde_json::from_slice(&reply.body).map_err(Error::NotEtcd)?;
    let mut members: Vec<Member> = listed.into_iter().map(Member::from).collect();
    members.sort_by_key(|member| member.id);
    for pair in members.windows(2) {
        if let [one, other] = pair
            && one.id == other.id
        {
            return Err(Error::Twice { id: one.id });
        }
    }
    Ok(Listing { cluster, members })
}

/// Asks the member at `url` for its release and the cluster's.
///
/// # Errors
/// [`Error::Http`], [`Error::Status`], [`Error::NotEtcd`], [`Error::NoVersion`].
pub async fn fetch_version(
    security: Security,
    url: &str,
    limit: Duration,
) -> Result<Versions, Error> {
    let reply = fetch(security, url, "/version", limit).await?;
    let json: VersionJson = serde_json::from_slice(&reply.body).map_err(Error::NotEtcd)?;
    let no_version = |text: &str| Error::NoVersion { text: text.into() };
    let server = &json.etcdserver;
    let cluster = &json.etcdcluster;
    Ok(Versions {
        server: Version::parse(server).ok_or_else(|| no_version(server))?,
        cluster: ClusterVersion::parse(cluster).ok_or_else(|| no_version(cluster))?,
        storage: json.storage.as_deref().and_then(Version::parse),
    })
}

async fn fetch(security: Security, url: &str, path: &str, limit: Duration) -> Result<Reply, Error> {
    let target = Target::parse(url).map_err(http::Error::from)?;
    let call = Call::get(path);
    let reply = Box::pin(http::call(security, &target, call, limit, ANSWER_BYTES_MAX)).await?;
    if reply.status != StatusCode::OK {
        let text = String::from_utf8_lossy(&reply.body);
        return Err(Error::Status {
            status: reply.status,
            text: text.trim().chars().take(200).collect(),
        });
    }
    Ok(reply)
}

/// The member as it stands in an answer of ours to `GET /members`.
pub(super) fn member_json(member: &Member) -> serde_json::Value {
    let mut json = json!({ "id": member.id.0, "peerURLs": member.peer_urls });
    if !member.name.is_empty() {
        json["name"] = member.name.as_str().into();
    }
    if !member.client_urls.is_empty() {
        json["clientURLs"] = member.client_urls.clone().into();
    }
    if member.is_learner {
        json["isLearner"] = true.into();
    }
    json
}

#[derive(Deserialize)]
struct MemberJson {
    id: u64,
    #[serde(rename = "peerURLs", default)]
    peer_urls: Option<Vec<String>>,
    #[serde(default)]
    name: String,
    #[serde(rename = "clientURLs", default)]
    client_urls: Option<Vec<String>>,
    #[serde(rename = "isLearner", default)]
    is_learner: bool,
}

#[derive(Deserialize)]
struct VersionJson {
    etcdserver: String,
    etcdcluster: String,
    #[serde(default)]
    storage: Option<String>,
}

impl From<MemberJson> for Member {
    fn from(json: MemberJson) -> Self {
        Self {
            id: MemberId(json.id),
            peer_urls: json.peer_urls.unwrap_or_default(),
            name: json.name,
            client_urls: json.client_urls.unwrap_or_default(),
            is_learner: json.is_learner,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_keeps_all_64_bits_and_is_written_as_it_was_read() {
        let text = r#"[{"id":18446744073709551615,"isLearner":true,"peerURLs":["http://a:1"]},
            {"clientURLs":["http://b:2"],"id":3253638346498665230,"name":"m1","peerURLs":null}]"#;
        let listed: Vec<MemberJson> = serde_json::from_str(text).unwrap();
        let members: Vec<Member> = listed.into_iter().map(Member::from).collect();
        assert_eq!(members[0].id, MemberId(u64::MAX));
        assert!(members[0].is_learner && !members[1].is_learner);
        let written: Vec<_> = members.iter().map(member_json).collect();
        assert_eq!(
            serde_json::to_string(&written).unwrap(),
            r#"[{"id":18446744073709551615,"isLearner":true,"peerURLs":["http://a:1"]},"#
                .to_owned()
                + r#"{"clientURLs":["http://b:2"],"id":3253638346498665230,"name":"m1","peerURLs":[]}]"#
        );
    }
}
