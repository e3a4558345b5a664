//! The folder in which databases are collected while they arrive. IO.
//!
//! ```text
//! blocks --> thread: write .. write --> fsync --> rename .part to .db --> fsync folder
//! ```
//!
//! A file whose name ends in `.part` is not whole; one that ends in `.db` is, and on the disk. A
//! file goes with the [`SpoolFile`] that stands for it, and what a process that was killed left
//! behind goes when the next one starts.
//!
//! The leader keeps a read transaction open on its database as long as it sends, so nothing here
//! waits for the disk before all of it has come.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::ids::{MemberId, RaftIndex, Term};

/// Bytes that are written at a time.
pub(super) const BLOCK_BYTES: usize = 1 << 20;

/// Blocks that wait for the disk; 8 MiB for each transfer, of which few are under way.
const BLOCKS_MAX: usize = 8;

const PARTIAL: &str = "part";
const WHOLE: &str = "db";

/// Why a database cannot be spooled.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// No folder was configured.
    #[error("no spool folder is configured")]
    NoFolder,
    /// The disk is full, or nearly so.
    #[error(
        "the disk of {} is full: {free_bytes} bytes are free after {written_bytes} were written, \
         and {free_bytes_min} must stay free; make room there for the primary's whole database",
        folder.display()
    )]
    NoSpace {
        /// Where.
        folder: PathBuf,
        /// What is free.
        free_bytes: u64,
        /// What must stay free.
        free_bytes_min: u64,
        /// Bytes of the database that were written.
        written_bytes: u64,
    },
    /// An operation on the folder or a file failed.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Whoever sent it does so no more.
    #[error("the transfer was abandoned")]
    Abandoned,
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io {
        what,
        path: path.to_owned(),
        source,
    }
}

/// What tells one transfer from another in the spool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    pub(super) term: Term,
    pub(super) index: RaftIndex,
    pub(super) from: MemberId,
    /// Of all transfers of this process: a leader may send the same snapshot twice.
    pub(super) number: u64,
}

impl Name {
    fn path(self, folder: &Path, ending: &str) -> PathBuf {
        let Self {
            term,
            index,
            from,
            number,
        } = self;
        folder.join(format!("{term}-{index}-{from}-{number}.{ending}"))
    }

    /// True for the name of a file of any transfer of any process.
    fn is_one(path: &Path) -> bool {
        let is_number =
            |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_hexdigit());
        let is_ours = |stem: &str| stem.split('-').count() == 4 && stem.split('-').all(is_number);
        let ending = path.extension().and_then(|ending| ending.to_str());
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        matches!(ending, Some(PARTIAL | WHOLE)) && stem.is_some_and(is_ours)
    }
}

/// The primary's data and password hashes are in there: it is for nobody else to read.
fn make_folder(folder: &Path) -> Result<(), Error> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(io_error("create", folder))
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options
}

/// Removes what an earlier process left, and returns how many files that were.
///
/// # Errors
/// [`Error::Io`].
pub(super) fn clear(folder: &Path) -> Result<usize, Error> {
    let mut count = 0;
    make_folder(folder)?;
    for entry in fs::read_dir(folder).map_err(io_error("list", folder))? {
        let path = entry.map_err(io_error("list", folder))?.path();
        if Name::is_one(&path) {
            fs::remove_file(&path).map_err(io_error("remove", &path))?;
            count += 1;
        }
    }
    Ok(count)
}

/// A database in the spool; the file goes with the value.
#[derive(Debug)]
pub(super) struct SpoolFile {
    path: PathBuf,
    bytes: u64,
}

impl SpoolFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.path);
        // A large file takes its time to go.
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || remove(&path))),
            Err(_) => remove(&path),
        }
    }
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        let path = path.display();
        tracing::warn!(%path, %error, "remove a snapshot from the spool");
    }
}

/// Where databases go.
#[derive(Clone, Debug)]
pub(super) struct Spool {
    pub(super) folder: PathBuf,
    pub(super) free_bytes_min: u64,
}

/// A file being written by a thread of its own.
#[derive(Debug)]
pub(super) struct Writer {
    blocks: mpsc::Sender<Block>,
    done: JoinHandle<Result<SpoolFile, Error>>,
}

#[derive(Debug)]
enum Block {
    Data(Bytes),
    /// That was all. Without it the file is not whole.
    End,
}

impl Writer {
    /// Begins a file. If the writer is dropped before [`Writer::finish`], the file goes.
    pub(super) fn begin(spool: Spool, name: Name) -> Self {
        let (blocks, queue) = mpsc::channel(BLOCKS_MAX);
        let done = spawn_blocking(move || write(&spool, name, queue));
        Self { blocks, done }
    }

    /// Writes a block, or at least queues it.
    ///
    /// # Errors
    /// [`Error`] of an earlier block or of the beginning.
    ///
    /// # Cancel safety
    /// The block may be lost, so the file is of no more use.
    pub(super) async fn write(&mut self, block: Bytes) -> Result<(), Error> {
        if self.blocks.send(Block::Data(block)).await.is_ok() {
            return Ok(());
        }
        Err(match self.join().await {
            Ok(_) => Error::Abandoned,
            Err(error) => error,
        })
    }

    /// Waits until all of it is on the disk, under its final name.
    ///
    /// # Errors
    /// [`Error`].
    pub(super) async fn finish(mut self) -> Result<SpoolFile, Error> {
        // If it has ended already, it says why.
        let _ = self.blocks.send(Block::End).await;
        self.join().await
    }

    async fn join(&mut self) -> Result<SpoolFile, Error> {
        (&mut self.done).await.unwrap_or(Err(Error::Abandoned))
    }
}

fn write(spool: &Spool, name: Name, queue: mpsc::Receiver<Block>) -> Result<SpoolFile, Error> {
    let folder = &spool.folder;
    make_folder(folder)?;
    check_space(spool, 0)?;
    let path = name.path(folder, PARTIAL);
    let file = options().open(&path).map_err(io_error("create", &path))?;
    let mut spooled = SpoolFile { path, bytes: 0 };
    write_blocks(spool, &file, &mut spooled, queue)?;
    file.sync_all().map_err(io_error("sync", &spooled.path))?;
    drop(file);
    let whole = name.path(folder, WHOLE);
    fs::rename(&spooled.path, &whole).map_err(io_error("rename", &spooled.path))?;
    spooled.path = whole;
    // The name is not on the disk before its folder is.
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(io_error("sync", folder))?;
    Ok(spooled)
}

fn write_blocks(
    spool: &Spool,
    mut file: &File,
    spooled: &mut SpoolFile,
    mut queue: mpsc::Receiver<Block>,
) -> Result<(), Error> {
    loop {
        match queue.blocking_recv() {
            None => return Err(Error::Abandoned),
            Some(Block::End) => return Ok(()),
            Some(Block::Data(block)) => {
                check_space(spool, spooled.bytes)?;
                if let Err(error) = file.write_all(&block) {
                    return Err(write_error(spool, spooled, error));
                }
                spooled.bytes += u64::try_from(block.len()).unwrap_or(u64::MAX);
            }
        }
    }
}

/// A full disk says so in its own way, and with the same remedy.
fn write_error(spool: &Spool, spooled: &SpoolFile, error: io::Error) -> Error {
    let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
    if !full.contains(&error.kind()) {
        return io_error("write", &spooled.path)(error);
    }
    Error::NoSpace {
        folder: spool.folder.clone(),
        free_bytes: 0,
        free_bytes_min: spool.free_bytes_min,
        written_bytes: spooled.bytes,
    }
}

/// The length of the database is not transmitted, so what is left is looked at again and again.
fn check_space(spool: &Spool, written_bytes: u64) -> Result<(), Error> {
    let folder = &spool.folder;
    let disk = rustix::fs::statvfs(folder)
        .map_err(|error| io_error("ask for the free space of", folder)(error.into()))?;
    let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free_bytes >= spool.free_bytes_min {
        return Ok(());
    }
    Err(Error::NoSpace {
        folder: folder.clone(),
        free_bytes,
        free_bytes_min: spool.free_bytes_min,
        written_bytes,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const NAME: Name = Name {
        term: Term(5),
        index: RaftIndex(1000),
        from: MemberId(0x535b),
        number: 3,
    };

    fn spool(folder: &Path) -> Spool {
        Spool {
            folder: folder.join("spool"),
            free_bytes_min: 0,
        }
    }

    fn names(spool: &Spool) -> Vec<String> {
        let entries = fs::read_dir(&spool.folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    async fn until(mut holds: impl FnMut() -> bool) {
        while !holds() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_file_has_its_name_once_it_is_whole_and_goes_with_its_value() {
        let folder = tempfile::tempdir().unwrap();
        let spool = spool(folder.path());
        let mut writer = Writer::begin(spool.clone(), NAME);
        writer.write(Bytes::from_static(b"one ")).await.unwrap();
        until(|| spool.folder.exists() && !names(&spool).is_empty()).await;
        assert_eq!(names(&spool), ["5-1000-535b-3.part"]);
        writer.write(Bytes::from_static(b"two")).await.unwrap();
        let file = writer.finish().await.unwrap();
        assert_eq!(names(&spool), ["5-1000-535b-3.db"]);
        assert_eq!(file.path(), spool.folder.join("5-1000-535b-3.db"));
        assert_eq!(fs::read(file.path()).unwrap(), b"one two");
        assert_eq!(file.bytes(), 7);
        for (path, wanted) in [(file.path(), 0o600), (spool.folder.as_path(), 0o700)] {
            let mode = fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, wanted, "{}", path.display());
        }
        drop(file);
        until(|| names(&spool).is_empty()).await;
    }

    #[tokio::test]
    async fn what_is_not_finished_goes() {
        let folder = tempfile::tempdir().unwrap();
        let spool = spool(folder.path());
        let mut writer = Writer::begin(spool.clone(), NAME);
        writer.write(Bytes::from_static(b"one")).await.unwrap();
        until(|| spool.folder.exists() && !names(&spool).is_empty()).await;
        drop(writer);
        until(|| names(&spool).is_empty()).await;
    }

    #[tokio::test]
    async fn a_disk_without_room_is_named_before_anything_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool {
            free_bytes_min: u64::MAX,
            ..spool(folder.path())
        };
        let error = Writer::begin(spool.clone(), NAME)
            .finish()
            .await
            .unwrap_err();
        assert!(matches!(error, Error::NoSpace { .. }), "{error}");
        assert!(error.to_string().contains("make room there"), "{error}");
        assert!(names(&spool).is_empty());
    }

    #[test]
    fn a_write_that_the_disk_refuses_is_a_full_disk_too() {
        let folder = tempfile::tempdir().unwrap();
        let spool = spool(folder.path());
        fs::create_dir(&spool.folder).unwrap();
        let full = File::options().write(true).open("/dev/full").unwrap();
        let path = spool.folder.join("x.part");
        let mut spooled = SpoolFile { path, bytes: 0 };
        let (blocks, queue) = mpsc::channel(2);
        blocks
            .try_send(Block::Data(Bytes::from_static(b"x")))
            .unwrap();
        let error = write_blocks(&spool, &full, &mut spooled, queue).unwrap_err();
        assert!(
            matches!(error, Error::NoSpace { free_bytes: 0, .. }),
            "{error}"
        );
    }

    #[tokio::test]
    async fn what_is_no_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let spool = spool(folder.path());
        fs::write(&spool.folder, "a file").unwrap();
        let mut writer = Writer::begin(spool, NAME);
        let error = loop {
            // The first ones are only queued.
            if let Err(error) = writer.write(Bytes::from_static(b"x")).await {
                break error.to_string();
            }
        };
        assert!(
            error.contains("create") && error.contains("spool"),
            "{error}"
        );
    }

    #[test]
    fn only_what_is_ours_is_cleared() {
        let folder = tempfile::tempdir().unwrap();
        let spool = spool(folder.path());
        assert_eq!(clear(&spool.folder).unwrap(), 0);
        for name in [
            "5-1000-535b-3.part",
            "5-1000-535b-4.db",
            "notes.db",
            "5-1000-535b-4.db.txt",
            "5-1000.db",
            "5-1000--4.db",
        ] {
            fs::write(spool.folder.join(name), "x").unwrap();
        }
        assert_eq!(clear(&spool.folder).unwrap(), 2);
        assert_eq!(
            names(&spool),
            [
                "5-1000--4.db",
                "5-1000-535b-4.db.txt",
                "5-1000.db",
                "notes.db"
            ]
        );
    }
}
