//! What a learner costs its primary: its presence, its stop and its death, side by side with a
//! primary that has none. Takes minutes, so it has a target of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

#[path = "../harness/mod.rs"]
mod harness;

mod harmless;
mod registry;
mod snapshots;
