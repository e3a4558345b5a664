//! `make bench`: this program and `etcdctl make-mirror` side by side in one run.
//!
//! What is measured, in this order:
//!
//! 1. **Copy.** One primary is filled with keys and has cut its log. Each tool in turn, the other one
//!    not running, then copies that same primary into an empty standby of its own: this program by
//!    a snapshot, make-mirror by reads of the keyspace.
//! 2. **Follow.** Rounds of three phases: no tool, this program, make-mirror; every second round in
//!    the reverse order, so that a machine that gets slower or faster favours nobody. Each phase has
//!    a new primary and a new standby of the same settings (in the phase without a tool the standby
//!    idles), and the same writers put new keys at full speed for the same time. New keys each time,
//!    as nobody can then save work by leaving out a state that was overwritten. The tools never run
//!    at the same time: on one primary each would pay for the other.
//! 3. **Ceiling.** The same puts, in the largest transactions that etcd takes by default, are sent to
//!    a standby by nothing but this process: what no tool that writes transactions can exceed by
//!    much.
//!
//! Everything runs on one machine and shares its processors: primary, standby, tool and writers.
//! Each phase is bounded in time.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "for a person")]

#[path = "../harness/mod.rs"]
mod harness;

mod args;
mod ceiling;
mod copy;
mod figures;
mod follow;
mod load;
mod markers;
mod report;
mod setup;
mod tool;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use args::Args;
use figures::{Figures, Follow};
use setup::Setup;
use tool::Kind;

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("can't start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(harness::unless_interrupted(run(&args)));
    runtime.shutdown_background();
    match done {
        Ok(Some(())) => ExitCode::SUCCESS,
        Ok(None) => {
            eprintln!("\ninterrupted: all processes are ended and their folders removed");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("\nthe benchmark failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// All phases; progress goes to stderr, figures to stdout.
async fn run(args: &Args) -> Result<()> {
    let started = std::time::Instant::now();
    let setup = Setup::new(args).await?;
    eprintln!("{}", report::conditions(&setup.conditions));
    let copy = Box::pin(copy::run(&setup)).await?;
    let mut follow = Vec::new();
    for round in 0..setup.conditions.rounds {
        let mut kinds = [Kind::None, Kind::Syncer, Kind::Mirror];
        if round % 2 == 1 {
            kinds.reverse();
        }
        for kind in kinds {
            follow.push(Box::pin(follow::run(&setup, kind)).await?);
        }
    }
    let (ceiling, verdict) = match follow.as_slice() {
        [] => (Vec::new(), None),
        follow => (
            Box::pin(ceiling::run(&setup)).await?,
            Some(figures::judge(follow)?),
        ),
    };
    let figures = Figures {
        conditions: setup.conditions,
        copy,
        mean: Kind::ALL
            .into_iter()
            .map(|kind| Follow::mean(kind, &follow))
            .collect(),
        follow,
        ceiling,
        verdict,
        took_seconds: started.elapsed().as_secs_f64(),
    };
    println!("{}", report::table(&figures));
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&figures).context("can't write JSON")?;
        std::fs::write(path, text + "\n")
            .with_context(|| format!("can't write {}", path.display()))?;
        eprintln!("figures written to {}", path.display());
    }
    Ok(())
}
