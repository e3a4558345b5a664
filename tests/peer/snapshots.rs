//! Snapshots that leaders send: how they are received, held, answered and superseded.

use std::time::{Duration, Instant};

use etcd_syncer::ids::{MemberId, RaftIndex, Term};
use etcd_syncer::peer::codec::encode_message;
use etcd_syncer::peer::kind::MessageKind;
use etcd_syncer::peer::snapshot::{Over, Phase};
use etcd_syncer::peer::{Config, Inbound, Received};
use prost::Message as _;

use crate::client::{SOON, Upload};
use crate::harness::{Learner, append, config, eventually, heartbeat, outgoing, snapshot_message};
use crate::member::{FakeMember, Reply};

/// As long as a test waits to see that nothing happens.
pub(crate) const A_WHILE: Duration = Duration::from_millis(300);

/// Who does not answer at once takes far longer than [`SOON`].
pub(crate) fn patient() -> Config {
    Config {
        hold_after_mute: 3 * SOON,
        ..config()
    }
}

/// A database of this many bytes, no two stretches alike.
pub(crate) fn database(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}

/// What a leader POSTs: the envelope and a database.
pub(crate) fn body(member: &FakeMember, term: u64, index: u64, database: &[u8]) -> Vec<u8> {
    let envelope = encode_message(&snapshot_message(member.id, term, index));
    [&envelope, database].concat()
}

/// Sends all of a snapshot.
async fn send(learner: &Learner, member: &FakeMember, term: u64, index: u64) -> Upload {
    let mut upload = learner.upload_by(member).await;
    assert!(
        upload
            .chunk(&body(member, term, index, &database(100_000)))
            .await
    );
    upload.end().await;
    upload
}

/// Sends its beginning.
pub(crate) async fn begin(learner: &Learner, member: &FakeMember, term: u64, index: u64) -> Upload {
    let begun = learner.transport.stats().snapshots_begun.value();
    let mut upload = learner.upload_by(member).await;
    assert!(
        upload
            .chunk(&body(member, term, index, &database(100_000)))
            .await
    );
    let stats = learner.transport.stats();
    eventually(|| stats.snapshots_begun.value() > begun).await;
    upload
}

/// Waits for the end of a leader's request.
async fn over(received: &Received) -> Over {
    let mut request = received.request();
    let over = tokio::time::timeout(SOON, request.over()).await;
    over.expect("it is over")
}

#[tokio::test]
async fn a_snapshot_is_spooled_handed_over_held_and_answered() {
    let leader = FakeMember::start(7).await;
    let mut learner = Learner::joined(&[&leader]).await;
    let content = database(5_000_001);
    let bytes = body(&leader, 4, 285, &content);
    let mut upload = learner.upload_by(&leader).await;
    // In pieces that respect nothing.
    for piece in [&bytes[..3], &bytes[3..100], &bytes[100..3_000_000]] {
        assert!(upload.chunk(piece).await);
    }
    learner.await_spooled(&["4-285-7-0.part"]).await;
    assert!(upload.chunk(&bytes[3_000_000..]).await);
    upload.end().await;

    let received = learner.recv_snapshot().await;
    assert_eq!(learner.spooled(), ["4-285-7-0.db"]);
    assert_eq!(received.path(), learner.spool.join("4-285-7-0.db"));
    assert_eq!(std::fs::read(received.path()).unwrap(), content);
    assert_eq!(received.bytes(), 5_000_001);
    assert_eq!(
        (
            received.from(),
            received.term(),
            received.index(),
            received.snapshot_term()
        ),
        (leader.id, Term(4), RaftIndex(285), Term(2))
    );
    assert_eq!(received.conf_state().voters, [7]);
    let ids: Vec<MemberId> = received.members().unwrap().iter().map(|m| m.id).collect();
    assert_eq!(ids, [leader.id, crate::harness::US]);
    let mut message = snapshot_message(leader.id, 4, 285);
    message.snapshot.as_mut().unwrap().data.clear();
    assert_eq!(*received.message(), message);

    assert!(upload.is_held(Duration::from_secs(2)).await);
    assert_eq!(received.request().is_over(), None);
    received.installed();
    let answer = upload.answer().await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    learner.await_spooled(&[]).await;
    let stats = learner.transport.stats();
    assert_eq!(stats.snapshots_installed.value(), 1);
    assert_eq!(
        stats.snapshots_failed.value() + stats.snapshots_over.value(),
        0
    );
    assert!(!learner.is_paused(&leader));
}

#[tokio::test]
async fn what_it_covers_may_be_acknowledged_and_nothing_beyond() {
    let leader = FakeMember::start(7).await;
    let mut learner = Learner::joined(&[&leader]).await;
    let upload = send(&learner, &leader, 4, 285).await;
    let received = learner.recv_snapshot().await;
    learner.transport.set_acknowledgeable(RaftIndex(1000));
    let ack = |term, index| {
        let ack = outgoing(leader.id, MessageKind::AppResp, term, index);
        learner.transport.send(leader.id, &ack)
    };
    assert_eq!(ack(4, 285), Ok(()));
    assert!(ack(4, 286).is_err());
    assert!(ack(5, 285).is_err());
    received.installed();
    assert_eq!(upload.answer().await.unwrap().status, 204);
}

#[tokio::test]
async fn h13_what_is_not_installed_is_cut_once_the_leader_may_count_us_as_inactive() {
    let (leader, other) = (FakeMember::start(7).await, FakeMember::start(8).await);
    let mut learner = Learner::joined(&[&leader, &other]).await;
    let upload = send(&learner, &leader, 4, 285).await;
    let received = learner.recv_snapshot().await;
    assert!(!learner.is_paused(&leader));
    let dropped = Instant::now();
    drop(received);
    // From now on nothing is said to that leader.
    assert!(learner.is_paused(&leader) && !learner.is_paused(&other));
    learner.await_spooled(&[]).await;
    assert!(upload.answer().await.is_none());
    let held = dropped.elapsed();
    assert!(held >= config().hold_after_mute, "{held:?}");
    assert!(learner.is_paused(&leader));
    eventually(|| !learner.is_paused(&leader)).await;
    let paused = dropped.elapsed();
    assert!(paused >= config().snapshot_retry_min, "{paused:?}");
}

/// Lets one snapshot after the other fail, as a leader sends them that is answered at once, and
/// returns how long each took to be received.
#[tokio::test]
async fn h13_waits_between_failures_grow_and_end_with_a_success() {
    let leader = FakeMember::start(7).await;
    let settings = Config {
        snapshot_retry_min: Duration::from_secs(1),
        snapshot_retry_max: Duration::from_secs(4),
        ..config()
    };
    let mut learner = Learner::joined_with(settings, &[&leader]).await;
    let mut gaps = Vec::new();
    for _ in 0..4 {
        let begun = Instant::now();
        // Held, unread, as long as the pause lasts; cut if that is too long.
        let received = loop {
            let upload = learner.upload_by(&leader).await;
            let bytes = body(&leader, 4, 285, &database(1000));
            let mut upload = upload;
            upload.chunk(&bytes).await;
            upload.end().await;
            tokio::select! {
                biased;
                received = learner.inbox.recv() => break received,
                answer = upload.answer() => assert!(answer.is_none(), "{answer:?}"),
            }
        };
        gaps.push(begun.elapsed());
        drop(received);
    }
    let least = [0, 900, 1900, 3900].map(Duration::from_millis);
    for (gap, least) in gaps.iter().zip(least) {
        assert!(*gap >= least && *gap < least + SOON, "{gaps:?}");
    }
    let stats = learner.transport.stats();
    assert_eq!(stats.snapshots_failed.value(), 4);
    eventually(|| !learner.is_paused(&leader)).await;
    let upload = send(&learner, &leader, 4, 285).await;
    learner.recv_snapshot().await.installed();
    assert_eq!(upload.answer().await.unwrap().status, 204);
    assert!(!learner.is_paused(&leader));
}

#[tokio::test]
async fn h13_while_muted_a_snapshot_is_not_even_read_and_then_cut() {
    let leader = FakeMember::start(7).await;
    let hold = Duration::from_secs(2);
    let settings = Config {
        hold_after_mute: hold,
        ..config()
    };
    let mut learner = Learner::joined_with(settings, &[&leader]).await;
    learner.transport.set_muted(true);
    let muted = Instant::now();
    let upload = send(&learner, &leader, 4, 285).await;
    assert!(upload.answer().await.is_none());
    assert!(muted.elapsed() >= hold);
    // Muted long ago: cut at once.
    let again = Instant::now();
    let upload = send(&learner, &leader, 4, 285).await;
    assert!(upload.answer().await.is_none());
    assert!(again.elapsed() < hold);
    let stats = learner.transport.stats();
    assert_eq!(stats.snapshots_begun.value(), 0);
    // Unmuted meanwhile: taken.
    learner.transport.set_muted(false);
    learner.transport.set_muted(true);
    let upload = send(&learner, &leader, 4, 285).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    learner.transport.set_muted(false);
    learner.recv_snapshot().await.installed();
    assert_eq!(upload.answer().await.unwrap().status, 204);
}

#[tokio::test]
async fn a_newer_term_ends_a_transfer_at_once_and_without_a_pause() {
    let (old, new) = (FakeMember::start(7).await, FakeMember::start(8).await);
    let mut learner = Learner::joined_with(patient(), &[&old, &new]).await;
    let upload = begin(&learner, &old, 4, 285).await;
    learner.await_spooled(&["4-285-7-0.part"]).await;
    let beat = heartbeat(new.id, 5, b"");
    new.write("message", &encode_message(&beat)).await;
    let begun = Instant::now();
    assert!(upload.answer().await.is_none());
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    learner.await_spooled(&[]).await;
    assert_eq!(learner.recv_message().await, beat);
    assert!(!learner.is_paused(&old));
    assert!(learner.inbox.try_recv().is_none());
    let progress = learner
        .transport
        .snapshot_progress()
        .borrow()
        .clone()
        .unwrap();
    assert_eq!(progress.phase, Phase::Over(Over::NewerTerm(Term(5))));
    // What the old leader sends from now on is of no use either.
    let upload = send(&learner, &old, 4, 300).await;
    let begun = Instant::now();
    assert!(upload.answer().await.is_none());
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert!(!learner.is_paused(&old));
    assert_eq!(learner.transport.stats().snapshots_begun.value(), 1);
}

#[tokio::test]
async fn a_newer_term_ends_a_held_request_and_the_holder_is_told() {
    let (old, new) = (FakeMember::start(7).await, FakeMember::start(8).await);
    let mut learner = Learner::joined_with(patient(), &[&old, &new]).await;
    let upload = send(&learner, &old, 4, 285).await;
    let received = learner.recv_snapshot().await;
    let begun = Instant::now();
    let newer = append(new.id, 5, 290).encode_to_vec();
    assert_eq!(
        learner
            .posted_by(&new, "/raft", &newer)
            .await
            .unwrap()
            .status,
        204
    );
    assert!(upload.answer().await.is_none());
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert_eq!(over(&received).await, Over::NewerTerm(Term(5)));
    // It is still a state of the primary, and may be installed.
    assert!(received.path().exists());
    received.installed();
    learner.await_spooled(&[]).await;
    assert!(!learner.is_paused(&old));
}

#[tokio::test]
async fn a_new_leaders_snapshot_takes_the_place_of_the_old_ones() {
    let (old, new) = (FakeMember::start(7).await, FakeMember::start(8).await);
    let mut learner = Learner::joined_with(patient(), &[&old, &new]).await;
    // One that is held, then one that still comes in.
    let first = send(&learner, &old, 4, 285).await;
    let held = learner.recv_snapshot().await;
    let second = begin(&learner, &new, 5, 290).await;
    assert!(first.answer().await.is_none());
    assert!(matches!(
        over(&held).await,
        Over::NewerTerm(Term(5)) | Over::Replaced
    ));
    let mut third = begin(&learner, &old, 6, 295).await;
    assert!(second.answer().await.is_none());
    learner
        .await_spooled(&["4-285-7-0.db", "6-295-7-2.part"])
        .await;
    third.end().await;
    let latest = learner.recv_snapshot().await;
    assert_eq!((latest.from(), latest.index()), (old.id, RaftIndex(295)));
    drop(held);
    learner.await_spooled(&["6-295-7-2.db"]).await;
    assert!(!learner.is_paused(&old) && !learner.is_paused(&new));
    latest.installed();
    assert_eq!(third.answer().await.unwrap().status, 204);
}

#[tokio::test]
async fn a_second_snapshot_of_one_leader_takes_the_place_of_the_first() {
    let leader = FakeMember::start(7).await;
    let mut learner = Learner::joined(&[&leader]).await;
    // The same index each time: only the connection was lost, unnoticed.
    let first = begin(&learner, &leader, 4, 285).await;
    let second = send(&learner, &leader, 4, 285).await;
    assert!(first.answer().await.is_none());
    let held = learner.recv_snapshot().await;
    assert_eq!(held.path(), learner.spool.join("4-285-7-1.db"));
    let third = send(&learner, &leader, 4, 285).await;
    assert!(second.answer().await.is_none());
    assert_eq!(over(&held).await, Over::Replaced);
    let latest = learner.recv_snapshot().await;
    assert_ne!(held, latest);
    learner
        .await_spooled(&["4-285-7-1.db", "4-285-7-2.db"])
        .await;
    drop(held);
    assert!(!learner.is_paused(&leader), "another one counts by now");
    latest.installed();
    assert_eq!(third.answer().await.unwrap().status, 204);
    learner.await_spooled(&[]).await;
}

#[tokio::test]
async fn of_two_leaders_of_one_term_the_second_is_refused() {
    let (leader, other) = (FakeMember::start(7).await, FakeMember::start(8).await);
    let mut learner = Learner::joined(&[&leader, &other]).await;
    let mut upload = begin(&learner, &leader, 4, 285).await;
    let begun = Instant::now();
    let second = send(&learner, &other, 4, 285).await;
    assert!(second.answer().await.is_none());
    assert!(begun.elapsed() >= config().hold_after_mute);
    assert!(learner.is_paused(&other) && !learner.is_paused(&leader));
    upload.end().await;
    learner.recv_snapshot().await.installed();
    assert_eq!(upload.answer().await.unwrap().status, 204);
}

#[tokio::test]
async fn a_leader_that_goes_away_while_it_waits_is_told_to_the_holder() {
    let leader = FakeMember::start(7).await;
    let mut learner = Learner::joined(&[&leader]).await;
    let upload = send(&learner, &leader, 4, 285).await;
    let received = learner.recv_snapshot().await;
    drop(upload);
    assert_eq!(over(&received).await, Over::Disconnected);
    assert!(received.path().exists());
    assert!(!learner.is_paused(&leader), "it may still be installed");
    drop(received);
    assert!(learner.is_paused(&leader));
    learner.await_spooled(&[]).await;
}

#[tokio::test]
async fn a_member_that_is_removed_loses_its_request() {
    let (leader, other) = (FakeMember::start(7).await, FakeMember::start(8).await);
    let mut learner = Learner::joined(&[&leader, &other]).await;
    let upload = send(&learner, &leader, 4, 285).await;
    let received = learner.recv_snapshot().await;
    let unlisted = learner.roster(&[&other]);
    leader.answer("/members", Reply::Hang);
    other.list(&[&other], &learner.url());
    learner.transport.set_members(unlisted);
    assert!(upload.answer().await.is_none());
    assert_eq!(over(&received).await, Over::Gone);
}

/// A leader that removes us cuts its request at once; its streams say why.
#[tokio::test]
async fn our_own_removal_is_told_while_nobody_reads_messages() {
    let leader = FakeMember::start(7).await;
    let mut learner = Learner::joined(&[&leader]).await;
    leader.await_streams("message", 1).await;
    let upload = begin(&learner, &leader, 4, 285).await;
    learner.inbox.drop_messages();
    let gone = "X-Etcd-Cluster-Id: 1db583717a902f9c\r\n";
    let removed = Reply::Text(410, gone.into(), "removed member\n".into());
    leader.answer("/raft/stream/", removed);
    drop(upload);
    let beat = encode_message(&heartbeat(leader.id, 4, b""));
    leader.write("message", &beat).await;
    leader.hang_up("message");
    assert_eq!(learner.recv().await, Inbound::Removed { by: leader.id });
    learner.await_spooled(&[]).await;
    assert!(learner.inbox.try_recv().is_none());
    assert_eq!(learner.transport.stats().dropped_unread.value(), 1);
}

#[tokio::test]
async fn while_nobody_reads_messages_a_newer_snapshot_still_comes() {
    let (old, new) = (FakeMember::start(7).await, FakeMember::start(8).await);
    let mut learner = Learner::joined(&[&old, &new]).await;
    let first = send(&learner, &old, 4, 285).await;
    let held = learner.recv_snapshot().await;
    learner.inbox.drop_messages();
    let flood = append(new.id, 5, 290).encode_to_vec();
    for _ in 0..100 {
        assert_eq!(
            learner
                .posted_by(&new, "/raft", &flood)
                .await
                .unwrap()
                .status,
            204
        );
    }
    let second = send(&learner, &new, 5, 290).await;
    let newer = learner.recv_snapshot().await;
    assert_eq!(newer.index(), RaftIndex(290));
    assert!(first.answer().await.is_none());
    drop(held);
    newer.installed();
    assert_eq!(second.answer().await.unwrap().status, 204);
    assert_eq!(learner.transport.stats().dropped_unread.value(), 100);
}

#[tokio::test]
async fn neither_a_held_nor_a_growing_snapshot_keeps_the_transport_from_ending() {
    let (leader, other) = (FakeMember::start(7).await, FakeMember::start(8).await);
    for is_whole in [true, false] {
        let mut learner = Learner::joined(&[&leader, &other]).await;
        let (upload, received) = if is_whole {
            let upload = send(&learner, &leader, 4, 285).await;
            (upload, Some(learner.recv_snapshot().await))
        } else {
            (begin(&learner, &leader, 4, 285).await, None)
        };
        learner.stop().await;
        assert!(upload.answer().await.is_none());
        if let Some(received) = received {
            assert_eq!(over(&received).await, Over::Gone);
        }
    }
}

#[tokio::test]
async fn its_progress_can_be_watched() {
    let leader = FakeMember::start(7).await;
    let mut learner = Learner::joined(&[&leader]).await;
    let progress = learner.transport.snapshot_progress();
    assert_eq!(*progress.borrow(), None);
    let shown = || progress.borrow().clone().unwrap();
    let mut upload = begin(&learner, &leader, 4, 285).await;
    eventually(|| shown().bytes == 100_000).await;
    let first = shown();
    assert_eq!(
        (first.from, first.term, first.index, first.phase),
        (leader.id, Term(4), RaftIndex(285), Phase::Receiving)
    );
    assert!(first.bytes_per_second > 0);
    assert!(upload.chunk(&database(50_000)).await);
    upload.end().await;
    let received = learner.recv_snapshot().await;
    assert_eq!(shown().bytes, 150_000);
    assert!(matches!(shown().phase, Phase::Held { .. }));
    received.installed();
    assert_eq!(shown().phase, Phase::Installed);
    assert_eq!(upload.answer().await.unwrap().status, 204);
}

#[tokio::test]
async fn what_an_earlier_process_left_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    std::fs::create_dir(&spool).unwrap();
    for name in ["3-100-7-0.part", "3-90-7-0.db", "notes.txt"] {
        std::fs::write(spool.join(name), "x").unwrap();
    }
    let settings = Config {
        spool: Some(spool),
        ..config()
    };
    let learner = Learner::start(settings).await;
    learner.await_spooled(&["notes.txt"]).await;
}
