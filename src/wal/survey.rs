//! The first pass: every record is checked, and what the log is made of is noted. Pure.

use std::collections::VecDeque;
use std::io::Read;

use super::behind::{Behind, behind_length, behind_record, behind_zero};
use super::decoder::{Decoder, Flaw, Step};
use super::entries::Entries;
use super::error::{Error, Problem};
use super::log::{Gap, Log};
use super::name::SegmentName;
use super::reading::Segments;
use super::record::{HardState, Metadata, Record, Snapshot};
use crate::ids::{RaftIndex, Term};

/// How the log ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Behind a record, and nothing was written there.
    Clean,
    /// In the middle of a write that was interrupted. Everything before it is sound, and a server
    /// goes on there.
    Torn {
        /// The last file.
        file: SegmentName,
        /// Where the record begins.
        offset: u64,
        /// What is wrong with it.
        problem: Problem,
    },
    /// As before or by a length of zero, but something is written behind it, which a server throws
    /// away without a word. It is damage in the middle, the file of a running member, or several
    /// writes that a loss of power interrupted.
    Suspect {
        /// The last file.
        file: SegmentName,
        /// Where the record begins that cannot be used.
        offset: u64,
        /// What is wrong with it; None for a length of zero.
        problem: Option<Problem>,
        /// True if what lies behind it looks like records.
        records: bool,
    },
}

/// Where a file begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    pub(super) name: SegmentName,
    /// Entry records in the files before it.
    pub(super) ordinal: u64,
}

/// A log that was read once.
#[derive(Debug)]
pub struct Wal<S> {
    pub(super) segments: S,
    pub(super) starts: Vec<Start>,
    metadata: Metadata,
    state: HardState,
    snapshots: VecDeque<Snapshot>,
    pub(super) log: Log,
    end: End,
}

/// As many snapshot records are kept, the last ones. Each stands for thousands of entries.
const SNAPSHOTS_MAX: usize = 4096;

impl<S: Segments> Wal<S> {
    /// Reads all files once.
    ///
    /// # Errors
    /// Whatever makes a server refuse to start, but for what only the database can tell.
    pub fn open(segments: S) -> Result<Self, Error> {
        let names = SegmentName::in_order(segments.names()?)
            .map_err(|sequence| Error::SameSequence { sequence })?;
        let (Some(first), Some(last)) = (names.first(), names.last()) else {
            return Err(Error::NoFiles {
                path: segments.place(),
            });
        };
        let (first, last) = (*first, *last);
        let mut pass = Pass {
            log: Log::new(first.index),
            metadata: None,
            state: HardState::default(),
            snapshots: VecDeque::new(),
        };
        let mut starts = Vec::new();
        let mut chain = 0;
        let mut end = End::Clean;
        for name in names {
            let ordinal = pass.log.entries;
            starts.push(Start { name, ordinal });
            let decoder = open(&segments, name, chain)?;
            (chain, end) = pass.file(decoder, name, name == last)?;
        }
        let Some(metadata) = pass.metadata else {
            return Err(damaged(first, 0, Problem::NoMetadata));
        };
        pass.log.finish(pass.state.commit);
        Ok(Self {
            segments,
            starts,
            metadata,
            state: pass.state,
            snapshots: pass.snapshots,
            log: pass.log,
            end,
        })
    }

    /// Whose log it is.
    #[must_use]
    pub fn metadata(&self) -> Metadata {
        self.metadata
    }

    /// The last state that the member wrote down.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.state
    }

    /// Up to where the log is known to be committed from these files alone. The database of the
    /// member may know of more. Entries beyond are undetermined: some other member may know that
    /// they were committed, and the only voter of a cluster commits them when it starts.
    #[must_use]
    pub fn commit(&self) -> RaftIndex {
        self.state.commit
    }

    /// The last snapshot that the member took over: its log begins there when it starts. None if
    /// that record was in a file that is gone.
    #[must_use]
    pub fn start(&self) -> Option<&Snapshot> {
        let valid = |snapshot: &&Snapshot| snapshot.index <= self.state.commit;
        self.snapshots.iter().rev().find(valid)
    }

    /// The last snapshot records, as they were written.
    pub fn snapshots(&self) -> impl DoubleEndedIterator<Item = &Snapshot> {
        self.snapshots.iter()
    }

    /// The first entry from which on none is missing.
    #[must_use]
    pub fn first(&self) -> RaftIndex {
        self.log.first()
    }

    /// Index and term of the last entry, be it the last one in a snapshot; None if there never was
    /// one.
    #[must_use]
    pub fn last(&self) -> Option<(RaftIndex, Term)> {
        self.log.last()
    }

    /// The term of an entry that is held, or that a snapshot ends with; None for any other.
    #[must_use]
    pub fn term_of(&self, index: RaftIndex) -> Option<Term> {
        self.log.term_of(index).or_else(|| {
            let at = |snapshot: &&Snapshot| snapshot.index == index;
            self.snapshots.iter().rev().find(at).map(|found| found.term)
        })
    }

    /// Entries that are missing between others.
    #[must_use]
    pub fn gaps(&self) -> Vec<Gap> {
        self.log.gaps()
    }

    /// How many entries were written and later replaced by those of another leader.
    #[must_use]
    pub fn overwritten(&self) -> u64 {
        self.log.overwritten()
    }

    /// How it ends.
    #[must_use]
    pub fn end(&self) -> &End {
        &self.end
    }

    /// The files that were read, in order.
    pub fn files(&self) -> impl ExactSizeIterator<Item = SegmentName> {
        self.starts.iter().map(|start| start.name)
    }

    /// Streams the entries `first ..= last`; none if `first` is behind `last`.
    ///
    /// # Errors
    /// [`Error::NotHeld`].
    pub fn entries(&self, first: RaftIndex, last: RaftIndex) -> Result<Entries<'_, S>, Error> {
        let held = (self.first(), self.last().unwrap_or_default().0);
        if first <= last && (first < held.0 || last > held.1) {
            let wanted = if first < held.0 { first } else { held.1.next() };
            return Err(Error::NotHeld {
                wanted,
                first: held.0,
                last: held.1,
            });
        }
        Ok(Entries::new(self, first, last))
    }

    /// Streams every entry of the log that these files hold, over gaps.
    #[must_use]
    pub fn all_entries(&self) -> Entries<'_, S> {
        Entries::new(self, RaftIndex(0), RaftIndex(u64::MAX))
    }
}

pub(super) fn open<S: Segments>(
    segments: &S,
    name: SegmentName,
    chain: u32,
) -> Result<Decoder<S::Reader>, Error> {
    let segment = segments.open(name);
    let segment = segment.map_err(|error| io(name, "open", error))?;
    Ok(Decoder::new(segment, chain))
}

pub(super) fn io(name: SegmentName, what: &'static str, source: std::io::Error) -> Error {
    let path = name.to_string();
    Error::Io { what, path, source }
}

fn damaged(name: SegmentName, offset: u64, problem: Problem) -> Error {
    Error::Damaged {
        file: name.to_string(),
        offset,
        problem,
    }
}

/// What the first pass gathers.
struct Pass {
    log: Log,
    metadata: Option<Metadata>,
    state: HardState,
    snapshots: VecDeque<Snapshot>,
}

impl Pass {
    /// Reads one file, and returns its last checksum and how it ends.
    fn file<R: Read>(
        &mut self,
        mut decoder: Decoder<R>,
        name: SegmentName,
        is_last: bool,
    ) -> Result<(u32, End), Error> {
        let mut at_head = true;
        loop {
            let offset = decoder.offset;
            let step = decoder.next().map_err(|error| io(name, "read", error))?;
            let record = match step {
                Step::Record(record) => record,
                Step::Eof if !is_last || !at_head => return Ok((decoder.chain, End::Clean)),
                Step::Zero if !is_last => return Ok((decoder.chain, End::Clean)),
                // Files get their names when their head is written.
                Step::Eof => return Err(damaged(name, offset, Problem::NoHead)),
                Step::Zero => {
                    let behind = behind_zero(&mut decoder);
                    let end = match behind.map_err(|error| io(name, "read", error))? {
                        Behind::Nothing if at_head => {
                            return Err(damaged(name, offset, Problem::NoHead));
                        }
                        Behind::Nothing => End::Clean,
                        behind @ (Behind::Bytes | Behind::Records) => {
                            suspect(name, offset, None, behind)
                        }
                    };
                    return Ok((decoder.chain, end));
                }
                Step::Flaw(flaw) if is_last && flaw.torn => {
                    let end = torn(&mut decoder, name, offset, flaw)?;
                    return Ok((decoder.chain, end));
                }
                Step::Flaw(flaw) => return Err(damaged(name, offset, flaw.problem)),
            };
            if at_head && record != Record::Crc {
                return Err(damaged(name, offset, Problem::NoHead));
            }
            at_head = false;
            self.record(record)
                .map_err(|problem| damaged(name, offset, problem))?;
        }
    }

    fn record(&mut self, record: Record) -> Result<(), Problem> {
        match record {
            Record::Crc => {}
            Record::Metadata(metadata) => {
                if *self.metadata.get_or_insert(metadata) != metadata {
                    return Err(Problem::Metadata);
                }
            }
            Record::State(state) => self.state = state,
            Record::Entry(entry) => {
                self.log.push(RaftIndex(entry.index), Term(entry.term))?;
            }
            Record::Snapshot(snapshot) => {
                self.log.snapshot(&snapshot);
                if self.snapshots.len() == SNAPSHOTS_MAX {
                    self.snapshots.pop_front();
                }
                self.snapshots.push_back(snapshot);
            }
        }
        Ok(())
    }
}

fn torn<R: Read>(
    decoder: &mut Decoder<R>,
    file: SegmentName,
    offset: u64,
    flaw: Flaw,
) -> Result<End, Error> {
    let behind = if matches!(flaw.problem, Problem::Beyond { .. }) {
        behind_length(decoder)
    } else {
        behind_record(decoder, flaw.stated)
    };
    let problem = flaw.problem;
    Ok(match behind.map_err(|error| io(file, "read", error))? {
        Behind::Nothing => End::Torn {
            file,
            offset,
            problem,
        },
        behind @ (Behind::Bytes | Behind::Records) => suspect(file, offset, Some(problem), behind),
    })
}

fn suspect(file: SegmentName, offset: u64, problem: Option<Problem>, behind: Behind) -> End {
    End::Suspect {
        file,
        offset,
        problem,
        records: behind == Behind::Records,
    }
}
