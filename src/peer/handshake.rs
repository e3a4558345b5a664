//! The header rules between peers, in both directions. Pure.
//!
//! What we send: `X-Server-From`, `X-Server-Version`, `X-Min-Cluster-Version`, `X-Etcd-Cluster-ID`
//! and, on stream dials, `X-Raft-To`. `X-PeerURLs` is left out on purpose: a member that does not
//! know us yet would keep a connection to it for good.
//!
//! # Source
//! etcd 3.7.1 `server/etcdserver/api/rafthttp/http.go`, `util.go`, `stream.go`; same in 3.3 to 3.6.

use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use super::version::{self, Version};
use crate::ids::{ClusterId, MemberId};

/// Member that sends the request.
pub const SERVER_FROM: HeaderName = HeaderName::from_static("x-server-from");
/// Release of whoever writes the header.
pub const SERVER_VERSION: HeaderName = HeaderName::from_static("x-server-version");
/// Oldest cluster version the sender works with.
pub const MIN_CLUSTER_VERSION: HeaderName = HeaderName::from_static("x-min-cluster-version");
/// Cluster of whoever writes the header.
pub const CLUSTER_ID: HeaderName = HeaderName::from_static("x-etcd-cluster-id");
/// Member that is meant; on stream dials only.
pub const RAFT_TO: HeaderName = HeaderName::from_static("x-raft-to");

/// Answer texts, as members write them and look for them.
pub mod texts {
    /// 412: the version headers do not fit.
    pub const INCOMPATIBLE_VERSION: &str = "incompatible version";
    /// 412: another cluster.
    pub const CLUSTER_MISMATCH: &str = "cluster ID mismatch";
    /// 412: a stream dial for another member.
    pub const TO_MISMATCH: &str = "to field mismatch";
    /// 404: the dialling member is not known (yet).
    pub const SENDER_NOT_FOUND: &str = "error sender not found";
    /// 404: the path names no stream.
    pub const INVALID_PATH: &str = "invalid path";
    /// 404: the path names no member.
    pub const INVALID_FROM: &str = "invalid from";
    /// 400: the body broke off.
    pub const UNREADABLE_MESSAGE: &str = "error reading raft message";
    /// 400: the body is no raft message.
    pub const UNDECODABLE_MESSAGE: &str = "error unmarshalling raft message";
    /// 500: the message cannot be taken.
    pub const REFUSED_MESSAGE: &str = "error processing raft message";
}

/// Who we are in the primary, once known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The primary cluster.
    pub cluster: ClusterId,
    /// Our own member ID there.
    pub us: MemberId,
}

/// Headers of a request of ours. `to`: the member dialled, for stream dials.
#[must_use]
pub fn request_headers(identity: Identity, version: Version, to: Option<MemberId>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    put(&mut headers, SERVER_FROM, &identity.us.to_string());
    put(&mut headers, SERVER_VERSION, &version.to_string());
    put(
        &mut headers,
        MIN_CLUSTER_VERSION,
        &version::OLDEST_CLUSTER.to_string(),
    );
    put(&mut headers, CLUSTER_ID, &identity.cluster.to_string());
    if let Some(to) = to {
        put(&mut headers, RAFT_TO, &to.to_string());
    }
    headers
}

/// Headers of our answer to a stream dial or a POST.
#[must_use]
pub fn response_headers(identity: Identity, version: Version) -> HeaderMap {
    let mut headers = HeaderMap::new();
    put(&mut headers, SERVER_VERSION, &version.to_string());
    put(&mut headers, CLUSTER_ID, &identity.cluster.to_string());
    headers
}

/// Why a request of a member is answered with 412.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The version headers do not fit, or cannot be read.
    IncompatibleVersion,
    /// Another cluster, or none named.
    ClusterMismatch,
    /// A stream dial that means another member, or names none.
    ToMismatch,
}

impl Refusal {
    /// The answer's body, without the newline.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::IncompatibleVersion => texts::INCOMPATIBLE_VERSION,
            Self::ClusterMismatch => texts::CLUSTER_MISMATCH,
            Self::ToMismatch => texts::TO_MISMATCH,
        }
    }
}

/// Checks the headers that all raft requests carry. `version`: the release we claim to be.
///
/// # Errors
/// [`Refusal::IncompatibleVersion`], then [`Refusal::ClusterMismatch`].
pub fn check_request(
    headers: &HeaderMap,
    identity: Identity,
    version: Version,
) -> Result<(), Refusal> {
    let server = version_header(headers, &SERVER_VERSION)?;
    let min_cluster = version_header(headers, &MIN_CLUSTER_VERSION)?;
    let reaches_us = server.line() >= version::OLDEST_CLUSTER.line();
    let takes_us = min_cluster.line() <= version.line();
    if !(reaches_us && takes_us) {
        return Err(Refusal::IncompatibleVersion);
    }
    if text(headers, &CLUSTER_ID) != Some(identity.cluster.to_string().as_str()) {
        return Err(Refusal::ClusterMismatch);
    }
    Ok(())
}

/// Checks that a stream dial means us.
///
/// # Errors
/// [`Refusal::ToMismatch`].
pub fn check_to(headers: &HeaderMap, identity: Identity) -> Result<(), Refusal> {
    if text(headers, &RAFT_TO) == Some(identity.us.to_string().as_str()) {
        Ok(())
    } else {
        Err(Refusal::ToMismatch)
    }
}

/// The member that says it sends this request.
#[must_use]
pub fn sender(headers: &HeaderMap) -> Option<MemberId> {
    text(headers, &SERVER_FROM).and_then(MemberId::parse_hex)
}

/// The cluster named by an answer.
#[must_use]
pub fn cluster(headers: &HeaderMap) -> Option<ClusterId> {
    text(headers, &CLUSTER_ID).and_then(ClusterId::parse_hex)
}

/// What a member's answer to our stream dial means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialAnswer {
    /// 200: the body is the stream.
    Streaming,
    /// 404: that member has not applied our addition yet. Ordinary while joining.
    NotKnownYet,
    /// 410 from a member of our cluster: we were removed, for good.
    Removed,
    /// 412, or 410 from a stranger: another cluster answers at this URL.
    ClusterMismatch {
        /// The cluster that answered, if it said so.
        theirs: Option<ClusterId>,
    },
    /// 412: another member answers at this URL.
    ToMismatch,
    /// 412: it refuses our version.
    IncompatibleVersion,
    /// Anything else: no etcd, a fault of ours, or something in between.
    Unexpected(StatusCode),
}

/// Reads a member's answer to our stream dial. `body`: the beginning of the body, if not 200.
#[must_use]
pub fn read_dial_answer(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    identity: Identity,
) -> DialAnswer {
    let theirs = cluster(headers);
    let says = |wanted: &str| body.trim_ascii() == wanted.as_bytes();
    match status {
        StatusCode::OK => DialAnswer::Streaming,
        StatusCode::GONE if theirs == Some(identity.cluster) => DialAnswer::Removed,
        StatusCode::GONE if theirs.is_some() => DialAnswer::ClusterMismatch { theirs },
        StatusCode::NOT_FOUND if says(texts::SENDER_NOT_FOUND) => DialAnswer::NotKnownYet,
        StatusCode::PRECONDITION_FAILED if says(texts::CLUSTER_MISMATCH) => {
            DialAnswer::ClusterMismatch { theirs }
        }
        StatusCode::PRECONDITION_FAILED if says(texts::TO_MISMATCH) => DialAnswer::ToMismatch,
        StatusCode::PRECONDITION_FAILED if says(texts::INCOMPATIBLE_VERSION) => {
            DialAnswer::IncompatibleVersion
        }
        other => DialAnswer::Unexpected(other),
    }
}

fn version_header(headers: &HeaderMap, name: &HeaderName) -> Result<Version, Refusal> {
    if !headers.contains_key(name) {
        return Ok(version::ABSENT);
    }
    text(headers, name)
        .and_then(Version::parse)
        .ok_or(Refusal::IncompatibleVersion)
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The values are hexadecimal numbers and versions, so that they always make a header.
fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: Identity = Identity {
        cluster: ClusterId(0x1db5_8371_7a90_2f9c),
        us: MemberId(0x0535_bc51_9408_92e3),
    };
    const OURS: Version = Version::new(3, 5, 1);

    fn dial() -> HeaderMap {
        let from_member = Identity {
            us: MemberId(7),
            ..IDENTITY
        };
        request_headers(from_member, Version::new(3, 4, 23), Some(IDENTITY.us))
    }

    #[test]
    fn our_requests_carry_the_five_headers_and_no_urls() {
        let headers = request_headers(IDENTITY, OURS, Some(MemberId(0xa)));
        let mut shown: Vec<_> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        shown.sort();
        assert_eq!(
            shown,
            [
                "x-etcd-cluster-id: 1db583717a902f9c",
                "x-min-cluster-version: 3.0.0",
                "x-raft-to: a",
                "x-server-from: 535bc51940892e3",
                "x-server-version: 3.5.1",
            ]
        );
        assert!(!request_headers(IDENTITY, OURS, None).contains_key(RAFT_TO));
    }

    #[test]
    fn a_members_dial_passes() {
        assert_eq!(check_request(&dial(), IDENTITY, OURS), Ok(()));
        assert_eq!(check_to(&dial(), IDENTITY), Ok(()));
        assert_eq!(sender(&dial()), Some(MemberId(7)));
    }

    #[test]
    fn each_wrong_header_has_its_refusal() {
        let cases = [
            (SERVER_VERSION, None, Refusal::IncompatibleVersion),
            (SERVER_VERSION, Some("2.3.8"), Refusal::IncompatibleVersion),
            (SERVER_VERSION, Some("3.4"), Refusal::IncompatibleVersion),
            (
                MIN_CLUSTER_VERSION,
                Some("3.6.0"),
                Refusal::IncompatibleVersion,
            ),
            (CLUSTER_ID, None, Refusal::ClusterMismatch),
            (CLUSTER_ID, Some("1"), Refusal::ClusterMismatch),
            (RAFT_TO, None, Refusal::ToMismatch),
            (RAFT_TO, Some("535bc51940892e4"), Refusal::ToMismatch),
        ];
        for (name, value, wanted) in cases {
            let mut headers = dial();
            headers.remove(&name);
            if let Some(value) = value {
                headers.insert(name.clone(), HeaderValue::from_static(value));
            }
            let got =
                check_request(&headers, IDENTITY, OURS).and_then(|()| check_to(&headers, IDENTITY));
            assert_eq!(got, Err(wanted), "{name}: {value:?}");
        }
    }

    #[test]
    fn answers_to_our_dials_are_told_apart() {
        let ours = response_headers(IDENTITY, OURS);
        let mut strange = HeaderMap::new();
        strange.insert(CLUSTER_ID, HeaderValue::from_static("2"));
        let stranger = DialAnswer::ClusterMismatch {
            theirs: Some(ClusterId(2)),
        };
        let cases = [
            (200, &ours, "", DialAnswer::Streaming),
            (
                404,
                &ours,
                "error sender not found\n",
                DialAnswer::NotKnownYet,
            ),
            (
                404,
                &ours,
                "404 page not found\n",
                DialAnswer::Unexpected(StatusCode::NOT_FOUND),
            ),
            (410, &ours, "removed member\n", DialAnswer::Removed),
            (410, &strange, "removed member\n", stranger),
            (
                410,
                &HeaderMap::new(),
                "",
                DialAnswer::Unexpected(StatusCode::GONE),
            ),
            (412, &strange, "cluster ID mismatch\n", stranger),
            (412, &ours, "to field mismatch\n", DialAnswer::ToMismatch),
            (
                412,
                &ours,
                "incompatible version\n",
                DialAnswer::IncompatibleVersion,
            ),
            (
                405,
                &ours,
                "",
                DialAnswer::Unexpected(StatusCode::METHOD_NOT_ALLOWED),
            ),
        ];
        for (status, headers, body, wanted) in cases {
            let status = StatusCode::from_u16(status).unwrap();
            let got = read_dial_answer(status, headers, body.as_bytes(), IDENTITY);
            assert_eq!(got, wanted, "{status} {body}");
        }
    }
}
