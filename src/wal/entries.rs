//! The second pass: the entries of the log, one by one. Pure.

use std::collections::VecDeque;

use super::decoder::{Decoder, Step};
use super::error::Error;
use super::log::Run;
use super::name::SegmentName;
use super::reading::Segments;
use super::record::Record;
use super::survey::{Start, Wal, io, open};
use crate::ids::RaftIndex;
use crate::pb::raftpb;

/// Streams entries. It ends with the first error.
#[derive(Debug)]
pub struct Entries<'a, S: Segments> {
    segments: &'a S,
    /// Files that are still to be read.
    files: VecDeque<SegmentName>,
    /// What is still to be found.
    runs: VecDeque<Run>,
    /// The file that is being read.
    decoder: Option<(SegmentName, Decoder<S::Reader>)>,
    /// Number of the next entry record.
    ordinal: u64,
    chain: u32,
}

impl<'a, S: Segments> Entries<'a, S> {
    pub(super) fn new(wal: &'a Wal<S>, first: RaftIndex, last: RaftIndex) -> Self {
        let runs = wal.log.runs().iter();
        let runs: VecDeque<Run> = runs.filter_map(|run| run.within(first.0, last.0)).collect();
        let wanted = runs.front().map_or(0, |run| run.ordinal);
        let begins_before = |start: &&Start| start.ordinal <= wanted;
        let skipped = wal.starts.iter().take_while(begins_before).count();
        let skipped = skipped.saturating_sub(1);
        let starts = wal.starts.get(skipped..).unwrap_or_default();
        Self {
            segments: &wal.segments,
            files: starts.iter().map(|start| start.name).collect(),
            runs,
            decoder: None,
            ordinal: starts.first().map_or(0, |start| start.ordinal),
            chain: 0,
        }
    }

    fn advance(&mut self) -> Result<Option<raftpb::Entry>, Error> {
        loop {
            let Some(run) = self.runs.front_mut() else {
                return Ok(None);
            };
            let (name, decoder) = match &mut self.decoder {
                Some(decoder) => decoder,
                None => {
                    let Some(name) = self.files.pop_front() else {
                        return Err(Error::Changed {
                            file: self.segments.place(),
                        });
                    };
                    let decoder = open(self.segments, name, self.chain)?;
                    self.decoder.insert((name, decoder))
                }
            };
            let name = *name;
            let entry = match decoder.next().map_err(|error| io(name, "read", error))? {
                Step::Record(Record::Entry(entry)) => entry,
                Step::Record(
                    Record::Crc | Record::Metadata(_) | Record::State(_) | Record::Snapshot(_),
                ) => continue,
                Step::Eof | Step::Zero => {
                    self.chain = decoder.chain;
                    self.decoder = None;
                    continue;
                }
                Step::Flaw(_) => {
                    let file = name.to_string();
                    return Err(Error::Changed { file });
                }
            };
            let ordinal = self.ordinal;
            self.ordinal += 1;
            if ordinal < run.ordinal {
                continue;
            }
            if entry.index != run.first {
                let file = name.to_string();
                return Err(Error::Changed { file });
            }
            if run.first == run.last {
                self.runs.pop_front();
            } else {
                run.ordinal += 1;
                run.first += 1;
            }
            return Ok(Some(entry));
        }
    }
}

impl<S: Segments> Iterator for Entries<'_, S> {
    type Item = Result<raftpb::Entry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance().transpose();
        if !matches!(next, Some(Ok(_))) {
            self.runs.clear();
        }
        next
    }
}
