//! `etcd-syncer run`.

use std::path::PathBuf;
use std::sync::Arc;

use crate::config::Typed;
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
    super::process::start_log(config.log_format);
    super::runtime()?.block_on(async {
        let stop = super::process::stop_on_signals()?;
        let board = Arc::new(Board::new(
            &config.stream,
            config.scope.prefixes().to_string(),
        ));
        super::progress::watch(Arc::clone(&board));
        Box::pin(crate::app::run(config, board, stop)).await
    })
}
