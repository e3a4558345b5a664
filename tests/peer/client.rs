//! Requests to our server, written byte by byte.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest wait for anything that must come.
pub(crate) const SOON: Duration = Duration::from_secs(5);

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

/// A header of this name in the head of a request or an answer.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// The bytes of a request.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: us\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() || method == "POST" {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}

/// Sends bytes and reads all that comes back until the connection ends.
pub(crate) async fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut tcp = TcpStream::connect(address).await.unwrap();
    let _ = tcp.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = async { while let Ok(1..) = tcp.read_buf(&mut answer).await {} };
    timeout(2 * SOON, read).await.expect("the connection ends");
    answer
}

/// Sends a request and reads the answer; None if the connection ends without one.
pub(crate) async fn call(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Option<Answer> {
    parse(&exchange(address, &request(method, path, headers, body)).await)
}

/// The same for a GET that is answered.
pub(crate) async fn get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    call(address, "GET", path, headers, b"").await.expect(path)
}

pub(crate) fn parse(bytes: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer {
        status,
        head: head.into(),
        body: body.into(),
    })
}

/// A stream that we, as a member, have dialled.
pub(crate) struct Dialled {
    pub(crate) head: String,
    tcp: TcpStream,
    raw: Vec<u8>,
    payload: Vec<u8>,
}

impl Dialled {
    /// Dials and reads the head of the answer, which must be 200.
    pub(crate) async fn open(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        let bytes = request("GET", path, headers, b"");
        tcp.write_all(&bytes).await.unwrap();
        let mut raw = Vec::new();
        let end = loop {
            if let Some(end) = raw.windows(4).position(|w| w == b"\r\n\r\n") {
                break end + 4;
            }
            let n = timeout(SOON, tcp.read_buf(&mut raw))
                .await
                .unwrap()
                .unwrap();
            assert!(n > 0, "no answer: {:?}", String::from_utf8_lossy(&raw));
        };
        let head = String::from_utf8(raw.drain(..end).collect()).unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        Self {
            head,
            tcp,
            raw,
            payload: Vec::new(),
        }
    }

    /// Reads what comes next, without the chunk lengths; None at the end of the stream.
    pub(crate) async fn read(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(chunk) = self.take_chunk() {
                return (!chunk.is_empty()).then_some(chunk);
            }
            match self.tcp.read_buf(&mut self.raw).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Reads exactly so many bytes.
    pub(crate) async fn take(&mut self, length: usize) -> Vec<u8> {
        while self.payload.len() < length {
            let chunk = timeout(SOON, self.read()).await.expect("in time");
            self.payload.extend(chunk.expect("the stream goes on"));
        }
        self.payload.drain(..length).collect()
    }

    /// The next message of a message stream that is no link heartbeat, encoded.
    pub(crate) async fn take_message(&mut self) -> Vec<u8> {
        loop {
            let length = self.take(8).await;
            let length = u64::from_be_bytes(length.try_into().unwrap());
            let bytes = self.take(length as usize).await;
            if bytes != [8, 8] {
                return bytes;
            }
        }
    }

    fn take_chunk(&mut self) -> Option<Vec<u8>> {
        let line = self.raw.windows(2).position(|w| w == b"\r\n")?;
        let length = std::str::from_utf8(&self.raw[..line]).unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        let end = line + 2 + length + 2;
        if self.raw.len() < end {
            return None;
        }
        let chunk = self.raw[line + 2..end - 2].to_vec();
        self.raw.drain(..end);
        Some(chunk)
    }
}

/// A POST whose body is written piece by piece.
pub(crate) struct Upload(TcpStream);

impl Upload {
    /// Writes the head: a body in chunks follows.
    pub(crate) async fn begin(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        let mut head = format!("POST {path} HTTP/1.1\r\nHost: us\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("Transfer-Encoding: chunked\r\n\r\n");
        tcp.write_all(head.as_bytes()).await.unwrap();
        Self(tcp)
    }

    /// Writes one chunk; false if the connection has ended.
    pub(crate) async fn chunk(&mut self, bytes: &[u8]) -> bool {
        let length = format!("{:x}\r\n", bytes.len());
        let chunk = [length.as_bytes(), bytes, b"\r\n"].concat();
        self.0.write_all(&chunk).await.is_ok()
    }

    /// Writes the last chunk, without which the body is not whole.
    pub(crate) async fn end(&mut self) {
        self.0.write_all(b"0\r\n\r\n").await.unwrap();
    }

    /// Waits for the end of the connection, and returns the answer if there was one.
    pub(crate) async fn answer(mut self) -> Option<Answer> {
        let mut bytes = Vec::new();
        let read = async { while let Ok(1..) = self.0.read_buf(&mut bytes).await {} };
        timeout(2 * SOON, read).await.expect("the connection ends");
        parse(&bytes)
    }

    /// True if neither an answer nor the end of the connection comes within this time.
    pub(crate) async fn is_held(&mut self, within: Duration) -> bool {
        let mut byte = [0];
        timeout(within, self.0.peek(&mut byte)).await.is_err()
    }
}
