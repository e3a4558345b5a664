//! Snapshots that go wrong: broken off, too large, too slow, no room, no snapshots at all.

use std::time::{Duration, Instant};

use bytes::Bytes;
use etcd_syncer::pb::raftpb::Message;
use etcd_syncer::peer::codec::encode_message;
use etcd_syncer::peer::snapshot::Phase;
use etcd_syncer::peer::{Config, Inbound};
use prost::Message as _;

use crate::client::{Answer, SOON, Upload, call, exchange, parse, request};
use crate::harness::{
    CLUSTER, Learner, borrowed, config, eventually, raft_headers, snapshot_message,
};
use crate::member::FakeMember;
use crate::snapshots::{A_WHILE, begin, body, database, patient};

type Posted = (Option<Answer>, Duration);

/// POSTs a snapshot and measures how long the answer, or the end of the connection, takes.
async fn post(learner: &Learner, member: &FakeMember, body: &[u8]) -> Posted {
    let begun = Instant::now();
    let answer = learner.posted_by(member, "/raft/snapshot", body).await;
    (answer, begun.elapsed())
}

fn why(learner: &Learner) -> String {
    let progress = learner.transport.snapshot_progress().borrow().clone();
    match progress.unwrap().phase {
        Phase::Failed { why, .. } => why,
        other => panic!("{other:?}"),
    }
}

/// Nothing of it is left, nothing was handed over, and the leader has to wait.
async fn assert_failed(learner: &mut Learner, leader: &FakeMember, reason: &str) {
    let stats = learner.transport.stats();
    eventually(|| stats.snapshots_failed.value() == 1).await;
    assert!(learner.is_paused(leader));
    assert!(why(learner).contains(reason), "{}", why(learner));
    learner.await_spooled(&[]).await;
    assert!(learner.inbox.try_recv().is_none());
    let stats = learner.transport.stats();
    assert_eq!(stats.snapshots_received.value(), 0);
}

/// From the next one on all is well again.
async fn assert_recovers(learner: &mut Learner, leader: &FakeMember) {
    eventually(|| !learner.is_paused(leader)).await;
    let mut upload = begin(learner, leader, 4, 285).await;
    upload.end().await;
    learner.recv_snapshot().await.installed();
    assert_eq!(upload.answer().await.unwrap().status, 204);
}

#[tokio::test]
async fn a_transfer_that_breaks_off_leaves_nothing() {
    let leader = FakeMember::start(7).await;
    let mut learner = Learner::joined(&[&leader]).await;
    let upload = begin(&learner, &leader, 4, 285).await;
    learner.await_spooled(&["4-285-7-0.part"]).await;
    // Without the last chunk, although at the end of one.
    drop(upload);
    assert_failed(&mut learner, &leader, "").await;
    assert_recovers(&mut learner, &leader).await;
}

#[tokio::test]
async fn a_transfer_that_breaks_off_before_its_stated_length_leaves_nothing() {
    let leader = FakeMember::start(7).await;
    let mut learner = Learner::joined(&[&leader]).await;
    let headers = raft_headers(leader.id);
    let bytes = body(&leader, 4, 285, &database(100_000));
    let whole = request("POST", "/raft/snapshot", &borrowed(&headers), &bytes);
    let mut tcp = tokio::net::TcpStream::connect(learner.address)
        .await
        .unwrap();
    let most = &whole[..whole.len() - 1];
    tokio::io::AsyncWriteExt::write_all(&mut tcp, most)
        .await
        .unwrap();
    learner.await_spooled(&["4-285-7-0.part"]).await;
    drop(tcp);
    assert_failed(&mut learner, &leader, "").await;
}

#[tokio::test]
async fn a_full_disk_stops_a_transfer_and_is_named() {
    let leader = FakeMember::start(7).await;
    let settings = Config {
        spool_free_bytes_min: u64::MAX,
        ..config()
    };
    let mut learner = Learner::joined_with(settings, &[&leader]).await;
    let bytes = body(&leader, 4, 285, &database(30_000_000));
    let (answer, elapsed) = post(&learner, &leader, &bytes).await;
    assert!(answer.is_none());
    assert!(elapsed >= config().hold_after_mute, "{elapsed:?}");
    assert_failed(&mut learner, &leader, "make room there").await;
}

#[tokio::test]
async fn a_spool_that_cannot_be_written_is_named_and_used_again_once_it_can() {
    let leader = FakeMember::start(7).await;
    let mut learner = Learner::joined(&[&leader]).await;
    eventually(|| learner.spool.exists()).await;
    std::fs::remove_dir(&learner.spool).unwrap();
    std::fs::write(&learner.spool, "no folder").unwrap();
    let bytes = body(&leader, 4, 285, &database(3_000_000));
    let (answer, elapsed) = post(&learner, &leader, &bytes).await;
    assert!(answer.is_none());
    assert!(elapsed >= config().hold_after_mute, "{elapsed:?}");
    let stats = learner.transport.stats();
    assert_eq!(stats.snapshots_failed.value(), 1);
    assert!(why(&learner).contains("create"), "{}", why(&learner));
    assert!(learner.is_paused(&leader));
    std::fs::remove_file(&learner.spool).unwrap();
    assert_recovers(&mut learner, &leader).await;
}

#[tokio::test]
async fn without_a_spool_every_snapshot_fails() {
    let leader = FakeMember::start(7).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (transport, mut inbox) = etcd_syncer::peer::Transport::new(config());
    let ended = tokio_util::sync::CancellationToken::new();
    let run = {
        let (transport, ended) = (transport.clone(), ended.clone());
        tokio::spawn(async move { transport.run(listener, ended).await })
    };
    let versions = Some(crate::harness::VERSIONS);
    transport
        .join(crate::harness::IDENTITY, vec![leader.member()], versions)
        .unwrap();
    let headers = raft_headers(leader.id);
    let bytes = body(&leader, 4, 285, b"database");
    let answer = call(
        address,
        "POST",
        "/raft/snapshot",
        &borrowed(&headers),
        &bytes,
    )
    .await;
    assert!(answer.is_none());
    assert_eq!(transport.stats().snapshots_failed.value(), 1);
    assert!(inbox.try_recv().is_none());
    ended.cancel();
    run.await.unwrap();
}

#[tokio::test]
async fn a_database_without_an_end_is_cut_at_the_limit() {
    let leader = FakeMember::start(7).await;
    let settings = Config {
        snapshot_bytes_max: 3 << 20,
        ..config()
    };
    let mut learner = Learner::joined_with(settings, &[&leader]).await;
    let mut upload = begin(&learner, &leader, 4, 285).await;
    let chunk = database(1 << 20);
    let mut chunks = 0;
    let endless = async {
        while upload.chunk(&chunk).await {
            chunks += 1;
            assert!(chunks < 1000, "it is never cut");
        }
    };
    tokio::time::timeout(2 * SOON, endless).await.unwrap();
    assert_failed(&mut learner, &leader, "--snapshot-bytes-max").await;
}

#[tokio::test]
async fn exactly_the_limit_is_no_failure() {
    let leader = FakeMember::start(7).await;
    let settings = Config {
        snapshot_bytes_max: 2_000_000,
        ..config()
    };
    let mut learner = Learner::joined_with(settings, &[&leader]).await;
    for (length, status) in [(2_000_000, Some(204)), (2_000_001, None)] {
        let mut upload = learner.upload_by(&leader).await;
        assert!(
            upload
                .chunk(&body(&leader, 4, 285, &database(length)))
                .await
        );
        upload.end().await;
        if status.is_some() {
            learner.recv_snapshot().await.installed();
        }
        assert_eq!(upload.answer().await.map(|answer| answer.status), status);
    }
}

#[tokio::test]
async fn a_sender_that_falls_silent_or_only_keeps_us_busy_is_cut() {
    for is_silent in [true, false] {
        let leader = FakeMember::start(7).await;
        let silence = Duration::from_secs(1);
        let settings = Config {
            snapshot_silence: silence,
            ..config()
        };
        let mut learner = Learner::joined_with(settings, &[&leader]).await;
        let mut upload = begin(&learner, &leader, 4, 285).await;
        let begun = Instant::now();
        // A byte now and then, so that it is never silent for long.
        while !is_silent && learner.transport.stats().snapshots_failed.value() == 0 {
            upload.chunk(b"x").await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(begun.elapsed() < SOON, "it is never cut");
        }
        let failed = || learner.transport.stats().snapshots_failed.value() == 1;
        eventually(failed).await;
        let elapsed = begun.elapsed();
        assert!(elapsed >= silence - A_WHILE, "{elapsed:?}");
        assert!(elapsed < 2 * SOON, "{elapsed:?}");
        assert_failed(&mut learner, &leader, "came within").await;
        assert!(upload.answer().await.is_none());
    }
}

#[tokio::test]
async fn an_empty_database_is_none() {
    let leader = FakeMember::start(7).await;
    let mut learner = Learner::joined(&[&leader]).await;
    let (answer, _) = post(&learner, &leader, &body(&leader, 4, 285, b"")).await;
    assert!(answer.is_none());
    assert_failed(&mut learner, &leader, "no database").await;
}

/// Envelopes that are none, each with what is wrong with it.
fn bad_envelopes(leader: &FakeMember) -> Vec<(&'static str, Vec<u8>)> {
    let good = body(leader, 4, 285, b"database");
    let claim = |length: u64| {
        let mut lying = good.clone();
        lying.splice(..8, length.to_be_bytes());
        lying
    };
    let length = u64::from_be_bytes(good[..8].try_into().unwrap());
    let with = |change: fn(&mut Message)| {
        let mut message = snapshot_message(leader.id, 4, 285);
        change(&mut message);
        encode_message(&message).to_vec()
    };
    fn metadata(message: &mut Message) -> &mut etcd_syncer::pb::raftpb::SnapshotMetadata {
        let snapshot = message.snapshot.as_mut().unwrap();
        snapshot.metadata.as_mut().unwrap()
    }
    vec![
        ("no length", vec![0xff; 7]),
        ("a length of zero", claim(0)),
        ("one byte less than it is", claim(length - 1)),
        ("longer than all that comes", claim(length + 1000)),
        ("more than there may be", claim((64 << 20) + 1)),
        ("as much as there can be", claim(u64::MAX)),
        ("noise", [&claim(8)[..8], &[0xff; 100]].concat()),
        ("broken off", good[..good.len() - 20].to_vec()),
        (
            "an empty MsgSnap",
            b"\0\0\0\0\0\0\0\x02\x08\x07rest".to_vec(),
        ),
        ("a heartbeat", b"\0\0\0\0\0\0\0\x02\x08\x08rest".to_vec()),
        ("another kind", with(|m| m.r#type = 3)),
        ("from another member", with(|m| m.from = 8)),
        ("for another member", with(|m| m.to = 8)),
        ("without a term", with(|m| m.term = 0)),
        ("without a snapshot", with(|m| m.snapshot = None)),
        (
            "without metadata",
            with(|m| m.snapshot.as_mut().unwrap().metadata = None),
        ),
        ("at index 0", with(|m| metadata(m).index = 0)),
        ("of term 0", with(|m| metadata(m).term = 0)),
        ("of a later term", with(|m| metadata(m).term = 5)),
    ]
}

#[tokio::test]
async fn h13_what_is_no_snapshot_is_refused_slowly() {
    let leader = FakeMember::start(7).await;
    for (what, bytes) in bad_envelopes(&leader) {
        let settings = Config {
            hold_after_mute: Duration::from_millis(100),
            ..config()
        };
        let mut learner = Learner::joined_with(settings, &[&leader]).await;
        let (answer, elapsed) = post(&learner, &leader, &bytes).await;
        assert_eq!(answer.expect(what).status, 400, "{what}");
        assert!(elapsed >= Duration::from_millis(100), "{what}: {elapsed:?}");
        assert!(learner.is_paused(&leader), "{what}");
        assert!(learner.inbox.try_recv().is_none(), "{what}");
        assert!(learner.spooled().is_empty(), "{what}");
        let stats = learner.transport.stats();
        assert_eq!(stats.snapshots_begun.value(), 0, "{what}");
    }
}

#[tokio::test]
async fn members_that_cannot_be_read_do_not_stop_a_snapshot() {
    let leader = FakeMember::start(7).await;
    let mut learner = Learner::joined(&[&leader]).await;
    let mut message = snapshot_message(leader.id, 4, 285);
    message.snapshot.as_mut().unwrap().data = Bytes::from(vec![b'{'; 8000]);
    let mut upload = learner.upload_by(&leader).await;
    assert!(upload.chunk(&encode_message(&message)).await);
    assert!(upload.chunk(b"database").await);
    upload.end().await;
    let received = learner.recv_snapshot().await;
    let error = received.members().unwrap_err().to_string();
    assert!(error.contains("membership"), "{error}");
    received.installed();
    assert_eq!(upload.answer().await.unwrap().status, 204);
}

#[tokio::test]
async fn strangers_are_refused_before_their_body_is_read() {
    let (leader, stranger) = (FakeMember::start(7).await, FakeMember::start(9).await);
    let learner = Learner::joined_with(patient(), &[&leader]).await;
    let bytes = body(&stranger, 4, 285, b"database");
    let (answer, elapsed) = post(&learner, &stranger, &bytes).await;
    let answer = answer.unwrap();
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (404, "error sender not found\n")
    );
    assert!(elapsed < SOON, "{elapsed:?}");
    let mut headers = raft_headers(leader.id);
    headers[3] = ("X-Etcd-Cluster-ID", "1".into());
    let bytes = body(&leader, 4, 285, b"database");
    let foreign = request("POST", "/raft/snapshot", &borrowed(&headers), &bytes);
    let answer = parse(&exchange(learner.address, &foreign).await).unwrap();
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (412, "cluster ID mismatch\n")
    );
    assert!(answer.head.contains(&CLUSTER.to_string()));
    // Neither waits for an end of the body.
    let mut upload = learner.upload_by(&stranger).await;
    upload.chunk(&database(1000)).await;
    assert_eq!(upload.answer().await.unwrap().status, 404);
    let stats = learner.transport.stats();
    assert_eq!(stats.snapshots_begun.value(), 0);
    assert!(!learner.is_paused(&leader));
}

#[tokio::test]
async fn h13_more_than_a_few_at_a_time_are_not_even_read() {
    let leader = FakeMember::start(7).await;
    let learner = Learner::joined(&[&leader]).await;
    // Each waits for more of its envelope.
    let mut slow = Vec::new();
    for _ in 0..4 {
        let mut upload = learner.upload_by(&leader).await;
        assert!(upload.chunk(&[0; 4]).await);
        slow.push(upload);
    }
    tokio::time::sleep(A_WHILE).await;
    let begun = Instant::now();
    let mut fifth = learner.upload_by(&leader).await;
    assert!(fifth.chunk(&body(&leader, 4, 285, b"database")).await);
    assert!(fifth.answer().await.is_none());
    let elapsed = begun.elapsed();
    assert!((400..8000).contains(&elapsed.as_millis()), "{elapsed:?}");
    let stats = learner.transport.stats();
    assert_eq!(stats.snapshots_begun.value(), 0);
    let mut first: Upload = slow.remove(0);
    assert!(first.is_held(Duration::from_millis(10)).await);
}

/// A later release may say something in a snapshot that must not be passed over.
#[tokio::test]
async fn a_snapshot_with_an_unknown_field_is_told_and_held_until_we_are_muted() {
    let leader = FakeMember::start(7).await;
    let mut learner = Learner::joined(&[&leader]).await;
    let message = snapshot_message(leader.id, 4, 285).encode_to_vec();
    // Field 20 of the message: the number 1.
    let message = [&message[..], &[0xa0, 0x01, 0x01]].concat();
    let length = u64::try_from(message.len()).unwrap().to_be_bytes();
    let mut upload = learner.upload_by(&leader).await;
    assert!(
        upload
            .chunk(&[&length[..], &message, b"database"].concat())
            .await
    );
    let Inbound::Unknown { from, what } = learner.recv().await else {
        panic!("something else");
    };
    assert_eq!(from, leader.id);
    assert!(what.contains("unknown field 20"), "{what}");
    assert!(upload.is_held(2 * config().hold_after_mute).await);
    learner.transport.set_muted(true);
    assert!(upload.answer().await.is_none());
    assert_eq!(learner.transport.stats().snapshots_begun.value(), 0);
}
