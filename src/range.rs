//! Ranges of keys, with etcd's rules for how a request writes them down. Pure.

use std::ops::Bound;

use bytes::Bytes;

/// A non-empty half-open range of keys.
///
/// Keys are ordered bytewise. A single key `k` is the range from `k` to the key right after it,
/// which is `k` with a zero byte appended.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct KeyRange {
    start: Bytes,
    /// None: every key from `start` on.
    end: Option<Bytes>,
}

impl KeyRange {
    /// The range that `key` and `range_end` of a request stand for; None if no key can be in it.
    ///
    /// # Source
    /// etcd `mvcc/kvstore_txn.go`: no range end is the one key, a range end of one zero byte is
    /// every key from `key` on, any other is exclusive.
    #[must_use]
    pub fn of_request(key: &Bytes, range_end: &Bytes) -> Option<Self> {
        if range_end.is_empty() {
            return Some(Self::single(key));
        }
        if range_end.as_ref() == [0] {
            return Some(Self {
                start: key.clone(),
                end: None,
            });
        }
        Self::between(key.clone(), range_end.clone())
    }

    /// The range that holds exactly `key`.
    #[must_use]
    pub fn single(key: &Bytes) -> Self {
        Self {
            start: key.clone(),
            end: Some(successor(key)),
        }
    }

    /// Keys `k` with `start <= k < end`; None if that is empty.
    #[must_use]
    pub fn between(start: Bytes, end: Bytes) -> Option<Self> {
        (start < end).then_some(Self {
            start,
            end: Some(end),
        })
    }

    /// Every key from `start` on.
    #[must_use]
    pub fn from(start: Bytes) -> Self {
        Self { start, end: None }
    }

    /// Every key that begins with `prefix`, which is not empty.
    #[must_use]
    pub fn prefix(prefix: &Bytes) -> Self {
        let mut end = prefix.to_vec();
        while let Some(last) = end.pop() {
            if last < 0xff {
                end.push(last + 1);
                return Self {
                    start: prefix.clone(),
                    end: Some(end.into()),
                };
            }
        }
        Self {
            start: prefix.clone(),
            end: None,
        }
    }

    /// The first key that can be in the range.
    #[must_use]
    pub fn start(&self) -> &Bytes {
        &self.start
    }

    /// The first key behind the range; None if it has no end.
    #[must_use]
    pub fn end(&self) -> Option<&Bytes> {
        self.end.as_ref()
    }

    /// The one key of the range, if it holds exactly one.
    #[must_use]
    pub fn as_single(&self) -> Option<&Bytes> {
        let end = self.end.as_ref()?;
        let one = end.len() == self.start.len() + 1
            && end.last() == Some(&0)
            && end.starts_with(&self.start);
        one.then_some(&self.start)
    }

    /// True if `key` is in the range.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        self.start.as_ref() <= key && self.end.as_ref().is_none_or(|end| key < end.as_ref())
    }

    /// True if some key is in both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let starts_before_end =
            |a: &Self, b: &Self| b.end.as_ref().is_none_or(|end| a.start < *end);
        starts_before_end(self, other) && starts_before_end(other, self)
    }

    /// The keys that are in both; None if there is none.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        if !self.overlaps(other) {
            return None;
        }
        let end = match (&self.end, &other.end) {
            (Some(a), Some(b)) => Some(a.min(b).clone()),
            (Some(end), None) | (None, Some(end)) => Some(end.clone()),
            (None, None) => None,
        };
        Some(Self {
            start: (&self.start).max(&other.start).clone(),
            end,
        })
    }

    /// The parts of this range that are not in `hole`: none, one or two, ascending.
    #[must_use]
    pub fn without(&self, hole: &Self) -> Vec<Self> {
        if !self.overlaps(hole) {
            return vec![self.clone()];
        }
        let mut parts = Vec::new();
        if self.start < hole.start {
            parts.push(Self {
                start: self.start.clone(),
                end: Some(hole.start.clone()),
            });
        }
        if let Some(hole_end) = &hole.end
            && self.end.as_ref().is_none_or(|end| hole_end < end)
        {
            parts.push(Self {
                start: hole_end.clone(),
                end: self.end.clone(),
            });
        }
        parts
    }

    /// The smallest range that holds both.
    #[must_use]
    pub fn hull(&self, other: &Self) -> Self {
        let end = match (&self.end, &other.end) {
            (Some(a), Some(b)) => Some(a.max(b).clone()),
            (None, _) | (_, None) => None,
        };
        Self {
            start: (&self.start).min(&other.start).clone(),
            end,
        }
    }

    /// The two ends as a map's `range` takes them.
    #[must_use]
    pub fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        let end = self
            .end
            .as_ref()
            .map_or(Bound::Unbounded, |end| Bound::Excluded(end.as_ref()));
        (Bound::Included(self.start.as_ref()), end)
    }

    /// `range_end` as a request writes it: empty for a single key, one zero byte for no end.
    #[must_use]
    pub fn request_end(&self) -> Bytes {
        if self.as_single().is_some() {
            return Bytes::new();
        }
        self.end.clone().unwrap_or_else(|| Bytes::from_static(&[0]))
    }
}

impl std::fmt::Debug for KeyRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.as_single(), &self.end) {
            (Some(key), _) => write!(f, "[{key:?}]"),
            (None, Some(end)) => write!(f, "[{:?}, {end:?})", self.start),
            (None, None) => write!(f, "[{:?}, ..)", self.start),
        }
    }
}

/// The key right after `key`.
fn successor(key: &Bytes) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: &'static str, end: &'static str) -> KeyRange {
        KeyRange::between(start.into(), end.into()).expect("not empty")
    }

    #[test]
    fn requests_name_ranges_in_three_ways() {
        let key = Bytes::from_static(b"k");
        let single = KeyRange::of_request(&key, &Bytes::new()).unwrap();
        assert_eq!(single.as_single(), Some(&key));
        assert_eq!(single.request_end(), Bytes::new());
        let open = KeyRange::of_request(&key, &Bytes::from_static(&[0])).unwrap();
        assert!(open.contains(b"zzz") && !open.contains(b"j"));
        assert_eq!(open.request_end().as_ref(), [0]);
        assert_eq!(KeyRange::of_request(&key, &Bytes::from_static(b"a")), None);
        assert_eq!(KeyRange::of_request(&key, &key), None);
    }

    #[test]
    fn a_prefix_ends_where_its_last_byte_can_still_grow() {
        assert_eq!(
            KeyRange::prefix(&Bytes::from_static(b"a/")),
            range("a/", "a0")
        );
        let top = KeyRange::prefix(&Bytes::from_static(&[b'a', 0xff]));
        assert_eq!(top.end().map(Bytes::as_ref), Some(b"b".as_ref()));
        assert_eq!(KeyRange::prefix(&Bytes::from_static(&[0xff])).end(), None);
    }

    #[test]
    fn cutting_a_hole_leaves_what_is_outside() {
        let all = KeyRange::from(Bytes::from_static(b"a"));
        assert_eq!(
            all.without(&range("c", "d")),
            [range("a", "c"), KeyRange::from("d".into())]
        );
        assert_eq!(range("a", "c").without(&range("c", "d")), [range("a", "c")]);
        assert_eq!(range("a", "d").without(&range("a", "b")), [range("b", "d")]);
        assert_eq!(range("a", "d").without(&all), []);
        assert_eq!(range("b", "d").without(&range("a", "c")), [range("c", "d")]);
    }

    #[test]
    fn what_two_ranges_share_is_a_range() {
        let from = KeyRange::from("b".into());
        assert_eq!(range("a", "c").intersection(&from), Some(range("b", "c")));
        assert_eq!(from.intersection(&range("a", "c")), Some(range("b", "c")));
        assert_eq!(from.intersection(&KeyRange::from("a".into())), Some(from));
        let (wide, narrow) = (range("a", "d"), range("b", "c"));
        assert_eq!(wide.intersection(&narrow), Some(narrow.clone()));
        assert_eq!(range("a", "b").intersection(&narrow), None);
    }

    #[test]
    fn overlap_is_symmetric_and_excludes_touching() {
        assert!(!range("a", "b").overlaps(&range("b", "c")));
        assert!(range("a", "c").overlaps(&range("b", "c")));
        assert!(KeyRange::from("b".into()).overlaps(&range("a", "c")));
        assert!(!range("a", "b").overlaps(&KeyRange::from("b".into())));
    }
}
