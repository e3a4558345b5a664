//! Peers that send anything: no panic, bounded memory, bounded time, and others do not notice.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use etcd_syncer::peer::Config;
use etcd_syncer::peer::codec::encode_message;
use etcd_syncer::peer::stats::Channel;
use prost::Message as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::{SOON, get, request};
use crate::harness::{
    CLUSTER, Learner, append, borrowed, config, entry, eventually, heartbeat, raft_headers,
    snapshot_message,
};
use crate::member::{FakeMember, Reply};

/// How much memory the process may gain meanwhile, in bytes; other tests run in it, too.
const GROWTH_MAX: usize = 256 << 20;

/// Memory that this process holds, in bytes.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

/// Changes a few bytes, cuts it off, or repeats a part.
fn mutate(random: &mut fastrand::Rng, bytes: &mut Vec<u8>) {
    for _ in 0..random.usize(1..6) {
        let at = random.usize(0..bytes.len());
        match random.u8(0..4) {
            0 => bytes[at] = random.u8(..),
            1 => bytes[at] ^= 1 << random.u8(0..8),
            2 => bytes.truncate(at.max(1)),
            _ => {
                let part = bytes[at..].to_vec();
                bytes.extend(part.iter().take(64));
            }
        }
    }
}

/// Sends bytes and reads for a moment; returns the status, if there was any.
async fn poke(address: SocketAddr, bytes: &[u8]) -> Option<u16> {
    let mut tcp = TcpStream::connect(address).await.ok()?;
    tcp.write_all(bytes).await.ok()?;
    let mut answer = [0; 64];
    let read = timeout(Duration::from_millis(20), tcp.read(&mut answer)).await;
    let length = read.ok()?.ok()?;
    let text = String::from_utf8_lossy(&answer[..length]).into_owned();
    text.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

fn valid_requests() -> Vec<Vec<u8>> {
    let headers = raft_headers(etcd_syncer::ids::MemberId(7));
    let headers = borrowed(&headers);
    let mut message = append(etcd_syncer::ids::MemberId(7), 2, 10);
    message.entries = vec![entry(2, 11, b"data"); 3];
    let member = etcd_syncer::ids::MemberId(7);
    let envelope = encode_message(&snapshot_message(member, 2, 10));
    let snapshot = [&envelope[..], &[0xda; 5000]].concat();
    let mut chunked = request("POST", "/raft", &headers, b"");
    let text = String::from_utf8(chunked).unwrap();
    let text = text.replace("Content-Length: 0", "Transfer-Encoding: chunked");
    chunked = [text.as_bytes(), b"5\r\nhello\r\n0\r\n\r\n"].concat();
    vec![
        request("GET", "/raft/stream/msgapp/7", &headers, b""),
        request("GET", "/raft/stream/message/8", &headers, b""),
        request("POST", "/raft", &headers, &message.encode_to_vec()),
        request("POST", "/raft/snapshot", &headers, &snapshot),
        request("GET", "/raft/probing", &headers, b""),
        request("GET", "/version", &headers, b""),
        request("GET", "/members", &headers, b""),
        request("GET", "/members/hashkv", &headers, b"{\"revision\":1}"),
        chunked,
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_and_changed_requests_do_no_harm() {
    let member = FakeMember::start(9).await;
    let hostile = FakeMember::start(7).await;
    let mut learner = Learner::joined(&[&member, &hostile]).await;
    let mut stream = learner.dialled_by(&member, "message").await;
    let before = resident_bytes();
    let mut random = fastrand::Rng::with_seed(1);
    let requests = valid_requests();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        let batch = (0..8).map(|_| {
            let mut bytes = requests[random.usize(0..requests.len())].clone();
            if random.u8(0..8) == 0 {
                bytes.iter_mut().for_each(|byte| *byte = random.u8(..));
            } else {
                mutate(&mut random, &mut bytes);
            }
            let address = learner.address;
            async move { (poke(address, &bytes).await, bytes) }
        });
        for (status, bytes) in futures_util::future::join_all(batch).await {
            let request = String::from_utf8_lossy(&bytes);
            assert!(
                !matches!(status, Some(403 | 410)),
                "{status:?} to {request}"
            );
        }
        // Messages that got through are drained, as a learner would.
        while learner.inbox.try_recv().is_some() {}
        // The stream of another member goes on.
        assert!(timeout(SOON, stream.read()).await.unwrap().is_some());
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < GROWTH_MAX, "grown by {grown} bytes");
    assert_eq!(get(learner.address, "/raft/probing", &[]).await.status, 200);
    learner.stop().await;
}

#[tokio::test]
async fn absurd_bodies_are_cut_off() {
    let member = FakeMember::start(7).await;
    let config = Config {
        frame_bytes_max: 1 << 20,
        ..config()
    };
    let learner = Learner::joined_with(config, &[&member]).await;
    let before = resident_bytes();
    // As large as the header says, or as the body turns out.
    let headers = raft_headers(member.id);
    let mut claimed = borrowed(&headers);
    claimed.push(("Content-Length", "18446744073709551615"));
    let mut head = request("GET", "/raft", &claimed, b"");
    head.splice(..3, *b"POST");
    head.extend(vec![0; 4 << 20]);
    assert!(matches!(
        poke(learner.address, &head).await,
        None | Some(400 | 413)
    ));
    let large = vec![0; 1 << 21];
    let answer = learner.posted_by(&member, "/raft", &large).await;
    assert!(answer.is_none_or(|answer| answer.status == 413));
    let envelope = [&[0; 4][..], &[0xff; 4], &[0; 1 << 16]].concat();
    let answer = learner
        .posted_by(&member, "/raft/snapshot", &envelope)
        .await;
    assert!(answer.is_none_or(|answer| answer.status == 400));
    // A head without an end.
    let endless = [
        b"GET /version HTTP/1.1\r\nX: ".as_slice(),
        &vec![b'x'; 1 << 20],
    ]
    .concat();
    assert!(matches!(
        poke(learner.address, &endless).await,
        None | Some(400 | 431)
    ));
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < GROWTH_MAX, "grown by {grown} bytes");
}

#[tokio::test]
async fn idle_connections_neither_stay_nor_keep_others_out() {
    let config = Config {
        connections_max: 40,
        ..config()
    };
    let learner = Learner::start(config).await;
    let mut idle = Vec::new();
    for n in 0..40 {
        let mut tcp = TcpStream::connect(learner.address).await.unwrap();
        if n % 2 == 0 {
            tcp.write_all(b"GET /version HTT").await.unwrap();
        }
        idle.push(tcp);
    }
    let stats = learner.transport.stats();
    // No more than half for one address.
    eventually(|| stats.connections.value() == 20).await;
    eventually(|| stats.connections_refused.value() == 20).await;
    let begun = Instant::now();
    for tcp in &mut idle {
        let mut rest = Vec::new();
        let end = timeout(2 * SOON, tcp.read_to_end(&mut rest)).await;
        end.expect("it is closed").ok();
    }
    assert!(
        begun.elapsed() < Duration::from_secs(7),
        "{:?}",
        begun.elapsed()
    );
    eventually(|| stats.connections.value() == 0).await;
    assert_eq!(get(learner.address, "/raft/probing", &[]).await.status, 200);
}

#[tokio::test]
async fn a_member_that_reads_nothing_is_cut_off() {
    let member = FakeMember::start(7).await;
    let mut learner = Learner::joined(&[&member]).await;
    learner.hear(&member, 2, 10).await;
    let mut lame = learner.dialled_by(&member, "message").await;
    let mut beat = heartbeat(member.id, 2, &[b'c'; 64]);
    beat.commit = 10;
    member.write("message", &encode_message(&beat)).await;
    learner.recv_message().await;
    let kind = etcd_syncer::peer::kind::MessageKind::HeartbeatResp;
    let mut answer = crate::harness::outgoing(member.id, kind, 2, 0);
    answer.context = beat.context;
    let begun = Instant::now();
    let served = || learner.transport.streams()[0].message_served;
    // Fills the sockets' buffers, then our queue, then is refused; never waits.
    while served() {
        for _ in 0..4096 {
            let _ = learner.transport.send(member.id, &answer);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "it is never cut off"
        );
    }
    assert!(begun.elapsed() >= Duration::from_secs(5));
    while lame.read().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_members_that_we_dial_do_no_harm() {
    let (hostile, other) = (FakeMember::start(7).await, FakeMember::start(8).await);
    let mut learner = Learner::joined(&[&hostile, &other]).await;
    let before = resident_bytes();
    let mut random = fastrand::Rng::with_seed(2);
    let mut message = append(hostile.id, 2, 10);
    message.entries = (11..40)
        .map(|index| entry(2, index, b"data of an entry"))
        .collect();
    let framed = encode_message(&message);
    let begun = Instant::now();
    let mut round: u8 = 0;
    while begun.elapsed() < Duration::from_secs(3) {
        round = round.wrapping_add(1);
        for kind in ["msgapp", "message"] {
            let mut bytes = framed.repeat(3);
            if kind == "msgapp" {
                bytes.insert(0, 2);
            }
            match random.u8(0..4) {
                0 => bytes.iter_mut().for_each(|byte| *byte = random.u8(..)),
                // Unknown fields end a dialer for good, so mostly break what is no field number.
                1 => bytes.truncate(random.usize(1..bytes.len())),
                2 => bytes[random.usize(0..9)] = random.u8(..),
                _ => {}
            }
            let _ = timeout(Duration::from_millis(50), hostile.write(kind, &bytes)).await;
            hostile.hang_up(kind);
        }
        let beat = heartbeat(other.id, 2, &[round; 8]);
        other.write("message", &encode_message(&beat)).await;
        loop {
            let received = timeout(SOON, learner.inbox.recv())
                .await
                .expect("the other is heard");
            let Some(etcd_syncer::peer::Inbound::Message { from, message }) = received else {
                continue;
            };
            if from == other.id {
                assert_eq!(message, beat);
                break;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < GROWTH_MAX, "grown by {grown} bytes");
    assert_eq!(other.streams_begun("message"), 1);
    learner.stop().await;
}

#[tokio::test]
async fn hostile_answers_to_our_dials_and_polls_do_no_harm() {
    let (hostile, other) = (FakeMember::start(7).await, FakeMember::start(8).await);
    let learner = Learner::joined(&[&other, &hostile]).await;
    let before = resident_bytes();
    let mut endless = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    endless.extend(vec![b'['; 8 << 20]);
    let headers = [
        b"HTTP/1.1 200 OK\r\n".as_slice(),
        &b"X: y\r\n".repeat(100_000),
    ]
    .concat();
    let cluster = format!("X-Etcd-Cluster-Id: {CLUSTER}\r\n");
    let nested = "[".repeat(500_000);
    let replies = [
        Reply::Raw(endless),
        Reply::Raw(headers),
        Reply::Raw(b"HTTP/1.1 410 Gone\r\nContent-Length: 18446744073709551615\r\n\r\nx".to_vec()),
        Reply::Raw(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n".to_vec(),
        ),
        Reply::Text(200, cluster.clone(), nested),
        Reply::Text(200, cluster.clone(), "[{\"id\":1},{\"id\":1}]".into()),
        Reply::Text(200, cluster.clone(), "[{\"id\":-1}]".into()),
        Reply::Text(200, cluster, "null".into()),
    ];
    for reply in replies {
        for path in ["/raft/stream/", "/members", "/version", "/raft"] {
            hostile.answer(path, reply.clone());
        }
        let asked = hostile.seen("/members").len();
        eventually(|| hostile.seen("/members").len() > asked + 1).await;
    }
    assert_eq!(learner.transport.members().current().len(), 3);
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < GROWTH_MAX, "grown by {grown} bytes");
    assert!(
        learner
            .transport
            .streams()
            .iter()
            .any(|streams| streams.message_dialled)
    );
    assert_eq!(learner.transport.stats().bytes_received(Channel::Post), 0);
    learner.stop().await;
}
