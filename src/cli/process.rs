//! What subcommands that run for a while have in common: signals and log lines.

use std::io::IsTerminal;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;
use crate::exit::{Exit, Fatal};

/// A token that SIGTERM and SIGINT cancel.
pub(super) fn stop_on_signals() -> Result<CancellationToken, Fatal> {
    let stop = CancellationToken::new();
    let signals =
        |error: std::io::Error| Fatal::new(Exit::Failed, format!("listen for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(signals)?;
    let stopping = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to stop");
        stopping.cancel();
    });
    Ok(stop)
}

/// Log lines go to standard error; `RUST_LOG` chooses which, by default those of level info.
pub(super) fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.with_target(false).init(),
        LogFormat::Json => log.json().init(),
    }
}
