//! Reads values of keys. Pure over a [`PageSource`].

use bytes::Bytes;

use super::bbolt::{self, PageSource};
use super::keys::{LiveKeys, ValueAt};
use crate::resolve::{Digest, DigestKey};

/// Reads one value.
///
/// # Errors
/// If the source cannot be read there.
pub fn value<S: PageSource + ?Sized>(source: &S, at: ValueAt) -> Result<Bytes, bbolt::Error> {
    let mut value = vec![0; as_size(at.bytes.into())];
    read_at(source, at.offset, &mut value)?;
    Ok(value.into())
}

/// Reads many values in the order in which they lie in the file, which is the quickest.
///
/// What lies close together is read at once, through a buffer of 1 MiB or of the longest value.
#[derive(Debug)]
pub struct Values<'a, S: ?Sized, T> {
    source: &'a S,
    wanted: Vec<(ValueAt, T)>,
    next: usize,
    buffer: Vec<u8>,
    buffer_at: u64,
}

impl<'a, S: PageSource + ?Sized, T: Copy> Values<'a, S, T> {
    /// The values that are wanted, each with what it is to be told apart by.
    #[must_use]
    pub fn new(source: &'a S, mut wanted: Vec<(ValueAt, T)>) -> Self {
        wanted.sort_unstable_by_key(|(at, _)| *at);
        Self {
            source,
            wanted,
            next: 0,
            buffer: Vec::new(),
            buffer_at: 0,
        }
    }

    /// How many values are still to come.
    #[must_use]
    pub fn left(&self) -> usize {
        self.wanted.len() - self.next
    }

    /// The next value; None behind the last.
    ///
    /// # Errors
    /// If the source cannot be read there.
    pub fn next_value(&mut self) -> Result<Option<(T, &[u8])>, bbolt::Error> {
        let Some(&(at, name)) = self.wanted.get(self.next) else {
            return Ok(None);
        };
        if self.held(at).is_none() {
            let end = self.run_end(at);
            self.buffer.resize(as_size(end - at.offset), 0);
            self.buffer_at = at.offset;
            read_at(self.source, at.offset, &mut self.buffer)?;
        }
        self.next += 1;
        Ok(Some((name, self.held(at).unwrap_or_default())))
    }

    /// The bytes of a value that the buffer holds.
    fn held(&self, at: ValueAt) -> Option<&[u8]> {
        let start = as_size(at.offset.checked_sub(self.buffer_at)?);
        let end = start.checked_add(as_size(at.bytes.into()))?;
        self.buffer.get(start..end)
    }

    /// Where the values end that are read together with the next one.
    fn run_end(&self, first: ValueAt) -> u64 {
        let mut end = end_of(first);
        for (at, _) in self.wanted.iter().skip(self.next + 1) {
            let is_near = at.offset <= end.saturating_add(GAP_BYTES_MAX)
                && end_of(*at) - first.offset <= RUN_BYTES_MAX;
            if !is_near {
                break;
            }
            end = end.max(end_of(*at));
        }
        end
    }
}

/// The digests of the values of all keys, in the order of the keys.
///
/// # Errors
/// If the source cannot be read.
pub fn digests<S: PageSource + ?Sized>(
    source: &S,
    keys: &LiveKeys,
    key: &DigestKey,
) -> Result<Vec<Digest>, bbolt::Error> {
    let wanted = keys.iter().map(|key| key.value).zip(0..).collect();
    let mut values = Values::new(source, wanted);
    let mut digests = vec![Digest::from_bytes([0; 16]); keys.len()];
    while let Some((place, value)) = values.next_value()? {
        let place: usize = place;
        if let Some(slot) = digests.get_mut(place) {
            *slot = key.digest(value);
        }
    }
    Ok(digests)
}

fn read_at<S: PageSource + ?Sized>(
    source: &S,
    offset: u64,
    buffer: &mut [u8],
) -> Result<(), bbolt::Error> {
    let bytes = buffer.len();
    let read = source.read_exact_at(buffer, offset);
    read.map_err(|source| bbolt::Error::Read {
        offset,
        bytes,
        source,
    })
}

fn end_of(at: ValueAt) -> u64 {
    at.offset.saturating_add(at.bytes.into())
}

/// A size in memory; where that is too small for a value, reading it fails.
fn as_size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

const RUN_BYTES_MAX: u64 = 1 << 20;
/// Reading on costs less than a second read.
const GAP_BYTES_MAX: u64 = 64 << 10;
