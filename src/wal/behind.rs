//! What lies behind the place where a log ends. Pure.
//!
//! A server throws away whatever is there, without a word: whole records that are sound, if the one
//! before them is not. So it is looked at, and an end with something behind it is no clean end.

use std::io::{self, Read};

use super::decoder::{Decoder, Step};
use super::frame::{ALIGNMENT, LENGTH_BYTES, Length};
use super::reading::read_up_to;

/// What lies behind an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    /// Zeros, or nothing at all.
    Nothing,
    /// Something was written there.
    Bytes,
    /// A record stands there, or something that looks like one.
    Records,
}

/// Looks behind a record whose bytes are there and wrong; `stated` is its own checksum, if it could
/// be read, from which the record after it goes on.
pub(super) fn behind_record<R: Read>(
    decoder: &mut Decoder<R>,
    stated: Option<u32>,
) -> io::Result<Behind> {
    if let Some(stated) = stated {
        decoder.chain = stated;
        match decoder.next()? {
            Step::Record(_) => return Ok(Behind::Records),
            Step::Eof => return Ok(Behind::Nothing),
            Step::Flaw(_) => return Ok(Behind::Bytes),
            Step::Zero => {}
        }
    }
    rest(decoder)
}

/// Looks behind a length of zero.
pub(super) fn behind_zero<R: Read>(decoder: &mut Decoder<R>) -> io::Result<Behind> {
    rest(decoder)
}

/// Looks behind a length that is longer than the file. What is there is the beginning of the
/// record, if the file was cut short; only other records show that the length itself is wrong.
pub(super) fn behind_length<R: Read>(decoder: &mut Decoder<R>) -> io::Result<Behind> {
    Ok(match rest(decoder)? {
        Behind::Nothing | Behind::Bytes => Behind::Nothing,
        Behind::Records => Behind::Records,
    })
}

const CHUNK_BYTES: u64 = 1 << 16;
/// As much of a frame as is looked at to recognize it: length, type, checksum, length of the data.
const GLANCE_BYTES: usize = 8 + 2 + 6 + 6;

/// Reads the rest of the file, which begins where a frame could begin.
fn rest<R: Read>(decoder: &mut Decoder<R>) -> io::Result<Behind> {
    let mut found = Behind::Nothing;
    let mut window: Vec<u8> = Vec::new();
    loop {
        let chunk = read_up_to(&mut decoder.segment.reader, CHUNK_BYTES)?;
        let is_last = chunk.is_empty();
        if !is_zero(&chunk) {
            found = Behind::Bytes;
        } else if !is_last && is_zero(&window) {
            window.clear();
            continue;
        }
        window.extend(chunk);
        let mut at = 0;
        // At the end of the file the glance may be short.
        while at + GLANCE_BYTES <= window.len() || (is_last && at < window.len()) {
            if window.get(at..).is_some_and(looks_like_a_frame) {
                return Ok(Behind::Records);
            }
            at += usize::try_from(ALIGNMENT).unwrap_or(1);
        }
        if is_last {
            return Ok(found);
        }
        window.drain(..at.min(window.len()));
    }
}

/// True if all bytes are zero. A prepared file has 64 MB of them: they are compared in blocks.
fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut blocks = bytes.chunks(ZEROS.len());
    blocks.all(|block| ZEROS.get(..block.len()) == Some(block))
}

/// True if the bytes begin with a frame whose lengths agree with each other.
fn looks_like_a_frame(bytes: &[u8]) -> bool {
    let Some((field, record)) = bytes.split_first_chunk::<8>() else {
        return false;
    };
    let Length::Frame { record: length, .. } = Length::of(*field) else {
        return false;
    };
    let Some(([0x08, kind, 0x10], mut rest)) = record.split_first_chunk::<3>() else {
        return false;
    };
    if !(1..=5).contains(kind) || varint(&mut rest).is_none() {
        return false;
    }
    let head = LENGTH_BYTES + length;
    let so_far = |rest: &[u8]| (bytes.len() - rest.len()) as u64;
    if so_far(rest) == head {
        return true;
    }
    let Some((0x1a, mut rest)) = rest.split_first().map(|(tag, rest)| (*tag, rest)) else {
        return false;
    };
    varint(&mut rest).is_some_and(|data| so_far(rest).checked_add(data) == Some(head))
}

/// A varint of at most five bytes.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..35).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Some(number);
        }
    }
    None
}
