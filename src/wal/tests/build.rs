//! Writes logs as etcd writes them.

use bytes::Bytes;
use prost::Message as _;

use crate::pb::{raftpb, storagepb};
use crate::wal::{Error, MemorySegments, SegmentName, Wal};

/// A log in the making.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    pub(super) files: Vec<(SegmentName, Vec<u8>)>,
    pub(super) chain: u32,
}

/// A frame around a record.
pub(super) fn frame(record: &storagepb::Record) -> Vec<u8> {
    let record = record.encode_to_vec();
    let padding = (8 - record.len() % 8) % 8;
    let mut field = record.len() as u64;
    if padding > 0 {
        field |= (0x80 | padding as u64) << 56;
    }
    let mut frame = field.to_le_bytes().to_vec();
    frame.extend(record);
    frame.resize(frame.len() + padding, 0);
    frame
}

impl Log {
    /// A log as a new member begins it.
    pub(super) fn new() -> Self {
        let mut log = Self::default();
        log.cut(0);
        log.snapshot(0, 0);
        log
    }

    /// Begins a file, with the records at its head.
    pub(super) fn cut(&mut self, index: u64) -> &mut Self {
        let sequence = self.files.last().map_or(0, |(name, _)| name.sequence + 1);
        self.files
            .push((SegmentName { sequence, index }, Vec::new()));
        let crc = self.chain;
        let head = storagepb::Record {
            r#type: 4,
            crc,
            data: Bytes::new(),
        };
        self.bytes(&frame(&head));
        let metadata = storagepb::Metadata {
            node_id: 7,
            cluster_id: 9,
        };
        self.record(1, metadata.encode_to_vec())
    }

    /// Adds bytes to the last file as they are.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.last().extend(bytes);
        self
    }

    pub(super) fn last(&mut self) -> &mut Vec<u8> {
        &mut self.files.last_mut().unwrap().1
    }

    pub(super) fn record(&mut self, r#type: i64, data: Vec<u8>) -> &mut Self {
        self.chain = crc32c::crc32c_append(self.chain, &data);
        let record = storagepb::Record {
            r#type,
            crc: self.chain,
            data: data.into(),
        };
        self.bytes(&frame(&record))
    }

    pub(super) fn entry(&mut self, index: u64, term: u64, data: &[u8]) -> &mut Self {
        let entry = raftpb::Entry {
            r#type: 0,
            term,
            index,
            data: Bytes::copy_from_slice(data),
        };
        self.record(2, entry.encode_to_vec())
    }

    pub(super) fn entries(&mut self, indexes: std::ops::RangeInclusive<u64>, term: u64) {
        for index in indexes {
            self.entry(index, term, format!("{term}.{index}").as_bytes());
        }
    }

    pub(super) fn state(&mut self, term: u64, commit: u64) -> &mut Self {
        let state = storagepb::HardState {
            term,
            vote: 7,
            commit,
        };
        self.record(3, state.encode_to_vec())
    }

    pub(super) fn snapshot(&mut self, index: u64, term: u64) -> &mut Self {
        let snapshot = storagepb::WalSnapshot {
            index,
            term,
            conf_state: None,
        };
        self.record(5, snapshot.encode_to_vec())
    }

    /// Zeros behind the last record, as in a file that etcd has prepared.
    pub(super) fn prepared(&mut self) -> &mut Self {
        self.bytes(&[0; 4096])
    }

    pub(super) fn open(&self) -> Result<Wal<MemorySegments>, Error> {
        let files = self.files.iter();
        let files = files.map(|(name, bytes)| (*name, Bytes::from(bytes.clone())));
        Wal::open(MemorySegments(files.collect()))
    }
}

/// Everything that a log holds: index and payload.
pub(super) fn all(wal: &Wal<MemorySegments>) -> Vec<(u64, String)> {
    let entries = wal.all_entries().map(Result::unwrap);
    let shown = entries.map(|entry| {
        let data = String::from_utf8_lossy(&entry.data).into_owned();
        (entry.index, data)
    });
    shown.collect()
}
