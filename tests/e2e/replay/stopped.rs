//! A replay that is to stop just before a mistake.

use anyhow::{Context, Result, ensure};
use etcd_client::DeleteOptions;

use super::{keys, path, refused, replayed};
use crate::harness::{Cluster, Version, assert_same_keys_and_values};

const KEYS: i64 = 20;

async fn mistake(version: Version) -> Result<()> {
    let mut primary = Cluster::builder(version).no_fsync().start().await?;
    let standby = Cluster::builder(Version::V3_7).no_fsync().start().await?;
    let by_index = Cluster::builder(Version::V3_5).no_fsync().start().await?;
    let mut kv = primary.client().await?.kv_client();
    let mut last = 0;
    for number in 0..KEYS {
        let put = kv.put(format!("k/{number:02}"), "v", None).await?;
        last = put.header().context("a header")?.revision();
    }
    let everything = DeleteOptions::new().with_prefix();
    kv.delete("k/", Some(everything)).await?;
    kv.put("after", "", None).await?;
    primary.kill(0)?;
    let release = primary.binaries()?.version.clone();
    let dir = path(primary.data_dir(0)?)?.to_owned();
    let args = |until: &'static str, last: String| {
        let mut args = vec!["--data-dir".to_owned(), dir.clone()];
        args.extend(["--primary-version".to_owned(), release.clone()]);
        args.extend([until.to_owned(), last]);
        args
    };

    let until = args("--until-revision", last.to_string());
    let until: Vec<&str> = until.iter().map(String::as_str).collect();
    let report = replayed(&standby, &until).await?;
    ensure!(report["revision"].as_i64() == Some(last), "{report}");
    let held = keys(&standby).await?;
    ensure!(held.len() as i64 == KEYS, "{held:?}");
    let why = report["stopped_by"].as_str().context("it says why")?;
    let index = report["to_index"].as_u64().context("an index")?;
    ensure!(why.contains(&format!("entry {}", index + 1)), "{report}");

    let until = args("--until-index", index.to_string());
    let until: Vec<&str> = until.iter().map(String::as_str).collect();
    let same = replayed(&by_index, &until).await?;
    ensure!(
        same["to_index"] == index && same["revision"] == last,
        "{same}"
    );
    ensure!(keys(&by_index).await? == held, "by index");

    let back = args("--until-index", (index - 1).to_string());
    let back: Vec<&str> = back.iter().map(String::as_str).collect();
    let words = ["nothing is taken back", "--until-index"];
    refused(&standby, &back, 16, &words).await?;

    // Without a limit the rest follows.
    for standby in [&standby, &by_index] {
        let report = replayed(standby, &until[..4]).await?;
        ensure!(report["from_index"] == index, "{report}");
        ensure!(keys(standby).await? == ["after"]);
    }
    primary.restart(0).await?;
    assert_same_keys_and_values(&primary, &standby).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_a_mistake_of_3_4() -> Result<()> {
    Box::pin(mistake(Version::V3_4)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_a_mistake_of_3_6() -> Result<()> {
    Box::pin(mistake(Version::V3_6)).await
}
