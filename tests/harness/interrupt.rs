//! Ending early without leaving anything behind, for programs that people run and watch.

use std::future::Future;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

/// Runs `work` to its end, or until the first SIGINT, SIGTERM or SIGHUP: then `work` is dropped, and
/// with it every cluster and process it holds, and the answer is none.
///
/// # Errors
/// If signals can't be listened for, and those of `work`.
pub async fn unless_interrupted<T>(work: impl Future<Output = Result<T>>) -> Result<Option<T>> {
    let listen = |kind| signal(kind).context("can't listen for signals");
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    tokio::select! {
        done = work => done.map(Some),
        _ = interrupt.recv() => Ok(None),
        _ = terminate.recv() => Ok(None),
        _ = hangup.recv() => Ok(None),
    }
}
