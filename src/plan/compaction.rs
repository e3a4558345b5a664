//! Which revision of the standby stands for a revision of the primary. Pure.
//!
//! The two keyspaces count differently, so a compaction cannot be carried over by its number.
//! After each batch both revisions are noted; a compaction of the primary at revision `r` then
//! becomes one of the standby at the last noted revision that holds no more than `r`: every state
//! of the primary that is still to be seen there is still to be seen here, as far as it was ever
//! written here.
//!
//! No batch both deletes and puts a key, so none of these revisions is one at which etcd 3.5 to 3.7
//! would lose a key.

use std::collections::VecDeque;

use crate::ids::Revision;

/// Whether the standby's history is compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompactionPolicy {
    /// When the primary's is, as far.
    Follow,
    /// By others, or never.
    None,
}

/// Pairs of revisions that hold the same, of the past.
#[derive(Clone, Debug)]
pub struct Milestones {
    /// Strictly ascending in both. The last one is the last batch.
    points: VecDeque<Milestone>,
    /// Of so many batches one is kept for good.
    stride: usize,
    /// How many batches the last point stands for.
    since: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Milestone {
    primary: Revision,
    standby: i64,
}

/// How many are kept at most. With more, every second one goes, and fewer are kept from then on: a
/// hundred batches a second for two weeks lie about five minutes apart.
const MILESTONES_MAX: usize = 4096;

impl Milestones {
    /// Begins where the standby's revision `standby` holds what the primary's revision `primary`
    /// does.
    #[must_use]
    pub fn new(primary: Revision, standby: i64) -> Self {
        Self {
            points: VecDeque::from([Milestone { primary, standby }]),
            stride: 1,
            since: 1,
        }
    }

    /// A batch was written.
    pub fn note(&mut self, primary: Revision, standby: i64) {
        let replaced = self.points.pop_back_if(|last| last.primary >= primary);
        if replaced.is_none() {
            if self.since < self.stride {
                self.points.pop_back();
                self.since += 1;
            } else {
                self.since = 1;
            }
        }
        if self.points.len() == MILESTONES_MAX {
            let mut number = 0;
            self.points.retain(|_| {
                number += 1;
                number % 2 == 1
            });
            self.stride = self.stride.saturating_mul(2);
        }
        self.points.push_back(Milestone { primary, standby });
    }

    /// At which revision to compact the standby when the primary is compacted at `compacted`; none
    /// if that lies before everything that is known. What lies before it is forgotten.
    pub fn compact(&mut self, compacted: Revision) -> Option<i64> {
        let count = self
            .points
            .partition_point(|point| point.primary <= compacted);
        let last = count.checked_sub(1)?;
        self.points.drain(..last);
        // With room to spare, the next ones may lie closer together.
        while self.stride > 1 && self.points.len() < MILESTONES_MAX / 4 {
            self.stride /= 2;
        }
        self.points.front().map(|point| point.standby)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn compact(milestones: &mut Milestones, revision: i64) -> Option<i64> {
        milestones.compact(Revision(revision))
    }

    #[test]
    fn a_compaction_goes_to_the_last_revision_that_holds_no_more() {
        let mut milestones = Milestones::new(Revision(10), 100);
        milestones.note(Revision(12), 101);
        milestones.note(Revision(12), 103);
        milestones.note(Revision(20), 104);
        for (primary, standby) in [
            (-1, None),
            (9, None),
            (10, Some(100)),
            (11, Some(100)),
            (13, Some(103)),
            (12, Some(103)),
            (19, Some(103)),
            (11, None),
            (20, Some(104)),
            (99, Some(104)),
        ] {
            assert_eq!(compact(&mut milestones, primary), standby, "{primary}");
        }
    }

    #[test]
    fn memory_is_bounded_and_the_recent_past_is_exact() {
        let mut milestones = Milestones::new(Revision(1), 3);
        for n in 2..=1_000_000 {
            milestones.note(Revision(n), 3 * n);
            assert!(milestones.points.len() <= MILESTONES_MAX);
        }
        assert!(milestones.points.len() > MILESTONES_MAX / 2 - 2);
        for (primary, nearest) in [
            (1, 1),
            (500_000, 499_000),
            (999_000, 998_000),
            (1_000_000, 1_000_000),
        ] {
            let mut one = milestones.clone();
            let standby = compact(&mut one, primary).unwrap();
            assert!((3 * nearest..=3 * primary).contains(&standby), "{standby}");
        }
        compact(&mut milestones, 990_000);
        for n in 1_000_001..1_000_100 {
            milestones.note(Revision(n), 3 * n);
        }
        assert_eq!(compact(&mut milestones, 1_000_050), Some(3 * 1_000_050));
    }

    proptest! {
        /// Never more than the primary gave up, and always the most that is known.
        #[test]
        fn nothing_that_the_primary_shows_is_lost(
            steps in prop::collection::vec((0..3_i64, 1..4_i64), 1..60),
            compacted in 0..100_i64,
        ) {
            let mut milestones = Milestones::new(Revision(1), 1);
            let mut all = vec![(1, 1)];
            for (primary, standby) in steps {
                let (last_primary, last_standby) = all[all.len() - 1];
                let next = (last_primary + primary, last_standby + standby);
                milestones.note(Revision(next.0), next.1);
                all.push(next);
            }
            let expected = all.iter().rfind(|(primary, _)| *primary <= compacted);
            prop_assert_eq!(compact(&mut milestones, compacted), expected.map(|(_, s)| *s));
        }
    }
}
