//! Passes on what the learner hands out, and records it where that is asked for.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::App;
use super::stream::Session;
use crate::capture::Capture;
use crate::checkpoint::Checkpoint;
use crate::exit::{Exit, Fatal};
use crate::ids::MemberId;
use crate::learner::Handout;
use crate::offline::capture::Header;
use crate::pb::raftpb;
use crate::peer::Transport;

impl App {
    /// The same entries; they pass by the file, if there is one.
    pub(super) fn captured(
        &self,
        session: &mut Session,
        checkpoint: &Checkpoint,
        handouts: mpsc::UnboundedReceiver<Vec<Handout>>,
    ) -> Result<mpsc::UnboundedReceiver<Vec<Handout>>, Fatal> {
        let Some(path) = &self.config.capture else {
            return Ok(handouts);
        };
        if session.capture.is_none() {
            let header = self.header(session.us, checkpoint);
            let capture = Capture::start(path, header).map_err(|error| {
                Fatal::new(Exit::Failed, format!("start the capturing thread: {error}"))
            })?;
            session.capture = Some(Arc::new(capture));
        }
        let Some(capture) = session.capture.clone() else {
            return Ok(handouts);
        };
        let (onwards, passed) = mpsc::unbounded_channel();
        tokio::spawn(pass(handouts, onwards, capture, self.transport.clone()));
        Ok(passed)
    }

    fn header(&self, us: MemberId, checkpoint: &Checkpoint) -> Header {
        let ids = |members: &[MemberId]| members.iter().map(|id| id.0).collect();
        Header {
            primary: checkpoint.primary,
            member: us,
            etcd_version: release(&self.transport).unwrap_or_default(),
            index: checkpoint.index,
            term: checkpoint.term,
            conf_state: raftpb::ConfState {
                voters: ids(&checkpoint.voters),
                learners: ids(&checkpoint.learners),
                ..raftpb::ConfState::default()
            },
        }
    }
}

/// The lowest release of the primary's voters, by whose rules entries are read.
fn release(transport: &Transport) -> Option<String> {
    let versions = transport.versions();
    versions.map(|versions| {
        let version = versions.server;
        let preview = if version.is_preview() { "-preview" } else { "" };
        format!("{version}{preview}")
    })
}

/// Ends when either side does, and so tells the other one.
async fn pass(
    mut handouts: mpsc::UnboundedReceiver<Vec<Handout>>,
    onwards: mpsc::UnboundedSender<Vec<Handout>>,
    capture: Arc<Capture>,
    transport: Transport,
) {
    loop {
        let next = tokio::select! {
            next = handouts.recv() => next,
            () = onwards.closed() => None,
        };
        let Some(next) = next else {
            return;
        };
        capture.take(&next, release(&transport));
        if onwards.send(next).is_err() {
            return;
        }
    }
}
