//! Members that are killed.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{keys, path, replay, replayed};
use crate::harness::{
    Cluster, Version, Workload, assert_same_keys_and_values, attach, read_keys,
    wait_same_keys_and_values,
};
use crate::state::{Dump, assert_same_state};

/// Writes until the member is killed, a while from now.
async fn killed_under_load(primary: &mut Cluster, seed: u64) -> Result<()> {
    let work = Workload::new(seed).clients(4).operations(50_000).keys(200);
    let working = tokio::spawn(work.run_on(primary.client_endpoints()));
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    primary.kill(0)?;
    working.abort();
    let _ended = working.await;
    Ok(())
}

/// Of a single member everything counts that is in its log.
async fn killed(version: Version, snapshot_count: u64) -> Result<()> {
    let mut primary = Cluster::builder(version)
        .no_fsync()
        .snapshot_count(snapshot_count)
        .start()
        .await?;
    let standby = Cluster::builder(Version::V3_6).no_fsync().start().await?;
    let by_log = Cluster::builder(Version::V3_7).no_fsync().start().await?;
    Workload::new(1).operations(300).run(&primary).await?;
    killed_under_load(&mut primary, 2).await?;
    let release = primary.binaries()?.version.clone();
    let folder = tempfile::tempdir()?;
    let (with_database, log_only) = (folder.path().join("a"), folder.path().join("b"));
    let data_dir = primary.data_dir(0)?;
    let report = replayed(
        &standby,
        &[
            "--data-dir",
            path(data_dir)?,
            "--dump-state",
            path(&with_database)?,
            "--primary-version",
            &release,
        ],
    )
    .await?;
    println!("{version:?}: {report}");
    ensure!(report["undetermined"] == Value::Array(vec![]), "{report}");
    ensure!(report["installed_index"].as_u64() > Some(0), "{report}");

    // The log alone does as well, as long as it is whole.
    let whole = snapshot_count > 10_000;
    if whole {
        let wal = data_dir.join("member/wal");
        let args = [
            "--data-dir",
            path(&wal)?,
            "--dump-state",
            path(&log_only)?,
            "--primary-version",
            &release,
        ];
        let same = replayed(&by_log, &args).await?;
        ensure!(same["to_index"] == report["to_index"], "{same}");
        ensure!(same["revision"] == report["revision"], "{same}");
        ensure!(same["installed_index"].is_null(), "{same}");
        // Once more: nothing is left to do.
        let again = replayed(&by_log, &args).await?;
        ensure!(again["from_index"] == report["to_index"], "{again}");
        ensure!(again["batches"] == 0, "{again}");
    }
    primary.restart(0).await?;
    assert_same_keys_and_values(&primary, &standby).await?;
    assert_same_state(&Dump::read(&with_database)?, &primary).await?;
    if whole {
        assert_same_keys_and_values(&primary, &by_log).await?;
        assert_same_state(&Dump::read(&log_only)?, &primary).await?;
    }
    Ok(())
}

/// The stream ends, the primary goes on and is lost: its disk has the rest.
async fn drained(version: Version) -> Result<()> {
    let mut primary = Cluster::builder(version).no_fsync().start().await?;
    let standby = Cluster::builder(Version::V3_5).no_fsync().start().await?;
    let mut syncer = attach(&primary, &standby, &[]).await?;
    Workload::new(3).operations(300).run(&primary).await?;
    wait_same_keys_and_values(&primary, &standby, Duration::from_secs(20)).await?;
    syncer.kill()?;
    killed_under_load(&mut primary, 4).await?;
    let release = primary.binaries()?.version.clone();
    let data_dir = path(primary.data_dir(0)?)?.to_owned();
    let args = ["--data-dir", &data_dir, "--primary-version", &release];
    let report = replayed(&standby, &args).await?;
    let (from, to) = (&report["from_index"], &report["to_index"]);
    ensure!(
        from.as_u64() > Some(0) && from.as_u64() < to.as_u64(),
        "{report}"
    );
    ensure!(report["installed_index"].is_null(), "{report}");
    primary.restart(0).await?;
    assert_same_keys_and_values(&primary, &standby).await?;
    // And the stream goes on from there.
    let client = primary.client().await?;
    client.kv_client().put("later", "", None).await?;
    syncer.respawn()?;
    let same = wait_same_keys_and_values(&primary, &standby, Duration::from_secs(30)).await;
    same.with_context(|| syncer.log().unwrap_or_default())?;
    let (revision, _) = read_keys(&client).await?;
    syncer
        .wait_status("the last revision", Duration::from_secs(20), |status| {
            status["revision"]["primary"].as_i64() == Some(revision)
        })
        .await?;
    Ok(())
}

/// All members are lost right after a client was told that its put is done: any two of their disks
/// have it.
async fn acknowledged(version: Version) -> Result<()> {
    let rounds = std::env::var("ETCD_SYNCER_TEST_LOSSES");
    let rounds: usize = rounds.ok().map_or(Ok(3), |rounds| rounds.parse())?;
    let mut primary = Cluster::builder(version)
        .members(3)
        .no_fsync()
        .start()
        .await?;
    let standby = Cluster::builder(Version::V3_6).no_fsync().start().await?;
    let release = primary.binaries()?.version.clone();
    for round in 0..rounds {
        let key = format!("round/{round:03}");
        let client = primary.client().await?;
        client.kv_client().put(key.clone(), "", None).await?;
        for member in 0..3 {
            primary.kill((round + member) % 3)?;
        }
        let pair = [[0, 1], [1, 2], [2, 0]][round % 3];
        let (one, other) = (primary.data_dir(pair[0])?, primary.data_dir(pair[1])?);
        let args = [
            "--data-dir",
            path(one)?,
            "--data-dir",
            path(other)?,
            "--primary-version",
            &release,
        ];
        let report = replayed(&standby, &args).await?;
        ensure!(report["undetermined"] == Value::Array(vec![]), "{report}");
        let held = keys(&standby).await?;
        ensure!(held.last() == Some(&key), "round {round}: {held:?}");
        ensure!(held.len() == round + 1, "round {round}: {held:?}");
        for member in 0..3 {
            primary.spawn(member)?;
        }
        primary.wait_ready().await?;
    }
    println!("{version:?}: {rounds} of {rounds}");
    assert_same_keys_and_values(&primary, &standby).await
}

/// What a leader wrote alone may never have been committed: it is shown, and left out.
async fn undetermined(version: Version) -> Result<()> {
    let mut primary = Cluster::builder(version)
        .members(3)
        .no_fsync()
        .start()
        .await?;
    let standby = Cluster::builder(Version::V3_7).no_fsync().start().await?;
    Workload::new(5).operations(100).run(&primary).await?;
    let leader = primary.leader().await?;
    let client = primary.client_of(leader).await?;
    for other in (0..3).filter(|member| *member != leader) {
        primary.kill(other)?;
    }
    for number in 0..3 {
        let mut kv = client.kv_client();
        let put = kv.put(format!("alone/{number}"), "a secret value", None);
        let answer = tokio::time::timeout(Duration::from_millis(100), put).await;
        ensure!(!matches!(answer, Ok(Ok(_))), "it was committed");
    }
    primary.kill(leader)?;
    let release = primary.binaries()?.version.clone();
    let dir = path(primary.data_dir(leader)?)?.to_owned();
    let args = ["--data-dir", &dir, "--primary-version", &release];
    let output = replay(&standby, &args).await?;
    ensure!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout)?;
    ensure!(!said.contains("a secret value"), "{said}");
    let report: Value = serde_json::from_str(&said)?;
    let tail = &report["undetermined"][0];
    ensure!(tail["applied"] == false, "{report}");
    let listed = tail["entries"].as_array().context("no list")?;
    ensure!(
        tail["count"].as_u64() == Some(listed.len() as u64),
        "{tail}"
    );
    let (last, bound) = (listed.last().context("none")?, &report["to_index"]);
    ensure!(last["keys"] == serde_json::json!(["\"alone/2\""]), "{tail}");
    ensure!(last["kind"] == "put", "{tail}");
    let first = listed.first().context("none")?["index"].as_u64();
    ensure!(first == bound.as_u64().map(|bound| bound + 1), "{report}");
    let held = keys(&standby).await?;
    ensure!(
        !held.iter().any(|key| key.starts_with("alone/")),
        "{held:?}"
    );

    let mut taking = args.to_vec();
    taking.push("--include-undetermined");
    let report = replayed(&standby, &taking).await?;
    ensure!(report["undetermined"][0]["applied"] == true, "{report}");
    ensure!(report["to_index"] == last["index"], "{report}");
    let held = keys(&standby).await?;
    let alone = held.iter().filter(|key| key.starts_with("alone/"));
    ensure!(alone.count() == 3, "{held:?}");
    Ok(())
}

macro_rules! of {
    ($module:ident, $version:ident) => {
        mod $module {
            use anyhow::Result;

            use crate::harness::Version;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn everything_in_the_log_of_a_single_member_counts() -> Result<()> {
                Box::pin(super::killed(Version::$version, 1_000_000)).await
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_log_that_was_cut_goes_on_behind_the_database() -> Result<()> {
                Box::pin(super::killed(Version::$version, 50)).await
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_dead_primary_is_drained() -> Result<()> {
                Box::pin(super::drained(Version::$version)).await
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn two_of_three_disks_have_what_was_acknowledged() -> Result<()> {
                Box::pin(super::acknowledged(Version::$version)).await
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn what_is_undetermined_is_listed_and_left_out() -> Result<()> {
                Box::pin(super::undetermined(Version::$version)).await
            }
        }
    };
}

of!(of_3_4, V3_4);
of!(of_3_5, V3_5);
of!(of_3_6, V3_6);
of!(of_3_7, V3_7);
