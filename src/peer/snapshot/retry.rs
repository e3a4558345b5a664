//! How long a member that could not hand its snapshot over is left without answers. Pure; the time
//! is an argument.
//!
//! A leader sends its whole database again with the next heartbeat that is answered, a tenth of a
//! second later. Without answers it does not, and counts us as inactive. So after each failure
//! nothing is said to that member for a while, twice as long as the time before.
//!
//! # Source
//! raft v3.7.0 `raft.go` stepLeader, MsgSnapStatus and MsgHeartbeatResp.

use std::time::{Duration, Instant};

/// A time without answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::peer) struct Pause {
    pub(in crate::peer) since: Instant,
    pub(in crate::peer) until: Instant,
}

/// The failures of one member in a row.
#[derive(Debug, Default)]
pub(in crate::peer) struct Retry {
    failures: u32,
    pause: Option<Pause>,
}

impl Retry {
    /// One more failure; the pause that follows lasts `min` at first, `max` at last.
    pub(in crate::peer) fn fail(&mut self, now: Instant, min: Duration, max: Duration) -> Pause {
        let doublings = self.failures.min(20);
        self.failures = self.failures.saturating_add(1);
        let pause = Pause {
            since: now,
            until: now + min.saturating_mul(1 << doublings).min(max),
        };
        self.pause = Some(pause);
        pause
    }

    /// A snapshot was installed.
    pub(in crate::peer) fn settle(&mut self) {
        *self = Self::default();
    }

    /// The pause we are in.
    pub(in crate::peer) fn pause(&self, now: Instant) -> Option<Pause> {
        self.pause.filter(|pause| now < pause.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_secs(5);
    const MAX: Duration = Duration::from_secs(60);

    #[test]
    fn pauses_double_up_to_a_limit_and_begin_anew_after_a_success() {
        let start = Instant::now();
        let mut retry = Retry::default();
        let mut waits = |count: usize| -> Vec<u64> {
            (0..count)
                .map(|_| (retry.fail(start, MIN, MAX).until - start).as_secs())
                .collect()
        };
        assert_eq!(waits(40)[..6], [5, 10, 20, 40, 60, 60]);
        retry.settle();
        assert_eq!(retry.pause(start), None);
        let pause = retry.fail(start, MIN, MAX);
        assert_eq!(pause.until, start + MIN);
        assert_eq!(retry.pause(start + MIN / 2), Some(pause));
        assert_eq!(retry.pause(start + MIN), None);
    }
}
