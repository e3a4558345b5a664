//! The files of a log on disk. IO.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use super::error::Error;
use super::name::SegmentName;
use super::reading::{Segment, Segments};
use super::survey::Wal;
use crate::pb::raftpb;

/// A folder with WAL files.
#[derive(Clone, Debug)]
pub struct Directory(PathBuf);

/// Few files are read at a time, and each from its beginning to its end.
const BUFFER_BYTES: usize = 1 << 18;

/// Finds the log in a folder: it is a member's data directory, the `member` folder in it, or the
/// folder with the WAL files itself.
///
/// # Errors
/// [`Error::NoFiles`].
pub fn locate(path: &Path) -> Result<Directory, Error> {
    let candidates = [path.join("member/wal"), path.join("wal"), path.to_owned()];
    let found = candidates.into_iter().map(Directory).find(|directory| {
        let names = directory.names();
        names.is_ok_and(|names| !names.is_empty())
    });
    found.ok_or_else(|| Error::NoFiles {
        path: path.display().to_string(),
    })
}

/// The entries of a stopped member that its own log says are committed, from the first one that it
/// still has. `path` is as for [`locate`]. They are held in memory: this is for small logs.
///
/// After a clean stop these are all entries. A member that was killed may have more in its log, and
/// the last writes may be among those: see [`Wal::commit`] and [`Wal::entries`].
///
/// # Errors
/// [`Error`].
pub fn collect_committed(path: &Path) -> Result<Vec<raftpb::Entry>, Error> {
    let wal = Wal::open(locate(path)?)?;
    wal.entries(wal.first(), wal.commit())?.collect()
}

impl Segments for Directory {
    type Reader = BufReader<File>;

    fn names(&self) -> Result<Vec<SegmentName>, Error> {
        let failed = |source| Error::Io {
            what: "list",
            path: self.place(),
            source,
        };
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.0).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            names.extend(name.to_str().and_then(SegmentName::parse));
        }
        Ok(names)
    }

    fn open(&self, name: SegmentName) -> io::Result<Segment<Self::Reader>> {
        let file = File::open(self.0.join(name.to_string()))?;
        Ok(Segment {
            length: file.metadata()?.len(),
            reader: BufReader::with_capacity(BUFFER_BYTES, file),
        })
    }

    fn place(&self) -> String {
        self.0.display().to_string()
    }
}
