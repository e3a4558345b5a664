//! What the status page says of snapshots. Pure but for the clock that the caller passes in.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::board::{Board, Joined};
use crate::install::Stage;
use crate::peer::snapshot::Phase;

/// The latest snapshot of the primary, from its first byte to its last key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SnapshotPage {
    /// The entry up to which it holds everything.
    pub index: u64,
    /// The member that sends it, in hexadecimal.
    pub from: Option<String>,
    /// `receiving`, `failed: ..`, or what the installation is at.
    pub stage: String,
    /// Bytes of the database received.
    pub received_bytes: u64,
    /// At this pace.
    pub received_bytes_per_second: u64,
    /// Live keys in it, once it is read.
    pub keys: usize,
    /// Keys that were compared so far.
    pub keys_compared: usize,
    /// Keys that were written.
    pub puts: usize,
    /// Keys that were deleted.
    pub deletes: usize,
    /// Keys of which only the revisions were new.
    pub same_value: usize,
    /// Bytes of values written.
    pub value_bytes: u64,
    /// Seconds since the transfer, or the installation, began.
    pub seconds: f64,
    /// Seconds left, if they can be told.
    pub seconds_left: Option<f64>,
}

impl SnapshotPage {
    /// True while there is something to wait for.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        let over = ["cut", "failed", Stage::Done.name()];
        !over.iter().any(|stage| self.stage.starts_with(stage))
    }

    pub(super) fn of(board: &Board, joined: Option<&Joined>, now: Instant) -> Option<Self> {
        let transfer = joined.and_then(|joined| {
            let progress = joined.transport.snapshot_progress();
            progress.borrow().clone()
        });
        let install = board.install.borrow().clone();
        let index = transfer.as_ref().map(|transfer| transfer.index);
        let index = index.or(install.as_ref().map(|install| install.index))?;
        let install = install.filter(|install| install.index == index);
        let stage = match (&install, transfer.as_ref().map(|transfer| &transfer.phase)) {
            (Some(install), _) => install.stage.name().to_owned(),
            (None, Some(Phase::Failed { why, .. })) => format!("failed: {why}"),
            (None, Some(Phase::Over(over))) => format!("cut: {over}"),
            (None, Some(Phase::Receiving)) => "receiving".to_owned(),
            (None, Some(Phase::Held { .. } | Phase::Installed) | None) => "received".to_owned(),
        };
        let began = install.as_ref().map(|install| install.began);
        let began = began.or(transfer.as_ref().map(|transfer| transfer.began));
        let tally = install
            .as_ref()
            .map(|install| install.tally)
            .unwrap_or_default();
        let left = install.as_ref().and_then(|install| install.left(now));
        Some(Self {
            index: index.0,
            from: transfer.as_ref().map(|transfer| transfer.from.to_string()),
            stage,
            received_bytes: transfer.as_ref().map_or(0, |transfer| transfer.bytes),
            received_bytes_per_second: transfer
                .as_ref()
                .map_or(0, |transfer| transfer.bytes_per_second),
            keys: install.as_ref().map_or(0, |install| install.keys),
            keys_compared: tally.compared,
            puts: tally.puts,
            deletes: tally.deletes,
            same_value: tally.same_value,
            value_bytes: tally.value_bytes,
            seconds: began.map_or(0.0, |began| {
                now.saturating_duration_since(began).as_secs_f64()
            }),
            seconds_left: left.map(|left| left.as_secs_f64()),
        })
    }
}
