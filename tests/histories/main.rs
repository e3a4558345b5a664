//! The resolver against real etcd of every release: random histories of everything but plain keys,
//! the catalogue of entries without effect, and the logs that once showed a fault.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`generate`], [`txn`] | random requests |
//! | [`inject`], [`raw`] | gives a log of them to a member, entry by entry as they are |
//! | [`rpc`], [`clients`], [`api`] | has clients make a history, while leaders are killed |
//! | [`wal`], [`disk`], [`picture`] | reads what a stopped member has: its log, its database |
//! | [`judge`], [`compare`] | resolves the log, and compares |
//! | [`pair`] | has the program carry a history to a standby |
//! | [`carried`], [`logins`], [`leaks`] | looks at the standby, and at what was shown |
//! | [`rerun`] | does that with a log, the same each time |
//! | [`shrink`], [`fixture`] | cuts a log that shows a fault, and keeps it |
//!
//! `ETCD_SYNCER_TEST_SEED=7` repeats one history, `ETCD_SYNCER_TEST_MINUTES=10` is a long run.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

#[path = "../harness/mod.rs"]
mod harness;

mod api;
mod budget;
mod carried;
mod catalogue;
mod clients;
mod compare;
mod crafted;
mod disk;
mod fixture;
mod gauges;
mod generate;
mod inject;
mod judge;
mod leaks;
mod logins;
mod pair;
mod picture;
mod product;
mod random;
mod random_pairs;
mod raw;
mod replay;
mod requests;
mod rerun;
mod rows;
mod rpc;
mod shrink;
mod txn;
mod verdict;
mod wal;
