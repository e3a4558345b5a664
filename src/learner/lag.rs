//! How long the oldest entry that the standby lacks has been waiting. Pure; the time is an
//! argument.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::ids::RaftIndex;

/// Remembers when the commit index passed which values.
#[derive(Debug, Default)]
pub(crate) struct LagClock {
    /// Commit index and when it was first heard of; both rise.
    passed: VecDeque<(RaftIndex, Instant)>,
    durable: RaftIndex,
}

/// Rises closer together than this share one place. Bounds the memory of a day's lag to 140 MB in
/// theory, and to a few kilobytes in a stream that keeps up.
const RESOLUTION: Duration = Duration::from_millis(10);

impl LagClock {
    pub(crate) fn new(durable: RaftIndex) -> Self {
        Self {
            passed: VecDeque::new(),
            durable,
        }
    }

    /// The primary's commit index is known to be `commit`.
    pub(crate) fn note(&mut self, now: Instant, commit: RaftIndex) {
        let known = self.passed.back().map_or(self.durable, |(index, _)| *index);
        if commit <= known {
            return;
        }
        match self.passed.back_mut() {
            // The earlier time is kept: a lag is never understated.
            Some((index, at)) if now.saturating_duration_since(*at) < RESOLUTION => *index = commit,
            _ => self.passed.push_back((commit, now)),
        }
    }

    /// The standby holds everything up to `durable`.
    pub(crate) fn release(&mut self, durable: RaftIndex) {
        self.durable = durable;
        while self
            .passed
            .front()
            .is_some_and(|(index, _)| *index <= durable)
        {
            self.passed.pop_front();
        }
    }

    /// Since when the oldest entry that the standby lacks is known to be committed.
    pub(crate) fn behind_since(&self) -> Option<Instant> {
        self.passed.front().map(|(_, at)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_missing_entry_tells_the_lag() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut clock = LagClock::new(RaftIndex(5));
        clock.note(at(0), RaftIndex(5));
        assert_eq!(clock.behind_since(), None);
        clock.note(at(10), RaftIndex(7));
        clock.note(at(15), RaftIndex(8));
        clock.note(at(30), RaftIndex(9));
        assert_eq!(clock.behind_since(), Some(at(10)));
        clock.release(RaftIndex(7));
        assert_eq!(
            clock.behind_since(),
            Some(at(10)),
            "8 came within the same moment"
        );
        clock.release(RaftIndex(8));
        assert_eq!(clock.behind_since(), Some(at(30)));
        clock.release(RaftIndex(9));
        assert_eq!(clock.behind_since(), None);
    }
}
