//! Parts of the program against fakes, and the fakes against what they stand for.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

#[path = "../harness/mod.rs"]
mod harness;

mod fake_standby;
mod first_contact;
mod real_entries;
mod snapshot;
mod standby_suite;
mod tidy;
mod writer_faults;
