//! Connections: the one place that knows what they are made of. IO.
//!
//! [`Security`] is the seam for TLS: both ends hand out `Stream`s, and nothing above them cares
//! what is inside.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::Uri;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

/// How connections between members are protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Security {
    /// Not at all: plain TCP.
    #[default]
    Plain,
}

/// Why a peer URL cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not an absolute URL.
    #[error("{url:?} is no URL with a host, such as http://10.0.0.1:2380")]
    Malformed {
        /// As given.
        url: String,
    },
    /// A scheme that is not supported.
    #[error("{url} needs {scheme}, which is not supported: use http")]
    Scheme {
        /// As given.
        url: String,
        /// Its scheme.
        scheme: String,
    },
}

/// Where a member listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    host: String,
    port: u16,
    authority: String,
}

impl Target {
    /// Reads a peer URL.
    ///
    /// # Errors
    /// [`UrlError`].
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        let malformed = || UrlError::Malformed { url: url.into() };
        let uri: Uri = url.trim().parse().map_err(|_| malformed())?;
        let scheme = uri.scheme_str().ok_or_else(malformed)?;
        if scheme != "http" {
            return Err(UrlError::Scheme {
                url: url.into(),
                scheme: scheme.into(),
            });
        }
        let authority = uri.authority().ok_or_else(malformed)?;
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']');
        if host.is_empty() {
            return Err(malformed());
        }
        Ok(Self {
            host: host.into(),
            port: authority.port_u16().unwrap_or(80),
            authority: authority.as_str().into(),
        })
    }

    /// What stands in the `Host` header.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }
}

/// A connection of either direction whose writes cannot hang for ever.
#[derive(Debug)]
pub(super) struct Stream {
    inner: Inner,
    write_timeout: Duration,
    write_deadline: Option<Pin<Box<Sleep>>>,
}

/// One variant for each [`Security`].
#[derive(Debug)]
enum Inner {
    Plain(TcpStream),
}

impl Stream {
    /// Opens a connection to a member.
    pub(super) async fn connect(security: Security, target: &Target) -> io::Result<Self> {
        let tcp = TcpStream::connect((target.host.as_str(), target.port)).await?;
        Self::over(security, tcp).await
    }

    /// Takes over a connection that was accepted.
    pub(super) async fn accept(security: Security, tcp: TcpStream) -> io::Result<Self> {
        Self::over(security, tcp).await
    }

    /// A handshake, once there is one, is where this waits.
    #[allow(clippy::unused_async)]
    async fn over(security: Security, tcp: TcpStream) -> io::Result<Self> {
        tcp.set_nodelay(true)?;
        let inner = match security {
            Security::Plain => Inner::Plain(tcp),
        };
        Ok(Self {
            inner,
            write_timeout: WRITE_TIMEOUT,
            write_deadline: None,
        })
    }

    fn pinned(&mut self) -> Pin<&mut TcpStream> {
        match &mut self.inner {
            Inner::Plain(tcp) => Pin::new(tcp),
        }
    }

    /// Lets a write that makes no progress run into its deadline.
    fn guard<T>(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.write_deadline = None;
            return outcome;
        }
        let deadline = self
            .write_deadline
            .get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + self.write_timeout)));
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

/// As members have it: a peer that takes nothing for so long is cut off.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.get_mut().pinned().poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = this.pinned().poll_write(cx, bytes);
        this.guard(cx, outcome)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = this.pinned().poll_write_vectored(cx, slices);
        this.guard(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.inner {
            Inner::Plain(tcp) => tcp.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = this.pinned().poll_flush(cx);
        this.guard(cx, outcome)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = this.pinned().poll_shutdown(cx);
        this.guard(cx, outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_host_and_port() {
        let cases = [
            ("http://10.0.0.1:2380", "10.0.0.1", 2380),
            ("http://etcd-0.etcd:2380/", "etcd-0.etcd", 2380),
            ("http://[::1]:12001", "::1", 12001),
            ("http://host", "host", 80),
        ];
        for (url, host, port) in cases {
            let target = Target::parse(url).unwrap();
            assert_eq!((target.host.as_str(), target.port), (host, port), "{url}");
        }
        for bad in [
            "",
            "10.0.0.1:2380",
            "/raft",
            "http://",
            "https://h:1",
            "unix://h:1",
        ] {
            assert!(Target::parse(bad).is_err(), "{bad:?}");
        }
    }
}
