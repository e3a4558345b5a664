//! What takes minutes, and so has a target of its own: what a learner costs its primary (its
//! presence, its stop and its death, side by side with a primary that has none), large snapshots and
//! absences, the load of a service registry, writes while users change, and a process that is killed
//! a hundred times.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

#[path = "../harness/mod.rs"]
mod harness;
#[allow(dead_code)]
#[path = "../e2e/state.rs"]
mod state;

mod delays;
mod harmless;
mod kills;
mod ledger;
mod registry;
mod snapshots;
mod users;
