//! The lag that a client sees: from the primary's answer to a put until a watcher of the standby has
//! the event.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etcd_client::{Client, WatchOptions};
use serde::Serialize;
use tokio::task::JoinHandle;

const PREFIX: &str = "marker/";
/// Time between two markers.
const PERIOD: Duration = Duration::from_millis(20);

/// Figures of the markers put during a load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Lag {
    pub(crate) p50_seconds: f64,
    pub(crate) p99_seconds: f64,
    pub(crate) max_seconds: f64,
    pub(crate) markers: usize,
    /// Those that had not arrived when the wait was given up. They count as having taken all that
    /// time, so with any of them the figures above are too low.
    pub(crate) missing: usize,
}

/// Markers on their way.
#[derive(Debug)]
pub(crate) struct Markers {
    stop: Arc<AtomicBool>,
    putting: Task<Vec<(String, Instant)>>,
    watching: Task<HashMap<String, Instant>>,
    give_up: Arc<AtomicBool>,
}

impl Markers {
    /// Puts markers into the primary from now on and watches for them in the standby.
    ///
    /// # Errors
    /// If the standby can't be watched.
    pub(crate) async fn start(primary: Client, mut standby: Client) -> Result<Self> {
        let options = WatchOptions::new().with_prefix();
        let watch = standby.watch(PREFIX, Some(options)).await;
        let mut watch = watch.context("can't watch the standby")?;
        let (stop, give_up) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicBool::new(false)),
        );
        let (stopped, given_up) = (Arc::clone(&stop), Arc::clone(&give_up));
        let putting = tokio::spawn(put(primary, stopped));
        let watching = tokio::spawn(async move {
            let mut seen = HashMap::new();
            loop {
                let message = tokio::time::timeout(PERIOD, watch.message()).await;
                if let Ok(message) = message {
                    let message = message?.context("the watch ended")?;
                    ensure!(!message.canceled(), "the watch was cancelled");
                    let now = Instant::now();
                    for key in message.events().iter().filter_map(|event| event.kv()) {
                        seen.entry(key.key_str()?.to_owned()).or_insert(now);
                    }
                } else if given_up.load(Ordering::Relaxed) {
                    return Ok(seen);
                }
            }
        });
        Ok(Self {
            stop,
            putting: Task(putting),
            watching: Task(watching),
            give_up,
        })
    }

    /// No more markers.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// The figures; whatever has not arrived by now is missing.
    ///
    /// # Errors
    /// If a marker could not be put, or the watch ended.
    pub(crate) async fn end(mut self) -> Result<Lag> {
        self.stop();
        let put = (&mut self.putting.0)
            .await
            .context("the markers panicked")??;
        self.give_up.store(true, Ordering::Relaxed);
        let seen = (&mut self.watching.0)
            .await
            .context("the watch panicked")??;
        let now = Instant::now();
        let mut lags: Vec<Duration> = put
            .iter()
            .map(|(key, at)| seen.get(key).unwrap_or(&now).saturating_duration_since(*at))
            .collect();
        lags.sort_unstable();
        let at = |percent: usize| {
            let index = (lags.len() * percent / 100).min(lags.len().saturating_sub(1));
            lags.get(index).map_or(0.0, Duration::as_secs_f64)
        };
        Ok(Lag {
            p50_seconds: at(50),
            p99_seconds: at(99),
            max_seconds: at(100),
            markers: put.len(),
            missing: put
                .iter()
                .filter(|(key, _)| !seen.contains_key(key))
                .count(),
        })
    }
}

/// A task that ends with whoever waits for it.
#[derive(Debug)]
struct Task<T>(JoinHandle<Result<T>>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn put(primary: Client, stop: Arc<AtomicBool>) -> Result<Vec<(String, Instant)>> {
    let mut kv = primary.kv_client();
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut put = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let key = format!("{PREFIX}{:06}", put.len());
        kv.put(key.as_str(), "", None)
            .await
            .context("can't put a marker")?;
        put.push((key, Instant::now()));
    }
    Ok(put)
}
