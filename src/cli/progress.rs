//! A bar for a person who waits for a snapshot at a terminal.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::status::{Board, Page, SnapshotPage};

const PERIOD: Duration = Duration::from_millis(200);
const RECEIVING: &str = "{msg} {bytes} at {bytes_per_sec} [{elapsed}]";
const WRITING: &str = "{msg} {wide_bar} {pos}/{len} keys, {eta} left [{elapsed}]";

/// Shows snapshots as they come in, until the process ends; nothing if no person watches.
pub(super) fn watch(board: Arc<Board>) {
    if std::io::stderr().is_terminal() {
        tokio::spawn(async move {
            let mut bar = None;
            loop {
                tokio::time::sleep(PERIOD).await;
                let page = Page::of(&board, Instant::now());
                let shown = page.snapshot.filter(SnapshotPage::is_under_way);
                match shown {
                    Some(snapshot) => draw(&mut bar, &snapshot),
                    None => {
                        if let Some(bar) = bar.take() {
                            bar.finish_and_clear();
                        }
                    }
                }
            }
        });
    }
}

fn draw(bar: &mut Option<ProgressBar>, snapshot: &SnapshotPage) {
    let bar = bar.get_or_insert_with(ProgressBar::no_length);
    let has_keys = snapshot.keys > 0;
    let template = if has_keys { WRITING } else { RECEIVING };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(format!(
        "snapshot at {}: {}",
        snapshot.index, snapshot.stage
    ));
    if has_keys {
        bar.set_length(u64::try_from(snapshot.keys).unwrap_or(u64::MAX));
        bar.set_position(u64::try_from(snapshot.keys_compared).unwrap_or(u64::MAX));
    } else {
        bar.set_position(snapshot.received_bytes);
    }
}
