//! Which keys of the primary are replicated, and under which name on the standby. Pure.
//!
//! The keys in scope are cut into parts. A part is a range of primary keys that all begin with one
//! prefix, and becomes the range of standby keys that begin with another one instead, or with the
//! same. So within a part order stays as it is, and a range of the primary is a few ranges of the
//! standby.
//!
//! ```text
//! include a/, c/   exclude a/tmp/   rewrite c/=b/
//!
//! primary   [ a/ .. a/tmp/ )  [ a/tmp0 .. a0 )  [ c/ .. c0 )     the rest: not replicated
//!                 |                 |                |
//! standby   [ a/ .. a/tmp/ )  [ a/tmp0 .. a0 )  [ b/ .. b0 )     the rest: not touched
//! ```
//!
//! - No two keys of the primary have one name on the standby, and none has one of our own keys'
//!   names. Prefixes that would lead to that are refused.
//! - Our own keys ([`reserved`]) are never in scope, on neither side.
//! - Of several rewrites the one with the longest prefix counts. An excluded key stays excluded
//!   whatever is included.
//! - What is known of the primary, be it in memory or in the ledger, is about all of its keys: an
//!   entry may compare keys that are not in scope.

mod error;
mod prefixes;
mod text;

pub use error::{Error, Problem};
pub use prefixes::{Prefixes, Rewrite};
pub use text::parse;

use bytes::Bytes;

use crate::range::KeyRange;
use crate::range_set::RangeSet;
use crate::reserved;

/// A checked scope.
#[derive(Clone, Debug)]
pub struct Scope {
    prefixes: Prefixes,
    /// By their primary keys.
    parts: Vec<Part>,
    /// Places in `parts`, by their standby keys.
    by_standby: Vec<usize>,
    /// All standby keys, those that touch as one range.
    standby: Vec<KeyRange>,
}

/// Keys that are rewritten in one way.
#[derive(Clone, Debug)]
struct Part {
    primary: KeyRange,
    standby: KeyRange,
    rewrite: Rewrite,
}

impl Scope {
    /// The scope that these prefixes mean.
    ///
    /// # Errors
    /// [`Error`] for whatever cannot be meant like that.
    pub fn new(prefixes: Prefixes) -> Result<Self, Error> {
        prefixes.check()?;
        let keys = prefixes.keys()?;
        let parts = parts(&prefixes, keys)?;
        check_targets(&parts)?;
        Ok(Self::of(prefixes.canonical(), parts))
    }

    /// Every key, under its own name.
    #[must_use]
    pub fn all() -> Self {
        let parts = everything().into_iter().map(Part::kept).collect();
        Self::of(Prefixes::default(), parts)
    }

    fn of(prefixes: Prefixes, mut parts: Vec<Part>) -> Self {
        parts.sort_by(|a, b| a.primary.start().cmp(b.primary.start()));
        let mut by_standby: Vec<usize> = (0..parts.len()).collect();
        by_standby.sort_by_key(|place| parts.get(*place).map(|part| part.standby.start()));
        let mut standby: Vec<KeyRange> = Vec::new();
        for part in by_standby.iter().filter_map(|place| parts.get(*place)) {
            match standby.last_mut() {
                Some(last) if last.end() == Some(part.standby.start()) => {
                    *last = last.hull(&part.standby);
                }
                Some(_) | None => standby.push(part.standby.clone()),
            }
        }
        Self {
            prefixes,
            parts,
            by_standby,
            standby,
        }
    }

    /// What it was made of, in one order whatever the order in which it was written.
    #[must_use]
    pub fn prefixes(&self) -> &Prefixes {
        &self.prefixes
    }

    /// The name of the primary's `key` on the standby; None if it is not replicated.
    #[must_use]
    pub fn to_standby(&self, key: &Bytes) -> Option<Bytes> {
        let Rewrite { from, to } = &self.part_of(key)?.rewrite;
        Some(renamed(key, from, to))
    }

    /// True if the primary's `key` is replicated.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        self.part_of(key).is_some()
    }

    /// The primary's name of the standby's `key`; None if the key is none of ours.
    #[must_use]
    pub fn to_primary(&self, key: &Bytes) -> Option<Bytes> {
        let starts_before = |place: &usize| {
            let part = self.parts.get(*place);
            part.is_some_and(|part| part.standby.start() <= key)
        };
        let behind = self.by_standby.partition_point(starts_before);
        let place = self.by_standby.get(behind.checked_sub(1)?)?;
        let part = self.parts.get(*place)?;
        let Rewrite { from, to } = &part.rewrite;
        part.standby.contains(key).then(|| renamed(key, to, from))
    }

    /// What the primary's keys in `range` are on the standby: ranges that hold the names of all
    /// that are replicated, and no other key. Ascending; they do not overlap.
    #[must_use]
    pub fn ranges_to_standby(&self, range: &KeyRange) -> Vec<KeyRange> {
        let first = self.behind(range.start()).saturating_sub(1);
        let parts = self.parts.iter().skip(first);
        let near = parts.take_while(|part| {
            let is_before = |end: &Bytes| part.primary.start() < end;
            range.end().is_none_or(is_before)
        });
        let mut ranges: Vec<KeyRange> = near
            .filter_map(|part| {
                let keys = part.primary.intersection(range)?;
                Some(part.rewrite.image(&keys))
            })
            .collect();
        ranges.sort_by(|a, b| a.start().cmp(b.start()));
        ranges
    }

    /// Every key that the standby may hold of the primary. Ascending; they neither overlap nor
    /// touch.
    #[must_use]
    pub fn standby_ranges(&self) -> &[KeyRange] {
        &self.standby
    }

    fn part_of(&self, key: &[u8]) -> Option<&Part> {
        let part = self.parts.get(self.behind(key).checked_sub(1)?)?;
        part.primary.contains(key).then_some(part)
    }

    /// How many parts begin at `key` or before it.
    fn behind(&self, key: &[u8]) -> usize {
        self.parts
            .partition_point(|part| part.primary.start().as_ref() <= key)
    }
}

impl Default for Scope {
    fn default() -> Self {
        Self::all()
    }
}

impl Part {
    /// Keys that keep their names.
    fn kept(keys: KeyRange) -> Self {
        Self {
            primary: keys.clone(),
            standby: keys,
            rewrite: Rewrite::default(),
        }
    }
}

impl Rewrite {
    /// What `keys`, which all begin with `from`, become.
    fn image(&self, keys: &KeyRange) -> KeyRange {
        let Self { from, to } = self;
        if from == to {
            return keys.clone();
        }
        let start = renamed(keys.start(), from, to);
        // An end that does not begin so is the first key behind all that do.
        let end = match keys.end().filter(|end| end.starts_with(from)) {
            Some(end) => Some(renamed(end, from, to)),
            None => starting_with(to).end().cloned(),
        };
        match end {
            Some(end) => KeyRange::between(start.clone(), end).unwrap_or_else(|| {
                // Not reached: what begins alike keeps its order.
                KeyRange::single(&start)
            }),
            None => KeyRange::from(start),
        }
    }
}

/// `key` with another prefix.
fn renamed(key: &Bytes, from: &Bytes, to: &Bytes) -> Bytes {
    if from == to {
        return key.clone();
    }
    let rest = key.get(from.len()..).unwrap_or_default();
    [to, rest].concat().into()
}

/// Every key that begins with `prefix`. No key is empty.
fn starting_with(prefix: &Bytes) -> KeyRange {
    if prefix.is_empty() {
        KeyRange::from(Bytes::from_static(&[0]))
    } else {
        KeyRange::prefix(prefix)
    }
}

/// Every key but our own.
fn everything() -> Vec<KeyRange> {
    starting_with(&Bytes::new()).without(&reserved::range())
}

/// Cuts the keys in scope into parts.
fn parts(prefixes: &Prefixes, keys: RangeSet) -> Result<Vec<Part>, Error> {
    let mut rest = keys;
    let mut parts = Vec::new();
    let mut longest_first: Vec<&Rewrite> = prefixes.rewrite.iter().collect();
    longest_first.sort_by_key(|rewrite| std::cmp::Reverse(rewrite.from.len()));
    for rewrite in longest_first {
        let region = starting_with(&rewrite.from);
        if !rest.overlaps(&region) {
            let rewrite = rewrite.clone();
            return Err(Problem::NothingToRewrite { rewrite }.into());
        }
        let taken = rest.iter().filter_map(|keys| keys.intersection(&region));
        parts.extend(taken.map(|primary| Part {
            standby: rewrite.image(&primary),
            primary,
            rewrite: rewrite.clone(),
        }));
        rest.remove(&region);
    }
    parts.extend(rest.iter().cloned().map(Part::kept));
    Ok(parts)
}

/// Sees to it that no name on the standby is given twice, or ours.
fn check_targets(parts: &[Part]) -> Result<(), Error> {
    let ours = reserved::range();
    let mut by_standby: Vec<&Part> = parts.iter().collect();
    by_standby.sort_by(|a, b| a.standby.start().cmp(b.standby.start()));
    for part in &by_standby {
        if let Some(shared) = part.standby.intersection(&ours) {
            let rewrite = part.rewrite.clone();
            let name = shared.start().clone();
            let key = renamed(&name, &rewrite.to, &rewrite.from);
            return Err(Problem::Reserved { rewrite, key, name }.into());
        }
    }
    // Of ranges in this order some two that follow each other overlap if any two do.
    for (one, other) in by_standby.iter().zip(by_standby.iter().skip(1)) {
        if let Some(shared) = one.standby.intersection(&other.standby) {
            let name = shared.start().clone();
            let origin = |part: &Part| renamed(&name, &part.rewrite.to, &part.rewrite.from);
            let (one, other) = (origin(one), origin(other));
            return Err(Problem::Collision {
                one: (&one).min(&other).clone(),
                other: one.max(other),
                name,
            }
            .into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
