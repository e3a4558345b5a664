//! What to do with files, given what the standby holds. IO.

use std::path::{Path, PathBuf};

use super::Options;
use super::source::{Members, Source, fatal, unreadable};
use crate::checkpoint::{Checkpoint, Phase};
use crate::exit::{Exit, Fatal};
use crate::ids::{MemberId, RaftIndex, Term};
use crate::install::Target;
use crate::offline::{self, DataDir};
use crate::snapshot::{self, Contents, DbFile};

/// What to do.
#[derive(Debug)]
pub(super) struct Plan {
    /// A database to install first.
    pub(super) install: Option<Target>,
    /// Where the standby is then.
    pub(super) checkpoint: Checkpoint,
}

/// A database that may be installed.
struct Database<'a> {
    path: PathBuf,
    contents: Contents,
    /// The directory that it is in.
    dir: Option<&'a DataDir>,
}

impl Plan {
    /// Decides, and makes sure that the entries can be had. Writes nothing.
    pub(super) fn of(
        source: &Source,
        held: &Checkpoint,
        is_first: bool,
        options: &Options,
    ) -> Result<Self, Fatal> {
        check_until(held, options)?;
        let members = match source {
            Source::Log(_) => {
                drop(source.entries(held)?);
                return Ok(Self::without(held));
            }
            Source::Members(members) => members,
        };
        let database = members.database(options)?;
        // Of a standby between two states nothing but a database makes one state.
        let is_between = held.phase != Phase::Streaming;
        let is_usable = |database: &Database<'_>| {
            let index = database.contents.raft.index;
            let is_newer = index > held.index || (is_between && index == held.index);
            is_first || held.is_by_content() || is_newer
        };
        let usable = database.filter(is_usable);
        // If all that the standby holds is in doubt, so is from which history it is.
        if !is_first && !held.is_by_content() {
            let settled = Checkpoint {
                phase: Phase::Streaming,
                ..held.clone()
            };
            let reaches = members.reaches(&settled)?;
            if reaches && !is_between {
                drop(source.entries(held)?);
                return Ok(Self::without(held));
            }
        }
        let Some(database) = usable else {
            if is_between {
                return Err(between(held));
            }
            drop(source.entries(held)?);
            return Ok(Self::without(held));
        };
        let target = members.target(&database)?;
        let then = Checkpoint {
            index: target.index,
            term: target.term,
            revision: database.contents.revision,
            compact_revision: database.contents.compaction.revision(),
            phase: Phase::Streaming,
            ..held.clone()
        };
        if !held.is_by_content() && then.revision < held.revision {
            return Err(older(&database.path, &then, held));
        }
        drop(source.entries(&then)?);
        Ok(Self {
            install: Some(target),
            checkpoint: then,
        })
    }

    fn without(held: &Checkpoint) -> Self {
        Self {
            install: None,
            checkpoint: held.clone(),
        }
    }
}

fn between(held: &Checkpoint) -> Fatal {
    let index = held.index;
    let message = format!(
        "{}; it takes one of entry {index} or later, and none beyond --until-index and \
         --until-revision, if those are given",
        offline::Error::Installing
    );
    Fatal::new(Exit::CannotResume, message)
}

fn older(path: &Path, then: &Checkpoint, held: &Checkpoint) -> Fatal {
    let message = format!(
        "{}: the database is at revision {}, and the standby holds {} of this primary already: the \
         primary was restored from a backup, or lost entries; `etcd-syncer resync` lets the standby be \
         made its copy again",
        path.display(),
        then.revision,
        held.revision
    );
    Fatal::new(Exit::CannotResume, message)
}

/// What the standby holds already cannot be taken back.
fn check_until(held: &Checkpoint, options: &Options) -> Result<(), Fatal> {
    let index = options.until_index.filter(|until| *until < held.index);
    let revision = options
        .until_revision
        .filter(|until| *until < held.revision && held.index > RaftIndex(0));
    let named = match (index, revision) {
        (Some(index), _) => format!("--until-index {index}"),
        (None, Some(revision)) => format!("--until-revision {revision}"),
        (None, None) => return Ok(()),
    };
    let message = format!(
        "{named}: the standby is at index {}, revision {} already, and nothing is taken back; replay \
         into an empty standby",
        held.index, held.revision
    );
    Err(Fatal::new(Exit::CannotResume, message))
}

impl Members {
    /// The newest database that does not go too far.
    fn database(&self, options: &Options) -> Result<Option<Database<'_>>, Fatal> {
        let until = options.until_index.unwrap_or(RaftIndex(u64::MAX));
        let is_beyond = |contents: &Contents| {
            let revision = options.until_revision;
            until < contents.raft.index || revision.is_some_and(|last| last < contents.revision)
        };
        if let Some(saved) = &self.saved {
            if is_beyond(&saved.contents) {
                let message = format!(
                    "{}: the snapshot is at index {}, revision {} already, beyond what is wanted; use \
                     an earlier one",
                    saved.path.display(),
                    saved.contents.raft.index,
                    saved.contents.revision
                );
                return Err(Fatal::new(Exit::CannotResume, message));
            }
            return Ok(Some(Database {
                path: saved.path.clone(),
                contents: saved.contents.clone(),
                dir: None,
            }));
        }
        let Some(recovery) = &self.recovery else {
            return Ok(None);
        };
        let Some((dir, database)) = recovery.database(until) else {
            return Ok(None);
        };
        let contents = snapshot::read(&database.file);
        let contents = contents.map_err(|error| unreadable(&database.path, &error))?;
        // The log may reach back further.
        Ok((!is_beyond(&contents)).then(|| Database {
            path: database.path.clone(),
            contents,
            dir: Some(dir),
        }))
    }

    /// True if the log goes on where the standby is; false if a database may help.
    fn reaches(&self, held: &Checkpoint) -> Result<bool, Fatal> {
        let Some(recovery) = &self.recovery else {
            let saved = self.saved.as_ref();
            return Ok(saved.is_none_or(|saved| saved.contents.raft.index <= held.index));
        };
        match recovery.behind(held) {
            Ok(_) => Ok(true),
            Err(offline::Error::NothingNew { .. }) => Ok(self
                .saved
                .as_ref()
                .is_none_or(|saved| saved.contents.raft.index <= held.index)),
            Err(offline::Error::NotHeld { .. } | offline::Error::Restored { .. }) => Ok(false),
            Err(error) => Err(fatal(&error)),
        }
    }

    fn target(&self, database: &Database<'_>) -> Result<Target, Fatal> {
        let Database {
            path,
            contents,
            dir,
        } = database;
        let index = contents.raft.index;
        let (voters, learners) = self.members_at(database, index)?;
        // It may have gone away meanwhile, or be in use.
        DbFile::open(path).map_err(|error| fatal(&error.into()))?;
        let dirs = self.recovery.iter().flat_map(offline::Recovery::dirs);
        let mut dirs = dir.iter().copied().chain(dirs);
        let term = contents.raft.term;
        let term = term.or_else(|| dirs.find_map(|dir| term_at(dir, index)));
        let term = term.ok_or_else(|| {
            let message = format!(
                "{}: a database of 3.4 does not say of which term entry {index} is: give the log of a \
                 member that holds the entry with --wal",
                path.display()
            );
            Fatal::new(Exit::CannotResume, message)
        })?;
        Ok(Target {
            path: path.clone(),
            index,
            term,
            voters,
            learners,
        })
    }

    /// Voters and learners as of a database.
    fn members_at(
        &self,
        database: &Database<'_>,
        index: RaftIndex,
    ) -> Result<(Vec<MemberId>, Vec<MemberId>), Fatal> {
        let dirs = self.recovery.iter().flat_map(offline::Recovery::dirs);
        for dir in database.dir.into_iter().chain(dirs) {
            if dir.commit() < index {
                continue;
            }
            let membership = dir.membership_at(index).map_err(|error| fatal(&error))?;
            if let Some(membership) = membership {
                let state = membership.conf_state();
                let ids = |ids: &[u64]| ids.iter().copied().map(MemberId).collect();
                return Ok((ids(state.get_voters()), ids(state.get_learners())));
            }
        }
        let contents = &database.contents;
        if let Some(state) = &contents.raft.conf_state {
            return Ok((state.voters.clone(), state.learners.clone()));
        }
        let of_kind = |is_learner| {
            let members = contents.cluster.members.iter();
            let members = members.filter(|member| member.is_learner == is_learner);
            members.map(|member| member.id).collect()
        };
        Ok((of_kind(false), of_kind(true)))
    }
}

/// The term of an entry, be it the one of the snapshot with which the log begins.
fn term_at(dir: &DataDir, index: RaftIndex) -> Option<Term> {
    let mut snapshots = dir.wal().snapshots();
    let noted = snapshots.find(|snapshot| snapshot.index == index);
    let held = dir.wal().term_of(index);
    held.or_else(|| noted.map(|snapshot| snapshot.term))
}
