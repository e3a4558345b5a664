//! A part of a lost primary's keys, under other names.

use anyhow::{Result, ensure};

use super::{keys, path, refused, replayed};
use crate::harness::{Cluster, Version};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_keys_in_scope_are_replayed() -> Result<()> {
    let mut primary = Cluster::builder(Version::V3_6).no_fsync().start().await?;
    let by_log = Cluster::builder(Version::V3_7).no_fsync().start().await?;
    let by_database = Cluster::builder(Version::V3_5).no_fsync().start().await?;
    let mut kv = primary.client().await?.kv_client();
    for key in ["app/1", "app/2", "app/tmp/1", "other/1"] {
        kv.put(key, "ours", None).await?;
    }
    kv.delete("app/2", None).await?;
    primary.stop(0).await?;
    let release = primary.binaries()?.version.clone();
    let data_dir = path(primary.data_dir(0)?)?.to_owned();
    let wal = format!("{data_dir}/member/wal");
    let scope = [
        "--include-prefix=app/",
        "--exclude-prefix=app/tmp/",
        "--rewrite-prefix=app/=copy/",
    ];
    for (standby, from) in [(&by_database, &data_dir), (&by_log, &wal)] {
        let plain = ["--data-dir", from, "--primary-version", &release];
        let mut theirs = standby.client().await?;
        for key in ["app/1", "copy.", "other/2"] {
            theirs.put(key, "theirs", None).await?;
        }
        refused(standby, &plain, 14, &["holds keys", "app/1"]).await?;
        let scoped = [&plain[..], &scope].concat();
        replayed(standby, &scoped).await?;
        let held = keys(standby).await?;
        ensure!(held == ["app/1", "copy.", "copy/1", "other/2"], "{held:?}");
        let value = theirs.get("app/1", None).await?;
        let value = value.kvs().first().map(|kv| kv.value().to_vec());
        ensure!(value.as_deref() == Some(b"theirs"), "{value:?}");
        // What a stream replicates stays the same.
        refused(standby, &plain, 15, &["another scope", "app/tmp/"]).await?;
        let again = replayed(standby, &scoped).await?;
        ensure!(again["batches"] == 0, "{again}");
    }
    let wrong = [
        "--data-dir",
        &wal,
        "--include-prefix=",
        "--primary-version",
        &release,
    ];
    refused(&by_log, &wrong, 64, &["--include-prefix"]).await
}
