//! One member's data directory. IO.

use std::path::{Path, PathBuf};

use super::error::Error;
use super::files::{Database, SnapFolder};
use super::handouts::{CONF_CHANGE, conf_change};
use super::snap::SnapName;
use crate::ids::{ClusterId, MemberId, RaftIndex, Term};
use crate::learner::{Membership, MembershipError, conf_state_to_raft};
use crate::pb::raftpb;
use crate::wal::{self, Directory, End, Segments, Wal};

/// A data directory that was looked through.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    wal: Wal<Directory>,
    snaps: SnapFolder,
    database: Option<Database>,
}

impl DataDir {
    /// Looks through a stopped member's data directory. `wal_dir` is where its log is, if it is not
    /// in there. Without a database, only what the log knows counts as known.
    ///
    /// # Errors
    /// If a server has it open, the log does not check out or its parts do not belong together.
    pub fn open(path: &Path, wal_dir: Option<&Path>) -> Result<Self, Error> {
        let of_wal = |source| Error::Wal {
            dir: path.display().to_string(),
            source,
        };
        let snaps = SnapFolder::of(path)?;
        let directory = wal::locate(wal_dir.unwrap_or(path)).map_err(of_wal)?;
        // Before the log, as a server that has it open changes the log, too.
        let _held = snaps.database(RaftIndex(0))?;
        let wal = Wal::open(directory).map_err(of_wal)?;
        let start = wal.start().map_or(RaftIndex(0), |start| start.index);
        let dir = Self {
            path: path.to_owned(),
            database: snaps.database(start)?,
            wal,
            snaps,
        };
        dir.check()?;
        Ok(dir)
    }

    fn check(&self) -> Result<(), Error> {
        let dir = self.name();
        if let End::Suspect {
            file,
            offset,
            records,
            ..
        } = self.wal.end()
        {
            return Err(Error::Suspect {
                dir,
                file: file.to_string(),
                offset: *offset,
                what: if *records {
                    "there are records"
                } else {
                    "something was written"
                },
            });
        }
        let last = self.last().1;
        let commit = self.wal.commit();
        if commit > last {
            return Err(Error::CommitBeyondLog { dir, commit, last });
        }
        let Some(database) = &self.database else {
            return Ok(());
        };
        let applied = database.position.index;
        if applied > last {
            return Err(Error::LogTooShort { dir, applied, last });
        }
        let start = self.wal.start().map_or(RaftIndex(0), |start| start.index);
        // 0 is never stored: a server that was killed early has applied nothing that is on disk,
        // and what is in its log begins with the first entry.
        if applied < start && applied != RaftIndex(0) {
            return Err(Error::DatabaseTooOld {
                dir,
                applied,
                start,
            });
        }
        Ok(())
    }

    /// Its path, for messages.
    #[must_use]
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Whose it is.
    #[must_use]
    pub fn member(&self) -> MemberId {
        self.wal.metadata().member
    }

    /// The member's cluster.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.wal.metadata().cluster
    }

    /// The log.
    #[must_use]
    pub fn wal(&self) -> &Wal<Directory> {
        &self.wal
    }

    /// The database.
    #[must_use]
    pub fn database(&self) -> Option<&Database> {
        self.database.as_ref()
    }

    /// Up to where the log is known to be committed, from this directory alone.
    #[must_use]
    pub fn commit(&self) -> RaftIndex {
        let database = self.database.as_ref();
        let applied = database.map_or(RaftIndex(0), |database| database.position.index);
        self.wal.commit().max(applied)
    }

    /// Term and index of the last entry.
    #[must_use]
    pub fn last(&self) -> (Term, RaftIndex) {
        let (index, term) = self.wal.last().unwrap_or_default();
        (term, index)
    }

    /// The members as of an entry that is committed, if enough is there to tell.
    ///
    /// # Errors
    /// If the log cannot be read, or a conf change not understood.
    pub fn membership_at(&self, index: RaftIndex) -> Result<Option<Membership>, Error> {
        let Some((base, mut membership)) = self.membership_base(index)? else {
            return Ok(None);
        };
        self.conf_changes(base.next(), index, |index, change| {
            membership.apply(index, change).map(drop)
        })?;
        Ok(Some(membership))
    }

    /// The nearest place at or before `index` from which the log goes on and at which the members
    /// are known.
    fn membership_base(&self, index: RaftIndex) -> Result<Option<(RaftIndex, Membership)>, Error> {
        let first = self.wal.first();
        let reaches = |at: RaftIndex| at <= index && at.next() >= first;
        for name in self.snaps.names() {
            let SnapName { index: at, term } = name;
            if !reaches(at) || self.wal.term_of(at).is_some_and(|held| held != term) {
                continue;
            }
            // A server passes over one that it cannot read, too.
            if let Ok(snap) = self.snaps.read(name)? {
                return Ok(Some((at, snap.membership())));
            }
        }
        for record in self.wal.snapshots().rev() {
            if let Some(state) = &record.conf_state
                && reaches(record.index)
                && record.index <= self.wal.commit()
            {
                let membership = Membership::new([], &conf_state_to_raft(state));
                return Ok(Some((record.index, membership)));
            }
        }
        let begins = reaches(RaftIndex(0));
        Ok(begins.then(|| (RaftIndex(0), Membership::default())))
    }

    /// Calls `visit` with every conf change among the entries `first ..= last`.
    pub(super) fn conf_changes(
        &self,
        first: RaftIndex,
        last: RaftIndex,
        mut visit: impl FnMut(RaftIndex, &raftpb::ConfChange) -> Result<(), MembershipError>,
    ) -> Result<(), Error> {
        for entry in self.entries(first, last)? {
            let entry = entry.map_err(|source| self.wal_error(source))?;
            if entry.r#type == CONF_CHANGE {
                let index = RaftIndex(entry.index);
                visit(index, &conf_change(index, entry.data)?)?;
            }
        }
        Ok(())
    }

    pub(super) fn entries(
        &self,
        first: RaftIndex,
        last: RaftIndex,
    ) -> Result<wal::Entries<'_, Directory>, Error> {
        let entries = self.wal.entries(first, last);
        entries.map_err(|source| self.wal_error(source))
    }

    pub(super) fn wal_error(&self, source: wal::Error) -> Error {
        let dir = self.name();
        Error::Wal { dir, source }
    }
}

/// The entry before which a log says nothing of the keys, as the member was restored from a saved
/// snapshot: its log begins with the members as of then, and a snapshot behind these. None for a
/// log that begins with its cluster, or later.
///
/// # Errors
/// If the log cannot be read.
///
/// # Source
/// etcd `etcdutl/snapshot/v3_snapshot.go`, `saveWALAndSnap`.
pub fn restored_at<S: Segments>(wal: &Wal<S>) -> Result<Option<RaftIndex>, wal::Error> {
    let taken = wal
        .snapshots()
        .find(|snapshot| snapshot.index > RaftIndex(0));
    let Some(snapshot) = taken.filter(|_| wal.first() == RaftIndex(1)) else {
        return Ok(None);
    };
    let last = wal.last().map_or(RaftIndex(0), |(last, _)| last);
    // Of a cluster that was not restored, some entry is of another kind.
    for entry in wal.entries(RaftIndex(1), snapshot.index.min(last))? {
        if entry?.r#type != CONF_CHANGE {
            return Ok(None);
        }
    }
    Ok(Some(snapshot.index))
}
