//! Real etcd clusters, the real `etcd-syncer` process and random work, for tests.
//!
//! A test binary takes this in with `mod harness;` or, from a folder of its own,
//! `#[path = "../harness/mod.rs"] mod harness;`.
//!
//! ```ignore
//! let primary = Cluster::builder(Version::V3_6).members(3).start().await?;
//! let standby = Cluster::builder(Version::V3_6).start().await?;
//! let mut syncer = Syncer::builder(&primary, &standby)?.spawn()?;
//! let counters = Workload::new(1).run(&primary).await?;
//! wait_same_keys_and_values(&primary, &standby, Duration::from_secs(30)).await?;
//! ```
//!
//! What a test starts, its end takes away: dropping a [`Cluster`] or a [`Syncer`] kills the
//! processes and removes their folder, also when the test panics. With `ETCD_SYNCER_KEEP=1` the
//! folder with data and logs stays and its path is printed. Only a test process that is itself
//! killed by SIGKILL leaves its etcd processes behind.

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "each test binary takes this in as a module and uses a part of it"
)]

mod attach;
mod binaries;
mod client;
mod cluster;
mod compare;
mod folder;
mod http;
mod interrupt;
mod member;
mod membership;
mod poll;
mod ports;
mod process;
mod syncer;
mod workload;

pub use attach::{attach, attach_within};
pub use binaries::{Binaries, Version};
pub use client::{connect, is_unavailable};
pub use cluster::{Cluster, ClusterBuilder};
pub use compare::{
    Keys, LeaseInfo, LeftOver, META_PREFIX, Stored, assert_same_keys_and_values,
    assert_same_lease_keys, assert_same_leases, key_differences, lease_differences, read_keys,
    read_leases, wait_same_keys_and_values,
};
pub use http::{Response, get as http_get};
pub use interrupt::unless_interrupted;
pub use poll::{Fatal, eventually};
pub use ports::free_port;
pub use process::Process;
pub use syncer::{Syncer, SyncerBuilder};
pub use workload::{Counters, Op, OpStream, Workload};
