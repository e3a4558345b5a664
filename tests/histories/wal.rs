//! Reads the write-ahead log of a member that is stopped, and appends entries that no client can
//! propose: a member alone in its cluster commits whatever its log holds.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use etcd_syncer::entry::Committed;
use etcd_syncer::ids::{RaftIndex, Term};
use prost::Message as _;

#[derive(Clone, PartialEq, prost::Message)]
struct Record {
    #[prost(int64, optional, tag = "1")]
    kind: Option<i64>,
    #[prost(uint32, optional, tag = "2")]
    crc: Option<u32>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    data: Option<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Entry {
    #[prost(uint32, optional, tag = "1")]
    kind: Option<u32>,
    #[prost(uint64, optional, tag = "2")]
    term: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    index: Option<u64>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    data: Option<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HardState {
    #[prost(uint64, optional, tag = "3")]
    commit: Option<u64>,
}

const ENTRY: i64 = 2;
const STATE: i64 = 3;
const CRC: i64 = 4;

/// What the log of a member holds, from the first entry on.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    pub(crate) entries: Vec<Committed>,
    /// The last commit index that was written down; more may be committed.
    pub(crate) commit: u64,
    /// The last file, and where its records end.
    pub(crate) file: PathBuf,
    pub(crate) end: u64,
    chain: u32,
}

impl Log {
    /// Reads the files in `member/wal` of a data directory.
    pub(crate) fn read(data_dir: &Path) -> Result<Self> {
        let folder = data_dir.join("member/wal");
        let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
            .with_context(|| format!("can't list {}", folder.display()))?
            .map(|file| Ok(file?.path()))
            .collect::<Result<_>>()?;
        files.retain(|file| file.extension().is_some_and(|ending| ending == "wal"));
        files.sort();
        let mut log = Self {
            entries: Vec::new(),
            commit: 0,
            file: files.last().context("there is no log")?.clone(),
            end: 0,
            chain: 0,
        };
        for file in &files {
            let bytes = Bytes::from(std::fs::read(file)?);
            log.read_file(&bytes)
                .with_context(|| format!("in {}", file.display()))?;
        }
        Ok(log)
    }

    fn read_file(&mut self, bytes: &Bytes) -> Result<()> {
        let mut at = 0;
        while let Some(head) = bytes.get(at..at + 8) {
            let head = u64::from_le_bytes(head.try_into()?);
            if head == 0 {
                break;
            }
            let size = usize::try_from(head & ((1 << 56) - 1))?;
            let padding = if head >> 63 == 1 { head >> 56 & 7 } else { 0 };
            ensure!(at + 8 + size <= bytes.len(), "torn at {at}");
            let record = Record::decode(bytes.slice(at + 8..at + 8 + size))?;
            self.take(&record)
                .with_context(|| format!("record at {at}"))?;
            at += 8 + size + usize::try_from(padding)?;
        }
        self.end = u64::try_from(at)?;
        Ok(())
    }

    fn take(&mut self, record: &Record) -> Result<()> {
        let data = record.data.clone().unwrap_or_default();
        if record.kind == Some(CRC) {
            self.chain = record.crc.unwrap_or(0);
            return Ok(());
        }
        self.chain = crc32c::crc32c_append(self.chain, &data);
        ensure!(record.crc.unwrap_or(0) == self.chain, "wrong checksum");
        match record.kind {
            Some(ENTRY) => {
                let entry = Entry::decode(data)?;
                let index = entry.index.unwrap_or(0);
                let kept = usize::try_from(index)?.checked_sub(1);
                let kept = kept.filter(|kept| *kept <= self.entries.len());
                self.entries
                    .truncate(kept.with_context(|| format!("a gap before {index}"))?);
                self.entries.push(Committed {
                    index: RaftIndex(index),
                    term: Term(entry.term.unwrap_or(0)),
                    kind: entry.kind.unwrap_or(0),
                    data: entry.data.unwrap_or_default(),
                });
            }
            Some(STATE) => self.commit = HardState::decode(data)?.commit.unwrap_or(0),
            _ => {}
        }
        Ok(())
    }

    /// The index of the last entry.
    pub(crate) fn last(&self) -> u64 {
        self.entries.last().map_or(0, |entry| entry.index.0)
    }

    /// Writes normal entries behind the last one, in its term.
    pub(crate) fn append(&mut self, data: impl IntoIterator<Item = Bytes>) -> Result<()> {
        let mut frames = Vec::new();
        for data in data {
            let last = self.entries.last().context("there is no entry")?;
            let entry = Committed {
                index: last.index.next(),
                term: last.term,
                kind: 0,
                data,
            };
            let encoded = Entry {
                kind: Some(0),
                term: Some(entry.term.0),
                index: Some(entry.index.0),
                data: Some(entry.data.clone()),
            };
            let encoded = Bytes::from(encoded.encode_to_vec());
            self.chain = crc32c::crc32c_append(self.chain, &encoded);
            let record = Record {
                kind: Some(ENTRY),
                crc: Some(self.chain),
                data: Some(encoded),
            };
            frame(&record, &mut frames)?;
            self.entries.push(entry);
        }
        let mut file = std::fs::OpenOptions::new().write(true).open(&self.file)?;
        file.seek(SeekFrom::Start(self.end))?;
        file.write_all(&frames)?;
        self.end += u64::try_from(frames.len())?;
        Ok(())
    }
}

fn frame(record: &Record, frames: &mut Vec<u8>) -> Result<()> {
    let size = record.encoded_len();
    let padding = (8 - size % 8) % 8;
    let mut head = u64::try_from(size)?;
    if padding > 0 {
        head |= (0x80 | u64::try_from(padding)?) << 56;
    }
    frames.extend_from_slice(&head.to_le_bytes());
    record.encode(frames)?;
    frames.extend(std::iter::repeat_n(0, padding));
    Ok(())
}
