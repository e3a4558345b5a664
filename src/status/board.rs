//! Where the tasks hang up what they show, and where the status page reads it.

use std::time::Instant;

use tokio::sync::watch;

use crate::halt::Halt;
use crate::ids::{ClusterId, MemberId};
use crate::peer::Transport;
use crate::standby::{AuthView, keeper};
use crate::{apply, install, learner, primary};

/// What the process is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Looking for itself in the primary's membership; what it waits for.
    Joining(String),
    /// Asking the standby what it holds; what it waits for.
    Contacting(String),
    /// Following the primary.
    Streaming,
    /// Installing a snapshot, or waiting for one; what it waits for.
    Installing(Option<String>),
    /// Halted for good.
    Halted(Halt),
}

/// Who takes part.
#[derive(Clone, Debug)]
pub struct Joined {
    /// The primary.
    pub primary: ClusterId,
    /// We, in the primary.
    pub member: MemberId,
    /// The standby, once it was asked.
    pub standby: Option<ClusterId>,
    /// The transport, for its counters.
    pub transport: Transport,
}

/// One place for everything; each field has one writer.
#[derive(Debug)]
pub struct Board {
    /// The stream's name.
    pub stream: String,
    /// Which keys it replicates, as options say it.
    pub scope: String,
    /// When the process started.
    pub started: Instant,
    /// What the process is doing.
    pub phase: watch::Sender<Phase>,
    /// Who takes part, as soon as it is known.
    pub joined: watch::Sender<Option<Joined>>,
    /// The learner's figures.
    pub learner: watch::Sender<learner::View>,
    /// The figures of the way to the standby.
    pub apply: watch::Sender<apply::View>,
    /// The latest installation of a snapshot.
    pub install: watch::Sender<Option<install::Progress>>,
    /// Why the standby does not take a batch, if it does not.
    pub standby_trouble: watch::Sender<Option<String>>,
    /// The figures of the keeper of leases.
    pub keeper: watch::Sender<keeper::View>,
    /// What is known of the standby's users, as soon as the primary has any.
    pub auth: watch::Sender<Option<AuthView>>,
    /// What the primary says of itself, if its client URLs are known.
    pub primary: watch::Sender<Option<primary::View>>,
}

impl Board {
    /// An empty board.
    #[must_use]
    pub fn new(stream: &str, scope: String) -> Self {
        Self {
            stream: stream.to_owned(),
            scope,
            started: Instant::now(),
            phase: watch::Sender::new(Phase::Joining("starting".to_owned())),
            joined: watch::Sender::new(None),
            learner: watch::Sender::default(),
            apply: watch::Sender::default(),
            install: watch::Sender::new(None),
            standby_trouble: watch::Sender::new(None),
            keeper: watch::Sender::default(),
            auth: watch::Sender::new(None),
            primary: watch::Sender::new(None),
        }
    }
}
