//! A walk over the tags of a message before it is decoded. Pure, copies nothing.
//!
//! The protobuf decoder drops fields it does not know. In a log follower that would be a silent
//! gap, so every field number of a raft message and of all it contains is compared with the ones
//! we know. What is not even well-formed is reported as corrupt, also when it has unknown fields:
//! corruption is cured by a new connection, an unknown field is not.

use super::Error;

/// A message type whose fields are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Message,
    Entry,
    Snapshot,
    SnapshotMetadata,
    ConfState,
}

/// What the walk has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Entries in the message.
    pub(super) entries: usize,
}

enum Field {
    /// A number of up to 64 bits.
    Number,
    /// A number of up to 32 bits: above that the decoder would cut it off.
    Small,
    /// Numbers, packed or one by one.
    Numbers,
    Bytes,
    Nested(Shape),
    Unknown,
}

impl Shape {
    fn name(self) -> &'static str {
        match self {
            Self::Message => "Message",
            Self::Entry => "Entry",
            Self::Snapshot => "Snapshot",
            Self::SnapshotMetadata => "SnapshotMetadata",
            Self::ConfState => "ConfState",
        }
    }

    /// # Source
    /// raft v3.7.0 `raftpb/raft.proto`. Of `Message`, 13 is `vote`, which only messages within one
    /// process use and which 3.6 writes as 0: it is passed over. 14, `responses`, is such a field
    /// too and is never sent: it stays unknown.
    fn field(self, number: u32) -> Field {
        match (self, number) {
            (Self::Message | Self::Entry, 1) => Field::Small,
            (Self::Message, 2..=6 | 8 | 10 | 11 | 13)
            | (Self::Entry | Self::SnapshotMetadata, 2 | 3)
            | (Self::ConfState, 5) => Field::Number,
            (Self::Message, 7) => Field::Nested(Self::Entry),
            (Self::Message, 9) => Field::Nested(Self::Snapshot),
            (Self::Message, 12) | (Self::Entry, 4) | (Self::Snapshot, 1) => Field::Bytes,
            (Self::Snapshot, 2) => Field::Nested(Self::SnapshotMetadata),
            (Self::SnapshotMetadata, 1) => Field::Nested(Self::ConfState),
            (Self::ConfState, 1..=4) => Field::Numbers,
            _ => Field::Unknown,
        }
    }
}

/// Checks that `bytes` is one well-formed message of this shape with known fields only.
///
/// # Errors
/// [`Error::Corrupt`] if it is not well-formed, else [`Error::Unknown`] for the first field that
/// is not known.
pub(super) fn check(bytes: &[u8], shape: Shape) -> Result<Tally, Error> {
    let mut walk = Walk::default();
    walk.message(bytes, shape)?;
    match walk.unknown {
        Some((shape, field)) => Err(Error::Unknown {
            message: shape.name(),
            field,
        }),
        None => Ok(walk.tally),
    }
}

#[derive(Default)]
struct Walk {
    tally: Tally,
    unknown: Option<(Shape, u32)>,
}

impl Walk {
    fn message(&mut self, mut rest: &[u8], shape: Shape) -> Result<(), Error> {
        while !rest.is_empty() {
            let tag = take_varint(&mut rest)?;
            let number = u32::try_from(tag >> 3)
                .ok()
                .filter(|n| (1..1 << 29).contains(n))
                .ok_or_else(|| corrupt("a field number is out of range"))?;
            let value = take_value(&mut rest, tag & 7)?;
            self.field(shape, number, value)?;
        }
        Ok(())
    }

    fn field(&mut self, shape: Shape, number: u32, value: Value<'_>) -> Result<(), Error> {
        match (shape.field(number), value) {
            (Field::Unknown, _) => {
                self.unknown.get_or_insert((shape, number));
                Ok(())
            }
            (Field::Small, Value::Number(n)) if u32::try_from(n).is_err() => {
                Err(corrupt("a type does not fit into 32 bits"))
            }
            (Field::Number | Field::Small | Field::Numbers, Value::Number(_))
            | (Field::Bytes, Value::Bytes(_)) => Ok(()),
            (Field::Numbers, Value::Bytes(mut packed)) => {
                while !packed.is_empty() {
                    take_varint(&mut packed)?;
                }
                Ok(())
            }
            (Field::Nested(inner), Value::Bytes(bytes)) => {
                if inner == Shape::Entry {
                    self.tally.entries = self.tally.entries.saturating_add(1);
                }
                self.message(bytes, inner)
            }
            (Field::Number | Field::Small, Value::Bytes(_))
            | (Field::Bytes | Field::Nested(_), Value::Number(_))
            | (
                Field::Number | Field::Small | Field::Numbers | Field::Bytes | Field::Nested(_),
                Value::Fixed,
            ) => Err(corrupt("a field has the wrong wire type")),
        }
    }
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed,
}

fn take_value<'a>(rest: &mut &'a [u8], wire_type: u64) -> Result<Value<'a>, Error> {
    match wire_type {
        0 => take_varint(rest).map(Value::Number),
        1 => take_bytes(rest, 8).map(|_| Value::Fixed),
        2 => {
            let length = usize::try_from(take_varint(rest)?)
                .map_err(|_| corrupt("a field is longer than the message"))?;
            take_bytes(rest, length).map(Value::Bytes)
        }
        5 => take_bytes(rest, 4).map(|_| Value::Fixed),
        _ => Err(corrupt("a field has a wire type that is not in use")),
    }
}

fn take_bytes<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], Error> {
    let (taken, left) = rest
        .split_at_checked(length)
        .ok_or_else(|| corrupt("a field is longer than the message"))?;
    *rest = left;
    Ok(taken)
}

fn take_varint(rest: &mut &[u8]) -> Result<u64, Error> {
    let mut value: u64 = 0;
    for (position, byte) in rest.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        if position == 9 && bits > 1 {
            break;
        }
        value |= bits << (7 * position);
        if byte & 0x80 == 0 {
            *rest = rest.get(position + 1..).unwrap_or_default();
            return Ok(value);
        }
    }
    Err(corrupt("a number is cut off or longer than 64 bits"))
}

fn corrupt(what: &'static str) -> Error {
    Error::Corrupt { what }
}
