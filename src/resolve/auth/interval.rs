//! Ranges of keys as the auth store compares them: the empty string is behind every other.

use std::cmp::Ordering;

use bytes::Bytes;

use super::state::Permission;

/// A half-open interval, which may be inverted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interval {
    pub(super) begin: Bytes,
    pub(super) end: Bytes,
}

impl Interval {
    /// What `key` and `range_end` of a permission or of a request stand for.
    pub(super) fn of(key: &Bytes, range_end: &Bytes) -> Self {
        let end = match range_end.as_ref() {
            [] => {
                let mut next = key.to_vec();
                next.push(0);
                next.into()
            }
            [0] => Bytes::new(),
            _ => range_end.clone(),
        };
        Self {
            begin: key.clone(),
            end,
        }
    }

    pub(super) fn of_permission(permission: &Permission) -> Self {
        Self::of(&permission.key, &permission.range_end)
    }

    /// True if it begins before it ends.
    pub(super) fn is_regular(&self) -> bool {
        compare(&self.begin, &self.end).is_lt()
    }

    /// Less if it lies left of `other`, greater if right; equal counts as overlapping. This is how
    /// the primary compares them, also where one is inverted.
    pub(super) fn lies(&self, other: &Self) -> Ordering {
        if compare(&self.begin, &other.begin).is_lt() && compare(&self.end, &other.begin).is_le() {
            return Ordering::Less;
        }
        if compare(&self.begin, &other.end).is_ge() {
            return Ordering::Greater;
        }
        Ordering::Equal
    }
}

/// Orders two ends of intervals.
pub(super) fn compare(one: &Bytes, two: &Bytes) -> Ordering {
    match (one.is_empty(), two.is_empty()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => one.cmp(two),
    }
}

/// True if the intervals together hold all of `wanted`. All of them are regular.
pub(super) fn cover(intervals: &[Interval], wanted: &Interval) -> bool {
    let mut sorted: Vec<&Interval> = intervals.iter().collect();
    sorted.sort_by(|a, b| compare(&a.begin, &b.begin));
    let mut reached = &wanted.begin;
    for interval in sorted {
        if compare(&interval.begin, reached).is_gt() {
            break;
        }
        if compare(&interval.end, reached).is_gt() {
            reached = &interval.end;
        }
        if compare(reached, &wanted.end).is_ge() {
            return true;
        }
    }
    false
}
