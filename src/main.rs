//! The program: does what the command line says, and turns the outcome into an exit code.

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let exit = match etcd_syncer::cli::main() {
        Ok(exit) => exit,
        Err(fatal) => {
            // Nothing can be done about a terminal that is gone.
            let _ = writeln!(std::io::stderr(), "etcd-syncer: {fatal}");
            fatal.exit
        }
    };
    ExitCode::from(exit.code())
}
