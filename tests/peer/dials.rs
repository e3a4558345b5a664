//! How we dial, what we make of the answers (section 2.5), and how messages find their way.

use std::time::{Duration, Instant};

use etcd_syncer::ids::{ClusterId, MemberId, RaftIndex, Term};
use etcd_syncer::peer::codec::encode_message;
use etcd_syncer::peer::join::{Error, Found, Lookup, find_self};
use etcd_syncer::peer::kind::MessageKind;
use etcd_syncer::peer::net::Security;
use etcd_syncer::peer::stats::Channel;
use etcd_syncer::peer::{AlreadyJoined, Config, Identity, Inbound, Refused};
use prost::Message as _;

use crate::client::SOON;
use crate::harness::{
    CLUSTER, IDENTITY, Learner, US, VERSIONS, append, config, entry, eventually, heartbeat,
    outgoing,
};
use crate::member::{FakeMember, Reply};

fn refusal(status: u16, cluster: Option<ClusterId>, body: &str) -> Reply {
    let header = cluster.map(|id| format!("X-Etcd-Cluster-Id: {id}\r\n"));
    Reply::Text(status, header.unwrap_or_default(), format!("{body}\n"))
}

/// How often the message stream was dialled.
fn dials(member: &FakeMember) -> usize {
    member.seen("/raft/stream/message/").len()
}

#[tokio::test]
async fn we_dial_both_streams_as_members_do() {
    let member = FakeMember::start(7).await;
    let learner = Learner::joined(&[&member]).await;
    for kind in ["msgapp", "message"] {
        member.await_streams(kind, 1).await;
        let path = format!("/raft/stream/{kind}/535bc51940892e3");
        let seen = member.seen(&path).pop().unwrap();
        assert_eq!(
            (seen.method.as_str(), seen.path.as_str()),
            ("GET", path.as_str())
        );
        let headers = [
            ("x-server-from", Some("535bc51940892e3")),
            ("x-server-version", Some("3.5.1")),
            ("x-min-cluster-version", Some("3.0.0")),
            ("x-etcd-cluster-id", Some("1db583717a902f9c")),
            ("x-raft-to", Some("7")),
            ("x-peerurls", None),
        ];
        for (name, wanted) in headers {
            assert_eq!(seen.header(name), wanted, "{name}");
        }
        assert_eq!(
            seen.header("host"),
            Some(member.address.to_string().as_str())
        );
    }
    let up = || learner.transport.streams()[0];
    eventually(|| up().msgapp_dialled && up().message_dialled).await;
    learner.stop().await;
}

#[tokio::test]
async fn a_member_that_does_not_know_us_yet_is_dialled_again() {
    let member = FakeMember::start(7).await;
    let not_yet = refusal(404, Some(CLUSTER), "error sender not found");
    member.answer("/raft/stream/", not_yet);
    let begun = Instant::now();
    let learner = Learner::joined(&[&member]).await;
    eventually(|| dials(&member) == 4).await;
    // At 0, 100, 300 and 700 ms, or a little later.
    assert!(
        begun.elapsed() >= Duration::from_millis(700),
        "{:?}",
        begun.elapsed()
    );
    member.answer("/raft/stream/", Reply::Stream);
    member.await_streams("message", 1).await;
    drop(learner);
}

#[tokio::test]
async fn answers_that_are_no_streams_are_retried_and_reported_if_they_matter() {
    let strange = Some(ClusterId(0xbad));
    let mismatch = |theirs| {
        Some(Inbound::ClusterMismatch {
            at: MemberId(7),
            theirs,
        })
    };
    let removed = Some(Inbound::Removed { by: MemberId(7) });
    let moved = "Location: http://127.0.0.1:1/raft\r\n".to_owned();
    let cases = [
        (refusal(410, Some(CLUSTER), "removed member"), removed),
        (refusal(410, None, "removed member"), None),
        (refusal(410, strange, "removed member"), mismatch(strange)),
        (
            refusal(412, strange, "cluster ID mismatch"),
            mismatch(strange),
        ),
        (refusal(412, Some(CLUSTER), "to field mismatch"), None),
        (refusal(412, Some(CLUSTER), "incompatible version"), None),
        (refusal(404, Some(CLUSTER), "invalid path"), None),
        (refusal(405, Some(CLUSTER), "Method Not Allowed"), None),
        (refusal(403, None, "who are you"), None),
        (refusal(500, None, "oh"), None),
        (Reply::Text(301, moved, String::new()), None),
        (Reply::Raw(b"SSH-2.0-x\r\n".to_vec()), None),
        (Reply::Raw(Vec::new()), None),
    ];
    for (reply, wanted) in cases {
        let member = FakeMember::start(7).await;
        member.answer("/raft/stream/", reply.clone());
        let mut learner = Learner::joined(&[&member]).await;
        if let Some(wanted) = wanted {
            // Once from each stream.
            assert_eq!(learner.recv().await, wanted);
            assert_eq!(learner.recv().await, wanted);
        }
        if !matches!(&reply, Reply::Text(410, headers, _) if headers.contains("1db58")) {
            eventually(|| dials(&member) >= 3).await;
        }
        assert_eq!(learner.inbox.try_recv(), None, "{reply:?}");
        assert_eq!(learner.transport.stats().streams_dialled.value(), 0);
    }
}

#[tokio::test]
async fn the_other_url_is_tried() {
    let member = FakeMember::start(7).await;
    let wrong = FakeMember::start(8).await;
    wrong.answer(
        "/raft/stream/",
        refusal(412, Some(CLUSTER), "to field mismatch"),
    );
    wrong.answer("/members", Reply::Hang);
    member.answer("/members", Reply::Hang);
    let learner = Learner::start(config()).await;
    let mut listed = member.member();
    let dead = "http://127.0.0.1:1".into();
    listed.peer_urls = vec![dead, wrong.url(), "https://tls:1".into(), member.url()];
    learner
        .transport
        .join(IDENTITY, vec![listed], Some(VERSIONS))
        .unwrap();
    member.await_streams("msgapp", 1).await;
    member.await_streams("message", 1).await;
}

#[tokio::test]
async fn a_silent_stream_is_dialled_anew_and_a_closed_one_too() {
    let member = FakeMember::start(7).await;
    let config = Config {
        silence: Duration::from_millis(1500),
        ..config()
    };
    let _learner = Learner::joined_with(config, &[&member]).await;
    while member.streams_begun("msgapp") < 2 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        member.write("message", b"\0\0\0\0\0\0\0\x02\x08\x08").await;
    }
    assert_eq!(member.streams_begun("message"), 1);
    member.hang_up("message");
    member.await_streams("message", 2).await;
}

#[tokio::test]
async fn a_corrupt_stream_is_dialled_anew_and_an_unknown_field_ends_it() {
    let member = FakeMember::start(7).await;
    let mut learner = Learner::joined(&[&member]).await;
    for (kind, bytes) in [("msgapp", &[3][..]), ("message", &[0xff; 8])] {
        member.write(kind, bytes).await;
        member.await_streams(kind, 2).await;
    }
    assert_eq!(learner.inbox.try_recv(), None);
    assert_eq!(learner.transport.stats().stream_errors.value(), 2);
    let frame = b"\x02\0\0\0\0\0\0\0\x06\x08\x03\x3a\x02\x30\x00";
    member.write("msgapp", frame).await;
    let Inbound::Unknown { from, what } = learner.recv().await else {
        panic!("nothing is reported");
    };
    assert_eq!(from, member.id);
    assert!(
        what.starts_with("unknown field 6 in raftpb.Entry"),
        "{what}"
    );
    member.hang_up("message");
    member.await_streams("message", 3).await;
    assert_eq!(member.streams_begun("msgapp"), 2);
}

#[tokio::test]
async fn entries_arrive_by_the_msgapp_stream_in_their_short_form() {
    let member = FakeMember::start(7).await;
    let mut learner = Learner::joined(&[&member]).await;
    let mut first = append(member.id, 2, 10);
    first.entries = vec![entry(2, 11, b"one")];
    let mut bytes = vec![2];
    bytes.extend_from_slice(&encode_message(&first));
    let second = entry(2, 12, b"two").encode_to_vec();
    bytes.push(1);
    bytes.extend(1_u64.to_be_bytes());
    bytes.extend((second.len() as u64).to_be_bytes());
    bytes.extend(&second);
    bytes.extend(12_u64.to_be_bytes());
    // Cut anywhere.
    for chunk in bytes.chunks(7) {
        member.write("msgapp", chunk).await;
    }
    assert_eq!(learner.recv_message().await, first);
    let message = learner.recv_message().await;
    assert_eq!(
        (message.index, message.log_term, message.commit),
        (11, 2, 12)
    );
    assert_eq!(message.entries, [entry(2, 12, b"two")]);
    let stats = learner.transport.stats();
    assert_eq!(stats.bytes_received(Channel::MsgApp), bytes.len() as u64);
    assert_eq!(stats.delivered(MessageKind::App), 2);
}

#[tokio::test]
async fn answers_go_by_post_until_the_member_dials_and_again_after() {
    let member = FakeMember::start(7).await;
    let mut learner = Learner::joined(&[&member]).await;
    learner.hear(&member, 2, 10).await;
    let ack = |index| outgoing(member.id, MessageKind::AppResp, 2, index);
    let posted = || -> Vec<Vec<u8>> {
        let seen = member.seen("/raft").into_iter();
        seen.filter(|seen| seen.path == "/raft")
            .map(|seen| seen.body)
            .collect()
    };
    learner.transport.send(member.id, &ack(1)).unwrap();
    learner.transport.send(member.id, &ack(2)).unwrap();
    eventually(|| posted().len() == 2).await;
    assert_eq!(posted(), [ack(1).encode_to_vec(), ack(2).encode_to_vec()]);
    let seen = member
        .seen("/raft")
        .into_iter()
        .find(|seen| seen.path == "/raft")
        .unwrap();
    assert_eq!(seen.header("content-type"), Some("application/protobuf"));
    assert_eq!(seen.header("x-server-from"), Some("535bc51940892e3"));
    assert_eq!(seen.header("x-raft-to"), None);
    let mut stream = learner.dialled_by(&member, "message").await;
    learner.transport.send(member.id, &ack(3)).unwrap();
    assert_eq!(stream.take_message().await, ack(3).encode_to_vec());
    drop(stream);
    eventually(|| !learner.transport.streams()[0].message_served).await;
    learner.transport.send(member.id, &ack(4)).unwrap();
    eventually(|| posted().len() == 3).await;
    assert_eq!(learner.transport.stats().send_failures.value(), 0);
    member.answer("/raft", Reply::Text(200, String::new(), String::new()));
    learner.transport.send(member.id, &ack(5)).unwrap();
    eventually(|| learner.transport.stats().send_failures.value() == 1).await;
}

#[tokio::test]
async fn the_post_queue_is_bounded() {
    let member = FakeMember::start(7).await;
    member.answer("/raft", Reply::Hang);
    member.answer("/raft/stream/", Reply::Stream);
    let mut learner = Learner::joined(&[&member]).await;
    learner.hear(&member, 2, 10).await;
    let ack = outgoing(member.id, MessageKind::AppResp, 2, 1);
    let refused = (0..200)
        .map(|_| learner.transport.send(member.id, &ack))
        .filter(|sent| *sent == Err(Refused::QueueFull { to: member.id }))
        .count();
    assert!(refused >= 200 - 66, "{refused}");
    learner.stop().await;
}

#[tokio::test]
async fn members_come_go_and_move() {
    let (a, b) = (FakeMember::start(7).await, FakeMember::start(8).await);
    let config = Config {
        poll_interval: Duration::from_secs(3600),
        ..config()
    };
    let learner = Learner::joined_with(config, &[&a]).await;
    a.await_streams("message", 1).await;
    a.list(&[&a, &b], &learner.url());
    learner.transport.refresh();
    b.await_streams("message", 1).await;
    let mut stream = learner.dialled_by(&b, "message").await;
    learner.transport.set_members(learner.roster(&[&a]));
    // All four streams end.
    tokio::time::timeout(SOON, async { while stream.read().await.is_some() {} })
        .await
        .expect("it ends");
    eventually(|| learner.transport.stats().streams_dialled.value() == 2).await;
    let unknown = outgoing(b.id, MessageKind::HeartbeatResp, 2, 0);
    let refused = Err(Refused::UnknownMember { to: b.id });
    assert_eq!(learner.transport.send(b.id, &unknown), refused);
    // The same member at another URL is found there once its streams end.
    let moved = FakeMember::start(7).await;
    learner.transport.set_members(learner.roster(&[&moved]));
    a.hang_up("message");
    moved.await_streams("message", 1).await;
}

#[tokio::test]
async fn a_full_inbox_does_not_hold_up_the_stream() {
    let member = FakeMember::start(7).await;
    let config = Config {
        inbox_bytes_max: 10_000,
        ..config()
    };
    let mut learner = Learner::joined_with(config, &[&member]).await;
    for index in 0..100 {
        let mut message = append(member.id, 2, 10 + index);
        message.entries = vec![entry(2, 11 + index, &[7; 1000])];
        member.write("message", &encode_message(&message)).await;
    }
    let stats = learner.transport.stats();
    eventually(|| stats.dropped_over_budget.value() + stats.delivered(MessageKind::App) == 100)
        .await;
    assert_eq!(stats.delivered(MessageKind::App), 8);
    let dropped = learner.inbox.take_dropped().unwrap();
    let wanted = (member.id, Term(2), RaftIndex(110), Term(2));
    let got = (
        dropped.from,
        dropped.term,
        dropped.last_index,
        dropped.last_term,
    );
    assert_eq!(got, wanted);
    assert_eq!(dropped.as_message(US).index, 110);
    for index in 0..8 {
        assert_eq!(learner.recv_message().await.index, 10 + index);
    }
    let beat = heartbeat(member.id, 2, b"");
    member.write("message", &encode_message(&beat)).await;
    assert_eq!(learner.recv_message().await, beat);
}

#[tokio::test]
async fn an_identity_never_changes() {
    let member = FakeMember::start(7).await;
    let learner = Learner::joined(&[&member]).await;
    assert_eq!(
        learner
            .transport
            .join(IDENTITY, learner.roster(&[&member]), None),
        Ok(())
    );
    let other = Identity {
        us: MemberId(5),
        ..IDENTITY
    };
    let refused = learner.transport.join(other, Vec::new(), None);
    assert_eq!(refused, Err(AlreadyJoined { present: IDENTITY }));
    assert_eq!(learner.transport.identity(), Some(IDENTITY));
}

#[tokio::test]
async fn another_cluster_at_a_members_url_is_reported_by_the_poll() {
    let member = FakeMember::start(7).await;
    let mut learner = Learner::joined(&[&member]).await;
    let strange = ClusterId(0xbad);
    let header = format!("X-Etcd-Cluster-Id: {strange}\r\n");
    member.answer("/members", Reply::Text(200, header, "[]".into()));
    let theirs = Some(strange);
    let at = member.id;
    assert_eq!(
        learner.recv().await,
        Inbound::ClusterMismatch { at, theirs }
    );
}

#[tokio::test]
async fn we_find_ourselves_among_the_members() {
    let member = FakeMember::start(7).await;
    let silent = FakeMember::start(8).await;
    silent.answer("/members", Reply::Hang);
    let no_etcd = FakeMember::start(9).await;
    no_etcd.answer("/members", Reply::Text(200, String::new(), "<html>".into()));
    let limit = Duration::from_millis(300);
    let urls = [
        silent.url(),
        no_etcd.url(),
        "http://127.0.0.1:1".into(),
        "etcd:2380".into(),
    ];
    let error = find_self(Security::Plain, &urls, "http://us:1", limit)
        .await
        .unwrap_err();
    let text = error.to_string();
    for cause in [
        "no answer within 300 ms",
        "the answer is none of an etcd member: it names no cluster",
        "http://127.0.0.1:1: connect: ",
        "\"etcd:2380\" is no URL with a host",
    ] {
        assert!(text.contains(cause), "{cause} is not in {text}");
    }
    assert!(matches!(error, Error::NoAnswer(causes) if causes.0.len() == 4));
    let all = [silent.url(), member.url()];
    member.list(&[&member], "http://us:1");
    let lookup = find_self(Security::Plain, &all, "http://us:1/", limit)
        .await
        .unwrap();
    let Lookup::Found(Found {
        identity,
        members,
        versions,
    }) = lookup
    else {
        panic!("{lookup:?}");
    };
    assert_eq!(
        (identity, members.len(), versions),
        (IDENTITY, 2, Some(VERSIONS))
    );
    let lookup = find_self(Security::Plain, &all, "http://we:1", limit)
        .await
        .unwrap();
    assert!(matches!(lookup, Lookup::NotListed { cluster, .. } if cluster == CLUSTER));
    let voter = find_self(Security::Plain, &all, &member.url(), limit)
        .await
        .unwrap_err();
    assert!(matches!(voter, Error::Voter { us, .. } if us == member.id));
}

#[tokio::test]
async fn what_was_accepted_goes_out_before_the_end() {
    let member = FakeMember::start(7).await;
    let mut learner = Learner::joined(&[&member]).await;
    learner.hear(&member, 2, 1000).await;
    let mut stream = learner.dialled_by(&member, "message").await;
    let ack = |index| outgoing(member.id, MessageKind::AppResp, 2, index);
    for index in 1..=1000 {
        learner.transport.send(member.id, &ack(index)).unwrap();
    }
    let (last, ()) = tokio::join!(
        async {
            for _ in 1..1000 {
                stream.take_message().await;
            }
            stream.take_message().await
        },
        learner.stop(),
    );
    assert_eq!(last, ack(1000).encode_to_vec());
    // Ended as HTTP ends, not torn off.
    assert_eq!(stream.read().await, None);
}
