//! Parts of the program against fakes, and the fakes against what they stand for.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

#[path = "../harness/mod.rs"]
mod harness;

mod auth_crash;
mod auth_faults;
mod auth_model;
mod auth_pairs;
mod auth_suite;
mod crash;
mod fake_auth;
mod fake_standby;
mod first_contact;
mod keeper;
mod lease_suite;
mod offline;
mod pages;
mod real_entries;
mod snapshot;
mod standby_suite;
mod tidy;
mod writer_faults;
