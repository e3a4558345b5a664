//! Received bytes that do not make a whole frame yet. Pure.

use bytes::{Buf, Bytes, BytesMut};

/// Grows as bytes arrive and hands out whole pieces without copying them again.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    bytes: BytesMut,
}

impl Buffer {
    pub(super) fn push(&mut self, chunk: &[u8]) {
        self.bytes.extend_from_slice(chunk);
    }

    /// The next `length` bytes, once they are all here.
    pub(super) fn take(&mut self, length: usize) -> Option<Bytes> {
        (self.bytes.len() >= length).then(|| self.bytes.split_to(length).freeze())
    }

    pub(super) fn take_u8(&mut self) -> Option<u8> {
        self.bytes.try_get_u8().ok()
    }

    /// A big-endian number, once its eight bytes are here.
    pub(super) fn take_u64(&mut self) -> Option<u64> {
        self.bytes.try_get_u64().ok()
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}
