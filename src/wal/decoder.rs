//! One file as a stream of records. Pure.

use std::io::{self, Read};

use bytes::Bytes;

use super::error::Problem;
use super::frame::{LENGTH_BYTES, Length, lacks_a_sector};
use super::reading::{Segment, read_up_to};
use super::record::{CRC, Record, envelope};

/// The longest record that is read: more than members can send to each other in one message.
///
/// # Source
/// etcd `server/etcdserver/api/rafthttp/message.go`, `readBytesLimit`.
pub(crate) const RECORD_BYTES_MAX: u64 = 512 << 20;

/// The records of one file.
#[derive(Debug)]
pub(super) struct Decoder<R> {
    pub(super) segment: Segment<R>,
    /// Where the next frame begins.
    pub(super) offset: u64,
    /// Checksum of all records so far.
    pub(super) chain: u32,
}

/// What comes next in a file.
#[derive(Debug)]
pub(super) enum Step {
    Record(Record),
    /// The file ends behind a record.
    Eof,
    /// A length of zero: nothing was written from here on, or so it looks.
    Zero,
    /// A record that cannot be used.
    Flaw(Flaw),
}

/// Why a record cannot be used.
#[derive(Debug)]
pub(super) struct Flaw {
    pub(super) problem: Problem,
    /// True if a write that was interrupted leaves this behind.
    pub(super) torn: bool,
    /// The checksum that the record names, if that much can be read.
    pub(super) stated: Option<u32>,
}

impl Flaw {
    fn torn(problem: Problem) -> Step {
        Step::Flaw(Self {
            problem,
            torn: true,
            stated: None,
        })
    }

    fn damage(problem: Problem) -> Step {
        Step::Flaw(Self {
            problem,
            torn: false,
            stated: None,
        })
    }
}

impl<R: Read> Decoder<R> {
    /// Begins a file, behind records with this checksum; 0 for none that are known.
    pub(super) fn new(segment: Segment<R>, chain: u32) -> Self {
        Self {
            segment,
            offset: 0,
            chain,
        }
    }

    /// The next record. Behind anything else than a record nothing may be asked for any more.
    ///
    /// # Errors
    /// Those of the reader.
    pub(super) fn next(&mut self) -> io::Result<Step> {
        let left = self.segment.length.saturating_sub(self.offset);
        let head = read_up_to(&mut self.segment.reader, LENGTH_BYTES.min(left))?;
        if head.is_empty() {
            return Ok(Step::Eof);
        }
        let Ok(field) = <[u8; 8]>::try_from(head.as_slice()) else {
            return Ok(Flaw::torn(Problem::ShortLength));
        };
        let (record, padding) = match Length::of(field) {
            Length::End => return Ok(Step::Zero),
            Length::Invalid => return Ok(Flaw::damage(Problem::Length(field))),
            Length::Frame { record, padding } => (record, padding),
        };
        let left = left - LENGTH_BYTES;
        if record + padding > left {
            return Ok(Flaw::torn(Problem::Beyond { record, left }));
        }
        if record > RECORD_BYTES_MAX {
            return Ok(Flaw::damage(Problem::TooLong(record)));
        }
        let frame = read_up_to(&mut self.segment.reader, record + padding)?;
        if (frame.len() as u64) < record + padding {
            return Ok(Flaw::torn(Problem::Beyond {
                record,
                left: frame.len() as u64,
            }));
        }
        let begin = self.offset + LENGTH_BYTES;
        self.offset = begin + record + padding;
        Ok(self.check(Bytes::from(frame), record, begin))
    }

    fn check(&mut self, frame: Bytes, record: u64, begin: u64) -> Step {
        let torn = |problem, stated| {
            Step::Flaw(Flaw {
                problem,
                torn: lacks_a_sector(&frame, begin),
                stated,
            })
        };
        let end = usize::try_from(record).unwrap_or(frame.len());
        let envelope = match envelope(frame.slice(..end.min(frame.len()))) {
            Ok(envelope) => envelope,
            Err(problem) => return torn(problem, None),
        };
        let stated = envelope.crc;
        if envelope.r#type == CRC {
            if self.chain != 0 && self.chain != stated {
                let chain = self.chain;
                return Flaw::damage(Problem::Link { chain, stated });
            }
            self.chain = stated;
            return Step::Record(Record::Crc);
        }
        let computed = crc32c::crc32c_append(self.chain, &envelope.data);
        if computed != stated {
            return torn(Problem::Checksum { stated, computed }, Some(stated));
        }
        self.chain = computed;
        match Record::of(envelope) {
            Ok(record) => Step::Record(record),
            Err(problem) => Flaw::damage(problem),
        }
    }
}
