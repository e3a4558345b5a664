//! A scripted member: answers what we dial and ask, and notes what it was asked.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use etcd_syncer::ids::MemberId;
use etcd_syncer::peer::Member;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::client::{SOON, header};
use crate::harness::{CLUSTER, US};

/// What is answered to a path.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// A status, headers (each line ended with CR LF) and a body.
    Text(u16, String, String),
    /// Exactly these bytes, then the connection is closed.
    Raw(Vec<u8>),
    /// An endless body, fed by [`FakeMember::write`].
    Stream,
    /// Nothing, with the connection kept open.
    Hang,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

#[derive(Default)]
struct State {
    replies: Vec<(String, Reply)>,
    seen: Vec<Seen>,
    streams: HashMap<String, mpsc::UnboundedSender<Vec<u8>>>,
    streams_begun: HashMap<String, usize>,
}

/// A member of the primary, as far as the peer port goes.
pub(crate) struct FakeMember {
    pub(crate) id: MemberId,
    pub(crate) address: SocketAddr,
    pub(crate) is_learner: bool,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Drop for FakeMember {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeMember {
    /// Streams and messages are accepted; it claims to be 3.5.1 and refuses to list members.
    pub(crate) async fn start(id: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let task = tokio::spawn(accept(listener, Arc::clone(&state)));
        let member = Self {
            id: MemberId(id),
            address,
            is_learner: false,
            state,
            task,
        };
        member.answer("/raft/stream/", Reply::Stream);
        member.answer("/raft", Reply::Text(204, String::new(), String::new()));
        member.answer("/version", version("3.5.1", "3.5.0"));
        member
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn member(&self) -> Member {
        Member {
            id: self.id,
            peer_urls: vec![self.url()],
            name: format!("m{}", self.id),
            client_urls: vec!["http://127.0.0.1:1".into()],
            is_learner: self.is_learner,
        }
    }

    /// From now on paths that begin like this are answered so; the longest beginning counts, and
    /// of equal ones the last given.
    pub(crate) fn answer(&self, path: &str, reply: Reply) {
        let replies = &mut self.state.lock().unwrap().replies;
        replies.retain(|(known, _)| known != path);
        replies.push((path.into(), reply));
        replies.sort_by_key(|(known, _)| std::cmp::Reverse(known.len()));
    }

    /// Lists these members, and us, when asked.
    pub(crate) fn list(&self, members: &[&FakeMember], our_url: &str) {
        let listed: Vec<Member> = members.iter().map(|member| member.member()).collect();
        self.answer("/members", listing(&listed, our_url));
    }

    /// Writes into the latest stream of this kind, once there is one.
    pub(crate) async fn write(&self, kind: &str, bytes: &[u8]) {
        let stream = || self.state.lock().unwrap().streams.get(kind).cloned();
        crate::harness::eventually(|| stream().is_some()).await;
        if let Some(stream) = stream() {
            // Whether it arrives is what the tests look at.
            let _ = stream.send(bytes.to_vec());
        }
    }

    /// Ends the latest stream of this kind.
    pub(crate) fn hang_up(&self, kind: &str) {
        self.state.lock().unwrap().streams.remove(kind);
    }

    pub(crate) fn streams_begun(&self, kind: &str) -> usize {
        let state = self.state.lock().unwrap();
        state.streams_begun.get(kind).copied().unwrap_or(0)
    }

    /// Waits until so many streams of this kind were begun in all.
    pub(crate) async fn await_streams(&self, kind: &str, count: usize) {
        crate::harness::eventually(|| self.streams_begun(kind) >= count).await;
    }

    /// The requests whose path begins like this.
    pub(crate) fn seen(&self, path: &str) -> Vec<Seen> {
        let state = self.state.lock().unwrap();
        let matching = state.seen.iter().filter(|seen| seen.path.starts_with(path));
        matching.cloned().collect()
    }
}

/// The answer to `GET /version`.
pub(crate) fn version(server: &str, cluster: &str) -> Reply {
    let body = format!(r#"{{"etcdserver":"{server}","etcdcluster":"{cluster}"}}"#);
    Reply::Text(200, String::new(), body)
}

/// The answer to `GET /members`: these, and us as a learner.
pub(crate) fn listing(members: &[Member], our_url: &str) -> Reply {
    let us = format!(
        r#"{{"id":{},"peerURLs":["{our_url}"],"isLearner":true}}"#,
        US.0
    );
    let others = members.iter().map(|member| {
        let learner = if member.is_learner {
            r#","isLearner":true"#
        } else {
            ""
        };
        format!(
            r#"{{"id":{},"peerURLs":["{}"],"name":"{}","clientURLs":["{}"]{learner}}}"#,
            member.id.0, member.peer_urls[0], member.name, member.client_urls[0]
        )
    });
    let all: Vec<String> = others.chain([us]).collect();
    let cluster = format!("X-Etcd-Cluster-Id: {CLUSTER}\r\n");
    Reply::Text(200, cluster, format!("[{}]\n", all.join(",")))
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        connections.spawn(serve(tcp, Arc::clone(&state)));
    }
}

async fn serve(mut tcp: TcpStream, state: Arc<Mutex<State>>) {
    let Ok(Some(seen)) = timeout(SOON, read_request(&mut tcp)).await else {
        return;
    };
    let reply = {
        let mut state = state.lock().unwrap();
        state.seen.push(seen.clone());
        let mut replies = state.replies.iter();
        replies
            .find(|(path, _)| seen.path.starts_with(path.as_str()))
            .map(|(_, reply)| reply.clone())
    };
    let missing = Reply::Text(404, String::new(), "404 page not found\n".into());
    match reply.unwrap_or(missing) {
        Reply::Text(status, headers, body) => {
            let length = body.len();
            let text =
                format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
            let _ = tcp.write_all(text.as_bytes()).await;
        }
        Reply::Raw(bytes) => {
            let _ = tcp.write_all(&bytes).await;
        }
        Reply::Stream => stream(tcp, &seen.path, &state).await,
        Reply::Hang => std::future::pending().await,
    }
}

async fn stream(mut tcp: TcpStream, path: &str, state: &Mutex<State>) {
    let head = format!(
        "HTTP/1.1 200 OK\r\nX-Server-Version: 3.5.1\r\nX-Etcd-Cluster-Id: {CLUSTER}\r\n\
         Transfer-Encoding: chunked\r\n\r\n"
    );
    if tcp.write_all(head.as_bytes()).await.is_err() {
        return;
    }
    let kind = path.split('/').nth(3).unwrap_or_default().to_owned();
    let (sender, mut queue) = mpsc::unbounded_channel::<Vec<u8>>();
    {
        let mut state = state.lock().unwrap();
        state.streams.insert(kind.clone(), sender);
        *state.streams_begun.entry(kind).or_default() += 1;
    }
    while let Some(bytes) = queue.recv().await {
        let length = format!("{:x}\r\n", bytes.len());
        let chunk = [length.as_bytes(), &bytes, b"\r\n"].concat();
        if tcp.write_all(&chunk).await.is_err() {
            return;
        }
    }
    let _ = tcp.write_all(b"0\r\n\r\n").await;
}

async fn read_request(tcp: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
        if tcp.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes.drain(..end).collect()).ok()?;
    let length: usize = header(&head, "content-length").map_or(Some(0), |l| l.parse().ok())?;
    while bytes.len() < length {
        if tcp.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let mut words = head.split(' ');
    Some(Seen {
        method: words.next()?.into(),
        path: words.next()?.into(),
        body: bytes,
        head: head.clone(),
    })
}
