//! The exit codes: one for each end that a script or a service manager may want to tell apart.

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done, or stopped by SIGTERM or SIGINT with everything written.
    Ok,
    /// Something failed that has no code of its own, or what was compared differs.
    Failed,
    /// What was to be compared cannot be read.
    CannotTell,
    /// A member of the primary's URLs answers, but not as an etcd peer.
    NotAPeer,
    /// The primary's URLs belong to different clusters.
    ClusterMismatch,
    /// The advertised peer URL belongs to a voter.
    NotALearner,
    /// Primary and standby are one cluster.
    SameCluster,
    /// The standby holds keys in scope and no checkpoint, or they belong to another stream.
    StandbyNotEmpty,
    /// The checkpoint belongs to another primary or scope, or cannot be read.
    ForeignCheckpoint,
    /// The checkpoint is sound, and this version cannot go on from it, or not with these files.
    CannotResume,
    /// This member was removed from the primary.
    Removed,
    /// Another process took the stream over.
    Fenced,
    /// The stream had halted before the process was told to stop.
    Halted,
    /// An address to listen on is taken or unusable.
    Listen,
    /// The data directory is unusable or another process holds it.
    DataDir,
    /// The standby refuses us.
    StandbyRefuses,
    /// Bad usage or configuration.
    Usage,
}

impl Exit {
    /// The number that the process ends with.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::CannotTell => 2,
            Self::NotAPeer => 10,
            Self::ClusterMismatch => 11,
            Self::NotALearner => 12,
            Self::SameCluster => 13,
            Self::StandbyNotEmpty => 14,
            Self::ForeignCheckpoint => 15,
            Self::CannotResume => 16,
            Self::Removed => 17,
            Self::Fenced => 18,
            Self::Halted => 19,
            Self::Listen => 20,
            Self::DataDir => 21,
            Self::StandbyRefuses => 22,
            Self::Usage => 64,
        }
    }
}

/// An error that ends the process with a code of its own.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Fatal {
    /// The code.
    pub exit: Exit,
    /// What happened, where, and what to do.
    pub message: String,
}

impl Fatal {
    /// Ends the process with `exit`.
    pub fn new(exit: Exit, message: impl ToString) -> Self {
        Self {
            exit,
            message: message.to_string(),
        }
    }
}
