//! How far the transfer of a snapshot is, for whoever shows it. Pure; the time is an argument.

use std::time::{Duration, Instant};

use super::received::Over;
use crate::ids::{MemberId, RaftIndex, Term};

/// The latest transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The leader that sends it.
    pub from: MemberId,
    /// The leader's term.
    pub term: Term,
    /// Index of the last entry that the snapshot covers.
    pub index: RaftIndex,
    /// Bytes of the database received so far; how many it has is not transmitted.
    pub bytes: u64,
    /// Bytes of the database in the last second or so.
    pub bytes_per_second: u64,
    /// When it began.
    pub began: Instant,
    /// What it is at.
    pub phase: Phase,
}

/// What a transfer is at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Bytes come in.
    Receiving,
    /// All of it is in the spool since then, and the leader waits for the answer.
    Held {
        /// Since when.
        since: Instant,
    },
    /// It was installed, and the leader was told so.
    Installed,
    /// The leader's request ended without an answer of ours.
    Over(Over),
    /// It failed.
    Failed {
        /// What went wrong, and what to do.
        why: String,
        /// The leader is answered again, and may send again, from then on.
        retry_at: Instant,
    },
}

/// Measures a rate over about a second.
#[derive(Debug)]
pub(super) struct Meter {
    since: Instant,
    bytes: u64,
    rate: u64,
}

const WINDOW: Duration = Duration::from_secs(1);

impl Meter {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            bytes: 0,
            rate: 0,
        }
    }

    /// Notes bytes received, and returns the rate: of the last whole window, or of what there is
    /// of the first.
    pub(super) fn note(&mut self, now: Instant, bytes: u64) -> u64 {
        self.bytes = self.bytes.saturating_add(bytes);
        let elapsed = now.saturating_duration_since(self.since);
        let millis = u64::try_from(elapsed.as_millis())
            .unwrap_or(u64::MAX)
            .max(1);
        let rate = self.bytes.saturating_mul(1000) / millis;
        if elapsed >= WINDOW {
            *self = Self {
                since: now,
                bytes: 0,
                rate,
            };
        } else if self.rate == 0 {
            return rate;
        }
        self.rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_second() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut meter = Meter::new(start);
        assert_eq!(meter.note(at(500), 1_000), 2_000);
        assert_eq!(meter.note(at(1000), 1_000), 2_000);
        assert_eq!(meter.note(at(1500), 10_000), 2_000);
        assert_eq!(meter.note(at(2000), 10_000), 20_000);
        assert_eq!(meter.note(at(4000), 2_000), 1_000);
    }
}
