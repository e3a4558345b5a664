//! Records what a learner hands out in a file, for `etcd-syncer replay --log`. IO.
//!
//! The stream never waits for the file: entries go to a thread of its own, and when the file cannot
//! be written, or is too slow by far, capturing ends with a line in the log and the stream goes on.
//! A process that starts again goes on with the file where it ends, if no entry is missing between.
//! Entries are written as they are handed out, which may be before the standby holds them. They
//! hold values and passwords, so only the file's owner may read it.

use std::fs::File;
use std::io::{self, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::ids::{ClusterId, RaftIndex, Term};
use crate::learner::Handout;
use crate::offline::capture::{Header, ReadError, Reader, WriteError, Writer};

/// What may wait for the file.
const PENDING_BYTES_MAX: usize = 64 << 20;
/// What an entry takes beside its data.
const ENTRY_BYTES: usize = 128;

/// A file that is being written.
#[derive(Debug)]
pub struct Capture {
    shared: Arc<Shared>,
    /// None once it is finished.
    pieces: Mutex<Option<mpsc::Sender<Piece>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    pending_bytes: AtomicUsize,
    has_ended: AtomicBool,
}

#[derive(Debug)]
struct Piece {
    handouts: Vec<Handout>,
    bytes: usize,
    release: Option<String>,
}

/// Why nothing is captured any more.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("go on with the file: {0}; name another file, or move this one away")]
    Read(#[from] ReadError),
    #[error("{0}; if a snapshot took the place of entries, name another file")]
    Write(#[from] WriteError),
    #[error("it is of cluster {found}, and the primary is {expected}: name another file")]
    OtherCluster {
        found: ClusterId,
        expected: ClusterId,
    },
    #[error(
        "it holds the entries up to {last}, and the next one to come is {next}: name another file"
    )]
    Gap { last: RaftIndex, next: RaftIndex },
    #[error("it has term {theirs} at index {index}, and the stream {ours}: name another file")]
    History {
        index: RaftIndex,
        theirs: Term,
        ours: Term,
    },
}

impl Capture {
    /// Begins or goes on with a file. `header` says where the stream begins. What is wrong with the
    /// file is logged.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(path: &Path, header: Header) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (pieces, taken) = mpsc::channel();
        let recorder = (path.to_owned(), Arc::clone(&shared));
        let thread = std::thread::Builder::new().name("capture".to_owned());
        let thread = thread.spawn(move || {
            let (path, shared) = recorder;
            if let Err(error) = record(&path, &header, &taken, &shared) {
                shared.has_ended.store(true, Ordering::Relaxed);
                tracing::error!(
                    "--capture {}: {error}. Nothing is captured any more; the stream goes on",
                    path.display()
                );
            }
        })?;
        Ok(Self {
            shared,
            pieces: Mutex::new(Some(pieces)),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Takes entries that were handed out; `release` is what the primary runs now. Never waits.
    pub fn take(&self, handouts: &[Handout], release: Option<String>) {
        if self.shared.has_ended.load(Ordering::Relaxed) {
            return;
        }
        let bytes = handouts.iter().map(|handout| handout.entry.data.len());
        let bytes = bytes.sum::<usize>() + handouts.len() * ENTRY_BYTES;
        let before = self.shared.pending_bytes.load(Ordering::Relaxed);
        if before > PENDING_BYTES_MAX {
            self.shared.has_ended.store(true, Ordering::Relaxed);
            tracing::error!(
                "--capture: the file is written more slowly than entries come. Nothing is captured \
                 any more; the stream goes on"
            );
            return;
        }
        self.shared
            .pending_bytes
            .fetch_add(bytes, Ordering::Relaxed);
        // If the thread has ended, it has said why.
        if let Some(pieces) = &*held(&self.pieces) {
            let _gone = pieces.send(Piece {
                handouts: handouts.to_vec(),
                bytes,
                release,
            });
        }
    }

    /// Writes what is still to be written; nothing is taken any more.
    pub fn finish(&self) {
        held(&self.pieces).take();
        let thread = held(&self.thread).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("capturing ended in a panic");
        }
    }
}

/// Nobody panics while holding one of these.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn record(
    path: &Path,
    header: &Header,
    pieces: &mpsc::Receiver<Piece>,
    shared: &Shared,
) -> Result<(), Error> {
    let (mut file, mut writer) = open(path, header)?;
    tracing::info!(behind = %writer.last(), "capturing entries in {}", path.display());
    let mut known = String::new();
    let mut out = Vec::new();
    while let Ok(piece) = pieces.recv() {
        if shared.has_ended.load(Ordering::Relaxed) {
            break;
        }
        if let Some(release) = piece.release.filter(|release| *release != known) {
            writer.set_etcd_version(&release);
            known = release;
        }
        for handout in &piece.handouts {
            // A process that starts again is handed out again what was not durable.
            if handout.entry.index > writer.last() {
                writer.entry(&handout.entry, &mut out)?;
            }
        }
        file.write_all(&out)?;
        out.clear();
        shared
            .pending_bytes
            .fetch_sub(piece.bytes, Ordering::Relaxed);
    }
    file.sync_data()?;
    Ok(())
}

/// Opens the file for the entries behind `header`.
fn open(path: &Path, header: &Header) -> Result<(File, Writer), Error> {
    let options = File::options()
        .read(true)
        .write(true)
        .create(true)
        .mode(0o600)
        .truncate(false)
        .open(path);
    let mut file = options?;
    if file.metadata()?.len() == 0 {
        let mut out = Vec::new();
        let writer = Writer::begin(header, &mut out);
        file.write_all(&out)?;
        return Ok((file, writer));
    }
    let mut reader = Reader::open(BufReader::new(file.try_clone()?))?;
    let (found, expected) = (reader.header().primary, header.primary);
    if found != expected {
        return Err(Error::OtherCluster { found, expected });
    }
    let mut last = (reader.header().index, reader.header().term);
    let mut here = (last.0 == header.index).then_some(last.1);
    for captured in reader.by_ref() {
        let entry = captured?.entry;
        last = (entry.index, entry.term);
        if entry.index == header.index {
            here = Some(entry.term);
        }
    }
    match here {
        None => Err(Error::Gap {
            last: last.0,
            next: header.index.next(),
        }),
        Some(theirs) if theirs != header.term => Err(Error::History {
            index: header.index,
            theirs,
            ours: header.term,
        }),
        Some(_) => {
            let good = reader.good_bytes();
            file.set_len(good)?;
            io::Seek::seek(&mut file, io::SeekFrom::Start(good))?;
            Ok((file, reader.into_writer()))
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::entry::Committed;

    fn header(index: u64, term: u64) -> Header {
        Header {
            primary: ClusterId(7),
            index: RaftIndex(index),
            term: Term(term),
            etcd_version: "3.6.14".to_owned(),
            ..Header::default()
        }
    }

    fn handout(index: u64) -> Handout {
        let entry = Committed {
            index: RaftIndex(index),
            term: Term(2),
            kind: 0,
            data: Bytes::from(vec![1; 100]),
        };
        Handout {
            entry,
            members: None,
        }
    }

    /// The indexes in a file.
    fn indexes(path: &Path) -> Vec<u64> {
        let reader = Reader::open(File::open(path).unwrap()).unwrap();
        reader
            .map(|captured| captured.unwrap().entry.index.0)
            .collect()
    }

    fn captured(path: &Path, header: Header, indexes: std::ops::RangeInclusive<u64>) {
        let capture = Capture::start(path, header).unwrap();
        for index in indexes {
            capture.take(&[handout(index)], Some("3.6.14".to_owned()));
        }
        capture.finish();
    }

    #[test]
    fn a_file_goes_on_over_restarts_and_interrupted_writes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        captured(&path, header(0, 0), 1..=5);
        assert_eq!(indexes(&path), [1, 2, 3, 4, 5]);
        let mode = std::fs::metadata(&path).unwrap().permissions();
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777,
            0o600
        );
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 20]).unwrap();
        captured(&path, header(3, 2), 4..=7);
        assert_eq!(indexes(&path), [1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn a_file_that_cannot_go_on_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        captured(&path, header(0, 0), 1..=5);
        let bytes = std::fs::read(&path).unwrap();
        let other = Header {
            primary: ClusterId(8),
            ..header(5, 2)
        };
        for begin in [header(6, 2), header(5, 3), other] {
            captured(&path, begin, 7..=9);
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
        // A gap that comes later ends it, too.
        captured(&path, header(5, 2), 7..=9);
        assert_eq!(indexes(&path), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_disk_that_cannot_be_written_ends_it_and_nothing_else() {
        let capture = Capture::start(Path::new("/dev/full"), header(0, 0)).unwrap();
        for index in 1..=3 {
            capture.take(&[handout(index)], None);
        }
        let shared = Arc::clone(&capture.shared);
        capture.finish();
        assert!(shared.has_ended.load(Ordering::Relaxed));
    }

    #[test]
    fn what_waits_for_the_file_is_bounded() {
        let (pieces, _taken) = mpsc::channel();
        let capture = Capture {
            shared: Arc::default(),
            pieces: Mutex::new(Some(pieces)),
            thread: Mutex::default(),
        };
        let mut large = handout(1);
        large.entry.data = Bytes::from(vec![0; PENDING_BYTES_MAX]);
        capture.take(&[large.clone()], None);
        assert!(!capture.shared.has_ended.load(Ordering::Relaxed));
        capture.take(&[large], None);
        assert!(capture.shared.has_ended.load(Ordering::Relaxed));
    }
}
