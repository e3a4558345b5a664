//! `etcd-syncer run`.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, Typed};
use crate::exit::{Exit, Fatal};
use crate::status::Board;

/// Options of `run`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// YAML file with these options, under the same names without the dashes in front.
    #[arg(long, env = "ETCD_SYNCER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    typed: Typed,
}

pub(super) fn main(args: Args) -> Result<Exit, Fatal> {
    let usage = |error: crate::config::Error| Fatal::new(Exit::Usage, error);
    let file = match args.config {
        Some(path) => Typed::from_file(&path).map_err(usage)?,
        None => Typed::default(),
    };
    let typed = args.typed.with_passwords().map_err(usage)?;
    let config = typed.or(file).check().map_err(usage)?;
    start_log(config.log_format);
    super::runtime()?.block_on(async {
        let stop = CancellationToken::new();
        let signals = |error: std::io::Error| {
            Fatal::new(Exit::Failed, format!("listen for signals: {error}"))
        };
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
        let board = Arc::new(Board::new(
            &config.stream,
            config.scope.prefixes().to_string(),
        ));
        super::progress::watch(Arc::clone(&board));
        Box::pin(crate::app::run(config, board, stop)).await
    })
}

/// Log lines go to standard error; `RUST_LOG` chooses which, by default those of level info.
fn start_log(format: LogFormat) {
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
