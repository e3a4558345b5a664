//! Ports on the loopback address that nobody uses.

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Mutex;

use anyhow::{Result, anyhow, bail};

/// Below the range from which Linux takes ports for outgoing connections and for listeners without
/// a port of their own, so that a port stays free while a member that owns it is down.
const CANDIDATES: std::ops::Range<u16> = 10_240..32_768;

/// A port that was free on 127.0.0.1 a moment ago and is not handed out again in this process.
/// Another process can still take it: whoever starts a server on it must be ready for that.
///
/// # Errors
/// If no free port was found in 1000 tries.
pub fn free_port() -> Result<u16> {
    static HANDED_OUT: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut handed_out = HANDED_OUT
        .lock()
        .map_err(|_| anyhow!("looking for a free port panicked before"))?;
    let handed_out = handed_out.get_or_insert_default();
    for _ in 0..1000 {
        let port = fastrand::u16(CANDIDATES);
        if !handed_out.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            handed_out.insert(port);
            return Ok(port);
        }
    }
    bail!("no free port on 127.0.0.1 in {CANDIDATES:?} after 1000 tries")
}
