//! The whole program between real etcd clusters.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

#[path = "../harness/mod.rs"]
mod harness;

mod backlog;
mod bad_input;
mod differential;
mod install;
mod leases;
mod leases_away;
mod replay;
mod resume;
mod scope;
mod state;
mod upgrade;
mod users;
