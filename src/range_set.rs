//! A set of keys, kept as disjoint ranges. Pure.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::range::KeyRange;

/// Keys, as ranges that do not overlap. Ranges that only touch stay apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet {
    /// By start.
    ranges: BTreeMap<Bytes, KeyRange>,
}

impl RangeSet {
    /// Adds every key of `range`.
    pub fn insert(&mut self, range: KeyRange) {
        let mut union = range;
        for old in self.overlapping(&union) {
            self.ranges.remove(old.start());
            union = union.hull(&old);
        }
        self.ranges.insert(union.start().clone(), union);
    }

    /// Takes every key of `hole` out.
    pub fn remove(&mut self, hole: &KeyRange) {
        for old in self.overlapping(hole) {
            self.ranges.remove(old.start());
            for part in old.without(hole) {
                self.ranges.insert(part.start().clone(), part);
            }
        }
    }

    /// True if `key` is in the set.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        self.ranges
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(key)))
            .next_back()
            .is_some_and(|(_, range)| range.contains(key))
    }

    /// How many ranges it takes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// True if no key is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// True if some key is in the set and in `range`.
    #[must_use]
    pub fn overlaps(&self, range: &KeyRange) -> bool {
        !self.overlapping(range).is_empty()
    }

    /// The ranges, ascending.
    pub fn iter(&self) -> impl Iterator<Item = &KeyRange> {
        self.ranges.values()
    }

    /// The ranges that share a key with `range`, ascending.
    fn overlapping(&self, range: &KeyRange) -> Vec<KeyRange> {
        let start = range.start().as_ref();
        let below = (Bound::Unbounded, Bound::Excluded(start));
        let before = self.ranges.range::<[u8], _>(below).next_back();
        let within = self.ranges.range::<[u8], _>(range.bounds());
        before
            .into_iter()
            .chain(within)
            .map(|(_, old)| old)
            .filter(|old| old.overlaps(range))
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys() -> Vec<Bytes> {
        let mut keys = vec![Bytes::new()];
        for a in 0..4_u8 {
            keys.push(vec![a].into());
            for b in 0..4_u8 {
                keys.push(vec![a, b].into());
            }
        }
        keys
    }

    fn any_range() -> impl Strategy<Value = Option<KeyRange>> {
        let key = prop::sample::select(keys());
        let end = prop_oneof![prop::sample::select(keys()), Just(Bytes::from_static(&[0]))];
        (key, end).prop_map(|(key, end)| KeyRange::of_request(&key, &end))
    }

    proptest! {
        #[test]
        fn holds_what_was_inserted_and_not_removed(
            steps in prop::collection::vec((any::<bool>(), any_range()), 0..12),
        ) {
            let mut set = RangeSet::default();
            let mut model = std::collections::BTreeSet::new();
            for (inserts, range) in steps {
                let Some(range) = range else { continue };
                let covered = keys().into_iter().filter(|key| range.contains(key));
                if inserts {
                    model.extend(covered);
                    set.insert(range);
                } else {
                    covered.for_each(|key| { model.remove(&key); });
                    set.remove(&range);
                }
                let held: std::collections::BTreeSet<Bytes> =
                    keys().into_iter().filter(|key| set.contains(key)).collect();
                prop_assert_eq!(&held, &model);
                let ranges: Vec<_> = set.iter().collect();
                for pair in ranges.windows(2) {
                    prop_assert!(!pair[0].overlaps(pair[1]) && pair[0].start() < pair[1].start());
                }
            }
        }
    }
}
