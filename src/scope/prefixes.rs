//! The prefixes that a scope is made of, as a person writes them and as a checkpoint keeps them.
//! Pure.

use std::fmt;

use bytes::Bytes;

use super::error::{Error, Problem};
use super::{everything, starting_with, text};
use crate::range_set::RangeSet;
use crate::reserved;

/// What a person asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefixes {
    /// Keys that begin with one of these are replicated; if there is none, every key is.
    pub include: Vec<Bytes>,
    /// But not those that begin with one of these.
    pub exclude: Vec<Bytes>,
    /// What is named otherwise on the standby.
    pub rewrite: Vec<Rewrite>,
}

/// One prefix in place of another.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rewrite {
    /// How the keys begin on the primary; nothing means every key.
    pub from: Bytes,
    /// How they begin on the standby instead.
    pub to: Bytes,
}

/// Bytes of all prefixes together: they are written with each checkpoint.
const BYTES_MAX: usize = 4096;

pub(super) const INCLUDE: &str = "include-prefix";
pub(super) const EXCLUDE: &str = "exclude-prefix";
pub(super) const REWRITE: &str = "rewrite-prefix";

impl Prefixes {
    /// Looks at each by itself.
    pub(super) fn check(&self) -> Result<(), Error> {
        for (option, prefixes) in [(INCLUDE, &self.include), (EXCLUDE, &self.exclude)] {
            if prefixes.iter().any(Bytes::is_empty) {
                return Err(Problem::Empty { option }.into());
            }
        }
        for (place, rewrite) in self.rewrite.iter().enumerate() {
            if rewrite.to.is_empty() {
                let rewrite = rewrite.clone();
                return Err(Problem::NoName { rewrite }.into());
            }
            let mut others = self.rewrite.iter().skip(place + 1);
            if let Some(other) = others.find(|other| other.from == rewrite.from) {
                return Err(Problem::Ambiguous(rewrite.clone(), other.clone()).into());
            }
        }
        let bytes = self.bytes();
        if bytes > BYTES_MAX {
            return Err(Problem::TooLong {
                bytes,
                most: BYTES_MAX,
            }
            .into());
        }
        Ok(())
    }

    /// The primary's keys in scope. A prefix without effect is more likely to be a mistake than
    /// not, and a mistake here leaves keys out or gives keys away.
    pub(super) fn keys(&self) -> Result<RangeSet, Error> {
        let ours = reserved::range();
        let mut keys = RangeSet::default();
        for prefix in &self.include {
            let region = starting_with(prefix).without(&ours);
            if region.is_empty() {
                return Err(Problem::OurOwn(prefix.clone()).into());
            }
            region.into_iter().for_each(|range| keys.insert(range));
        }
        if self.include.is_empty() {
            everything()
                .into_iter()
                .for_each(|range| keys.insert(range));
        }
        let included = keys.clone();
        for prefix in &self.exclude {
            let region = starting_with(prefix);
            if !included.overlaps(&region) {
                return Err(Problem::NothingToExclude(prefix.clone()).into());
            }
            keys.remove(&region);
        }
        let is_left = |prefix: &&Bytes| !keys.overlaps(&starting_with(prefix));
        if let Some(prefix) = self.include.iter().find(is_left) {
            return Err(Problem::Excluded(prefix.clone()).into());
        }
        if keys.is_empty() {
            return Err(Problem::Nothing.into());
        }
        Ok(keys)
    }

    /// The same in one order, and without those that say nothing more than others do.
    pub(super) fn canonical(mut self) -> Self {
        for prefixes in [&mut self.include, &mut self.exclude] {
            prefixes.sort();
            // Whatever begins with a prefix follows it.
            prefixes.dedup_by(|longer, kept| longer.starts_with(kept));
        }
        self.rewrite.sort();
        self
    }

    fn bytes(&self) -> usize {
        let prefixes = self.include.iter().chain(&self.exclude);
        let rewrites = self.rewrite.iter();
        let rewrites = rewrites.map(|Rewrite { from, to }| from.len() + to.len());
        prefixes.map(Bytes::len).chain(rewrites).sum()
    }
}

/// As options of the command line.
impl fmt::Display for Prefixes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |option: &'static str, prefixes: &[Bytes]| {
            let prefixes = prefixes.iter().map(|prefix| text::show(prefix));
            let options = prefixes.map(move |prefix| (option, prefix));
            options.collect::<Vec<_>>()
        };
        let mut options = shown(INCLUDE, &self.include);
        options.extend(shown(EXCLUDE, &self.exclude));
        let rewrites = self.rewrite.iter();
        options.extend(rewrites.map(|rewrite| (REWRITE, rewrite.to_string())));
        if options.is_empty() {
            return f.write_str("every key");
        }
        let options = options.into_iter();
        let words = options.map(|(option, value)| format!("--{option}={}", text::quoted(&value)));
        f.write_str(&words.collect::<Vec<_>>().join(" "))
    }
}

impl fmt::Display for Rewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", text::show(&self.from), text::show(&self.to))
    }
}
