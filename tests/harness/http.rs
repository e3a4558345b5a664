//! A GET request.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const WITHIN: Duration = Duration::from_secs(5);

/// What a server answered.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status code, such as 200.
    pub status: u16,
    pub body: String,
}

/// Gets `http://<address><path>`; any status code is an answer.
///
/// # Errors
/// If there is no complete answer within 5 seconds.
pub async fn get(address: &str, path: &str) -> Result<Response> {
    timeout(WITHIN, exchange(address, path))
        .await
        .unwrap_or_else(|_| bail!("no answer within {WITHIN:?}"))
        .with_context(|| format!("GET http://{address}{path}"))
}

async fn exchange(address: &str, path: &str) -> Result<Response> {
    let mut stream = TcpStream::connect(address).await.context("can't connect")?;
    // With HTTP/1.0 the answer ends where the connection does and is never chunked.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .await
        .context("can't send the request")?;
    let mut answer = Vec::new();
    stream
        .read_to_end(&mut answer)
        .await
        .context("can't read the answer")?;
    let answer = String::from_utf8(answer).context("the answer is not UTF-8")?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .with_context(|| format!("not an HTTP answer: {answer:?}"))?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .with_context(|| format!("no status code in {head:?}"))?;
    Ok(Response {
        status,
        body: body.to_owned(),
    })
}
