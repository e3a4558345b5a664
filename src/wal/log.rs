//! Which of the written entries make up the log. Pure.

use super::error::Problem;
use super::record::Snapshot;
use crate::ids::{RaftIndex, Term};

/// Entries that are not in these files: a snapshot that was received took their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first that is missing.
    pub first: RaftIndex,
    /// The last that is missing.
    pub last: RaftIndex,
}

/// Entries that lie one behind the other in the files and in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Number of the first one among all entry records, from 0.
    pub(super) ordinal: u64,
    /// Index of the first one.
    pub(super) first: u64,
    /// Index of the last one.
    pub(super) last: u64,
}

impl Run {
    /// The part of it with these indexes.
    pub(super) fn within(self, first: u64, last: u64) -> Option<Self> {
        let from = self.first.max(first);
        let part = Self {
            ordinal: self.ordinal + (from - self.first),
            first: from,
            last: self.last.min(last),
        };
        (part.first <= part.last).then_some(part)
    }
}

/// More runs than this are no log: each means that a leader's entries were thrown away.
const RUNS_MAX: usize = 1 << 16;

/// More changes of the term than this are no log: each is an election.
const TERMS_MAX: usize = 1 << 20;

/// The log, as records tell it one by one.
#[derive(Debug)]
pub(super) struct Log {
    /// The entry before the first one that the files may hold.
    base: u64,
    runs: Vec<Run>,
    /// Where each term of the log begins, ascending.
    terms: Vec<(RaftIndex, Term)>,
    /// Entry records so far.
    pub(super) entries: u64,
    last: Option<(RaftIndex, Term)>,
    /// A snapshot beyond the last entry: the next entry may be the one behind it.
    ahead: Option<(RaftIndex, Term)>,
}

impl Log {
    /// A log whose first file says that `next` comes next.
    pub(super) fn new(next: u64) -> Self {
        Self {
            base: next.saturating_sub(1),
            runs: Vec::new(),
            terms: Vec::new(),
            entries: 0,
            last: None,
            ahead: None,
        }
    }

    /// Takes in an entry: it replaces one with its index, and everything behind that.
    pub(super) fn push(&mut self, index: RaftIndex, term: Term) -> Result<(), Problem> {
        let last = self.last.map_or(RaftIndex(self.base), |(last, _)| last);
        let ahead = self.ahead.filter(|(ahead, _)| index == ahead.next());
        if index > last.next() && ahead.is_none() {
            let found = index;
            return Err(Problem::Gap { last, found });
        }
        self.ahead = None;
        self.begin_term(index, term, ahead)?;
        self.extend(index.0)?;
        self.last = Some((index, term));
        Ok(())
    }

    /// Notes the term at `index`, which may lie behind a snapshot.
    fn begin_term(
        &mut self,
        index: RaftIndex,
        term: Term,
        ahead: Option<(RaftIndex, Term)>,
    ) -> Result<(), Problem> {
        while self.terms.pop_if(|(begin, _)| *begin >= index).is_some() {}
        for (index, term) in ahead.into_iter().chain([(index, term)]) {
            let before = self.terms.last().map_or(Term(0), |(_, before)| *before);
            if term < before {
                return Err(Problem::TermFalls {
                    index,
                    term,
                    before,
                });
            }
            if term > before {
                if self.terms.len() == TERMS_MAX {
                    return Err(Problem::TooMany(TERMS_MAX, "terms"));
                }
                self.terms.push((index, term));
            }
        }
        Ok(())
    }

    /// Adds an entry to the runs.
    fn extend(&mut self, index: u64) -> Result<(), Problem> {
        while self.runs.pop_if(|run| run.first >= index).is_some() {}
        let ordinal = self.entries;
        self.entries += 1;
        match self.runs.last_mut() {
            Some(run) if run.last + 1 == index && run.ordinal + (index - run.first) == ordinal => {
                run.last = index;
                return Ok(());
            }
            Some(run) => run.last = run.last.min(index - 1),
            None => {}
        }
        if self.runs.len() == RUNS_MAX {
            return Err(Problem::TooMany(RUNS_MAX, "overwritten tails"));
        }
        self.runs.push(Run {
            ordinal,
            first: index,
            last: index,
        });
        Ok(())
    }

    /// Takes in a snapshot.
    pub(super) fn snapshot(&mut self, snapshot: &Snapshot) {
        let last = self.last.map_or(RaftIndex(self.base), |(last, _)| last);
        if snapshot.index > last {
            self.ahead = Some((snapshot.index, snapshot.term));
        }
    }

    /// No more records; `commit` is the last commit index. A snapshot above it was not taken over.
    pub(super) fn finish(&mut self, commit: RaftIndex) {
        self.ahead = self.ahead.filter(|(index, _)| *index <= commit);
    }

    /// Index and term of the last entry, be it in a snapshot; None if no entry was written.
    pub(super) fn last(&self) -> Option<(RaftIndex, Term)> {
        self.ahead.or(self.last)
    }

    /// The first entry from which on none is missing; the one behind the last if there is none.
    pub(super) fn first(&self) -> RaftIndex {
        if let Some((ahead, _)) = self.ahead {
            return ahead.next();
        }
        let mut first = None;
        for run in self.runs.iter().rev() {
            match first {
                Some(first) if run.last + 1 != first => break,
                _ => first = Some(run.first),
            }
        }
        RaftIndex(first.unwrap_or(self.base + 1))
    }

    /// The term of an entry that is held; None for any other.
    pub(super) fn term_of(&self, index: RaftIndex) -> Option<Term> {
        if let Some((ahead, term)) = self.ahead
            && ahead == index
        {
            return Some(term);
        }
        let at = self.runs.partition_point(|run| run.last < index.0);
        self.runs.get(at).filter(|run| run.first <= index.0)?;
        let at = self.terms.partition_point(|(begin, _)| *begin <= index);
        self.terms.get(at.checked_sub(1)?).map(|(_, term)| *term)
    }

    /// The log, from its beginning in these files.
    pub(super) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// How many entry records were replaced by later ones.
    pub(super) fn overwritten(&self) -> u64 {
        let live: u64 = self.runs.iter().map(|run| run.last - run.first + 1).sum();
        self.entries - live
    }

    /// Where entries are missing between two that are there, or before the end.
    pub(super) fn gaps(&self) -> Vec<Gap> {
        let starts = self.runs.iter().skip(1).map(|run| run.first);
        let starts = starts.chain(self.ahead.map(|(ahead, _)| ahead.0 + 1));
        let between = self.runs.iter().zip(starts);
        between
            .filter(|(run, next)| run.last + 1 < *next)
            .map(|(run, next)| Gap {
                first: RaftIndex(run.last + 1),
                last: RaftIndex(next - 1),
            })
            .collect()
    }
}
