//! What the learner makes of a snapshot: it goes on by itself, or ends and begins anew.

use std::time::Duration;

use etcd_syncer::ids::{RaftIndex, Term};
use etcd_syncer::learner::{
    Cut, End, Handout, Inlet, Learner as RaftLearner, Node, View, conf_state_to_raft,
};
use etcd_syncer::pb::raftpb::{ConfState, Message};
use etcd_syncer::peer::kind::MessageKind;
use etcd_syncer::peer::{Inbox, Received, Refused};
use prost::Message as _;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::client::{Dialled, SOON, Upload};
use crate::harness::{
    Learner, US, append, config, entry, eventually, heartbeat, outgoing, snapshot_message,
};
use crate::member::FakeMember;
use crate::snapshots::{A_WHILE, database};

/// A learner's task.
pub(crate) struct Running {
    pub(crate) end: JoinHandle<End>,
    pub(crate) handouts: mpsc::UnboundedReceiver<Vec<Handout>>,
    pub(crate) durable: watch::Sender<RaftIndex>,
    pub(crate) view: watch::Receiver<View>,
    pub(crate) stop: CancellationToken,
}

impl Running {
    /// Starts one whose node is cut here.
    pub(crate) fn start(
        us: etcd_syncer::ids::MemberId,
        cut: Cut,
        peer: (Inbox, etcd_syncer::peer::Transport),
        first: Option<Received>,
    ) -> Self {
        let node = Node::new(us, cut, []).unwrap();
        let inlet = Inlet::new(node, 64 << 20);
        let (handouts_in, handouts) = mpsc::unbounded_channel();
        let (durable, durable_out) = watch::channel(inlet.node.durable());
        let (view_in, view) = watch::channel(View::default());
        let mut learner = RaftLearner::new(us, inlet, peer, handouts_in, durable_out, view_in);
        if let Some(first) = first {
            learner = learner.beginning_with(first);
        }
        let stop = CancellationToken::new();
        Self {
            end: tokio::spawn(learner.run(stop.clone())),
            handouts,
            durable,
            view,
            stop,
        }
    }

    /// Its end, which comes soon.
    pub(crate) async fn end(&mut self) -> End {
        let end = timeout(SOON, &mut self.end).await;
        end.expect("it ends").unwrap()
    }

    pub(crate) async fn end_with_snapshot(&mut self) -> (Received, Inbox, RaftIndex) {
        match self.end().await {
            End::Snapshot {
                snapshot,
                last,
                inbox,
            } => (snapshot, inbox, last),
            other => panic!("{other:?}"),
        }
    }
}

/// Where a node begins that has this snapshot.
pub(crate) fn cut_at(received: &Received) -> Cut {
    Cut {
        index: received.index(),
        term: received.snapshot_term(),
        members: conf_state_to_raft(received.conf_state()),
    }
}

/// The same without one: voter 7, and us.
fn cut(index: u64, term: u64) -> Cut {
    let group = ConfState {
        voters: vec![7],
        learners: vec![US.0],
        ..ConfState::default()
    };
    Cut {
        index: RaftIndex(index),
        term: Term(term),
        members: conf_state_to_raft(&group),
    }
}

/// A learner cut at index 300 of term 2, and its leader, who has dialled both streams.
struct Stage {
    learner: Learner,
    running: Running,
    leader: FakeMember,
    answers: Dialled,
}

impl Stage {
    async fn begin() -> Self {
        let leader = FakeMember::start(7).await;
        let mut learner = Learner::joined(&[&leader]).await;
        let transport = learner.transport.clone();
        eventually(|| transport.streams()[0].msgapp_dialled).await;
        let answers = learner.dialled_by(&leader, "message").await;
        let inbox = learner.take_inbox();
        let running = Running::start(US, cut(300, 2), (inbox, transport), None);
        Self {
            learner,
            running,
            leader,
            answers,
        }
    }

    /// The leader sends a message.
    async fn say(&self, message: &Message) {
        let bytes = message.encode_to_vec();
        let answer = self.learner.posted_by(&self.leader, "/raft", &bytes).await;
        assert_eq!(answer.unwrap().status, 204);
    }

    /// What we say next.
    async fn hear(&mut self) -> Message {
        let heard = timeout(SOON, self.answers.take_message()).await;
        Message::decode(heard.expect("we say something").as_slice()).unwrap()
    }

    fn ack(&self, term: u64, index: u64) -> Message {
        outgoing(self.leader.id, MessageKind::AppResp, term, index)
    }

    async fn send(&self, message: &Message) -> Upload {
        let mut upload = self.learner.upload_by(&self.leader).await;
        let envelope = etcd_syncer::peer::codec::encode_message(message);
        assert!(upload.chunk(&envelope).await);
        assert!(upload.chunk(&database(10_000)).await);
        upload.end().await;
        upload
    }
}

#[tokio::test]
async fn a_snapshot_that_is_durable_already_is_answered_at_once() {
    let mut stage = Stage::begin().await;
    stage.say(&append(stage.leader.id, 2, 300)).await;
    assert_eq!(stage.hear().await, stage.ack(2, 300));
    for index in [300, 299, 1] {
        let upload = stage
            .send(&snapshot_message(stage.leader.id, 2, index))
            .await;
        assert_eq!(upload.answer().await.unwrap().status, 204, "{index}");
        assert_eq!(stage.hear().await, stage.ack(2, 300));
    }
    stage.learner.await_spooled(&[]).await;
    assert!(!stage.running.end.is_finished());
}

#[tokio::test]
async fn a_snapshot_that_is_received_but_not_durable_is_answered_when_it_is() {
    let mut stage = Stage::begin().await;
    let mut entries = append(stage.leader.id, 2, 300);
    entries.entries = (301..=310).map(|index| entry(2, index, b"x")).collect();
    entries.commit = 303;
    stage.say(&entries).await;
    assert_eq!(stage.hear().await, stage.ack(2, 300));
    let mut upload = stage.send(&snapshot_message(stage.leader.id, 2, 306)).await;
    // By the snapshot we learn that it is committed.
    assert_eq!(stage.hear().await, stage.ack(2, 300));
    let mut handed_out = Vec::new();
    while handed_out.len() < 6 {
        let handouts = timeout(SOON, stage.running.handouts.recv()).await.unwrap();
        handed_out.extend(handouts.unwrap().iter().map(|h| h.entry.index.0));
    }
    assert_eq!(handed_out, [301, 302, 303, 304, 305, 306]);
    stage.running.durable.send_replace(RaftIndex(305));
    assert_eq!(stage.hear().await, stage.ack(2, 305));
    assert!(upload.is_held(A_WHILE).await);
    stage.running.durable.send_replace(RaftIndex(306));
    assert_eq!(stage.hear().await, stage.ack(2, 306));
    assert_eq!(upload.answer().await.unwrap().status, 204);
}

#[tokio::test]
async fn a_snapshot_beyond_our_log_ends_the_learner_and_another_begins_with_it() {
    let mut stage = Stage::begin().await;
    let leader = stage.leader.id;
    let mut upload = stage.send(&snapshot_message(leader, 4, 400)).await;
    let (received, inbox, last) = stage.running.end_with_snapshot().await;
    assert_eq!((received.index(), last), (RaftIndex(400), RaftIndex(300)));
    // Nobody answers, nothing piles up, and the leader may try as it likes.
    let beat = heartbeat(leader, 4, b"12345678");
    for _ in 0..50 {
        let bytes = beat.encode_to_vec();
        stage
            .learner
            .posted_by(&stage.leader, "/raft", &bytes)
            .await;
    }
    let stats = stage.learner.transport.stats();
    assert_eq!(stats.dropped_unread.value(), 50);
    assert!(upload.is_held(A_WHILE).await);
    // Not muted: it goes on in a moment.
    let transport = stage.learner.transport.clone();
    let probe = outgoing(leader, MessageKind::HeartbeatResp, 4, 0);
    assert_ne!(transport.send(leader, &probe), Err(Refused::Muted));
    assert_eq!(stage.hear().await, probe);

    let cut = cut_at(&received);
    let mut running = Running::start(US, cut, (inbox, transport), Some(received));
    let ack = stage.hear().await;
    assert_eq!(ack, outgoing(leader, MessageKind::AppResp, 4, 400));
    assert_eq!(upload.answer().await.unwrap().status, 204);
    assert_eq!(running.view.borrow().leader, Some(leader));
    stage.learner.await_spooled(&[]).await;
    // And messages are read again.
    let bytes = beat.encode_to_vec();
    stage
        .learner
        .posted_by(&stage.leader, "/raft", &bytes)
        .await;
    let answer = stage.hear().await;
    assert_eq!(answer.r#type, MessageKind::HeartbeatResp.number());
    running.stop.cancel();
    assert!(matches!(running.end().await, End::Stopped));
}

#[tokio::test]
async fn a_snapshot_newer_than_the_new_node_ends_that_at_once() {
    let mut stage = Stage::begin().await;
    let _first = stage.send(&snapshot_message(stage.leader.id, 4, 400)).await;
    let (received, mut inbox, _) = stage.running.end_with_snapshot().await;
    let old = cut_at(&received);
    let second = stage.send(&snapshot_message(stage.leader.id, 5, 500)).await;
    let newer = match timeout(SOON, inbox.recv()).await.unwrap().unwrap() {
        etcd_syncer::peer::Inbound::Snapshot(newer) => newer,
        other => panic!("{other:?}"),
    };
    drop(received);
    let transport = stage.learner.transport.clone();
    let mut running = Running::start(US, old, (inbox, transport.clone()), Some(newer));
    let (newer, inbox, last) = running.end_with_snapshot().await;
    assert_eq!((newer.index(), last), (RaftIndex(500), RaftIndex(400)));
    let cut = cut_at(&newer);
    let _running = Running::start(US, cut, (inbox, transport), Some(newer));
    assert_eq!(second.answer().await.unwrap().status, 204);
}

#[tokio::test]
async fn a_snapshot_without_us_ends_the_stream_in_silence() {
    let mut stage = Stage::begin().await;
    let mut message = snapshot_message(stage.leader.id, 4, 400);
    let metadata = message
        .snapshot
        .as_mut()
        .unwrap()
        .metadata
        .as_mut()
        .unwrap();
    metadata.conf_state.as_mut().unwrap().learners = vec![8];
    let upload = stage.send(&message).await;
    let end = stage.running.end().await;
    assert!(matches!(end, End::Raft(_)), "{end:?}");
    assert!(
        end.to_string().contains("does not have this member"),
        "{end}"
    );
    let answer = outgoing(stage.leader.id, MessageKind::HeartbeatResp, 4, 0);
    let sent = stage.learner.transport.send(stage.leader.id, &answer);
    assert_eq!(sent, Err(Refused::Muted));
    assert!(upload.answer().await.is_none());
    stage.learner.await_spooled(&[]).await;
}

#[tokio::test]
async fn one_that_awaits_a_snapshot_refuses_one_without_us_too() {
    let leader = FakeMember::start(7).await;
    let mut learner = Learner::joined(&[&leader]).await;
    let node = Node::new(US, cut(300, 2), []).unwrap();
    let (handouts, _handouts) = mpsc::unbounded_channel();
    let (_durable, durable) = watch::channel(RaftIndex(300));
    let inlet = Inlet::new(node, 1 << 20);
    let peer = (learner.take_inbox(), learner.transport.clone());
    let view = watch::Sender::new(View::default());
    let task = RaftLearner::new(US, inlet, peer, handouts, durable, view);
    let end = tokio::spawn(task.awaiting_snapshot().run(CancellationToken::new()));
    let mut message = snapshot_message(leader.id, 4, 400);
    let metadata = message
        .snapshot
        .as_mut()
        .unwrap()
        .metadata
        .as_mut()
        .unwrap();
    metadata.conf_state.as_mut().unwrap().learners.clear();
    let mut upload = learner.upload_by(&leader).await;
    let envelope = etcd_syncer::peer::codec::encode_message(&message);
    assert!(upload.chunk(&[&envelope, &b"database"[..]].concat()).await);
    upload.end().await;
    let end = timeout(SOON, end).await.unwrap().unwrap();
    assert!(
        end.to_string().contains("does not have this member"),
        "{end}"
    );
    assert!(upload.answer().await.is_none());
}

#[tokio::test]
async fn a_snapshot_whose_answer_gets_lost_is_no_reason_for_another_one() {
    let mut stage = Stage::begin().await;
    let leader = stage.leader.id;
    let upload = stage.send(&snapshot_message(leader, 4, 400)).await;
    let (received, inbox, _) = stage.running.end_with_snapshot().await;
    // The leader's stream is not read when the learner begins: its first answer is held back.
    let transport = stage.learner.transport.clone();
    stage
        .leader
        .answer("/raft/stream/", crate::member::Reply::Hang);
    stage.leader.hang_up("msgapp");
    eventually(|| !transport.streams()[0].msgapp_dialled).await;
    let cut = cut_at(&received);
    let running = Running::start(US, cut, (inbox, transport), Some(received));
    assert_eq!(upload.answer().await.unwrap().status, 204);
    // What a leader does then: it probes behind the snapshot, after the next answer.
    tokio::time::sleep(config().answer_timeout + Duration::from_millis(1200)).await;
    let mut probe = append(leader, 4, 400);
    probe.log_term = 2;
    let probe = probe.encode_to_vec();
    stage
        .learner
        .posted_by(&stage.leader, "/raft", &probe)
        .await;
    let ack = stage.hear().await;
    assert_eq!(ack, outgoing(leader, MessageKind::AppResp, 4, 400));
    drop(running);
}
