//! Snapshots that are offered: rule H13, nothing may make a leader send one over and over.

use std::time::{Duration, Instant};

use bytes::Bytes;
use etcd_syncer::ids::{RaftIndex, Term};
use etcd_syncer::pb::raftpb::{ConfState, Message, Snapshot, SnapshotMetadata};
use etcd_syncer::peer::codec::encode_message;
use etcd_syncer::peer::kind::MessageKind;
use etcd_syncer::peer::{Inbound, Refused};

use crate::client::Answer;
use crate::harness::{Learner, US, outgoing};
use crate::member::FakeMember;

/// What a leader POSTs: the envelope and the beginning of a database.
fn snapshot(member: &FakeMember) -> Vec<u8> {
    let message = Message {
        r#type: MessageKind::Snap.number(),
        from: member.id.0,
        to: US.0,
        term: 2,
        snapshot: Some(Snapshot {
            data: Bytes::from(vec![b'{'; 8000]),
            metadata: Some(SnapshotMetadata {
                conf_state: Some(ConfState {
                    voters: vec![7],
                    learners: vec![US.0],
                    ..ConfState::default()
                }),
                index: 285,
                term: 2,
            }),
        }),
        ..Message::default()
    };
    let mut body = encode_message(&message).to_vec();
    body.extend(vec![0; 1 << 20]);
    body
}

type Posted = (Option<Answer>, Duration);

/// POSTs and measures how long the answer, or the end of the connection, takes.
async fn post(learner: &Learner, member: &FakeMember, body: &[u8]) -> Posted {
    let begun = Instant::now();
    let answer = learner.posted_by(member, "/raft/snapshot", body).await;
    (answer, begun.elapsed())
}

#[tokio::test]
async fn h13_a_snapshot_is_held_until_answers_have_been_muted() {
    let (leader, former) = (FakeMember::start(7).await, FakeMember::start(8).await);
    let mut learner = Learner::joined(&[&leader, &former]).await;
    let mut inbox = std::mem::replace(&mut learner.inbox, spare_inbox());
    let transport = learner.transport.clone();
    let (body, former_body) = (snapshot(&leader), snapshot(&former));
    let hold = Duration::from_millis(700);
    let script = async {
        let mut offered = Vec::new();
        for _ in 0..2 {
            offered.push(inbox.recv().await.unwrap());
        }
        tokio::time::sleep(hold).await;
        transport.set_muted(true);
        // From now on nothing is answered, so that the leader counts us as inactive.
        let answer = outgoing(leader.id, MessageKind::HeartbeatResp, 2, 0);
        assert_eq!(transport.send(leader.id, &answer), Err(Refused::Muted));
        offered
    };
    let (first, second, offered) = tokio::join!(
        post(&learner, &leader, &body),
        post(&learner, &former, &former_body),
        script,
    );
    for (answer, elapsed) in [first, second] {
        assert!(answer.is_none(), "{answer:?}");
        let least = hold + crate::harness::config().hold_after_mute;
        assert!(elapsed >= least, "cut after {elapsed:?}");
    }
    for offer in offered {
        let Inbound::SnapshotOffered {
            index,
            term,
            snapshot_term,
            conf_state,
            ..
        } = offer
        else {
            panic!("{offer:?}");
        };
        assert_eq!(
            (index, term, snapshot_term),
            (RaftIndex(285), Term(2), Term(2))
        );
        assert_eq!(
            (conf_state.voters, conf_state.learners),
            (vec![7], vec![US.0])
        );
    }
}

fn spare_inbox() -> etcd_syncer::peer::Inbox {
    etcd_syncer::peer::Transport::new(crate::harness::config()).1
}

#[tokio::test]
async fn h13_unmuting_begins_the_hold_anew() {
    let leader = FakeMember::start(7).await;
    let learner = Learner::joined(&[&leader]).await;
    let transport = learner.transport.clone();
    let body = snapshot(&leader);
    let script = async {
        for is_muted in [true, false, true] {
            tokio::time::sleep(Duration::from_millis(300)).await;
            transport.set_muted(is_muted);
        }
    };
    let ((answer, elapsed), ()) = tokio::join!(post(&learner, &leader, &body), script);
    assert!(answer.is_none());
    assert!(elapsed >= Duration::from_millis(1400), "{elapsed:?}");
}

#[tokio::test]
async fn h13_what_is_no_snapshot_is_not_refused_at_once_either() {
    let leader = FakeMember::start(7).await;
    let learner = Learner::joined(&[&leader]).await;
    let good = snapshot(&leader);
    let bodies: [&[u8]; 4] = [
        &[0xff; 100],
        &good[..good.len() - (1 << 20) - 100],
        b"\0\0\0\0\0\0\0\x02\x08\x07rest",
        b"\0\0\0\0\0\0\0\x02\x08\x08rest",
    ];
    for body in bodies {
        let (answer, elapsed) = post(&learner, &leader, body).await;
        assert_eq!(answer.unwrap().status, 400);
        assert!(elapsed >= Duration::from_millis(500), "{elapsed:?}");
    }
}

#[tokio::test]
async fn h13_more_than_a_few_at_a_time_are_not_held() {
    let leader = FakeMember::start(7).await;
    let learner = Learner::joined(&[&leader]).await;
    let body = snapshot(&leader);
    let held = async {
        tokio::join!(
            post(&learner, &leader, &body),
            post(&learner, &leader, &body),
            post(&learner, &leader, &body),
            post(&learner, &leader, &body),
            post(&learner, &leader, &body),
        )
    };
    let script = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        learner.transport.set_muted(true);
    };
    let ((a, b, c, d, e), ()) = tokio::join!(held, script);
    let mut elapsed: Vec<Duration> = [a, b, c, d, e].into_iter().map(|posted| posted.1).collect();
    elapsed.sort();
    assert!((500..2000).contains(&elapsed[0].as_millis()), "{elapsed:?}");
    assert!(elapsed[1] >= Duration::from_millis(2000), "{elapsed:?}");
}

#[tokio::test]
async fn a_held_snapshot_does_not_keep_the_transport_from_ending() {
    let leader = FakeMember::start(7).await;
    let mut learner = Learner::joined(&[&leader]).await;
    let address = learner.address;
    let body = snapshot(&leader);
    let id = leader.id;
    let posted = tokio::spawn(async move {
        let headers = crate::harness::raft_headers(id);
        let headers = crate::harness::borrowed(&headers);
        crate::client::call(address, "POST", "/raft/snapshot", &headers, &body).await
    });
    assert!(matches!(
        learner.recv().await,
        Inbound::SnapshotOffered { .. }
    ));
    learner.stop().await;
    assert!(posted.await.unwrap().is_none());
}
