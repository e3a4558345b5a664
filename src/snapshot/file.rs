//! A database in a file.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::bbolt::PageSource;
use super::saved::Form;

/// An open database file that no etcd is writing to. It is never written.
#[derive(Debug)]
pub struct DbFile {
    file: File,
    size: u64,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be opened.
    #[error("open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A folder or a device.
    #[error("{} is no file", .0.display())]
    NoFile(PathBuf),
    /// An etcd has it open.
    #[error(
        "{} is in use by an etcd, and cannot be read while it is; use `etcdctl snapshot save`, or \
         stop that member",
        .0.display()
    )]
    InUse(PathBuf),
    /// It cannot be found out whether an etcd has it open.
    #[error("lock {}, so that no etcd writes to it", path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl DbFile {
    /// Opens a file. One from a data directory is locked against an etcd that starts; a saved
    /// snapshot needs no lock.
    ///
    /// # Errors
    /// If there is no such file, or an etcd uses it.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let failed = |source| FileError::Open {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(FileError::NoFile(path.to_owned()));
        }
        if !matches!(Form::of(metadata.len()), Ok(Form::Saved)) {
            match file.try_lock_shared() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(FileError::InUse(path.to_owned())),
                Err(TryLockError::Error(source)) => {
                    return Err(FileError::Lock {
                        path: path.to_owned(),
                        source,
                    });
                }
            }
        }
        // Measured again: an etcd may just have ended and left it longer.
        let size = file.metadata().map_err(failed)?.len();
        Ok(Self { file, size })
    }
}

impl PageSource for DbFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }
}
