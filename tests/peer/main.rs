//! The peer transport on real sockets: our own server and dialers against scripted members.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm
)]

mod client;
mod dials;
mod harness;
mod hostile;
mod learner_snapshots;
mod member;
mod routes;
mod rules;
mod snapshot_failures;
mod snapshots;
