//! What the syncer says of itself while the primary is at work.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::harness::Syncer;
use crate::show::{Screen, thousands};

/// Time between two looks at the status page.
pub(crate) const PERIOD: Duration = Duration::from_millis(50);
/// The rate is that of so much time before.
const RATE_OVER: Duration = Duration::from_secs(1);

/// One look at the status page.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Look {
    pub(crate) lag_entries: u64,
    pub(crate) lag_seconds: f64,
    /// The primary's revision that the standby has reached.
    pub(crate) revision: i64,
    pub(crate) batches: u64,
    pub(crate) largest_batch: u64,
}

/// Looks again and again, and remembers the worst.
#[derive(Debug)]
pub(crate) struct Watcher {
    started: Instant,
    looks: Vec<(Instant, i64)>,
    pub(crate) last: Look,
    pub(crate) worst: Look,
}

impl Watcher {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            looks: Vec::new(),
            last: Look::default(),
            worst: Look::default(),
        }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// One look.
    ///
    /// # Errors
    /// If the syncer ended or halted.
    pub(crate) async fn look(&mut self, syncer: &mut Syncer) -> Result<Look> {
        if let Some(status) = syncer.exit_status()? {
            bail!(
                "etcd-syncer ended with {status}; its log:\n{}",
                syncer.log()?
            );
        }
        let page = syncer.status().await?;
        if let Some(reason) = page["halted"]["reason"].as_str() {
            bail!("etcd-syncer halted: {reason}");
        }
        let look = read(&page).with_context(|| format!("the status page lacks figures: {page}"))?;
        let now = Instant::now();
        self.looks.push((now, look.revision));
        self.looks.retain(|(at, _)| now - *at <= RATE_OVER);
        self.worst.lag_entries = self.worst.lag_entries.max(look.lag_entries);
        self.worst.lag_seconds = self.worst.lag_seconds.max(look.lag_seconds);
        self.last = look;
        Ok(look)
    }

    /// Revisions per second that reached the standby, over the last second.
    fn rate(&self) -> f64 {
        let (Some((from, low)), Some((to, high))) = (self.looks.first(), self.looks.last()) else {
            return 0.0;
        };
        let seconds = (*to - *from).as_secs_f64();
        let writes = u32::try_from(high - low).unwrap_or(0);
        if seconds > 0.0 {
            f64::from(writes) / seconds
        } else {
            0.0
        }
    }

    /// Shows the last look if it is time to.
    pub(crate) fn show(&self, screen: &mut Screen) {
        if screen.is_due() {
            screen.live(&format!(
                "   {:5.1} s   lag {:>5} entries {:>6.3} s   {:>6.0} writes/s   revision {:>8}",
                self.elapsed().as_secs_f64(),
                thousands(self.last.lag_entries),
                self.last.lag_seconds,
                self.rate(),
                thousands(self.last.revision.unsigned_abs()),
            ));
        }
    }
}

fn read(page: &Value) -> Option<Look> {
    Some(Look {
        lag_entries: page["lag"]["entries"].as_u64()?,
        lag_seconds: page["lag"]["seconds"].as_f64()?,
        revision: page["revision"]["primary"].as_i64()?,
        batches: page["batches"]["written"].as_u64()?,
        largest_batch: page["batches"]["largest"]["ops"].as_u64()?,
    })
}
