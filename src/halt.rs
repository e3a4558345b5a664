//! Why a stream stopped for good, and what a person can do about it.

use crate::exit::Exit;
use crate::{apply, learner, pipeline, standby};

/// A stream that will not go on by itself.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Halt {
    /// What happened, where, and the remedy.
    pub reason: String,
    /// The code with which the process ends when it is told to.
    #[serde(rename = "exit_code", serialize_with = "code")]
    pub exit: Exit,
}

fn code<S: serde::Serializer>(exit: &Exit, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u8(exit.code())
}

impl Halt {
    /// The halt that this end means; none for an end that was asked for.
    #[must_use]
    pub fn of_learner(end: &learner::End) -> Option<Self> {
        let exit = match end {
            learner::End::Stopped
            | learner::End::Alone
            | learner::End::Snapshot { .. }
            | learner::End::Beginning { .. } => {
                return None;
            }
            learner::End::Removed(_) => Exit::Removed,
            learner::End::Raft(_) | learner::End::Unknown { .. } => Exit::Halted,
        };
        Some(Self {
            reason: end.to_string(),
            exit,
        })
    }

    /// The halt that this end means; none for an end that was asked for.
    #[must_use]
    pub fn of_apply(end: &apply::End) -> Option<Self> {
        let exit = match end {
            apply::End::Stopped | apply::End::StoppedInFlight | apply::End::Alone => return None,
            apply::End::Standby(standby::Error::Fenced { .. }) => Exit::Fenced,
            apply::End::Standby(standby::Error::Refused(_)) => Exit::StandbyRefuses,
            apply::End::Pipeline(
                pipeline::Error::Decode(_)
                | pipeline::Error::Resolve(_)
                | pipeline::Error::Plan(_)
                | pipeline::Error::OutOfScope { .. }
                | pipeline::Error::Beyond { .. },
            )
            | apply::End::Version(_)
            | apply::End::KeysLost { .. }
            | apply::End::Ledger(_)
            | apply::End::TooLarge { .. } => Exit::Halted,
        };
        Some(Self {
            reason: end.to_string(),
            exit,
        })
    }

    /// True if the process is to end by itself: nothing that a person does brings it back.
    #[must_use]
    pub fn ends_process(&self) -> bool {
        matches!(self.exit, Exit::Removed | Exit::Fenced)
    }
}
