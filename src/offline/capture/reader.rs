//! Reads a captured log. Pure, over a reader.

use std::io::{self, Read};

use bytes::Bytes;
use prost::Message as _;

use super::writer::Writer;
use super::{
    ALIGNMENT, CHECKSUM_BYTES, FORMAT, FRAME_HEAD_BYTES, Header, MAGIC, Place, check_of, padding,
};
use crate::entry::Committed;
use crate::ids::{RaftIndex, Term};
use crate::pb::capturepb;
use crate::wal::{RECORD_BYTES_MAX, SECTOR_BYTES, lacks_a_sector, read_up_to};

/// Streams a captured log.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    /// Where the next frame begins.
    offset: u64,
    place: Place,
    header: Header,
    end: Option<CaptureEnd>,
}

/// An entry of a captured log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// The entry.
    pub entry: Committed,
    /// The primary's release from this entry on, where it changed.
    pub etcd_version: Option<String>,
}

/// How a captured log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaptureEnd {
    /// Behind an entry.
    Clean,
    /// In the middle of a write that was interrupted.
    Torn,
}

/// Why a captured log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system refuses.
    #[error("read the capture: {0}")]
    Io(#[from] io::Error),
    /// It does not check out.
    #[error("captured log, offset {offset}: {problem}")]
    Damaged {
        /// Where the frame begins.
        offset: u64,
        /// What is wrong.
        problem: Problem,
    },
}

/// What is wrong with a captured log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Another kind of file.
    #[error("this is no captured log")]
    Magic,
    /// The layout of another version.
    #[error("format {0}, and this version reads format {FORMAT} only")]
    Format(u32),
    /// The header is short or damaged.
    #[error("the header is not complete: nothing was captured")]
    NoHeader,
    /// A length whose check is wrong.
    #[error("the length of a frame is damaged")]
    Length,
    /// More than an entry can have.
    #[error("a frame of {0} bytes, more than an entry can have")]
    TooLong(u32),
    /// The bytes are not those that were written.
    #[error("checksum {computed:08x} instead of {stated:08x}")]
    Checksum {
        /// What the frame says.
        stated: u32,
        /// What comes out.
        computed: u32,
    },
    /// A damaged frame with others behind it.
    #[error("a frame is damaged, and others follow it")]
    FramesFollow,
    /// The bytes are no message.
    #[error("a frame does not decode: {0}")]
    Undecodable(String),
    /// Entries must come one after the other.
    #[error("entry {found} stands where {expected} comes next")]
    OutOfOrder {
        /// What comes next.
        expected: RaftIndex,
        /// What stands there.
        found: RaftIndex,
    },
    /// Terms must not fall.
    #[error("the term falls at entry {0}")]
    TermFalls(RaftIndex),
}

/// A frame, or why there is none.
enum Frame {
    Payload(Bytes),
    End(CaptureEnd),
}

impl<R: Read> Reader<R> {
    /// Reads the beginning.
    ///
    /// # Errors
    /// If it is no captured log of a format that this version reads.
    pub fn open(mut input: R) -> Result<Self, ReadError> {
        let at_start = |problem| ReadError::Damaged { offset: 0, problem };
        if read_up_to(&mut input, MAGIC.len() as u64)? != MAGIC {
            return Err(at_start(Problem::Magic));
        }
        let mut reader = Self {
            input,
            offset: MAGIC.len() as u64,
            place: Place {
                index: RaftIndex(0),
                term: Term(0),
                chain: 0,
            },
            header: Header::default(),
            end: None,
        };
        let Frame::Payload(payload) = reader.frame()? else {
            return Err(at_start(Problem::NoHeader));
        };
        let message = capturepb::Header::decode(payload)
            .map_err(|error| at_start(Problem::Undecodable(error.to_string())))?;
        if message.format != FORMAT {
            return Err(at_start(Problem::Format(message.format)));
        }
        let header = Header::of_message(message);
        // Beyond this, indexes are not what counting has led to.
        if header.index.0 > u64::MAX >> 1 {
            let found = header.index;
            let expected = RaftIndex(0);
            return Err(at_start(Problem::OutOfOrder { expected, found }));
        }
        reader.place.index = header.index;
        reader.place.term = header.term;
        reader.header = header;
        Ok(reader)
    }

    /// What the log begins with.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// How it ends; None as long as that was not reached.
    #[must_use]
    pub fn end(&self) -> Option<CaptureEnd> {
        self.end
    }

    /// How many bytes were read and found right.
    #[must_use]
    pub fn good_bytes(&self) -> u64 {
        self.offset
    }

    /// Goes on writing behind what was read. The file must be cut to [`Reader::good_bytes`] first.
    #[must_use]
    pub fn into_writer(self) -> Writer {
        Writer::resume(self.place)
    }

    fn advance(&mut self) -> Result<Option<Captured>, ReadError> {
        if self.end.is_some() {
            return Ok(None);
        }
        let offset = self.offset;
        let failed = |problem| ReadError::Damaged { offset, problem };
        let payload = match self.frame()? {
            Frame::Payload(payload) => payload,
            Frame::End(end) => {
                self.end = Some(end);
                return Ok(None);
            }
        };
        let record = capturepb::Record::decode(payload)
            .map_err(|error| failed(Problem::Undecodable(error.to_string())))?;
        let entry = record.entry.unwrap_or_default();
        let (found, term) = (RaftIndex(entry.index), Term(entry.term));
        let expected = self.place.index.next();
        if found != expected {
            return Err(failed(Problem::OutOfOrder { expected, found }));
        }
        if term < self.place.term {
            return Err(failed(Problem::TermFalls(found)));
        }
        self.place.index = found;
        self.place.term = term;
        let version = record.etcd_version;
        Ok(Some(Captured {
            entry: Committed {
                index: found,
                term,
                kind: entry.r#type,
                data: entry.data,
            },
            etcd_version: (!version.is_empty()).then_some(version),
        }))
    }

    fn frame(&mut self) -> Result<Frame, ReadError> {
        let offset = self.offset;
        let failed = |problem| ReadError::Damaged { offset, problem };
        let torn = Ok(Frame::End(CaptureEnd::Torn));
        let head = read_up_to(&mut self.input, FRAME_HEAD_BYTES)?;
        if head.is_empty() {
            return Ok(Frame::End(CaptureEnd::Clean));
        }
        let Some((length_bytes, check)) = split_head(&head) else {
            return torn;
        };
        if check != check_of(length_bytes) {
            return match look_behind(&mut self.input, offset, &head)? {
                Behind::Frames => Err(failed(Problem::FramesFollow)),
                Behind::ZeroSector => torn,
                Behind::Bytes => Err(failed(Problem::Length)),
            };
        }
        let length = u32::from_le_bytes(length_bytes);
        if u64::from(length) > RECORD_BYTES_MAX {
            return Err(failed(Problem::TooLong(length)));
        }
        let payload_bytes = u64::from(length);
        let body_bytes = payload_bytes + CHECKSUM_BYTES + padding(payload_bytes);
        let body = read_up_to(&mut self.input, body_bytes)?;
        if (body.len() as u64) < body_bytes {
            return torn;
        }
        let body = Bytes::from(body);
        let end = usize::try_from(payload_bytes).unwrap_or(body.len());
        let payload = body.slice(..end.min(body.len()));
        let stated = body.get(end..).and_then(|rest| rest.first_chunk::<4>());
        let stated = u32::from_le_bytes(*stated.unwrap_or(&[0; 4]));
        let computed = crc32c::crc32c_append(self.place.chain, &payload);
        if computed != stated {
            let is_torn = lacks_a_sector(&body, offset + FRAME_HEAD_BYTES);
            let next = offset + FRAME_HEAD_BYTES + body_bytes;
            return match look_behind(&mut self.input, next, &[])? {
                Behind::Frames => Err(failed(Problem::FramesFollow)),
                Behind::ZeroSector | Behind::Bytes if is_torn => torn,
                Behind::ZeroSector | Behind::Bytes => {
                    Err(failed(Problem::Checksum { stated, computed }))
                }
            };
        }
        self.place.chain = computed;
        self.offset = offset + FRAME_HEAD_BYTES + body_bytes;
        Ok(Frame::Payload(payload))
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<Captured, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance().transpose();
        if matches!(next, Some(Err(_))) {
            self.end = Some(CaptureEnd::Torn);
        }
        next
    }
}

/// What lies from a place to the end of the file.
enum Behind {
    /// Frames.
    Frames,
    /// None, and some sector is zero.
    ZeroSector,
    /// Something else.
    Bytes,
}

/// Reads the rest of the file, whose first bytes were read already.
fn look_behind(input: &mut impl Read, offset: u64, read: &[u8]) -> io::Result<Behind> {
    let mut behind = Behind::Bytes;
    let mut offset = offset;
    let mut sector = read.to_vec();
    loop {
        let into_sector = offset % SECTOR_BYTES as u64;
        let wanted = SECTOR_BYTES as u64 - into_sector - sector.len() as u64;
        sector.extend(read_up_to(input, wanted)?);
        if sector.is_empty() {
            return Ok(behind);
        }
        if sector.iter().all(|byte| *byte == 0) {
            behind = Behind::ZeroSector;
        }
        let aligned = usize::try_from(ALIGNMENT).unwrap_or(1);
        let mut places = sector.chunks_exact(aligned).filter_map(split_head);
        if places.any(|(length, check)| check == check_of(length)) {
            return Ok(Behind::Frames);
        }
        offset += sector.len() as u64;
        sector.clear();
    }
}

/// A length and its check.
fn split_head(head: &[u8]) -> Option<([u8; 4], u32)> {
    let (length, rest) = head.split_first_chunk::<4>()?;
    let check = rest.first_chunk::<4>()?;
    Some((*length, u32::from_le_bytes(*check)))
}
