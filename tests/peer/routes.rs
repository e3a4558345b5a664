//! What we answer, row by row of section 2.2 of the protocol's description.

use std::time::{Duration, Instant};

use etcd_syncer::peer::codec::encode_message;
use etcd_syncer::peer::kind::MessageKind;
use etcd_syncer::peer::{Config, Inbound};
use prost::Message as _;
use tokio::time::timeout;

use crate::client::{SOON, call, exchange, get, request};
use crate::harness::{
    CLUSTER, Learner, US, append, borrowed, config, entry, eventually, heartbeat, outgoing,
    raft_headers,
};
use crate::member::{FakeMember, Reply};

#[tokio::test]
async fn a_stream_begins_at_once_and_is_kept_alive() {
    let member = FakeMember::start(7).await;
    let learner = Learner::joined(&[&member]).await;
    for (kind, beat) in [
        ("msgapp", &[0][..]),
        ("message", b"\0\0\0\0\0\0\0\x02\x08\x08"),
    ] {
        let begun = Instant::now();
        let mut stream = learner.dialled_by(&member, kind).await;
        assert_eq!(
            crate::client::header(&stream.head, "x-server-version"),
            Some("3.5.1")
        );
        let cluster = CLUSTER.to_string();
        let header = crate::client::header(&stream.head, "x-etcd-cluster-id");
        assert_eq!(header, Some(cluster.as_str()));
        for _ in 0..3 {
            assert_eq!(stream.take(beat.len()).await, beat);
        }
        assert!(
            begun.elapsed() < Duration::from_secs(2),
            "{:?}",
            begun.elapsed()
        );
    }
    learner.stop().await;
}

#[test]
fn link_heartbeats_are_frequent_enough_by_default() {
    assert!(Config::default().link_heartbeat <= Duration::from_millis(1666));
}

#[tokio::test]
async fn a_second_dial_replaces_the_first() {
    let member = FakeMember::start(7).await;
    let mut learner = Learner::joined(&[&member]).await;
    learner.hear(&member, 2, 10).await;
    for kind in ["msgapp", "message"] {
        let mut first = learner.dialled_by(&member, kind).await;
        let mut second = learner.dialled_by(&member, kind).await;
        let ends = async { while first.read().await.is_some() {} };
        timeout(SOON, ends).await.expect("the first stream ends");
        assert!(timeout(SOON, second.read()).await.unwrap().is_some());
        if kind == "message" {
            let ack = outgoing(member.id, MessageKind::AppResp, 2, 10);
            learner.transport.send(member.id, &ack).unwrap();
            assert_eq!(second.take_message().await, ack.encode_to_vec());
        }
    }
}

#[tokio::test]
async fn stream_dials_that_do_not_fit_are_told_why() {
    let member = FakeMember::start(7).await;
    let learner = Learner::joined(&[&member]).await;
    let good = "/raft/stream/message/7";
    let cases: [(&str, &str, Option<&str>, u16, &str); 12] = [
        (
            "/raft/stream/message/8",
            "",
            None,
            404,
            "error sender not found\n",
        ),
        ("/raft/stream/message/xyz", "", None, 404, "invalid from\n"),
        ("/raft/stream/message/", "", None, 404, "invalid from\n"),
        ("/raft/stream/message/7/7", "", None, 404, "invalid from\n"),
        ("/raft/stream/other/7", "", None, 404, "invalid path\n"),
        ("/raft/stream/7", "", None, 404, "invalid path\n"),
        ("/raft/stream", "", None, 404, "invalid path\n"),
        (
            good,
            "X-Etcd-Cluster-ID",
            Some("1"),
            412,
            "cluster ID mismatch\n",
        ),
        (good, "X-Raft-To", Some("8"), 412, "to field mismatch\n"),
        (
            good,
            "X-Server-Version",
            None,
            412,
            "incompatible version\n",
        ),
        (
            good,
            "X-Server-Version",
            Some("3.4"),
            412,
            "incompatible version\n",
        ),
        (
            good,
            "X-Min-Cluster-Version",
            Some("4.0.0"),
            412,
            "incompatible version\n",
        ),
    ];
    for (path, name, value, status, body) in cases {
        let mut headers = raft_headers(member.id);
        headers.retain(|(known, _)| *known != name);
        if let Some(value) = value {
            headers.push(("x", String::new()));
            let last = headers.last_mut().unwrap();
            *last = (leaked(name), value.into());
        }
        let answer = get(learner.address, path, &borrowed(&headers)).await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (status, body),
            "{path} {name}"
        );
        assert_eq!(answer.header("connection"), Some("close"));
    }
    let headers = raft_headers(member.id);
    let answer = call(learner.address, "POST", good, &borrowed(&headers), b"")
        .await
        .unwrap();
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET")));
}

fn leaked(text: &str) -> &'static str {
    text.to_owned().leak()
}

#[tokio::test]
async fn a_post_is_taken_or_told_why_not() {
    let member = FakeMember::start(7).await;
    let mut learner = Learner::joined(&[&member]).await;
    let mut large = append(member.id, 2, 10);
    large.entries = vec![entry(2, 11, &vec![7; 3 << 20])];
    let beat = heartbeat(member.id, 2, b"");
    for message in [large, beat] {
        let answer = learner
            .posted_by(&member, "/raft", &message.encode_to_vec())
            .await
            .unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (204, ""));
        assert_eq!(learner.recv_message().await, message);
    }
    let mut astray = append(member.id, 2, 10);
    astray.to = 1;
    let cases: [(Vec<u8>, u16, &str); 3] = [
        (b"\x08".to_vec(), 400, "error unmarshalling raft message\n"),
        (
            b"not a message".to_vec(),
            400,
            "error unmarshalling raft message\n",
        ),
        (
            astray.encode_to_vec(),
            500,
            "error processing raft message\n",
        ),
    ];
    for (body, status, text) in cases {
        let answer = learner.posted_by(&member, "/raft", &body).await.unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (status, text));
    }
    let mut headers = raft_headers(member.id);
    headers[0].1 = "8".into();
    let unknown = call(learner.address, "POST", "/raft", &borrowed(&headers), b"x")
        .await
        .unwrap();
    assert_eq!(
        (unknown.status, unknown.body.as_str()),
        (404, "error sender not found\n")
    );
    headers[3].1 = "1".into();
    let strange = call(learner.address, "POST", "/raft", &borrowed(&headers), b"x")
        .await
        .unwrap();
    assert_eq!(
        (strange.status, strange.body.as_str()),
        (412, "cluster ID mismatch\n")
    );
    let wrong = get(learner.address, "/raft", &[]).await;
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("POST")));
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused() {
    let member = FakeMember::start(7).await;
    let config = Config {
        frame_bytes_max: 100_000,
        ..config()
    };
    let learner = Learner::joined_with(config, &[&member]).await;
    let answer = learner
        .posted_by(&member, "/raft", &vec![0; 100_001])
        .await
        .unwrap();
    assert_eq!(answer.status, 413);
}

#[tokio::test]
async fn an_unknown_field_in_a_post_is_reported() {
    let member = FakeMember::start(7).await;
    let mut learner = Learner::joined(&[&member]).await;
    let answer = learner
        .posted_by(&member, "/raft", b"\x08\x03\x78\x01")
        .await
        .unwrap();
    assert_eq!(answer.status, 400);
    let Inbound::Unknown { from, what } = learner.recv().await else {
        panic!("nothing is reported");
    };
    assert_eq!(from, member.id);
    assert!(
        what.starts_with("unknown field 15 in raftpb.Message"),
        "{what}"
    );
}

#[tokio::test]
async fn probing_tells_the_time() {
    let learner = Learner::start(config()).await;
    let answer = get(learner.address, "/raft/probing", &[]).await;
    assert_eq!(answer.status, 200);
    let json: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(json["OK"], true);
    let now = json["Now"].as_str().unwrap();
    let now = humantime::parse_rfc3339(now).unwrap();
    assert!(now.elapsed().unwrap() < SOON);
}

#[tokio::test]
async fn version_and_members_are_as_members_give_them() {
    let member = FakeMember::start(7).await;
    let learner = Learner::joined(&[&member]).await;
    let version = get(learner.address, "/version", &[]).await;
    assert_eq!(
        version.body,
        "{\"etcdcluster\":\"3.5.0\",\"etcdserver\":\"3.5.1\"}\n"
    );
    let members = get(learner.address, "/members", &[]).await;
    assert_eq!(members.status, 200);
    let cluster = CLUSTER.to_string();
    assert_eq!(members.header("x-etcd-cluster-id"), Some(cluster.as_str()));
    let wanted = format!(
        "[{{\"clientURLs\":[\"http://127.0.0.1:1\"],\"id\":7,\"name\":\"m7\",\
         \"peerURLs\":[\"{}\"]}},{{\"id\":{},\"isLearner\":true,\"peerURLs\":[\"{}\"]}}]\n",
        member.url(),
        US.0,
        learner.url()
    );
    assert_eq!(members.body, wanted);
    for path in ["/version", "/members"] {
        let answer = call(learner.address, "POST", path, &[], b"").await.unwrap();
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET")));
    }
}

#[tokio::test]
async fn what_only_leaders_serve_is_not_found() {
    let member = FakeMember::start(7).await;
    let learner = Learner::joined(&[&member]).await;
    let paths = [
        "/members/promote/1",
        "/leases",
        "/leases/internal",
        "/health",
        "/metrics",
        "/",
        "/members/hashkv",
        "/downgrade/enabled",
        "/raft/",
        "/raft/other",
        "/v3/kv/put",
    ];
    for path in paths {
        for method in ["GET", "POST"] {
            let answer = call(learner.address, method, path, &[], b"").await.unwrap();
            assert_eq!(answer.status, 404, "{method} {path}");
            assert!(serde_json::from_str::<serde_json::Value>(&answer.body).is_err());
        }
    }
}

#[tokio::test]
async fn before_we_joined_nothing_is_claimed() {
    let learner = Learner::start(config()).await;
    let member = FakeMember::start(7).await;
    let headers = raft_headers(member.id);
    for path in ["/raft/stream/msgapp/7", "/raft/stream/message/7"] {
        let answer = get(learner.address, path, &borrowed(&headers)).await;
        assert_eq!(answer.status, 503, "{path}");
    }
    for path in ["/raft", "/raft/snapshot"] {
        let answer = learner.posted_by(&member, path, b"x").await.unwrap();
        assert_eq!(answer.status, 503, "{path}");
    }
    assert_eq!(get(learner.address, "/version", &[]).await.status, 404);
    assert_eq!(get(learner.address, "/members", &[]).await.status, 503);
    // And from then on all goes well, without another listener.
    learner.join(&[&member]);
    drop(learner.dialled_by(&member, "message").await);
}

#[tokio::test]
async fn an_http_2_preface_is_closed() {
    let learner = Learner::start(config()).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let begun = Instant::now();
    let answer = String::from_utf8_lossy(&exchange(learner.address, preface).await).into_owned();
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 400 "),
        "{answer}"
    );
    assert!(begun.elapsed() < SOON);
}

#[tokio::test]
async fn each_connection_carries_one_request() {
    let learner = Learner::start(config()).await;
    let once = request("GET", "/raft/probing", &[], b"");
    let answers = exchange(learner.address, &[once.clone(), once].concat()).await;
    let answers = String::from_utf8_lossy(&answers).into_owned();
    assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{answers}");
}

#[tokio::test]
async fn only_what_concerns_the_learner_reaches_it() {
    let member = FakeMember::start(7).await;
    let mut learner = Learner::joined(&[&member]).await;
    for kind in MessageKind::ALL {
        let mut message = heartbeat(member.id, 2, b"");
        message.r#type = kind.number();
        let bytes = encode_message(&message);
        member.write("message", &bytes).await;
    }
    let mut last = heartbeat(member.id, 3, b"");
    last.context = "last".into();
    member.write("message", &encode_message(&last)).await;
    let mut received = Vec::new();
    while received.last() != Some(&last) {
        received.push(learner.recv_message().await);
    }
    let kinds: Vec<u32> = received.iter().map(|message| message.r#type).collect();
    assert_eq!(kinds, [3, 8, 16, 8]);
    let stats = learner.transport.stats();
    for kind in MessageKind::ALL {
        let delivered = [3, 8, 16].contains(&kind.number());
        assert_eq!(
            stats.dropped(kind),
            u64::from(!delivered),
            "{}",
            kind.name()
        );
    }
}

#[tokio::test]
async fn our_members_answer_follows_theirs() {
    let (a, b) = (FakeMember::start(7).await, FakeMember::start(8).await);
    let learner = Learner::joined(&[&a]).await;
    a.list(&[&a, &b], &learner.url());
    b.list(&[&a, &b], &learner.url());
    b.await_streams("message", 1).await;
    let lists_both = || learner.transport.members().current().len() == 3;
    eventually(lists_both).await;
    b.answer("/members", Reply::Text(404, String::new(), "x".into()));
    a.list(&[&a], &learner.url());
    eventually(|| learner.transport.streams().len() == 1).await;
}
