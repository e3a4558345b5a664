//! The files of a data directory beside its log. IO.

use std::fs::{File, TryLockError};
use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::error::Error;
use super::snap::{SnapError, SnapFile, SnapName};

/// The folder of snapshots in a data directory.
#[derive(Clone, Debug)]
pub(super) struct SnapFolder {
    path: PathBuf,
    /// Newest first.
    names: Vec<SnapName>,
}

/// A `.snap` file holds members, and keys of the v2 API if that was used.
const SNAP_BYTES_MAX: u64 = 256 << 20;

impl SnapFolder {
    /// Lists the snapshots of a data directory; a folder that is not there holds none.
    pub(super) fn of(data_dir: &Path) -> Result<Self, Error> {
        let nested = data_dir.join("member/snap");
        let path = if nested.is_dir() {
            nested
        } else {
            data_dir.join("snap")
        };
        let mut names = Vec::new();
        if path.is_dir() {
            let listed = std::fs::read_dir(&path).map_err(|error| io("list", &path, error))?;
            for entry in listed {
                let name = entry.map_err(|error| io("list", &path, error))?.file_name();
                names.extend(name.to_str().and_then(SnapName::parse));
            }
        }
        names.sort_unstable_by(|a, b| b.cmp(a));
        Ok(Self { path, names })
    }

    /// The snapshots, newest first.
    pub(super) fn names(&self) -> impl Iterator<Item = SnapName> {
        self.names.iter().copied()
    }

    /// Reads one of them.
    pub(super) fn read(&self, name: SnapName) -> Result<Result<SnapFile, SnapError>, Error> {
        let path = self.path.join(name.to_string());
        let file = File::open(&path).map_err(|error| io("open", &path, error))?;
        let mut bytes = Vec::new();
        let read = file.take(SNAP_BYTES_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|error| io("read", &path, error))?;
        if bytes.len() as u64 > SNAP_BYTES_MAX {
            let reason = format!("it is longer than {SNAP_BYTES_MAX} bytes");
            return Ok(Err(SnapError::Tree(reason)));
        }
        Ok(SnapFile::decode(name, Bytes::from(bytes)))
    }

    /// Where the database is.
    pub(super) fn database(&self) -> PathBuf {
        self.path.join("db")
    }

    /// Refuses a directory that a server is using: it holds a lock on the database.
    ///
    /// # Source
    /// bbolt `bolt_unix.go`, `flock`.
    pub(super) fn check_unused(&self, data_dir: &Path) -> Result<(), Error> {
        let Ok(file) = File::open(self.database()) else {
            // There is none to lock, or whoever reads it will say why it cannot be.
            return Ok(());
        };
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Err(Error::InUse {
                dir: data_dir.display().to_string(),
            }),
            // Not every file system has locks.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
        }
    }
}

fn io(what: &'static str, path: &Path, source: std::io::Error) -> Error {
    let path = path.display().to_string();
    Error::Io { what, path, source }
}
