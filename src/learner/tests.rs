//! The learner against hand-made leaders.

use bytes::Bytes;
use prost::Message as _;

use super::convert::kind;
use super::*;
use crate::ids::{MemberId, RaftIndex, Term};
use crate::pb::raftpb;

const US: MemberId = MemberId(9);
const LEADER: u64 = 1;
const OTHER: u64 = 2;

fn node() -> Node {
    Node::new(US, Cut::default(), []).unwrap()
}

fn data(term: u64, index: u64) -> raftpb::Entry {
    raftpb::Entry {
        r#type: 0,
        term,
        index,
        data: Bytes::from(format!("e{index}")),
    }
}

fn conf_change(term: u64, index: u64, r#type: u32, id: u64, context: &str) -> raftpb::Entry {
    let context = Bytes::copy_from_slice(context.as_bytes());
    let change = raftpb::ConfChange {
        id: 0,
        r#type,
        node_id: id,
        context,
    };
    raftpb::Entry {
        r#type: 1,
        term,
        index,
        data: change.encode_to_vec().into(),
    }
}

fn append(
    from: u64,
    term: u64,
    after: (u64, u64),
    entries: Vec<raftpb::Entry>,
    commit: u64,
) -> raftpb::Message {
    raftpb::Message {
        r#type: kind::APPEND,
        to: US.0,
        from,
        term,
        index: after.0,
        log_term: after.1,
        entries,
        commit,
        ..raftpb::Message::default()
    }
}

fn heartbeat(from: u64, term: u64, commit: u64) -> raftpb::Message {
    raftpb::Message {
        r#type: kind::HEARTBEAT,
        to: US.0,
        from,
        term,
        commit,
        context: Bytes::from_static(b"12345678"),
        ..raftpb::Message::default()
    }
}

fn ack(to: u64, term: u64, index: u64) -> raftpb::Message {
    raftpb::Message {
        r#type: kind::APPEND_RESPONSE,
        to,
        from: US.0,
        term,
        index,
        ..raftpb::Message::default()
    }
}

fn reject(to: u64, term: u64, index: u64, hint: (u64, u64)) -> raftpb::Message {
    raftpb::Message {
        reject: true,
        reject_hint: hint.0,
        log_term: hint.1,
        ..ack(to, term, index)
    }
}

fn step(node: &mut Node, message: raftpb::Message) -> Vec<raftpb::Message> {
    assert_eq!(node.handle_message(message), Ok(Taken::Stepped));
    sent(node)
}

fn sent(node: &mut Node) -> Vec<raftpb::Message> {
    std::iter::from_fn(|| node.poll_message()).collect()
}

fn handed_out(node: &mut Node) -> Vec<u64> {
    std::iter::from_fn(|| node.poll_handout())
        .map(|handout| handout.entry.index.0)
        .collect()
}

fn bootstrap() -> Vec<raftpb::Entry> {
    vec![
        conf_change(
            1,
            1,
            0,
            LEADER,
            r#"{"id":1,"peerURLs":["http://a"],"name":"m1"}"#,
        ),
        data(2, 2),
        conf_change(
            2,
            3,
            3,
            US.0,
            r#"{"id":9,"peerURLs":["http://us"],"isLearner":true}"#,
        ),
    ]
}

#[test]
fn joins_by_the_log_and_acknowledges_only_what_is_durable() {
    let mut node = node();
    let first = append(LEADER, 2, (2, 2), vec![bootstrap().remove(2)], 3);
    assert_eq!(step(&mut node, first), [reject(LEADER, 2, 2, (0, 0))]);
    let all = append(LEADER, 2, (0, 0), bootstrap(), 2);
    assert_eq!(step(&mut node, all), [ack(LEADER, 2, 0)]);
    assert_eq!(handed_out(&mut node), [1, 2]);
    assert_eq!(
        step(&mut node, append(LEADER, 2, (3, 2), vec![], 3)),
        [ack(LEADER, 2, 0)]
    );
    assert_eq!(handed_out(&mut node), [3]);
    node.handle_durable(RaftIndex(2));
    assert_eq!(sent(&mut node), [ack(LEADER, 2, 2)]);
    node.handle_durable(RaftIndex(3));
    assert_eq!(sent(&mut node), [ack(LEADER, 2, 3)]);
    assert_eq!(node.acknowledged(), RaftIndex(3));
}

#[test]
fn an_append_below_the_commit_index_is_answered_with_no_more_than_the_durable_index() {
    let mut node = node();
    step(&mut node, append(LEADER, 2, (0, 0), bootstrap(), 3));
    node.handle_durable(RaftIndex(1));
    sent(&mut node);
    let old = append(LEADER, 2, (1, 1), vec![data(2, 2)], 3);
    assert_eq!(step(&mut node, old), [ack(LEADER, 2, 1)]);
}

#[test]
fn an_append_that_begins_below_the_commit_index_brings_what_is_beyond() {
    let mut node = node();
    step(&mut node, append(LEADER, 2, (0, 0), bootstrap(), 9));
    assert_eq!(handed_out(&mut node), [1, 2, 3]);
    // A part of what a leader sent is durable. It goes on from there, and never comes back to this.
    node.handle_durable(RaftIndex(1));
    sent(&mut node);
    let mut entries = bootstrap().split_off(1);
    entries.extend([data(2, 4), data(2, 5)]);
    assert_eq!(
        step(&mut node, append(LEADER, 2, (1, 1), entries, 9)),
        [ack(LEADER, 2, 1)]
    );
    assert_eq!(handed_out(&mut node), [4, 5]);
    let next = append(LEADER, 2, (5, 2), vec![data(2, 6)], 9);
    assert_eq!(step(&mut node, next), [ack(LEADER, 2, 1)]);
    assert_eq!(handed_out(&mut node), [6]);
}

#[test]
fn heartbeats_are_answered_with_their_own_context() {
    let mut node = node();
    let answer = raftpb::Message {
        r#type: kind::HEARTBEAT_RESPONSE,
        to: LEADER,
        from: US.0,
        term: 2,
        context: Bytes::from_static(b"12345678"),
        ..raftpb::Message::default()
    };
    assert_eq!(step(&mut node, heartbeat(LEADER, 2, 0)), [answer]);
    assert_eq!(node.leader(), (Some(MemberId(LEADER)), Term(2)));
}

#[test]
fn a_leader_that_believes_in_more_than_we_hold_ends_the_stream() {
    let mut node = node();
    step(&mut node, append(LEADER, 2, (0, 0), bootstrap(), 3));
    let error = node.handle_message(heartbeat(LEADER, 2, 4)).unwrap_err();
    assert_eq!(
        error,
        Error::LeaderBelievesMore {
            leader: MemberId(LEADER),
            believed: RaftIndex(4),
            last: RaftIndex(3)
        }
    );
    assert!(error.to_string().contains("etcdctl member add --learner"));
}

#[test]
fn another_history_below_the_commit_index_ends_the_stream() {
    for message in [
        append(OTHER, 5, (2, 1), vec![], 3),
        append(OTHER, 5, (0, 0), vec![data(1, 1), data(4, 2)], 3),
    ] {
        let mut node = node();
        step(&mut node, append(LEADER, 2, (0, 0), bootstrap(), 3));
        let error = node.handle_message(message).unwrap_err();
        assert!(
            matches!(
                error,
                Error::HistoryConflict {
                    index: RaftIndex(2),
                    ..
                }
            ),
            "{error}"
        );
    }
}

#[test]
fn a_new_leader_overwrites_what_was_never_committed() {
    let mut node = node();
    let mut entries = bootstrap();
    entries.extend([data(2, 4), data(2, 5)]);
    step(&mut node, append(LEADER, 2, (0, 0), entries, 3));
    let theirs = append(OTHER, 3, (3, 2), vec![data(3, 4)], 4);
    assert_eq!(step(&mut node, theirs), [ack(OTHER, 3, 0)]);
    assert_eq!(node.last_index(), RaftIndex(4));
    let handouts: Vec<_> = std::iter::from_fn(|| node.poll_handout()).collect();
    assert_eq!(
        handouts.last().map(|handout| handout.entry.term),
        Some(Term(3))
    );
}

#[test]
fn stale_and_malformed_messages_change_nothing() {
    let mut node = node();
    step(&mut node, append(LEADER, 3, (0, 0), vec![data(3, 1)], 0));
    assert_eq!(
        node.handle_message(heartbeat(OTHER, 2, 0)),
        Ok(Taken::Stale)
    );
    for entries in [
        vec![data(3, 3)],
        vec![data(3, 2), data(3, 2)],
        vec![data(4, 2)],
        vec![data(3, 2), data(2, 3)],
        vec![data(3, u64::MAX)],
    ] {
        let message = append(LEADER, 3, (1, 3), entries, 0);
        assert_eq!(node.handle_message(message), Ok(Taken::Malformed));
    }
    assert_eq!((node.last_index(), sent(&mut node)), (RaftIndex(1), vec![]));
}

#[test]
fn a_commit_index_beyond_the_entries_commits_only_the_entries() {
    let mut node = node();
    step(&mut node, append(LEADER, 2, (0, 0), bootstrap(), 1000));
    assert_eq!(
        (node.committed(), node.leader_commit()),
        (RaftIndex(3), RaftIndex(1000))
    );
    assert_eq!(handed_out(&mut node), [1, 2, 3]);
}

#[test]
fn membership_is_reported_and_a_promotion_makes_no_candidate() {
    let mut node = node();
    let mut entries = bootstrap();
    let promote = r#"{"id":9,"peerURLs":null,"isPromote":true}"#;
    entries.push(conf_change(2, 4, 0, US.0, promote));
    entries.push(conf_change(2, 5, 1, US.0, ""));
    let answers = step(&mut node, append(LEADER, 2, (0, 0), entries, 5));
    assert_eq!(answers, [ack(LEADER, 2, 0)], "no vote, no campaign");
    let events: Vec<_> = std::iter::from_fn(|| node.poll_event()).collect();
    assert_eq!(events[0], Event::Leader(MemberId(LEADER), Term(2)));
    assert_eq!(
        events[3],
        Event::Members(RaftIndex(4), MemberChange::Promoted(US))
    );
    assert_eq!(
        events[4],
        Event::Members(RaftIndex(5), MemberChange::Removed(US))
    );
    let handouts: Vec<_> = std::iter::from_fn(|| node.poll_handout()).collect();
    let members: Vec<_> = handouts
        .iter()
        .map(|handout| {
            handout
                .members
                .as_ref()
                .map(|m| (m.voters.clone(), m.learners.clone()))
        })
        .collect();
    assert_eq!(
        members,
        [
            Some((vec![1], vec![])),
            None,
            Some((vec![1], vec![9])),
            Some((vec![1, 9], vec![])),
            Some((vec![1], vec![])),
        ]
    );
}

#[test]
fn a_log_cut_at_a_checkpoint_goes_on_from_there() {
    let members = raft::eraftpb::ConfState {
        voters: vec![LEADER],
        learners: vec![US.0],
        ..raft::eraftpb::ConfState::default()
    };
    let cut = Cut {
        index: RaftIndex(100),
        term: Term(4),
        members,
    };
    let mut node = Node::new(US, cut, []).unwrap();
    let probe = append(LEADER, 5, (120, 5), vec![data(5, 121)], 121);
    assert_eq!(step(&mut node, probe), [reject(LEADER, 5, 120, (100, 4))]);
    let rest = append(LEADER, 5, (100, 4), vec![data(5, 101)], 101);
    assert_eq!(step(&mut node, rest), [ack(LEADER, 5, 100)]);
    assert_eq!(handed_out(&mut node), [101]);
}

#[test]
fn an_entry_type_that_etcd_never_writes_ends_the_stream() {
    let mut node = node();
    let entry = raftpb::Entry {
        r#type: 2,
        ..data(2, 1)
    };
    let error = node.handle_message(append(LEADER, 2, (0, 0), vec![entry], 1));
    assert_eq!(
        error,
        Err(Error::Convert(ConvertError::EntryType {
            index: 1,
            entry_type: 2
        }))
    );
}

fn group(voters: &[u64], learners: &[u64]) -> raftpb::ConfState {
    raftpb::ConfState {
        voters: voters.to_vec(),
        learners: learners.to_vec(),
        ..raftpb::ConfState::default()
    }
}

fn snapshot(
    from: u64,
    term: u64,
    at: (u64, u64),
    conf_state: raftpb::ConfState,
) -> raftpb::Message {
    raftpb::Message {
        r#type: kind::SNAPSHOT,
        to: US.0,
        from,
        term,
        snapshot: Some(raftpb::Snapshot {
            data: Bytes::from_static(b"{}"),
            metadata: Some(raftpb::SnapshotMetadata {
                conf_state: Some(conf_state),
                index: at.0,
                term: at.1,
            }),
        }),
        ..raftpb::Message::default()
    }
}

fn node_at(index: u64, term: u64) -> Node {
    let cut = Cut {
        index: RaftIndex(index),
        term: Term(term),
        members: conf_state_to_raft(&group(&[LEADER, OTHER], &[US.0])),
    };
    Node::new(US, cut, []).unwrap()
}

#[test]
fn a_snapshot_beyond_our_log_is_needed_and_changes_nothing() {
    let mut node = node();
    step(&mut node, append(LEADER, 2, (0, 0), bootstrap(), 3));
    let message = snapshot(LEADER, 4, (285, 4), group(&[LEADER], &[US.0]));
    assert_eq!(node.handle_snapshot(message), Ok(Offered::Needed));
    assert_eq!(sent(&mut node), []);
    assert_eq!(
        (node.last_index(), node.committed(), node.leader().1),
        (RaftIndex(3), RaftIndex(3), Term(2))
    );
    // It still does what it did before.
    assert_eq!(handed_out(&mut node), [1, 2, 3]);
    node.handle_durable(RaftIndex(3));
    assert_eq!(sent(&mut node), [ack(LEADER, 2, 3)]);
}

#[test]
fn a_node_cut_at_a_snapshot_tells_the_leader_by_its_message() {
    let mut node = node_at(285, 4);
    let message = snapshot(LEADER, 5, (285, 4), group(&[LEADER, OTHER], &[US.0]));
    assert_eq!(node.handle_snapshot(message.clone()), Ok(Offered::Covered));
    assert_eq!(sent(&mut node), [ack(LEADER, 5, 285)]);
    assert_eq!(node.leader(), (Some(MemberId(LEADER)), Term(5)));
    // Once more does no harm.
    assert_eq!(node.handle_snapshot(message), Ok(Offered::Covered));
    assert_eq!(sent(&mut node), [ack(LEADER, 5, 285)]);
    let rest = append(LEADER, 5, (285, 4), vec![data(5, 286), data(5, 287)], 287);
    assert_eq!(step(&mut node, rest), [ack(LEADER, 5, 285)]);
    assert_eq!(handed_out(&mut node), [286, 287]);
    node.handle_durable(RaftIndex(287));
    assert_eq!(sent(&mut node), [ack(LEADER, 5, 287)]);
}

#[test]
fn a_snapshot_below_the_durable_index_is_answered_with_that() {
    let mut node = node_at(300, 4);
    let members = || group(&[LEADER, OTHER], &[US.0]);
    for (at, acked) in [((300, 4), 300), ((299, 4), 300), ((1, 1), 300)] {
        let message = snapshot(LEADER, 5, at, members());
        assert_eq!(node.handle_snapshot(message), Ok(Offered::Covered));
        assert_eq!(sent(&mut node), [ack(LEADER, 5, acked)]);
    }
    // Not even that we are missing in it matters then.
    let old = snapshot(LEADER, 5, (200, 3), group(&[LEADER], &[]));
    assert_eq!(node.handle_snapshot(old), Ok(Offered::Covered));
    let next = snapshot(LEADER, 5, (301, 4), members());
    assert_eq!(node.handle_snapshot(next), Ok(Offered::Needed));
}

#[test]
fn a_snapshot_between_durable_and_received_is_covered_by_our_log() {
    let mut node = node_at(100, 4);
    let entries = (101..=110).map(|index| data(4, index)).collect();
    step(&mut node, append(LEADER, 4, (100, 4), entries, 105));
    assert_eq!(handed_out(&mut node), [101, 102, 103, 104, 105]);
    let members = || group(&[LEADER, OTHER], &[US.0]);
    // Committed here, not durable.
    let message = snapshot(LEADER, 4, (103, 4), members());
    assert_eq!(node.handle_snapshot(message), Ok(Offered::Covered));
    assert_eq!(sent(&mut node), [ack(LEADER, 4, 100)]);
    // Received, and by the snapshot known to be committed.
    let message = snapshot(LEADER, 4, (108, 4), members());
    assert_eq!(node.handle_snapshot(message), Ok(Offered::Covered));
    assert_eq!(sent(&mut node), [ack(LEADER, 4, 100)]);
    assert_eq!(handed_out(&mut node), [106, 107, 108]);
    assert_eq!(node.leader_commit(), RaftIndex(108));
    node.handle_durable(RaftIndex(108));
    assert_eq!(sent(&mut node), [ack(LEADER, 4, 108)]);
    // Another entry than ours, which was never committed: ours is of no use.
    let message = snapshot(OTHER, 6, (110, 5), members());
    assert_eq!(node.handle_snapshot(message), Ok(Offered::Needed));
    // And that is what follows the last one.
    let message = snapshot(LEADER, 6, (111, 4), members());
    assert_eq!(node.handle_snapshot(message), Ok(Offered::Needed));
}

#[test]
fn a_snapshot_of_another_history_ends_the_stream() {
    for (at, conflict) in [((300, 3), 300), ((300, 5), 300), ((400, 3), 300)] {
        let mut node = node_at(300, 4);
        let message = snapshot(LEADER, 5, at, group(&[LEADER], &[US.0]));
        let error = node.handle_snapshot(message).unwrap_err();
        assert_eq!(
            error,
            Error::HistoryConflict {
                leader: MemberId(LEADER),
                index: RaftIndex(conflict),
                theirs: Term(at.1),
                ours: Term(4)
            }
        );
    }
}

#[test]
fn a_snapshot_of_a_group_without_us_or_of_no_group_ends_the_stream() {
    let offer = |conf_state| {
        let mut node = node_at(300, 4);
        let error = node.handle_snapshot(snapshot(LEADER, 5, (400, 4), conf_state));
        assert_eq!(sent(&mut node), []);
        error
    };
    let (leader, index) = (MemberId(LEADER), RaftIndex(400));
    let without = offer(group(&[LEADER, OTHER], &[7])).unwrap_err();
    assert_eq!(without, Error::SnapshotWithoutUs { leader, index });
    assert!(without.to_string().contains("etcdctl member add --learner"));
    for bad in [
        group(&[], &[US.0]),
        group(&[LEADER, LEADER], &[US.0]),
        group(&[LEADER, US.0], &[US.0]),
        group(&[LEADER, 0], &[US.0]),
    ] {
        let error = offer(bad).unwrap_err();
        assert!(matches!(error, Error::SnapshotMembers { .. }), "{error}");
    }
    // Nor does a node begin with such members, over which raft-rs would end the process.
    let cut = Cut {
        members: conf_state_to_raft(&group(&[LEADER, LEADER], &[US.0])),
        index,
        term: Term(4),
    };
    let error = Node::new(US, cut, []).unwrap_err();
    assert!(matches!(error, Error::CutMembers { .. }), "{error}");
    // A voter against our will is in the group as well.
    let promoted = offer(group(&[LEADER, US.0], &[]));
    assert_eq!(promoted, Ok(Offered::Needed));
}

#[test]
fn a_stale_or_malformed_snapshot_is_ignored() {
    let mut node = node_at(300, 4);
    step(&mut node, heartbeat(LEADER, 6, 0));
    let members = || group(&[LEADER], &[US.0]);
    let stale = snapshot(OTHER, 5, (400, 4), members());
    assert_eq!(node.handle_snapshot(stale), Ok(Offered::Stale));
    let none = raftpb::Message {
        snapshot: None,
        ..snapshot(LEADER, 6, (400, 4), members())
    };
    let bare = raftpb::Message {
        snapshot: Some(raftpb::Snapshot::default()),
        ..none.clone()
    };
    let append = raftpb::Message {
        r#type: kind::APPEND,
        ..snapshot(LEADER, 6, (400, 4), members())
    };
    let future = snapshot(LEADER, 6, (400, 7), members());
    for message in [none, bare, append, future] {
        assert_eq!(node.handle_snapshot(message), Ok(Offered::Malformed));
    }
    assert_eq!(sent(&mut node), []);
}

#[test]
fn members_of_a_cut_are_followed_without_their_urls() {
    let mut node = node_at(100, 4);
    let promote = r#"{"id":9,"peerURLs":null,"isPromote":true}"#;
    let entries = vec![
        conf_change(4, 101, 0, US.0, promote),
        conf_change(4, 102, 1, OTHER, ""),
        conf_change(4, 103, 1, US.0, ""),
    ];
    step(&mut node, append(LEADER, 4, (100, 4), entries, 103));
    let events: Vec<_> = std::iter::from_fn(|| node.poll_event()).skip(1).collect();
    assert_eq!(
        events,
        [
            Event::Members(RaftIndex(101), MemberChange::Promoted(US)),
            Event::Members(RaftIndex(102), MemberChange::Removed(MemberId(OTHER))),
            Event::Members(RaftIndex(103), MemberChange::Removed(US)),
        ]
    );
    let last = std::iter::from_fn(|| node.poll_handout()).last().unwrap();
    let members = last.members.unwrap();
    assert_eq!((members.voters, members.learners), (vec![LEADER], vec![]));
}
