//! One test for each of the hard rules: what a learner could break in real members.
//!
//! The numbers are those of the table in section 1 of the protocol's description. H17, conf
//! changes in the numbering of another library, is the learner's.

use std::time::{Duration, Instant};

use bytes::Bytes;
use etcd_syncer::ids::{RaftIndex, Term};
use etcd_syncer::pb::raftpb::Message;
use etcd_syncer::peer::codec::encode_message;
use etcd_syncer::peer::kind::MessageKind;
use etcd_syncer::peer::version::Version;
use etcd_syncer::peer::{Inbound, Refused};
use prost::Message as _;
use tokio::time::timeout;

use crate::client::{Answer, call, get, header};
use crate::harness::{
    Learner, append, borrowed, config, entry, eventually, heartbeat, outgoing, raft_headers,
};
use crate::member::{FakeMember, Reply, version};

/// All that is ever answered.
const STATUSES: [u16; 9] = [200, 204, 400, 404, 405, 412, 413, 500, 503];

/// Asks every path in every way, with headers of all sorts, and returns what came back.
async fn ask_everything(learner: &Learner, member: &FakeMember) -> Vec<(String, Answer)> {
    let paths = [
        "/raft/stream/msgapp/7",
        "/raft/stream/message/7",
        "/raft/stream/message/8",
        "/raft/stream/",
        "/raft",
        "/raft/probing",
        "/version",
        "/members",
        "/members/hashkv",
        "/members/promote/1",
        "/downgrade/enabled",
        "/leases",
        "/nothing",
    ];
    let full = raft_headers(member.id);
    let mut answers = Vec::new();
    for path in paths {
        for method in ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"] {
            for missing in 0..=full.len() {
                // The others are no reason to refuse a stream.
                let fits = ![1, 3, 4].contains(&missing);
                let served = method == "GET" && path.ends_with("/7") && fits;
                if served && learner.transport.identity().is_some() {
                    continue;
                }
                let mut headers = full.clone();
                if missing < full.len() {
                    headers.remove(missing);
                }
                let what = format!("{method} {path} without header {missing}");
                let headers = borrowed(&headers);
                let answer = call(learner.address, method, path, &headers, b"x").await;
                answers.push((what.clone(), answer.expect(&what)));
            }
        }
    }
    answers
}

#[tokio::test]
async fn h01_no_stream_dial_and_h02_no_post_is_answered_with_a_fatal_status() {
    let member = FakeMember::start(7).await;
    let mut learner = Learner::start(config()).await;
    let before = ask_everything(&learner, &member).await;
    learner.join(&[&member]);
    let joined = ask_everything(&learner, &member).await;
    // Not even once we are removed ourselves, or the member is.
    let gone = "X-Etcd-Cluster-Id: 1db583717a902f9c\r\n";
    let removed = Reply::Text(410, gone.into(), "removed member\n".into());
    member.answer("/raft/stream/", removed);
    member.hang_up("msgapp");
    member.hang_up("message");
    assert_eq!(learner.recv().await, Inbound::Removed { by: member.id });
    let removed = ask_everything(&learner, &member).await;
    member.answer("/members", Reply::Hang);
    learner.transport.set_members(learner.roster(&[]));
    let without = ask_everything(&learner, &member).await;
    for (what, answer) in [before, joined, removed, without].concat_all() {
        assert!(STATUSES.contains(&answer.status), "{what}: {}", answer.head);
        assert!(![403, 410].contains(&answer.status), "{what}");
    }
    assert_eq!(learner.transport.stats().answers_replaced.value(), 0);
}

trait ConcatAll<T> {
    fn concat_all(self) -> Vec<T>;
}

impl<T, const N: usize> ConcatAll<T> for [Vec<T>; N] {
    fn concat_all(self) -> Vec<T> {
        self.into_iter().flatten().collect()
    }
}

#[tokio::test]
async fn h03_the_version_in_a_stream_answer_is_always_whole() {
    let member = FakeMember::start(7).await;
    let learner = Learner::joined(&[&member]).await;
    for (theirs, shown) in [("3.7.0-rc.1+build", "3.7.0"), ("3.6.14", "3.6.14")] {
        member.answer("/version", version(theirs, "3.6.0"));
        let wanted = Version::parse(theirs);
        eventually(|| learner.transport.versions().map(|v| v.server) == wanted).await;
        let stream = learner.dialled_by(&member, "message").await;
        assert_eq!(header(&stream.head, "x-server-version"), Some(shown));
    }
    // What is none is not taken over.
    for theirs in ["3.4", "v3.4.0", "", "3.4.0\\u0000", "latest"] {
        let asked = member.seen("/version").len();
        member.answer("/version", version(theirs, "3.4.0"));
        eventually(|| member.seen("/version").len() > asked + 2).await;
        let stream = learner.dialled_by(&member, "message").await;
        assert_eq!(header(&stream.head, "x-server-version"), Some("3.6.14"));
    }
}

#[tokio::test]
async fn h04_the_msgapp_stream_carries_zeros_only() {
    let member = FakeMember::start(7).await;
    let mut learner = Learner::joined(&[&member]).await;
    learner.hear(&member, 2, 10).await;
    let mut msgapp = learner.dialled_by(&member, "msgapp").await;
    let mut message = learner.dialled_by(&member, "message").await;
    for index in 1..=10 {
        let ack = outgoing(member.id, MessageKind::AppResp, 2, index);
        learner.transport.send(member.id, &ack).unwrap();
        assert_eq!(message.take_message().await, ack.encode_to_vec());
    }
    assert_eq!(msgapp.take(5).await, [0; 5]);
    // Without a message stream messages go by POST, never here.
    drop(message);
    eventually(|| !learner.transport.streams()[0].message_served).await;
    let ack = outgoing(member.id, MessageKind::AppResp, 2, 7);
    learner.transport.send(member.id, &ack).unwrap();
    eventually(|| !member.seen("/raft").iter().all(|seen| seen.path != "/raft")).await;
    assert_eq!(msgapp.take(5).await, [0; 5]);
}

/// Tries to send what must not leave, and checks that it did not.
async fn assert_refused(learner: &Learner, member: &FakeMember, messages: Vec<Message>) {
    let mut stream = learner.dialled_by(member, "message").await;
    for message in messages {
        let refused = learner.transport.send(member.id, &message);
        assert!(refused.is_err(), "{message:?} leaves");
    }
    let allowed = outgoing(member.id, MessageKind::HeartbeatResp, 2, 0);
    learner.transport.send(member.id, &allowed).unwrap();
    // The first that arrives is the allowed one.
    assert_eq!(stream.take_message().await, allowed.encode_to_vec());
    let posted = member
        .seen("/raft")
        .into_iter()
        .filter(|seen| seen.path == "/raft");
    assert_eq!(posted.count(), 0);
}

#[tokio::test]
async fn h05_no_proposal_leaves() {
    let member = FakeMember::start(7).await;
    let mut learner = Learner::joined(&[&member]).await;
    learner.hear(&member, 2, 10).await;
    let empty = outgoing(member.id, MessageKind::Prop, 2, 0);
    let mut conf_change = empty.clone();
    conf_change.entries = vec![entry(0, 0, b"not a conf change")];
    conf_change.entries[0].r#type = 1;
    assert_refused(&learner, &member, vec![empty, conf_change]).await;
}

#[tokio::test]
async fn h06_a_read_index_request_has_exactly_one_entry() {
    let member = FakeMember::start(7).await;
    let mut learner = Learner::joined(&[&member]).await;
    learner.hear(&member, 2, 10).await;
    let mut request = outgoing(member.id, MessageKind::ReadIndex, 0, 0);
    let none = request.clone();
    request.entries = vec![entry(0, 0, b"context"); 2];
    assert_refused(&learner, &member, vec![none, request.clone()]).await;
    request.entries.pop();
    let mut stream = learner.dialled_by(&member, "message").await;
    learner.transport.send(member.id, &request).unwrap();
    let sent = Message::decode(stream.take_message().await.as_slice()).unwrap();
    assert_eq!(sent.entries.len(), 1);
}

#[tokio::test]
async fn h07_and_h08_no_hash_is_ever_answered() {
    let member = FakeMember::start(7).await;
    let learner = Learner::joined(&[&member]).await;
    let headers = raft_headers(member.id);
    for body in [&b""[..], b"{}", br#"{"revision":5}"#] {
        for method in ["GET", "POST"] {
            let path = "/members/hashkv";
            let answer = call(learner.address, method, path, &borrowed(&headers), body).await;
            let answer = answer.unwrap();
            assert_eq!(
                (answer.status, answer.body.as_str()),
                (404, "404 page not found\n")
            );
        }
    }
}

#[tokio::test]
async fn h09_no_member_attributes_are_proposed() {
    let member = FakeMember::start(7).await;
    let mut learner = Learner::joined(&[&member]).await;
    learner.hear(&member, 2, 10).await;
    let mut proposal = outgoing(member.id, MessageKind::Prop, 0, 0);
    proposal.entries = vec![entry(0, 0, br#"{"name":"us","clientURLs":[]}"#)];
    // Nor under the name of something that may leave.
    let mut disguised = proposal.clone();
    disguised.r#type = MessageKind::AppResp.number();
    disguised.term = 2;
    let mut heartbeat = disguised.clone();
    heartbeat.r#type = MessageKind::HeartbeatResp.number();
    assert_refused(&learner, &member, vec![proposal, disguised, heartbeat]).await;
}

#[tokio::test]
async fn h10_no_term_above_the_leaders_leaves() {
    let member = FakeMember::start(7).await;
    let mut learner = Learner::joined(&[&member]).await;
    let answer = |term| outgoing(member.id, MessageKind::HeartbeatResp, term, 0);
    let refused = learner.transport.send(member.id, &answer(1));
    let highest = Term(0);
    assert_eq!(
        refused,
        Err(Refused::Term {
            term: Term(1),
            highest
        })
    );
    learner.hear(&member, 2, 10).await;
    let kinds = [
        MessageKind::AppResp,
        MessageKind::HeartbeatResp,
        MessageKind::ReadIndex,
    ];
    let mut messages: Vec<Message> = kinds
        .into_iter()
        .flat_map(|kind| [3, 7, u64::MAX].map(|term| outgoing(member.id, kind, term, 0)))
        .collect();
    for request in messages.iter_mut().filter(|m| m.r#type == 15) {
        request.entries = vec![entry(0, 0, b"context")];
    }
    // A candidate's term is no leader's.
    let mut vote = heartbeat(member.id, 9, b"");
    vote.r#type = MessageKind::Vote.number();
    member.write("message", &encode_message(&vote)).await;
    let dropped = || learner.transport.stats().dropped(MessageKind::Vote) == 1;
    eventually(dropped).await;
    messages.push(answer(9));
    assert_refused(&learner, &member, messages).await;
    learner.hear(&member, 3, 10).await;
    assert_eq!(learner.transport.send(member.id, &answer(3)), Ok(()));
}

#[tokio::test]
async fn h11_our_version_is_the_smallest_of_the_voters() {
    let (a, b) = (FakeMember::start(7).await, FakeMember::start(8).await);
    let mut other_learner = FakeMember::start(6).await;
    other_learner.is_learner = true;
    other_learner.answer("/version", version("3.4.23", "3.4.0"));
    a.answer("/version", version("3.6.14", "3.6.0"));
    b.answer("/version", version("3.5.33", "3.5.0"));
    let learner = Learner::joined(&[&a, &b, &other_learner]).await;
    let wanted = "{\"etcdcluster\":\"3.5.0\",\"etcdserver\":\"3.5.33\"}\n";
    let shows = |wanted| {
        let wanted = Version::parse(wanted);
        eventually_version(&learner, wanted)
    };
    shows("3.5.33").await;
    assert_eq!(get(learner.address, "/version", &[]).await.body, wanted);
    // One that is down keeps what it said last.
    b.answer("/version", Reply::Raw(Vec::new()));
    let asked = b.seen("/version").len();
    eventually(|| b.seen("/version").len() > asked + 3).await;
    assert_eq!(get(learner.address, "/version", &[]).await.body, wanted);
    // An upgrade is followed.
    b.answer("/version", version("3.7.1", "3.6.0"));
    shows("3.6.14").await;
}

async fn eventually_version(learner: &Learner, wanted: Option<Version>) {
    eventually(|| learner.transport.versions().map(|v| v.server) == wanted).await;
}

#[tokio::test]
async fn h12_version_is_answered_at_once_whatever_the_members_do() {
    let member = FakeMember::start(7).await;
    member.answer("/version", Reply::Hang);
    let learner = Learner::joined(&[&member]).await;
    eventually(|| !member.seen("/version").is_empty()).await;
    for _ in 0..20 {
        let begun = Instant::now();
        assert_eq!(get(learner.address, "/version", &[]).await.status, 200);
        assert!(begun.elapsed() < Duration::from_secs(2));
    }
}

#[tokio::test]
async fn h14_members_is_the_exact_list_or_no_json() {
    let (a, b) = (FakeMember::start(7).await, FakeMember::start(8).await);
    let learner = Learner::start(config()).await;
    let is_json = |answer: &Answer| serde_json::from_str::<serde_json::Value>(&answer.body).is_ok();
    assert!(!is_json(&get(learner.address, "/members", &[]).await));
    learner.join(&[&a, &b]);
    let answer = get(learner.address, "/members", &[]).await;
    assert!(answer.status == 200 && answer.header("x-etcd-cluster-id").is_some());
    // An empty list, as a member gives that has none, is not taken over.
    let cluster = "X-Etcd-Cluster-Id: 1db583717a902f9c\r\n";
    for member in [&a, &b] {
        member.answer("/members", Reply::Text(200, cluster.into(), "[]".into()));
    }
    let asked = a.seen("/members").len();
    eventually(|| a.seen("/members").len() > asked + 3).await;
    let ids = |answer: &Answer| {
        let json: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        json.as_array()
            .unwrap()
            .iter()
            .map(|m| m["id"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    let all = [7, 8, crate::harness::US.0];
    assert_eq!(ids(&get(learner.address, "/members", &[]).await), all);
    // As long as the members disagree, we have no list.
    a.list(&[&a], &learner.url());
    b.list(&[&a, &b], &learner.url());
    let begun = Instant::now();
    loop {
        let answer = get(learner.address, "/members", &[]).await;
        if !is_json(&answer) {
            assert_eq!(answer.status, 503);
            break;
        }
        assert_eq!(ids(&answer), all);
        assert!(begun.elapsed() < crate::client::SOON);
    }
}

#[tokio::test]
async fn h15_downgrade_is_not_answered_and_the_cluster_version_is_theirs() {
    let member = FakeMember::start(7).await;
    let learner = Learner::joined(&[&member]).await;
    let answer = get(learner.address, "/downgrade/enabled", &[]).await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (404, "404 page not found\n")
    );
    for theirs in ["3.4.0", "not_decided", "3.5.0"] {
        member.answer("/version", version("3.5.2", theirs));
        let shown = || learner.transport.versions().map(|v| v.cluster.to_string());
        eventually(|| shown().as_deref() == Some(theirs)).await;
        let body = get(learner.address, "/version", &[]).await.body;
        let wanted = format!("{{\"etcdcluster\":\"{theirs}\",\"etcdserver\":\"3.5.2\"}}\n");
        assert_eq!(body, wanted);
    }
}

#[tokio::test]
async fn h16_only_what_is_durable_is_acknowledged_and_rejects_do_not_loop() {
    let member = FakeMember::start(7).await;
    let mut learner = Learner::joined(&[&member]).await;
    learner.hear(&member, 2, 10).await;
    let more = append(member.id, 2, 20);
    learner
        .posted_by(&member, "/raft", &more.encode_to_vec())
        .await;
    let ack = |index| outgoing(member.id, MessageKind::AppResp, 2, index);
    assert_refused(&learner, &member, vec![ack(11), ack(20)]).await;
    assert_eq!(learner.transport.send(member.id, &ack(10)), Ok(()));
    learner.transport.set_acknowledgeable(RaftIndex(20));
    assert_eq!(learner.transport.send(member.id, &ack(20)), Ok(()));
    let mut reject = ack(2000);
    reject.reject = true;
    let begun = Instant::now();
    let mut passed = 0;
    while passed < 3 {
        passed += u32::from(learner.transport.send(member.id, &reject).is_ok());
        tokio::task::yield_now().await;
    }
    assert!(
        begun.elapsed() >= Duration::from_millis(200),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn h18_a_heartbeat_context_is_echoed_exactly_or_not_at_all() {
    let (member, other) = (FakeMember::start(7).await, FakeMember::start(8).await);
    let mut learner = Learner::joined(&[&member, &other]).await;
    learner.hear(&member, 2, 10).await;
    let beat = heartbeat(member.id, 2, b"8 bytes.");
    member.write("message", &encode_message(&beat)).await;
    assert_eq!(learner.recv_message().await, beat);
    let answer = |to, context: &[u8]| {
        let mut answer = outgoing(to, MessageKind::HeartbeatResp, 2, 0);
        answer.context = Bytes::copy_from_slice(context);
        answer
    };
    let mut wrong: Vec<Message> = (1..8)
        .map(|n| answer(member.id, &b"8 bytes."[..n]))
        .collect();
    wrong.push(answer(member.id, b"8 bytes.9"));
    wrong.push(answer(member.id, b"8 bytes,"));
    assert_refused(&learner, &member, wrong).await;
    let strange = answer(other.id, b"8 bytes.");
    assert_eq!(
        learner.transport.send(other.id, &strange),
        Err(Refused::Context)
    );
    assert_eq!(
        learner
            .transport
            .send(member.id, &answer(member.id, b"8 bytes.")),
        Ok(())
    );
}

#[tokio::test]
async fn h19_nothing_above_the_leaders_last_index_is_acknowledged() {
    let (member, other) = (FakeMember::start(7).await, FakeMember::start(8).await);
    let mut learner = Learner::joined(&[&member, &other]).await;
    learner.hear(&member, 2, 10).await;
    learner.transport.set_acknowledgeable(RaftIndex(1_000_000));
    let ack = |to, index| outgoing(to, MessageKind::AppResp, 2, index);
    let above = vec![ack(member.id, 11), ack(member.id, 102_015)];
    assert_refused(&learner, &member, above).await;
    let shown = RaftIndex(0);
    let index = RaftIndex(10);
    let refused = learner.transport.send(other.id, &ack(other.id, 10));
    assert_eq!(refused, Err(Refused::NotShown { index, shown }));
    assert_eq!(
        learner.transport.send(member.id, &ack(member.id, 10)),
        Ok(())
    );
}

#[tokio::test]
async fn nothing_leaves_before_we_joined_or_while_muted() {
    let member = FakeMember::start(7).await;
    let mut learner = Learner::start(config()).await;
    let answer = outgoing(member.id, MessageKind::HeartbeatResp, 2, 0);
    assert_eq!(
        learner.transport.send(member.id, &answer),
        Err(Refused::NotJoined)
    );
    learner.join(&[&member]);
    learner.hear(&member, 2, 10).await;
    learner.transport.set_muted(true);
    let mut stream = learner.dialled_by(&member, "message").await;
    assert_eq!(
        learner.transport.send(member.id, &answer),
        Err(Refused::Muted)
    );
    assert!(
        timeout(Duration::from_millis(300), stream.take_message())
            .await
            .is_err()
    );
    learner.transport.set_muted(false);
    assert_eq!(learner.transport.send(member.id, &answer), Ok(()));
    let unknown = outgoing(
        etcd_syncer::ids::MemberId(77),
        MessageKind::HeartbeatResp,
        2,
        0,
    );
    let to = etcd_syncer::ids::MemberId(77);
    assert_eq!(
        learner.transport.send(to, &unknown),
        Err(Refused::UnknownMember { to })
    );
}
