//! How long after the primary the standby shows a change.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::Result;
use etcd_client::{Client, EventType, WatchOptions};

/// A key, and whether it came or went.
type Event = (Vec<u8>, bool);

/// When each key was seen to come and to go, last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen(Arc<Mutex<BTreeMap<Event, Instant>>>);

impl Seen {
    fn all(&self) -> MutexGuard<'_, BTreeMap<Event, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a key came or went.
    pub(crate) fn has(&self, key: &[u8], came: bool) -> bool {
        self.all().contains_key(&(key.to_vec(), came))
    }

    /// How many keys came or went.
    pub(crate) fn count(&self, came: bool) -> usize {
        self.all().keys().filter(|(_, kind)| *kind == came).count()
    }
}

/// Watches a cluster from now on.
///
/// # Errors
/// If it cannot be watched.
pub(crate) async fn observe(mut client: Client, prefix: &str) -> Result<Seen> {
    let seen = Seen::default();
    let options = WatchOptions::new().with_prefix();
    let mut stream = client.watch(prefix, Some(options)).await?;
    let noted = seen.clone();
    tokio::spawn(async move {
        while let Ok(Some(answer)) = stream.message().await {
            let now = Instant::now();
            let mut noted = noted.all();
            for event in answer.events() {
                if let Some(kv) = event.kv() {
                    let came = event.event_type() == EventType::Put;
                    noted.insert((kv.key().to_vec(), came), now);
                }
            }
        }
    });
    Ok(seen)
}

/// From the primary's event to the standby's, in milliseconds, ascending; those of `came` only.
pub(crate) fn delays(primary: &Seen, standby: &Seen, came: bool) -> Vec<u128> {
    let (primary, standby) = (primary.all(), standby.all());
    let mut delays: Vec<u128> = primary
        .iter()
        .filter(|((_, kind), _)| *kind == came)
        .filter_map(|(event, there)| {
            let here = standby.get(event)?;
            Some(here.saturating_duration_since(*there).as_millis())
        })
        .collect();
    delays.sort_unstable();
    delays
}

/// Prints them.
pub(crate) fn show(what: &str, delays: &[u128]) {
    let at = |hundredth: usize| delays.get(delays.len() * hundredth / 100).copied();
    let (half, most) = (at(50).unwrap_or(0), at(99).unwrap_or(0));
    let last = delays.last().copied().unwrap_or(0);
    println!(
        "{what}: {} events, half within {half} ms, 99 of 100 within {most} ms, all within {last} ms",
        delays.len()
    );
}
