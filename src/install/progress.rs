//! How far an installation is, for whoever shows it. Pure; the time is an argument.

use std::time::{Duration, Instant};

use super::diff::Tally;
use crate::ids::RaftIndex;

/// An installation.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// The snapshot's index.
    pub index: RaftIndex,
    /// Size of its database.
    pub bytes: u64,
    /// What is done now.
    pub stage: Stage,
    /// When it began.
    pub began: Instant,
    /// When reading the database was done.
    pub read: Option<Instant>,
    /// Live keys in the snapshot, once it is read.
    pub keys: usize,
    /// What was compared and written so far.
    pub tally: Tally,
}

/// What an installation is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The database is read and checked.
    Reading,
    /// What differs is written.
    Writing,
    /// The standby is at the snapshot's index.
    Done,
}

impl Stage {
    /// As it is shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Reading => "reading the snapshot",
            Self::Writing => "writing what differs",
            Self::Done => "done",
        }
    }
}

impl Progress {
    /// Time left at the pace so far; None before there is one.
    #[must_use]
    pub fn left(&self, now: Instant) -> Option<Duration> {
        let since = self.read.filter(|_| self.stage == Stage::Writing)?;
        let done = self.tally.compared;
        let rest = self.keys.checked_sub(done)?;
        if done == 0 {
            return None;
        }
        let each = now.saturating_duration_since(since).as_secs_f64() / as_f64(done);
        Duration::try_from_secs_f64(each * as_f64(rest)).ok()
    }
}

fn as_f64(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}
