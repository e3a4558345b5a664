//! Which term each index of the log belongs to, kept long after the entries themselves. Pure.

use crate::ids::{RaftIndex, Term};

/// Terms of all indexes from the point where the log was cut. Costs 16 bytes per change of leader.
#[derive(Debug)]
pub(crate) struct Terms {
    /// First index of each run of equal terms, ascending; the first run begins at the cut.
    runs: Vec<(RaftIndex, Term)>,
    last: RaftIndex,
}

impl Terms {
    /// A log that is cut at `index`, whose term is known, and holds nothing behind it.
    pub(crate) fn new(index: RaftIndex, term: Term) -> Self {
        Self {
            runs: vec![(index, term)],
            last: index,
        }
    }

    pub(crate) fn last(&self) -> RaftIndex {
        self.last
    }

    /// The term at `index`; None outside of what the log has ever held since it was cut.
    pub(crate) fn at(&self, index: RaftIndex) -> Option<Term> {
        if index > self.last {
            return None;
        }
        let behind = self.runs.partition_point(|(first, _)| *first <= index);
        self.runs.get(behind.checked_sub(1)?).map(|(_, term)| *term)
    }

    /// Notes an entry; an index already known is replaced together with everything behind it.
    pub(crate) fn put(&mut self, index: RaftIndex, term: Term) {
        self.runs.retain(|(first, _)| *first < index);
        if self.runs.last().is_none_or(|(_, current)| *current != term) {
            self.runs.push((index, term));
        }
        self.last = index;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms_of(terms: &Terms, indexes: std::ops::RangeInclusive<u64>) -> Vec<Option<u64>> {
        indexes
            .map(|index| terms.at(RaftIndex(index)).map(|term| term.0))
            .collect()
    }

    #[test]
    fn runs_are_found_and_overwritten() {
        let mut terms = Terms::new(RaftIndex(4), Term(2));
        for (index, term) in [(5, 2), (6, 2), (7, 3), (8, 3)] {
            terms.put(RaftIndex(index), Term(term));
        }
        assert_eq!(
            terms_of(&terms, 3..=9),
            [None, Some(2), Some(2), Some(2), Some(3), Some(3), None]
        );
        terms.put(RaftIndex(6), Term(4));
        assert_eq!(terms_of(&terms, 5..=7), [Some(2), Some(4), None]);
        terms.put(RaftIndex(7), Term(4));
        assert_eq!(terms_of(&terms, 5..=8), [Some(2), Some(4), Some(4), None]);
        assert_eq!(terms.runs.len(), 2);
    }
}
