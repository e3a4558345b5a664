//! Random work on a real primary; afterwards the standby, and what we hold, are what the primary has.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::harness::{
    Cluster, LeftOver, Version, Workload, assert_same_keys_and_values, assert_same_lease_keys,
    attach, eventually, wait_same_keys_and_values,
};
use crate::state::{Dump, assert_same_state};

/// Operations of one run, unless the environment says otherwise.
const OPERATIONS: usize = 20_000;

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// 8 clients at work on 500 keys while the leader is killed twice.
async fn differential(from: Version, to: Version, seed: u64) -> Result<()> {
    let operations = setting("ETCD_SYNCER_TEST_OPERATIONS", OPERATIONS);
    let seed = setting("ETCD_SYNCER_TEST_SEED", usize::try_from(seed)?) as u64;
    println!("{from:?} -> {to:?}: seed {seed}, {operations} operations");
    let mut primary = Cluster::builder(from).members(3).no_fsync().start().await?;
    let standby = Cluster::builder(to).no_fsync().start().await?;
    let dump = tempfile::tempdir()?;
    let dump_file = dump.path().join("state");
    let file = dump_file.to_str().context("a path")?;
    let mut syncer = attach(&primary, &standby, &["--dump-state", file]).await?;

    let work = Workload::new(seed)
        .clients(8)
        .operations(operations)
        .keys(500);
    let mut working = tokio::spawn(work.run_on(primary.client_endpoints()));
    for _ in 0..2 {
        if tokio::time::timeout(Duration::from_secs(3), &mut working)
            .await
            .is_ok()
        {
            panic!("the work ended before both leaders were killed: ask for more operations");
        }
        let leader = primary.leader().await?;
        primary.kill(leader)?;
        eventually("a new leader", Duration::from_secs(15), async || {
            primary.leader().await
        })
        .await?;
        primary.restart(leader).await?;
    }
    let counters = working.await??;
    println!("{from:?} -> {to:?}: {counters:?}");

    wait_same_keys_and_values(&primary, &standby, Duration::from_secs(60)).await?;
    let client = primary.client().await?;
    let (revision, _) = crate::harness::read_keys(&client).await?;
    let last = syncer
        .wait_status("the last revision", Duration::from_secs(10), |status| {
            status["revision"]["primary"].as_i64() == Some(revision)
        })
        .await?;
    println!("{from:?} -> {to:?}: {}", last["batches"]);
    syncer.terminate()?;
    let code = syncer.wait_exit(Duration::from_secs(15)).await?;
    assert_eq!(code, Some(0), "{}", syncer.log()?);
    assert_same_keys_and_values(&primary, &standby).await?;
    assert_same_lease_keys(&primary, &standby, LeftOver::None).await?;
    assert_same_state(&Dump::read(&dump_file)?, &primary).await
}

macro_rules! differential {
    ($name:ident, $from:ident, $to:ident, $seed:literal) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() -> Result<()> {
            differential(Version::$from, Version::$to, $seed).await
        }
    };
}

differential!(random_work_3_4, V3_4, V3_4, 34);
differential!(random_work_3_5, V3_5, V3_5, 35);
differential!(random_work_3_6, V3_6, V3_6, 36);
differential!(random_work_3_7, V3_7, V3_7, 37);
differential!(random_work_3_4_to_3_7, V3_4, V3_7, 347);
differential!(random_work_3_7_to_3_5, V3_7, V3_5, 375);
