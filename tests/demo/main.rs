//! `make demo`: real etcd clusters on this machine, the program between them, work on the primary,
//! its leader killed in the middle, and a comparison of every key at the end.
//!
//! Ends with 0 if all keys are equal, with 1 if not or if something failed, and with 130 if
//! interrupted. Nothing stays behind: what is started is owned by one future, and dropping that
//! kills the processes and removes their folders.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "for a person")]

#[path = "../harness/mod.rs"]
mod harness;

mod clients;
mod live;
mod show;
mod steps;

use std::process::ExitCode;

use clap::Parser;

/// Shows etcd-syncer at work between two real etcd clusters on this machine.
#[derive(Debug, Parser)]
#[command(name = "demo")]
struct Args {
    /// Release of etcd, from 3.4 to 3.7; the newest at hand unless given.
    #[arg(long, value_name = "X.Y")]
    etcd: Option<String>,
    /// How long to work on the primary, in seconds.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(6..))]
    seconds: u64,
    /// Members of the standby.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=5))]
    standby_members: u8,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("can't start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(harness::unless_interrupted(steps::run(&args)));
    runtime.shutdown_background();
    match done {
        Ok(Some(true)) => ExitCode::SUCCESS,
        Ok(Some(false)) => ExitCode::FAILURE,
        Ok(None) => {
            println!("\nInterrupted: all processes are ended and their folders removed.");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("\nThe demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
