//! The message stream: `u64` length, big-endian, then that many bytes of `raftpb.Message`. Pure.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message as _;

use super::buffer::Buffer;
use super::{Error, Frame, MESSAGE_BYTES_MAX, check_length, decode_message, wide};
use crate::pb::raftpb::Message;
use crate::peer::kind::MessageKind;

/// The shortest link heartbeat of the message stream that every release takes: a heartbeat from
/// nobody to nobody.
pub const LINK_HEARTBEAT_MESSAGE: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 2, 0x08, 0x08];

/// Reads a message stream.
///
/// # Source
/// etcd 3.3 to 3.7 `rafthttp/msg_codec.go`, `rafthttp/stream.go` isLinkHeartbeatMessage.
#[derive(Debug)]
pub struct MessageDecoder {
    buffer: Buffer,
    limit_bytes: usize,
    /// Length of the message under way, once known.
    length: Option<usize>,
}

impl MessageDecoder {
    /// `limit_bytes`: what one message may cost; above [`MESSAGE_BYTES_MAX`] that is the limit.
    #[must_use]
    pub fn new(limit_bytes: usize) -> Self {
        Self {
            buffer: Buffer::default(),
            limit_bytes: limit_bytes.min(MESSAGE_BYTES_MAX),
            length: None,
        }
    }

    /// Takes the next bytes of the stream, cut anywhere.
    pub fn push(&mut self, chunk: &[u8]) {
        self.buffer.push(chunk);
    }

    /// The next whole frame, or None until more bytes are pushed.
    ///
    /// # Errors
    /// Any of [`Error`] but [`Error::FrameKind`]. After one the decoder is of no more use.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Error> {
        let length = match self.length {
            Some(length) => length,
            None => {
                let Some(claimed) = self.buffer.take_u64() else {
                    return Ok(None);
                };
                let length = check_length(claimed, self.limit_bytes)?;
                self.length = Some(length);
                length
            }
        };
        let Some(bytes) = self.buffer.take(length) else {
            return Ok(None);
        };
        self.length = None;
        let message = decode_message(bytes, self.limit_bytes)?;
        Ok(Some(classify(message)))
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.buffer.capacity()
    }
}

fn classify(message: Message) -> Frame {
    let is_heartbeat = message.r#type == MessageKind::Heartbeat.number();
    if is_heartbeat && message.from == 0 && message.to == 0 {
        return Frame::LinkHeartbeat;
    }
    Frame::Message(message)
}

/// Writes one frame of the message stream.
#[must_use]
pub fn encode_message(message: &Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(length.saturating_add(8));
    frame.put_u64(wide(length));
    frame.extend_from_slice(&message.encode_to_vec());
    frame.freeze()
}
