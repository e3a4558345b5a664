//! The files that a stream comes from. IO.

use std::path::{Path, PathBuf};

use super::entries::Log;
use super::report::{Listed, Tail};
use super::{From, Options};
use crate::checkpoint::Checkpoint;
use crate::exit::{Exit, Fatal};
use crate::ids::{ClusterId, MemberId, RaftIndex};
use crate::offline::{self, DataDir, Recovery, Undetermined};
use crate::snapshot::{self, Contents, DbFile};

/// Files of one primary.
#[derive(Debug)]
pub(super) enum Source {
    Members(Box<Members>),
    Log(Log),
}

/// What members keep themselves.
#[derive(Debug)]
pub(super) struct Members {
    pub(super) recovery: Option<Recovery>,
    /// A saved snapshot.
    pub(super) saved: Option<Saved>,
    tails: Vec<Undetermined>,
    /// The member whose tail is applied.
    taken: Option<MemberId>,
}

/// A saved snapshot that was read.
#[derive(Debug)]
pub(super) struct Saved {
    pub(super) path: PathBuf,
    pub(super) contents: Contents,
}

impl Source {
    /// Opens and checks everything.
    pub(super) fn open(options: &Options) -> Result<Self, Fatal> {
        let (saved, dirs) = match &options.from {
            From::Log(path) => return Log::open(path, options.primary_version).map(Self::Log),
            From::DataDirs(paths) => (None, paths.as_slice()),
            From::Snapshot { file, wal } => (Some(Saved::read(file)?), wal.as_slice()),
        };
        let mut members = Members {
            recovery: None,
            saved,
            tails: Vec::new(),
            taken: None,
        };
        if !dirs.is_empty() {
            let recovery = recovery(dirs, &mut members, options.include_undetermined);
            members.recovery = Some(recovery.map_err(|error| fatal(&error))?);
            members.check_origin()?;
        }
        Ok(Self::Members(Box::new(members)))
    }

    /// The primary; `given` is what the command line says.
    pub(super) fn cluster(&self, given: Option<ClusterId>) -> Result<ClusterId, Fatal> {
        let found = match self {
            Self::Log(log) => Some(log.header.primary),
            Self::Members(members) => members.recovery.as_ref().map(Recovery::cluster),
        };
        match (found, given) {
            (Some(found), Some(given)) if found != given => Err(Fatal::new(
                Exit::ClusterMismatch,
                format!("the files are of cluster {found}, and --primary-cluster-id is {given}"),
            )),
            (Some(cluster), _) | (None, Some(cluster)) => Ok(cluster),
            (None, None) => Err(Fatal::new(
                Exit::Usage,
                "a saved snapshot does not say of which cluster it is: give the log of a member with \
                 --wal, or --primary-cluster-id, the cluster_id in the header of `etcdctl endpoint \
                 status -w json` in hexadecimal",
            )),
        }
    }

    /// We, in the primary, as far as the files tell.
    pub(super) fn learner(&self) -> Option<MemberId> {
        match self {
            Self::Log(log) => Some(log.header.member),
            Self::Members(_) => None,
        }
    }

    /// The entries that may have been committed, beyond what a standby holds.
    pub(super) fn undetermined(&self, held: &Checkpoint) -> Result<Vec<Tail>, Fatal> {
        match self {
            Self::Log(_) => Ok(Vec::new()),
            Self::Members(members) => members.undetermined(held).map_err(|error| fatal(&error)),
        }
    }
}

fn recovery(
    dirs: &[PathBuf],
    members: &mut Members,
    include_undetermined: bool,
) -> Result<Recovery, offline::Error> {
    let dirs = dirs.iter().map(|path| DataDir::open(path, None));
    let mut recovery = Recovery::of(dirs.collect::<Result<_, _>>()?)?;
    recovery.check_members()?;
    members.tails = recovery.undetermined();
    if include_undetermined && !members.tails.is_empty() {
        recovery = recovery.with_undetermined()?;
        members.taken = Some(recovery.source_member());
    }
    Ok(recovery)
}

impl Members {
    /// The release that all members had at least, as far as a database tells.
    pub(super) fn cluster_version(&self) -> Result<Option<String>, Fatal> {
        if let Some(saved) = &self.saved {
            return Ok(saved.contents.cluster.version.clone());
        }
        let dirs = self.recovery.iter().flat_map(Recovery::dirs);
        let newest = dirs.filter_map(DataDir::database);
        let newest = newest.max_by_key(|database| database.position.index);
        let Some(database) = newest else {
            return Ok(None);
        };
        let cluster = snapshot::cluster(&database.file);
        let cluster = cluster.map_err(|error| unreadable(&database.path, &error))?;
        Ok(cluster.version)
    }

    /// Makes sure that a saved snapshot is not older than the members that wrote the log. A later
    /// check is that of the term; up to 3.4 a database has none.
    fn check_origin(&self) -> Result<(), Fatal> {
        let (Some(saved), Some(recovery)) = (&self.saved, &self.recovery) else {
            return Ok(());
        };
        let contents = &saved.contents;
        if contents.raft.term.is_some() {
            return Ok(());
        }
        let listed = contents.cluster.members.iter().map(|member| member.id);
        let mut known = listed.chain(contents.cluster.removed.iter().copied());
        let member = recovery.source_member();
        if known.any(|id| id == member) {
            return Ok(());
        }
        let path = saved.path.display();
        let message = format!(
            "{path}: the snapshot knows no member {member}, whose log --wal is: they are of different \
             clusters, or the member was added later; use the log of another member"
        );
        Err(Fatal::new(Exit::ClusterMismatch, message))
    }

    fn undetermined(&self, held: &Checkpoint) -> Result<Vec<Tail>, offline::Error> {
        let mut tails = Vec::new();
        for tail in &self.tails {
            let Some(recovery) = &self.recovery else {
                continue;
            };
            let first = tail.first.max(held.index.next());
            if tail.last < first {
                continue;
            }
            let mut shown = Tail::new(tail.member, self.taken == Some(tail.member));
            for entry in recovery.tail(Undetermined { first, ..*tail })? {
                let entry = entry?;
                // One of an earlier term is not behind what the standby holds.
                if entry.term >= held.term {
                    shown.push(|| Listed::of(&entry));
                }
            }
            if shown.count > 0 {
                tails.push(shown);
            }
        }
        Ok(tails)
    }
}

impl Saved {
    fn read(path: &Path) -> Result<Self, Fatal> {
        let file = DbFile::open(path).map_err(|error| fatal(&error.into()))?;
        // The structure first: it says what is missing of a file that is cut short.
        let contents = snapshot::read(&file).map_err(|error| unreadable(path, &error))?;
        snapshot::check_hash(&file).map_err(|error| unreadable(path, &error))?;
        if contents.raft.index == RaftIndex(0) {
            let message = format!(
                "{}: it does not say up to which entry it holds the primary's effects",
                path.display()
            );
            return Err(Fatal::new(Exit::Failed, message));
        }
        let path = path.to_owned();
        Ok(Self { path, contents })
    }
}

pub(super) fn unreadable(path: &Path, error: &snapshot::Error) -> Fatal {
    let mut text = format!("{}: {error}", path.display());
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    Fatal::new(Exit::Failed, text)
}

/// The end that files mean which cannot be used.
pub(super) fn fatal(error: &offline::Error) -> Fatal {
    use offline::Error as E;
    let exit = match error {
        E::NoDirectory => Exit::Usage,
        E::OtherCluster { .. } => Exit::ClusterMismatch,
        E::HistoryConflict { .. }
        | E::Installing
        | E::Restored { .. }
        | E::NothingNew { .. }
        | E::NotHeld { .. } => Exit::CannotResume,
        E::DatabaseFile(_) => Exit::DataDir,
        E::Io { .. }
        | E::Wal { .. }
        | E::Suspect { .. }
        | E::Database { .. }
        | E::LogTooShort { .. }
        | E::CommitBeyondLog { .. }
        | E::DatabaseTooOld { .. }
        | E::SameMember { .. }
        | E::Contradiction { .. }
        | E::NotAMember { .. }
        | E::NoMembers { .. }
        | E::Membership(_)
        | E::Entry(_) => Exit::Failed,
    };
    let mut text = error.to_string();
    if let E::DatabaseFile(error) = error {
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
    }
    Fatal::new(exit, text)
}
