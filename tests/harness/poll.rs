//! Waiting for something to become true.

use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::time::{Instant, sleep, timeout_at};

/// An error after which trying again is pointless: [`eventually`] returns it at once.
#[derive(Debug)]
pub struct Fatal(String);

impl Fatal {
    /// Wraps `error`, with its causes.
    pub fn because(error: &anyhow::Error) -> anyhow::Error {
        anyhow::Error::new(Self(format!("{error:#}")))
    }
}

impl std::fmt::Display for Fatal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Fatal {}

/// Repeats `attempt` until it succeeds, with pauses that grow from 5 to 200 ms.
///
/// # Errors
/// At the deadline, naming `what` was waited for and the last attempt's error; a [`Fatal`] error of
/// an attempt at once.
pub async fn eventually<T>(
    what: &str,
    within: Duration,
    mut attempt: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let deadline = Instant::now() + within;
    let mut pause = Duration::from_millis(5);
    let mut last = anyhow!("the first attempt did not end in time");
    loop {
        match timeout_at(deadline, attempt()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) if error.is::<Fatal>() => {
                return Err(error.context(format!("waiting until {what}")));
            }
            Ok(Err(error)) => last = error,
            Err(_) => {
                return Err(last.context(format!("still waiting until {what} after {within:?}")));
            }
        }
        if Instant::now() + pause >= deadline {
            return Err(last.context(format!("still waiting until {what} after {within:?}")));
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}
