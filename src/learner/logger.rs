//! Passes what raft-rs logs on to our own log.

use slog::{Drain, Level, Logger, OwnedKVList, Record};

/// A logger for raft-rs. Everything below warning is told at debug level: raft-rs speaks of each
/// message it rejects.
pub(crate) fn logger() -> Logger {
    Logger::root(Forward, slog::o!())
}

struct Forward;

impl Drain for Forward {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &Record<'_>, _values: &OwnedKVList) -> Result<(), slog::Never> {
        match record.level() {
            Level::Critical | Level::Error => tracing::error!("raft: {}", record.msg()),
            Level::Warning => tracing::warn!("raft: {}", record.msg()),
            Level::Info | Level::Debug | Level::Trace => tracing::debug!("raft: {}", record.msg()),
        }
        Ok(())
    }
}
