//! The records of buckets `members`, `members_removed` and `cluster`, and the conf state in `meta`.

use serde::{Deserialize, Serialize};

use super::{Flaw, text};
use crate::ids::MemberId;

/// A member of the cluster.
///
/// Who may be believed depends on the release: 3.5.1 to 3.5.19 never store a change of a member,
/// and what `snapshot restore` leaves differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Its id.
    pub id: MemberId,
    /// Its name, empty before it started for the first time.
    pub name: String,
    /// Where other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// It has no vote.
    pub is_learner: bool,
}

#[derive(Deserialize)]
struct StoredMember {
    id: u64,
    #[serde(default)]
    name: String,
    #[serde(default, rename = "peerURLs")]
    peer_urls: Option<Vec<String>>,
    #[serde(default, rename = "clientURLs")]
    client_urls: Option<Vec<String>>,
    #[serde(default, rename = "isLearner")]
    is_learner: bool,
}

/// Reads a member.
///
/// # Errors
/// If it is none.
pub(in crate::snapshot) fn member(key: &[u8], value: &[u8]) -> Result<Member, Flaw> {
    let stored: StoredMember = serde_json::from_slice(value).map_err(Flaw::Json)?;
    if member_id(key)? != MemberId(stored.id) {
        return Err(Flaw::Mismatch("members"));
    }
    Ok(Member {
        id: MemberId(stored.id),
        name: stored.name,
        peer_urls: stored.peer_urls.unwrap_or_default(),
        client_urls: stored.client_urls.unwrap_or_default(),
        is_learner: stored.is_learner,
    })
}

/// Reads the id of a member that was removed.
///
/// # Errors
/// If it is none.
pub(in crate::snapshot) fn removed_member(key: &[u8]) -> Result<MemberId, Flaw> {
    member_id(key)
}

fn member_id(key: &[u8]) -> Result<MemberId, Flaw> {
    let digits = text("the id of a member", key)?;
    MemberId::parse_hex(&digits).ok_or(Flaw::Unknown("its key is no member id"))
}

/// Who votes, as raft was last told. After `snapshot restore` it still names the members of the
/// cluster that the snapshot was taken from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfState {
    /// Those who vote.
    #[serde(deserialize_with = "list")]
    pub voters: Vec<MemberId>,
    /// Those who do not.
    #[serde(deserialize_with = "list")]
    pub learners: Vec<MemberId>,
    /// Those who also vote during a joint change, which etcd never makes.
    #[serde(deserialize_with = "list")]
    pub voters_outgoing: Vec<MemberId>,
    /// Those who become learners after one.
    #[serde(deserialize_with = "list")]
    pub learners_next: Vec<MemberId>,
    /// Whether a joint change ends by itself.
    pub auto_leave: bool,
}

/// A list that may also be written as null.
fn list<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<MemberId>, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Reads a conf state.
///
/// # Errors
/// If it is none.
pub(in crate::snapshot) fn conf_state(value: &[u8]) -> Result<ConfState, Flaw> {
    serde_json::from_slice(value).map_err(Flaw::Json)
}

/// A downgrade of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Downgrade {
    /// The release that it goes to; empty once it is done.
    #[serde(default, rename = "target-version")]
    pub target: String,
    /// It is under way.
    #[serde(default, rename = "enabled")]
    pub is_enabled: bool,
}

/// Reads a downgrade.
///
/// # Errors
/// If it is none.
pub(in crate::snapshot) fn downgrade(value: &[u8]) -> Result<Downgrade, Flaw> {
    serde_json::from_slice(value).map_err(Flaw::Json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_read() {
        let stored = br#"{"id":12544681736289351421,"peerURLs":["http://a:1"],"isLearner":true}"#;
        let found = member(b"ae1797c3b9a6a6fd", stored);
        assert!(matches!(found, Err(Flaw::Mismatch(_))), "{found:?}");
        let id = MemberId(12_544_681_736_289_351_421);
        let found = member(id.to_string().as_bytes(), stored).unwrap();
        let expected = Member {
            id,
            name: String::new(),
            peer_urls: vec!["http://a:1".into()],
            client_urls: vec![],
            is_learner: true,
        };
        assert_eq!(found, expected);
        let found = member(b"7", br#"{"id":7,"peerURLs":null,"name":"m","other":[]}"#).unwrap();
        assert_eq!((found.name.as_str(), found.is_learner), ("m", false));
        for bad in ["", "{", "[]", "{}", r#"{"id":-1}"#, r#"{"id":7.0}"#] {
            assert!(member(b"7", bad.as_bytes()).is_err(), "{bad}");
        }
        let deep = "[".repeat(100_000);
        assert!(member(b"7", deep.as_bytes()).is_err());
        assert!(removed_member(b"7g").is_err() && removed_member(b"").is_err());
        assert_eq!(removed_member(b"ff").unwrap(), MemberId(255));
    }

    #[test]
    fn a_conf_state_is_read() {
        let stored = br#"{"voters":[12544681736289351421],"learners":null,"auto_leave":false}"#;
        let expected = ConfState {
            voters: vec![MemberId(12_544_681_736_289_351_421)],
            ..ConfState::default()
        };
        assert_eq!(conf_state(stored).unwrap(), expected);
        assert_eq!(conf_state(b"{}").unwrap(), ConfState::default());
        assert!(conf_state(br#"{"voters":["a"]}"#).is_err());
        let stored = br#"{"target-version":"3.5.0","enabled":true}"#;
        let found = downgrade(stored).unwrap();
        assert_eq!((found.target.as_str(), found.is_enabled), ("3.5.0", true));
    }
}
