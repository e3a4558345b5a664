//! Feeds entries from files to the task that applies them, no faster than it takes them. IO, on a
//! thread of its own.

use std::collections::VecDeque;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use super::entries::Item;
use super::source::Source;
use crate::checkpoint::Checkpoint;
use crate::exit::{Exit, Fatal};
use crate::ids::RaftIndex;
use crate::learner::Handout;
use crate::resolve::{Rules, UnknownVersion};

/// The reading side.
#[derive(Debug)]
pub(super) struct Feed {
    handouts: mpsc::UnboundedSender<Vec<Handout>>,
    durable: watch::Receiver<RaftIndex>,
    rules: watch::Sender<Result<Rules, UnknownVersion>>,
    until: Option<RaftIndex>,
    /// Not handed over yet.
    ready: Vec<Handout>,
    ready_bytes: usize,
    /// Handed over, and not known to be in the standby: the last entry of each piece, and its
    /// bytes.
    open: VecDeque<(RaftIndex, usize)>,
    open_bytes: usize,
}

/// The other side has ended, and says itself why.
struct Gone;

const PIECE_ENTRIES: usize = 256;
const PIECE_BYTES: usize = 1 << 20;
/// What may be read and not in the standby.
const OPEN_BYTES_MAX: usize = 64 << 20;
/// What an entry takes beside its data.
const ENTRY_BYTES: usize = 128;

impl Feed {
    pub(super) fn new(
        handouts: mpsc::UnboundedSender<Vec<Handout>>,
        durable: watch::Receiver<RaftIndex>,
        rules: watch::Sender<Result<Rules, UnknownVersion>>,
        until: Option<RaftIndex>,
    ) -> Self {
        Self {
            handouts,
            durable,
            rules,
            until,
            ready: Vec::new(),
            ready_bytes: 0,
            open: VecDeque::new(),
            open_bytes: 0,
        }
    }

    /// Reads until the end, the last entry that is wanted or the end of the other side.
    pub(super) fn run(mut self, source: &Source, checkpoint: &Checkpoint) -> Result<(), Fatal> {
        for item in source.entries(checkpoint)? {
            let Item { handout, release } = item?;
            if self.until.is_some_and(|until| until < handout.entry.index) {
                break;
            }
            if let Some(release) = release {
                // What was read before is applied by the rules before.
                if self.flush(0).is_err() {
                    return Ok(());
                }
                let rules =
                    Rules::of(release).map_err(|error| Fatal::new(Exit::CannotResume, error))?;
                let _before = self.rules.send_replace(Ok(rules));
            }
            self.ready_bytes += handout.entry.data.len() + ENTRY_BYTES;
            self.ready.push(handout);
            let is_full = self.ready.len() >= PIECE_ENTRIES || self.ready_bytes >= PIECE_BYTES;
            if is_full && self.flush(OPEN_BYTES_MAX).is_err() {
                return Ok(());
            }
        }
        // If the other side is gone, it knows why.
        let _gone = self.flush(usize::MAX);
        Ok(())
    }

    /// Hands over what is ready, and waits until no more than `bytes_max` are open.
    fn flush(&mut self, bytes_max: usize) -> Result<(), Gone> {
        let ready = std::mem::take(&mut self.ready);
        if let Some(last) = ready.last().map(|handout| handout.entry.index) {
            let bytes = std::mem::take(&mut self.ready_bytes);
            self.handouts.send(ready).map_err(|_| Gone)?;
            self.open.push_back((last, bytes));
            self.open_bytes += bytes;
        }
        while self.open_bytes > bytes_max
            && let Some((last, bytes)) = self.open.pop_front()
        {
            let reached = self.durable.wait_for(|durable| *durable >= last);
            Handle::current()
                .block_on(reached)
                .map_err(|_| Gone)
                .map(drop)?;
            self.open_bytes -= bytes;
        }
        Ok(())
    }
}
