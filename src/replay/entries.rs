//! The entries that files hold behind a checkpoint. IO.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use super::source::{Members, Source, fatal};
use crate::checkpoint::{Checkpoint, Phase};
use crate::exit::{Exit, Fatal};
use crate::ids::RaftIndex;
use crate::learner::{Handout, Membership};
use crate::offline::capture::{CaptureEnd, Captured, Header, Reader};
use crate::offline::{self, hand_out};
use crate::version::Version;

/// An entry, and from it on another release of the primary, if it changed there.
pub(super) struct Item {
    pub(super) handout: Handout,
    pub(super) release: Option<Version>,
}

pub(super) type Items<'a> = Box<dyn Iterator<Item = Result<Item, Fatal>> + 'a>;

/// A captured log.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    pub(super) header: Header,
    given: Option<Version>,
}

impl Source {
    /// The entries that count behind a checkpoint.
    ///
    /// # Errors
    /// If the checkpoint is of another history, or entries behind it are missing.
    pub(super) fn entries(&self, checkpoint: &Checkpoint) -> Result<Items<'_>, Fatal> {
        match self {
            Self::Members(members) => members.entries(checkpoint),
            Self::Log(log) => log.entries(checkpoint),
        }
    }
}

impl Members {
    fn entries(&self, checkpoint: &Checkpoint) -> Result<Items<'_>, Fatal> {
        let Some(recovery) = &self.recovery else {
            return Ok(Box::new(std::iter::empty()));
        };
        match recovery.behind(checkpoint) {
            Ok(handouts) => Ok(Box::new(handouts.map(|handout| {
                let handout = handout.map_err(|error| fatal(&error))?;
                Ok(Item {
                    handout,
                    release: None,
                })
            }))),
            Err(offline::Error::NothingNew { checkpoint, bound }) => {
                tracing::info!(%checkpoint, %bound, "the standby holds more than these files");
                Ok(Box::new(std::iter::empty()))
            }
            Err(error) => Err(fatal(&error)),
        }
    }
}

impl Log {
    /// `given`: the primary's release, whatever the log says of it.
    pub(super) fn open(path: &Path, given: Option<Version>) -> Result<Self, Fatal> {
        let header = reader(path)?.header().clone();
        let path = path.to_owned();
        Ok(Self {
            path,
            header,
            given,
        })
    }

    /// The primary's release when the log began.
    pub(super) fn release(&self) -> Result<Version, Fatal> {
        let text = &self.header.etcd_version;
        Version::parse(text).ok_or_else(|| self.failed(unknown_release(text)))
    }

    fn failed(&self, what: impl std::fmt::Display) -> Fatal {
        Fatal::new(Exit::Failed, format!("{}: {what}", self.path.display()))
    }

    fn entries(&self, checkpoint: &Checkpoint) -> Result<Items<'_>, Fatal> {
        self.check(checkpoint)?;
        let mut reader = reader(&self.path)?;
        let mut membership = self.header.membership();
        let (mut last, mut term) = (self.header.index, self.header.term);
        // The release that is in force behind the checkpoint.
        let mut release = None;
        while last < checkpoint.index {
            let Some(captured) = reader.next() else {
                let held = checkpoint.index;
                tracing::info!(checkpoint = %held, %last, "the standby holds more than this log");
                return Ok(Box::new(std::iter::empty()));
            };
            let item = self.item(captured, &mut membership)?;
            (last, term) = (item.handout.entry.index, item.handout.entry.term);
            release = item.release.or(release);
        }
        if term != checkpoint.term {
            let ours = checkpoint.term;
            let what = format!(
                "it has term {term} at index {last}, where this stream applied term {ours}: the \
                 primary was restored or rebuilt, or the log is of another history; `etcd-syncer resync` and a \
                 replay with a database make the standby its copy"
            );
            return Err(Fatal::new(Exit::CannotResume, self.failed(what)));
        }
        let mut is_done = false;
        Ok(Box::new(std::iter::from_fn(move || {
            let Some(captured) = reader.next().filter(|_| !is_done) else {
                if reader.end() == Some(CaptureEnd::Torn) {
                    tracing::warn!("the captured log ends in an interrupted write");
                }
                return None;
            };
            let item = self.item(captured, &mut membership).map(|mut item| {
                item.release = item.release.or(release.take());
                item
            });
            is_done = item.is_err();
            Some(item)
        })))
    }

    fn check(&self, checkpoint: &Checkpoint) -> Result<(), Fatal> {
        let (begin, held) = (self.header.index, checkpoint.index);
        let cannot = |what: String| Fatal::new(Exit::CannotResume, self.failed(what));
        match checkpoint.phase {
            Phase::Streaming => {}
            Phase::Installing { .. } => {
                return Err(cannot(offline::Error::Installing.to_string()));
            }
        }
        if begin <= held {
            return Ok(());
        }
        let first = begin.next();
        Err(cannot(if held == RaftIndex(0) {
            format!(
                "the log begins with entry {first}, and the standby is empty: bring it to where the \
                 log begins first, by --snapshot or --data-dir"
            )
        } else {
            format!(
                "the standby is at index {held}, and the log begins with entry {first}: the entries \
                 between are missing; replay an earlier log, or a --snapshot or --data-dir first"
            )
        }))
    }

    fn item<E: std::fmt::Display>(
        &self,
        captured: Result<Captured, E>,
        membership: &mut Membership,
    ) -> Result<Item, Fatal> {
        let captured = captured.map_err(|error| self.failed(error))?;
        let release = match captured.etcd_version.filter(|_| self.given.is_none()) {
            None => None,
            Some(text) => {
                let version = Version::parse(&text);
                Some(version.ok_or_else(|| self.failed(unknown_release(&text)))?)
            }
        };
        let handout = hand_out(membership, captured.entry).map_err(|error| self.failed(error))?;
        Ok(Item { handout, release })
    }
}

fn unknown_release(text: &str) -> String {
    format!("{text:?} is no release of etcd; give the right one with --primary-version")
}

fn reader(path: &Path) -> Result<Reader<BufReader<File>>, Fatal> {
    let failed = |error: String| Fatal::new(Exit::Failed, format!("{}: {error}", path.display()));
    let file = File::open(path).map_err(|error| failed(format!("open the file: {error}")))?;
    Reader::open(BufReader::new(file)).map_err(|error| failed(error.to_string()))
}
