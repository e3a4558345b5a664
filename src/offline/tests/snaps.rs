//! `.snap` files that are put together.

use bytes::Bytes;
use prost::Message as _;

use crate::ids::{MemberId, RaftIndex, Term};
use crate::offline::{SnapError, SnapFile, SnapName};
use crate::pb::{raftpb, storagepb};

const NAME: SnapName = SnapName {
    term: Term(2),
    index: RaftIndex(0x1f4),
};

fn snapshot() -> raftpb::Snapshot {
    let tree = r#"{"Root":{"Children":{"0":{"Children":{"members":{"Children":{
        "1":{"Children":{"raftAttributes":{"Value":"{\"peerURLs\":[\"http://a\"]}"}}}}},
        "removed_members":{"Children":{"3":{"Value":""}}}}}}}}"#;
    raftpb::Snapshot {
        data: Bytes::from(tree),
        metadata: Some(raftpb::SnapshotMetadata {
            conf_state: Some(raftpb::ConfState {
                voters: vec![1],
                learners: vec![2],
                ..raftpb::ConfState::default()
            }),
            index: 0x1f4,
            term: 2,
        }),
    }
}

fn file(snapshot: &raftpb::Snapshot) -> Vec<u8> {
    let data = Bytes::from(snapshot.encode_to_vec());
    let crc = crc32c::crc32c(&data);
    storagepb::SnapFile { crc, data }.encode_to_vec()
}

fn decode(bytes: Vec<u8>) -> Result<SnapFile, SnapError> {
    SnapFile::decode(NAME, Bytes::from(bytes))
}

#[test]
fn names_hold_term_and_index() {
    let text = "0000000000000002-00000000000001f4.snap";
    assert_eq!(SnapName::parse(text), Some(NAME));
    assert_eq!(NAME.to_string(), text);
    for other in [
        "0000000000000002-00000000000001f4.snap.broken",
        "00000000000001f4.snap.db",
        "db",
        "2-1f4.snap",
    ] {
        assert_eq!(SnapName::parse(other), None, "{other}");
    }
}

#[test]
fn a_file_says_who_the_members_are() {
    let snap = decode(file(&snapshot())).unwrap();
    assert_eq!((snap.term, snap.index), (Term(2), RaftIndex(500)));
    assert_eq!(snap.removed, [MemberId(3)]);
    // The tree has no word of the learner, and raft has.
    let membership = snap.membership();
    let members: Vec<_> = membership.members().collect();
    assert_eq!(members.len(), 2);
    assert_eq!(members[0].peer_urls, ["http://a"]);
    assert!(members[1].is_learner && members[1].peer_urls.is_empty());
    let state = membership.conf_state();
    assert_eq!((&*state.voters, &*state.learners), (&[1][..], &[2][..]));
}

#[test]
fn what_is_no_snapshot_is_refused() {
    let good = file(&snapshot());
    let mut flipped = good.clone();
    flipped[40] ^= 1;
    assert!(matches!(decode(flipped), Err(SnapError::Checksum { .. })));
    assert_eq!(decode(Vec::new()), Err(SnapError::Empty));
    let undecodable = decode(good[..good.len() - 1].to_vec());
    assert!(matches!(undecodable, Err(SnapError::Undecodable(..))));
    let mut other = snapshot();
    other.metadata.as_mut().unwrap().term = 3;
    let expected = Err(SnapError::OtherThanNamed(RaftIndex(500), Term(3)));
    assert_eq!(decode(file(&other)), expected);
    let mut other = snapshot();
    other.data = Bytes::from_static(b"{}");
    assert!(matches!(decode(file(&other)), Err(SnapError::Tree(_))));
    other.metadata = None;
    assert_eq!(decode(file(&other)), Err(SnapError::Empty));
}
