//! Reads a range of any size in answers of a bounded one.

use super::{Failure, KeyValue, Standby};
use crate::range::KeyRange;

/// Bytes of keys and values wished for in one answer; a client takes 4 MiB by default.
const PAGE_BYTES: usize = 1 << 20;
const FIRST_LIMIT: usize = 4;
const LIMIT_MAX: usize = 10_000;

/// What is left to read of a range.
#[derive(Clone, Debug)]
pub struct Pages {
    rest: Option<KeyRange>,
    limit: usize,
}

impl Pages {
    /// From the beginning of `range`.
    #[must_use]
    pub fn new(range: KeyRange) -> Self {
        Self {
            rest: Some(range),
            limit: FIRST_LIMIT,
        }
    }

    /// The next keys with their values; empty at the end. After a failure the same page can be
    /// asked for again, and will be smaller.
    ///
    /// # Errors
    /// [`Failure`] as the standby has it.
    pub async fn next<S: Standby>(&mut self, standby: &mut S) -> Result<Vec<KeyValue>, Failure> {
        let Some(range) = self.rest.clone() else {
            return Ok(Vec::new());
        };
        let page = loop {
            match standby.read_range(&range, self.limit).await {
                Ok(page) => break page,
                Err(failure) => {
                    let is_single = self.limit == 1;
                    self.limit = (self.limit / 2).max(1);
                    // The answer may have been too large: a refusal is final only for a single key.
                    if is_single || !matches!(failure, Failure::Refused(_)) {
                        return Err(failure);
                    }
                }
            }
        };
        let bytes: usize = page
            .iter()
            .map(|found| found.key.len() + found.value.len())
            .sum();
        let is_last = page.len() < self.limit;
        self.rest = match page.last() {
            Some(KeyValue { key: last, .. }) if !is_last => {
                let after = KeyRange::single(last);
                range
                    .without(&after)
                    .into_iter()
                    .next_back()
                    .filter(|rest| rest.start() > last)
            }
            _ => None,
        };
        let each = bytes / page.len().max(1) + 1;
        self.limit = (PAGE_BYTES / each).clamp(1, LIMIT_MAX.min(self.limit * 8));
        Ok(page)
    }
}
