//! The peer transport on real sockets: our own server and dialers against scripted members, and
//! against real ones where only those can tell.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm
)]

#[path = "../harness/mod.rs"]
mod etcd;

mod client;
mod dials;
mod harness;
mod hostile;
mod learner_snapshots;
mod member;
mod real;
mod real_snapshots;
mod resume;
mod routes;
mod rules;
mod snapshot_failures;
mod snapshots;
