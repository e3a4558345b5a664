//! Counts what a body is made of before memory is taken for it: an element of two bytes takes a
//! hundred once it is decoded, and packed it takes next to none. Pure.

use super::record::Error;
use crate::wire::{Fields, Wire};

/// Messages, texts and strings of bytes in one body. A journal has one for each key of a lease that
/// ends, a chunk one for each of its leases.
const ELEMENTS_MAX: usize = 4 << 20;
/// Numbers in columns of one body: each row has seven at most, and 16 bytes of digest beside them.
const NUMBERS_MAX: usize = 32 << 20;

/// What a field is.
#[derive(Clone, Copy)]
enum Kind {
    /// Numbers one behind the other.
    Packed,
    /// A message that has these fields, others left out that are elements or single numbers.
    Message(&'static [(u64, Kind)]),
}

/// Field numbers as in `proto/ledger.proto`.
const PART: &[(u64, Kind)] = &[
    (2, Kind::Packed),
    (4, Kind::Message(KEYS)),
    (6, Kind::Message(AUTH)),
    (7, Kind::Message(ALARMS)),
    (8, Kind::Message(&[])),
];
const KEYS: &[(u64, Kind)] = &[
    (1, Kind::Packed),
    (2, Kind::Packed),
    (4, Kind::Packed),
    (5, Kind::Packed),
    (6, Kind::Packed),
    (7, Kind::Packed),
];
const AUTH: &[(u64, Kind)] = &[(3, Kind::Message(&[])), (4, Kind::Message(&[]))];
const ALARMS: &[(u64, Kind)] = &[(2, Kind::Packed)];

#[derive(Default)]
struct Counts {
    elements: usize,
    numbers: usize,
}

/// Makes sure that a body is not more than any that was written.
pub(super) fn check(body: &[u8]) -> Result<(), Error> {
    Counts::default().add(body, PART)
}

impl Counts {
    fn add(&mut self, message: &[u8], kinds: &[(u64, Kind)]) -> Result<(), Error> {
        let mut fields = Fields::of(message);
        while let Some((number, wire)) =
            fields.next().map_err(|_| Error::Malformed("no message"))?
        {
            let content = match wire {
                Wire::Delimited(content) => content,
                Wire::Varint(_) | Wire::Fixed => {
                    self.numbers += 1;
                    self.check()?;
                    continue;
                }
            };
            let kind = kinds.iter().find(|(known, _)| *known == number);
            match kind.map(|(_, kind)| *kind) {
                Some(Kind::Packed) => {
                    // The last byte of each has no mark that more follow.
                    self.numbers += content.iter().filter(|byte| **byte < 0x80).count();
                }
                Some(Kind::Message(inner)) => {
                    self.elements += 1;
                    self.add(content, inner)?;
                }
                None => self.elements += 1,
            }
            self.check()?;
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Error> {
        if self.elements > ELEMENTS_MAX || self.numbers > NUMBERS_MAX {
            return Err(Error::Malformed("too many parts"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_more_than_anything_written_is_refused() {
        let too_many = Err(Error::Malformed("too many parts"));
        let empty = |number: u8| [number << 3 | 2, 0].repeat(ELEMENTS_MAX);
        assert_eq!(check(&empty(1)), Ok(()));
        assert_eq!(check(&[empty(1), empty(5)].concat()), too_many);
        let single = [2 << 3, 1].repeat(NUMBERS_MAX + 1);
        assert_eq!(check(&single), too_many);
        assert_eq!(check(&single[..2 * NUMBERS_MAX]), Ok(()));
        let length = |bytes: usize| {
            let mut length = Vec::new();
            prost::encoding::encode_varint(bytes.try_into().unwrap(), &mut length);
            length
        };
        let within = |number: u8, content: &[u8]| {
            [&[number << 3 | 2], &length(content.len())[..], content].concat()
        };
        assert_eq!(check(&within(2, &vec![1; NUMBERS_MAX])), Ok(()));
        assert_eq!(check(&within(2, &vec![1; NUMBERS_MAX + 1])), too_many);
        let column = within(6, &vec![1; NUMBERS_MAX + 1]);
        assert_eq!(check(&within(4, &column)), too_many);
        let roles = within(3, &empty(6));
        assert_eq!(check(&within(6, &roles)), too_many);
        assert_eq!(check(b"\x0a\x05"), Err(Error::Malformed("no message")));
    }
}
