//! The msgapp stream (msgappv2): entries with as little around them as possible. Pure.
//!
//! ```text
//! 00                                                     link heartbeat
//! 01  u64 n  n x { u64 length, raftpb.Entry }  u64 commit    the message that follows the last one
//! 02  u64 length, raftpb.Message                         a whole message; sets term and index anew
//! ```
//!
//! All numbers are big-endian. A frame 01 says neither term nor index: both ends remember them.

use super::buffer::Buffer;
use super::{ENTRY_COST_BYTES, Error, Frame, check_length, decode_message, too_long, wide, wire};
use crate::ids::MemberId;
use crate::pb::raftpb::{Entry, Message};
use crate::peer::kind::MessageKind;
use prost::Message as _;

/// The only thing we ever write into a msgapp stream.
pub const LINK_HEARTBEAT_MSGAPP: &[u8] = &[0];

/// Reads a msgapp stream.
///
/// # Source
/// etcd 3.3 to 3.7 `rafthttp/msgappv2_codec.go` msgAppV2Decoder.
#[derive(Debug)]
pub struct MsgAppDecoder {
    buffer: Buffer,
    limit_bytes: usize,
    member: MemberId,
    us: MemberId,
    state: State,
    /// Term of the last message, 0 before the first.
    term: u64,
    /// Index of the last entry so far, or of the last message if it had none.
    index: u64,
    /// Entries of the frame 01 under way.
    entries: Vec<Entry>,
    /// What the frame 01 under way costs so far, in bytes.
    cost_bytes: usize,
}

/// What the next bytes are.
#[derive(Clone, Copy, Debug)]
enum State {
    Kind,
    EntryCount,
    EntryLength { left: u64 },
    Entry { left: u64, length: usize },
    Commit,
    MessageLength,
    Message { length: usize },
}

impl MsgAppDecoder {
    /// `member` writes the stream to `us`. `limit_bytes`: what one frame may cost.
    #[must_use]
    pub fn new(member: MemberId, us: MemberId, limit_bytes: usize) -> Self {
        Self {
            buffer: Buffer::default(),
            limit_bytes,
            member,
            us,
            state: State::Kind,
            term: 0,
            index: 0,
            entries: Vec::new(),
            cost_bytes: 0,
        }
    }

    /// Takes the next bytes of the stream, cut anywhere.
    pub fn push(&mut self, chunk: &[u8]) {
        self.buffer.push(chunk);
    }

    /// The next whole frame, or None until more bytes are pushed.
    ///
    /// # Errors
    /// Any of [`Error`]. After one the decoder is of no more use.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Error> {
        loop {
            match self.step()? {
                Progress::Frame(frame) => return Ok(Some(frame)),
                Progress::Further => {}
                Progress::Starved => return Ok(None),
            }
        }
    }

    fn step(&mut self) -> Result<Progress, Error> {
        match self.state {
            State::Kind => self.take_kind(),
            State::EntryCount => self.take_entry_count(),
            State::EntryLength { left } => self.take_entry_length(left),
            State::Entry { left, length } => self.take_entry(left, length),
            State::Commit => self.take_commit(),
            State::MessageLength => self.take_message_length(),
            State::Message { length } => self.take_message(length),
        }
    }

    fn take_kind(&mut self) -> Result<Progress, Error> {
        match self.buffer.take_u8() {
            None => Ok(Progress::Starved),
            Some(0) => Ok(Progress::Frame(Frame::LinkHeartbeat)),
            Some(1) => Ok(self.turn(State::EntryCount)),
            Some(2) => Ok(self.turn(State::MessageLength)),
            Some(kind) => Err(Error::FrameKind { kind }),
        }
    }

    fn take_entry_count(&mut self) -> Result<Progress, Error> {
        let Some(left) = self.buffer.take_u64() else {
            return Ok(Progress::Starved);
        };
        if self.term == 0 {
            let what = "entries before any whole message";
            return Err(Error::Corrupt { what });
        }
        // Each entry costs its length prefix and its place in memory at the least.
        let least = left.saturating_mul(wide(ENTRY_COST_BYTES + 8));
        if least > wide(self.limit_bytes) {
            return Err(too_long(least, self.limit_bytes));
        }
        self.entries = Vec::new();
        self.cost_bytes = 0;
        Ok(self.turn(next_entry(left)))
    }

    fn take_entry_length(&mut self, left: u64) -> Result<Progress, Error> {
        let Some(claimed) = self.buffer.take_u64() else {
            return Ok(Progress::Starved);
        };
        let length = check_length(claimed, self.limit_bytes)?;
        let cost = length.saturating_add(ENTRY_COST_BYTES + 8);
        self.cost_bytes = self.cost_bytes.saturating_add(cost);
        if self.cost_bytes > self.limit_bytes {
            return Err(too_long(wide(self.cost_bytes), self.limit_bytes));
        }
        Ok(self.turn(State::Entry { left, length }))
    }

    fn take_entry(&mut self, left: u64, length: usize) -> Result<Progress, Error> {
        let Some(bytes) = self.buffer.take(length) else {
            return Ok(Progress::Starved);
        };
        wire::check(&bytes, wire::Shape::Entry)?;
        self.entries.push(Entry::decode(bytes)?);
        Ok(self.turn(next_entry(left - 1)))
    }

    fn take_commit(&mut self) -> Result<Progress, Error> {
        let Some(commit) = self.buffer.take_u64() else {
            return Ok(Progress::Starved);
        };
        let entries = std::mem::take(&mut self.entries);
        let message = Message {
            r#type: MessageKind::App.number(),
            from: self.member.0,
            to: self.us.0,
            term: self.term,
            log_term: self.term,
            index: self.index,
            commit,
            entries,
            ..Message::default()
        };
        self.index = self
            .index
            .checked_add(wide(message.entries.len()))
            .ok_or(Error::Corrupt {
                what: "an index runs over",
            })?;
        self.state = State::Kind;
        Ok(Progress::Frame(Frame::Message(message)))
    }

    fn take_message_length(&mut self) -> Result<Progress, Error> {
        let Some(claimed) = self.buffer.take_u64() else {
            return Ok(Progress::Starved);
        };
        let length = check_length(claimed, self.limit_bytes)?;
        Ok(self.turn(State::Message { length }))
    }

    fn take_message(&mut self, length: usize) -> Result<Progress, Error> {
        let Some(bytes) = self.buffer.take(length) else {
            return Ok(Progress::Starved);
        };
        let message = decode_message(bytes, self.limit_bytes)?;
        self.term = message.term;
        self.index = message.entries.last().map_or(message.index, |e| e.index);
        self.state = State::Kind;
        Ok(Progress::Frame(Frame::Message(message)))
    }

    fn turn(&mut self, state: State) -> Progress {
        self.state = state;
        Progress::Further
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.buffer.capacity()
    }
}

// As with frames.
#[allow(clippy::large_enum_variant)]
enum Progress {
    Frame(Frame),
    Further,
    Starved,
}

fn next_entry(left: u64) -> State {
    if left == 0 {
        State::Commit
    } else {
        State::EntryLength { left }
    }
}
