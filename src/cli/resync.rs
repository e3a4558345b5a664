//! `etcd-syncer resync`.

use std::io::Write;

use crate::exit::{Exit, Fatal};
use crate::resync::{self, Error};
use crate::standby::Failure;

/// Options of `resync`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    standby: super::standby::StandbyArgs,
    /// Name of the replication.
    #[arg(
        long,
        env = "ETCD_SYNCER_STREAM",
        value_name = "NAME",
        default_value = "default"
    )]
    stream: String,
}

pub(super) fn main(args: Args) -> Result<Exit, Fatal> {
    let (options, login) = args.standby.check()?;
    let resyncing = resync::resync(options, login.credentials, &args.stream);
    let done = super::runtime()?.block_on(resyncing);
    let before = done.map_err(|error| Fatal::new(exit(&error), error))?;
    let text = format!(
        "Stream {:?} was at index {}, revision {}. It begins with a snapshot of the primary again, of \
         which only what differs is written.\n\
         A process that runs for it ends now (exit code 18): start it again.\n\
         A leader sends a snapshot when it has cut its log behind the checkpoint. To get one at once, \
         make another member the leader (etcdctl move-leader), or remove learner {} from the primary \
         and add it again.",
        args.stream, before.index, before.revision, before.member,
    );
    writeln!(std::io::stdout(), "{text}")
        .map_err(|error| Fatal::new(Exit::Failed, format!("print what was done: {error}")))?;
    Ok(Exit::Ok)
}

fn exit(error: &Error) -> Exit {
    match error {
        Error::Standby(Failure::Refused(_)) => Exit::StandbyRefuses,
        Error::Standby(_) | Error::NoStream(_) | Error::Busy(_) => Exit::Failed,
        Error::Unreadable { .. } => Exit::ForeignCheckpoint,
    }
}
