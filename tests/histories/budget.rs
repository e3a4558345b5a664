//! How long a run is, and with which seeds: short in `cargo test`, by the minute in `make soak`.

use std::time::{Duration, Instant};

/// Seeds to run with.
pub(crate) struct Budget {
    next: u64,
    left: Option<u64>,
    until: Option<Instant>,
}

/// Random runs that share the minutes: three kinds for each of four releases, and upgrades.
const SHARES: u32 = 13;

impl Budget {
    /// `short` seeds from 1 on, unless the environment says otherwise: `ETCD_SYNCER_TEST_SEED` is
    /// the only seed, or `ETCD_SYNCER_TEST_MINUTES` go by with seeds that nobody knows before.
    pub(crate) fn new(short: u64) -> Self {
        if let Some(seed) = setting("SEED") {
            return Self {
                next: seed,
                left: Some(setting("COUNT").unwrap_or(1)),
                until: None,
            };
        }
        if let Some(minutes) = setting("MINUTES") {
            let share = Duration::from_secs(minutes * 60) / SHARES;
            return Self {
                next: fastrand::u64(1000..1_000_000_000),
                left: None,
                until: Some(Instant::now() + share),
            };
        }
        Self {
            next: 1,
            left: Some(short),
            until: None,
        }
    }
}

impl Iterator for Budget {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        if self.until.is_some_and(|until| until < Instant::now()) {
            return None;
        }
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1)?;
        }
        self.next += 1;
        Some(self.next - 1)
    }
}

/// A number in the environment.
pub(crate) fn setting(name: &str) -> Option<u64> {
    let value = std::env::var(format!("ETCD_SYNCER_TEST_{name}")).ok()?;
    value.parse().ok()
}
