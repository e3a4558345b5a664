//! The files of a data directory beside its log. IO.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::error::Error;
use super::snap::{SnapError, SnapFile, SnapName};
use crate::ids::RaftIndex;
use crate::snapshot::{self, DbFile, Raft};

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

    /// Opens the database and says where it stands. None if there is none: the log alone may do.
    ///
    /// A member that received a snapshot and was killed before it took it over has a second one,
    /// which is the newer state.
    ///
    /// # Source
    /// etcd `server/storage/backend.go`, `RecoverSnapshotBackend`.
    pub(super) fn database(&self, start: RaftIndex) -> Result<Option<Database>, Error> {
        let Some(database) = open_database(&self.path.join("db"))? else {
            return Ok(None);
        };
        if database.position.index >= start {
            return Ok(Some(database));
        }
        let received = self.path.join(format!("{:016x}.snap.db", start.0));
        Ok(Some(open_database(&received)?.unwrap_or(database)))
    }
}

/// A member's database. No etcd can open it as long as this is held.
#[derive(Debug)]
pub struct Database {
    /// The file.
    pub path: PathBuf,
    /// The same, open.
    pub file: DbFile,
    /// Where it stands in the log.
    pub position: Raft,
}

fn open_database(path: &Path) -> Result<Option<Database>, Error> {
    let shown = || path.display().to_string();
    if !path.try_exists().map_err(|error| io("find", path, error))? {
        return Ok(None);
    }
    let file = DbFile::open(path)?;
    let position = snapshot::position(&file).map_err(|source| Error::Database {
        path: shown(),
        source: Box::new(source),
    })?;
    let path = path.to_owned();
    Ok(Some(Database {
        path,
        file,
        position,
    }))
}

fn io(what: &'static str, path: &Path, source: std::io::Error) -> Error {
    let path = path.display().to_string();
    Error::Io { what, path, source }
}
