//! A learner's transport as tests use it, and messages for it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use etcd_syncer::ids::{ClusterId, MemberId, RaftIndex};
use etcd_syncer::pb::raftpb::{ConfState, Entry, Message, Snapshot, SnapshotMetadata};
use etcd_syncer::peer::kind::MessageKind;
use etcd_syncer::peer::version::{ClusterVersion, Version, Versions};
use etcd_syncer::peer::{Config, Identity, Inbound, Inbox, Member, Received, Refused, Transport};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::client::{Answer, Dialled, SOON, Upload, call};
use crate::member::FakeMember;

pub(crate) const CLUSTER: ClusterId = ClusterId(0x1db5_8371_7a90_2f9c);
pub(crate) const US: MemberId = MemberId(0x0535_bc51_9408_92e3);
pub(crate) const IDENTITY: Identity = Identity {
    cluster: CLUSTER,
    us: US,
};
pub(crate) const VERSIONS: Versions = Versions {
    server: Version::new(3, 5, 1),
    cluster: ClusterVersion::Decided(Version::new(3, 5, 0)),
    storage: None,
};

/// A running transport.
pub(crate) struct Learner {
    pub(crate) transport: Transport,
    pub(crate) inbox: Inbox,
    pub(crate) address: SocketAddr,
    /// Its spool, and the folder in which that is.
    pub(crate) spool: PathBuf,
    _folder: tempfile::TempDir,
    ended: CancellationToken,
    run: JoinHandle<()>,
}

impl Drop for Learner {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}

/// Short times, so that tests are short.
pub(crate) fn config() -> Config {
    Config {
        link_heartbeat: Duration::from_millis(100),
        poll_interval: Duration::from_millis(100),
        hold_after_mute: Duration::from_millis(500),
        answer_timeout: Duration::from_secs(2),
        snapshot_silence: SOON,
        snapshot_retry_min: Duration::from_secs(3),
        snapshot_retry_max: Duration::from_secs(6),
        ..Config::default()
    }
}

impl Learner {
    /// A transport that serves but knows nobody. Its spool is its own, unless there is one.
    pub(crate) async fn start(mut config: Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let own = || folder.path().join("spool");
        let spool = config.spool.get_or_insert_with(own).clone();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (transport, inbox) = Transport::new(config);
        let ended = CancellationToken::new();
        let run = {
            let (transport, ended) = (transport.clone(), ended.clone());
            tokio::spawn(async move { transport.run(listener, ended).await })
        };
        Self {
            transport,
            inbox,
            address,
            spool,
            _folder: folder,
            ended,
            run,
        }
    }

    /// The same, joined to these members.
    pub(crate) async fn joined(members: &[&FakeMember]) -> Self {
        Self::joined_with(config(), members).await
    }

    pub(crate) async fn joined_with(config: Config, members: &[&FakeMember]) -> Self {
        let learner = Self::start(config).await;
        learner.join(members);
        learner
    }

    pub(crate) fn join(&self, members: &[&FakeMember]) {
        for member in members {
            member.list(members, &self.url());
        }
        let listed = self.roster(members);
        self.transport
            .join(IDENTITY, listed, Some(VERSIONS))
            .unwrap();
    }

    /// These members and us.
    pub(crate) fn roster(&self, members: &[&FakeMember]) -> Vec<Member> {
        let us = Member {
            id: US,
            peer_urls: vec![self.url()],
            name: String::new(),
            client_urls: Vec::new(),
            is_learner: true,
        };
        members.iter().map(|m| m.member()).chain([us]).collect()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What comes for the learner next.
    pub(crate) async fn recv(&mut self) -> Inbound {
        let received = timeout(SOON, self.inbox.recv()).await;
        received
            .expect("something comes")
            .expect("the transport runs")
    }

    /// The inbox, for a raft learner to be made with; the test receives nothing any more.
    pub(crate) fn take_inbox(&mut self) -> Inbox {
        std::mem::replace(&mut self.inbox, Transport::new(config()).1)
    }

    /// The snapshot that comes next.
    pub(crate) async fn recv_snapshot(&mut self) -> Received {
        match self.recv().await {
            Inbound::Snapshot(received) => received,
            other => panic!("{other:?}"),
        }
    }

    /// Names of the files in the spool.
    pub(crate) fn spooled(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(&self.spool) else {
            return Vec::new();
        };
        let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<String> = entries
            .map(|entry| name(entry).into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Waits until the spool holds only these files.
    pub(crate) async fn await_spooled(&self, names: &[&str]) {
        eventually(|| self.spooled() == names).await;
    }

    /// True if nothing is said to this member right now, because of its snapshot.
    pub(crate) fn is_paused(&self, member: &FakeMember) -> bool {
        let answer = outgoing(member.id, MessageKind::HeartbeatResp, 1, 0);
        match self.transport.send(member.id, &answer) {
            Err(Refused::Paused { to }) => to == member.id,
            _ => false,
        }
    }

    /// A member begins to POST a snapshot.
    pub(crate) async fn upload_by(&self, member: &FakeMember) -> Upload {
        let headers = raft_headers(member.id);
        Upload::begin(self.address, "/raft/snapshot", &borrowed(&headers)).await
    }

    /// The next message.
    pub(crate) async fn recv_message(&mut self) -> Message {
        match self.recv().await {
            Inbound::Message { message, .. } => message,
            other => panic!("{other:?}"),
        }
    }

    /// A member dials our stream of this kind.
    pub(crate) async fn dialled_by(&self, member: &FakeMember, kind: &str) -> Dialled {
        let headers = raft_headers(member.id);
        let path = format!("/raft/stream/{kind}/{}", member.id);
        Dialled::open(self.address, &path, &borrowed(&headers)).await
    }

    /// A member POSTs to us.
    pub(crate) async fn posted_by(
        &self,
        member: &FakeMember,
        path: &str,
        body: &[u8],
    ) -> Option<Answer> {
        let headers = raft_headers(member.id);
        call(self.address, "POST", path, &borrowed(&headers), body).await
    }

    /// Lets the learner hear a leader: term, and entries up to an index.
    pub(crate) async fn hear(&mut self, leader: &FakeMember, term: u64, index: u64) {
        let message = append(leader.id, term, index);
        let bytes = prost::Message::encode_to_vec(&message);
        let answer = self.posted_by(leader, "/raft", &bytes).await.unwrap();
        assert_eq!(answer.status, 204);
        assert_eq!(self.recv_message().await, message);
        self.transport.set_acknowledgeable(RaftIndex(index));
    }

    /// Ends the transport, which must not take long.
    pub(crate) async fn stop(mut self) {
        self.ended.cancel();
        let run = std::mem::replace(&mut self.run, tokio::spawn(async {}));
        timeout(SOON, run)
            .await
            .expect("it ends")
            .expect("without a panic");
    }
}

/// The headers with which a member comes to us.
pub(crate) fn raft_headers(from: MemberId) -> Vec<(&'static str, String)> {
    vec![
        ("X-Server-From", from.to_string()),
        ("X-Server-Version", "3.5.1".into()),
        ("X-Min-Cluster-Version", "3.0.0".into()),
        ("X-Etcd-Cluster-ID", CLUSTER.to_string()),
        ("X-Raft-To", US.to_string()),
        ("X-PeerURLs", "http://127.0.0.1:1".into()),
    ]
}

pub(crate) fn borrowed<'a>(headers: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    headers.iter().map(|(n, v)| (*n, v.as_str())).collect()
}

/// A MsgApp for us without entries.
pub(crate) fn append(from: MemberId, term: u64, index: u64) -> Message {
    Message {
        r#type: MessageKind::App.number(),
        from: from.0,
        to: US.0,
        term,
        log_term: term,
        index,
        commit: index,
        ..Message::default()
    }
}

/// What a leader says of a snapshot at this index, before the database.
pub(crate) fn snapshot_message(from: MemberId, term: u64, index: u64) -> Message {
    Message {
        r#type: MessageKind::Snap.number(),
        from: from.0,
        to: US.0,
        term,
        snapshot: Some(Snapshot {
            data: Bytes::from_static(
                br#"{"Root":{"Children":{"0":{"Children":{"members":{"Children":{
                "7":{"Children":{"raftAttributes":{"Value":"{\"peerURLs\":[\"http://a\"]}"}}},
                "535bc51940892e3":{"Children":{"raftAttributes":{"Value":
                "{\"peerURLs\":[\"http://b\"],\"isLearner\":true}"}}}}}}}}}}"#,
            ),
            metadata: Some(SnapshotMetadata {
                conf_state: Some(ConfState {
                    voters: vec![7],
                    learners: vec![US.0],
                    ..ConfState::default()
                }),
                index,
                term: term.min(2),
            }),
        }),
        ..Message::default()
    }
}

/// The entry that follows an index.
pub(crate) fn entry(term: u64, index: u64, data: &[u8]) -> Entry {
    Entry {
        term,
        index,
        data: Bytes::copy_from_slice(data),
        ..Entry::default()
    }
}

/// A heartbeat for us.
pub(crate) fn heartbeat(from: MemberId, term: u64, context: &[u8]) -> Message {
    Message {
        r#type: MessageKind::Heartbeat.number(),
        from: from.0,
        to: US.0,
        term,
        context: Bytes::copy_from_slice(context),
        ..Message::default()
    }
}

/// A message of ours.
pub(crate) fn outgoing(to: MemberId, kind: MessageKind, term: u64, index: u64) -> Message {
    Message {
        r#type: kind.number(),
        from: US.0,
        to: to.0,
        term,
        index,
        ..Message::default()
    }
}

/// Waits until something holds that must hold soon.
pub(crate) async fn eventually(mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < SOON, "it does not come true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
