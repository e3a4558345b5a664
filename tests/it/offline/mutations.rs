//! Damaged files of real members: an error that says what is wrong, or the right answer.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use etcd_syncer::offline::capture::{CaptureEnd, Captured, Header, Reader, Writer};
use etcd_syncer::offline::{SnapFile, SnapName, committed};
use etcd_syncer::pb::raftpb;
use etcd_syncer::wal::{End, MemorySegments, SegmentName, Wal};
use fastrand::Rng;

use crate::harness::{Cluster, Version, Workload};

const FILES: usize = 1000;
/// What all mutations of a kind may add to the memory of this process.
const MEMORY_KIB: u64 = 200 << 10;
const EACH: Duration = Duration::from_secs(2);

/// Changes a file, and says whether it may look as if it had never been longer.
fn mutate(random: &mut Rng, bytes: &mut Vec<u8>) -> bool {
    let mut shorter = false;
    for _ in 0..random.usize(1..=3) {
        if bytes.is_empty() {
            return true;
        }
        let at = random.usize(..bytes.len());
        let word = at / 8 * 8;
        match random.usize(..9) {
            0 => bytes[at] ^= 1 << random.u8(..8),
            1 => bytes[at] = random.u8(..),
            2 => {
                bytes.truncate(at);
                shorter = true;
            }
            3 => {
                bytes[word..].fill(0);
                shorter = true;
            }
            4 => {
                let sector = at / 512 * 512;
                let end = bytes.len().min(sector + 512);
                bytes[sector..end].fill(0);
            }
            5 => {
                // A length, perhaps: small, of the file's size, or beyond everything.
                let length = match random.usize(..3) {
                    0 => random.u64(..64),
                    1 => random.u64(..bytes.len() as u64),
                    _ => random.u64(..),
                };
                let end = bytes.len().min(word + 8);
                bytes[word..end].copy_from_slice(&length.to_le_bytes()[..end - word]);
            }
            6 => {
                let end = bytes.len().min(word + 8 * random.usize(1..20));
                bytes.drain(word..end);
                shorter = true;
            }
            7 => {
                let end = bytes.len().min(word + 8 * random.usize(1..20));
                let again = bytes[word..end].to_vec();
                bytes.splice(word..word, again);
            }
            _ => {
                let end = bytes.len().min(at + random.usize(1..40));
                random.fill(&mut bytes[at..end]);
            }
        }
    }
    shorter
}

/// The most memory that this process ever had.
fn peak_kib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let digits = line.context("no VmHWM")?.trim().trim_end_matches(" kB");
    Ok(digits.trim().parse()?)
}

/// Runs `check` on mutated copies of `file`, and returns how often it said true.
fn each(seed: u64, file: &[u8], check: impl Fn(Vec<u8>, bool) -> Result<bool>) -> Result<usize> {
    let mut random = Rng::with_seed(seed);
    let before = peak_kib()?;
    let mut accepted = 0;
    for number in 0..FILES {
        let mut bytes = file.to_vec();
        let shorter = mutate(&mut random, &mut bytes);
        let started = Instant::now();
        let result = check(bytes, shorter).with_context(|| format!("file {number}"))?;
        accepted += usize::from(result);
        ensure!(
            started.elapsed() < EACH,
            "file {number} took {:?}",
            started.elapsed()
        );
    }
    // What the system counts is not exact: it may fall.
    let more = peak_kib()?.saturating_sub(before);
    ensure!(more < MEMORY_KIB, "{more} KiB more");
    Ok(accepted)
}

/// Files of a stopped member: its log without most of the zeros at its end, and a snapshot.
async fn files(version: Version) -> Result<(SegmentName, Vec<u8>, SnapName, Vec<u8>)> {
    let builder = Cluster::builder(version).no_fsync().snapshot_count(100);
    let mut cluster = builder.start().await?;
    Workload::new(9).operations(400).run(&cluster).await?;
    cluster.stop(0).await?;
    let member = cluster.data_dir(0)?.join("member");
    let mut wal = None;
    for entry in std::fs::read_dir(member.join("wal"))? {
        let entry = entry?;
        let name = entry.file_name().into_string().unwrap_or_default();
        if let Some(name) = SegmentName::parse(&name) {
            wal = Some((name, std::fs::read(entry.path())?));
        }
    }
    let (name, mut log) = wal.context("no log")?;
    let end = log.iter().rposition(|byte| *byte != 0).unwrap_or(0);
    log.truncate((end + 2048) / 8 * 8);
    let mut snap = None;
    for entry in std::fs::read_dir(member.join("snap"))? {
        let entry = entry?;
        let name = entry.file_name().into_string().unwrap_or_default();
        if let Some(name) = SnapName::parse(&name) {
            snap = Some((name, std::fs::read(entry.path())?));
        }
    }
    let (snap_name, snap) = snap.context("no snapshot")?;
    Ok((name, log, snap_name, snap))
}

fn entries(name: SegmentName, bytes: Vec<u8>) -> Result<(Vec<raftpb::Entry>, End)> {
    let wal = Wal::open(MemorySegments(vec![(name, Bytes::from(bytes))]))?;
    let entries = wal.all_entries().collect::<Result<Vec<_>, _>>()?;
    Ok((entries, wal.end().clone()))
}

fn check_wal(
    name: SegmentName,
    whole: &[raftpb::Entry],
    bytes: Vec<u8>,
    shorter: bool,
) -> Result<bool> {
    let Ok((found, end)) = entries(name, bytes) else {
        return Ok(false);
    };
    let all = found.len() == whole.len();
    ensure!(found == whole[..found.len()], "other entries");
    ensure!(
        all || shorter || end != End::Clean,
        "{} entries, no word",
        found.len()
    );
    Ok(true)
}

async fn mutated(version: Version) -> Result<()> {
    let (name, log, snap_name, snap) = files(version).await?;
    let (whole, end) = entries(name, log.clone())?;
    ensure!(
        end == End::Clean && whole.len() > 200,
        "{} entries",
        whole.len()
    );
    let accepted = each(1, &log, |bytes, shorter| {
        check_wal(name, &whole, bytes, shorter)
    })?;
    ensure!((50..950).contains(&accepted), "{accepted} logs were read");

    let right = SnapFile::decode(snap_name, Bytes::from(snap.clone()))?;
    ensure!(right.members.len() == 1 && right.members[0].peer_urls.len() == 1);
    let accepted = each(2, &snap, |bytes, _| {
        match SnapFile::decode(snap_name, Bytes::from(bytes)) {
            Ok(found) if found == right => Ok(true),
            Ok(found) => bail!("another answer: {found:?}"),
            Err(_) => Ok(false),
        }
    })?;
    ensure!(accepted < 100, "{accepted} snapshots were read");
    captures(whole)
}

fn captures(whole: Vec<raftpb::Entry>) -> Result<()> {
    let mut file = Vec::new();
    let mut writer = Writer::begin(&Header::default(), &mut file);
    let mut right = Vec::new();
    for entry in whole {
        let entry = committed(entry);
        writer.entry(&entry, &mut file)?;
        right.push(Captured {
            entry,
            etcd_version: None,
        });
    }
    let accepted = each(3, &file, |bytes, shorter| {
        let Ok(mut reader) = Reader::open(&*bytes) else {
            return Ok(false);
        };
        let Ok(found) = reader.by_ref().collect::<Result<Vec<_>, _>>() else {
            return Ok(false);
        };
        let all = found.len() == right.len();
        ensure!(found == right[..found.len()], "other entries");
        ensure!(
            all || shorter || reader.end() == Some(CaptureEnd::Torn),
            "no word"
        );
        Ok(true)
    })?;
    ensure!(
        (20..950).contains(&accepted),
        "{accepted} captures were read"
    );
    Ok(())
}

#[tokio::test]
async fn damaged_files_of_3_4() -> Result<()> {
    mutated(Version::V3_4).await
}

#[tokio::test]
async fn damaged_files_of_3_7() -> Result<()> {
    mutated(Version::V3_7).await
}
