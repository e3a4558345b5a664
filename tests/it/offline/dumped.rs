//! `etcd-syncer dump wal` and `dump log`.

use std::path::Path;
use std::process::Output;

use anyhow::{Context, Result, ensure};
use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};
use etcd_syncer::entry::Committed;
use etcd_syncer::offline::capture::{Header, Writer};
use etcd_syncer::offline::committed;
use etcd_syncer::wal;
use serde_json::Value;

use crate::harness::{Cluster, Version};

pub(super) async fn dump(args: &[&str], path: &Path) -> Result<Output> {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_etcd-syncer"));
    command.arg("dump").args(args).arg(path);
    Ok(command.output().await?)
}

pub(super) async fn dump_json(args: &[&str], path: &Path) -> Result<Vec<Value>> {
    let output = dump(args, path).await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {said}", output.status);
    let lines = std::str::from_utf8(&output.stdout)?.lines();
    Ok(lines.map(serde_json::from_str).collect::<Result<_, _>>()?)
}

/// One entry of each kind that matters, with a value and secrets in them.
async fn written(version: Version) -> Result<Cluster> {
    let mut cluster = Cluster::builder(version).no_fsync().start().await?;
    let mut client = cluster.client().await?;
    let lease = client.lease_grant(600, None).await?.id();
    client
        .put(
            "a/key",
            "top-value",
            Some(PutOptions::new().with_lease(lease)),
        )
        .await?;
    client.put("b\x01", "other", None).await?;
    let ordered = Compare::value("a/key", CompareOp::Greater, "top");
    let put = TxnOp::put("c", "in txn", None);
    let refused = Txn::new()
        .when([Compare::version("c", CompareOp::Greater, 5)])
        .and_then([put.clone()]);
    client
        .txn(Txn::new().when([ordered]).and_then([put]))
        .await?;
    client.txn(refused).await?;
    client.delete("b\x01", None).await?;
    client.delete("none", None).await?;
    let user = ["user", "add", "alice", "--new-user-password", "hunter2"];
    cluster.etcdctl(&user).await?;
    cluster.stop(0).await?;
    Ok(cluster)
}

fn of_kind<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["kind"] == kind).collect()
}

async fn check(version: Version) -> Result<()> {
    let cluster = written(version).await?;
    let dir = cluster.data_dir(0)?;
    let release = cluster.binaries()?.version.clone();
    let with_effects = ["wal", "--json", "--etcd-version", &release];
    let lines = dump_json(&with_effects, dir).await?;
    let entries = wal::collect_committed(dir)?;
    ensure!(lines.len() == entries.len() + 2);
    ensure!(lines[0]["wal"]["end"] == "clean", "{}", lines[0]);
    ensure!(lines[0]["wal"]["last"] == entries.len(), "{}", lines[0]);
    ensure!(lines.last().context("totals")?["totals"]["put"]["with_effect"] == 2);

    let puts = of_kind(&lines, "put");
    ensure!(puts[0]["request"]["key"] == "a/key" && puts[1]["request"]["key"] == "b\\x01");
    ensure!(puts[0]["effect"]["revision"] == 2 && puts[0]["effect"]["puts"][0] == "a/key");
    ensure!(puts[0]["request"]["lease"] == of_kind(&lines, "lease_grant")[0]["request"]["lease"]);
    ensure!(puts[0]["request"]["value_bytes"] == 9 && puts[0]["undetermined"].is_null());
    let txns = of_kind(&lines, "txn");
    ensure!(txns[0]["effect"]["puts"][0] == "c", "{}", txns[0]);
    ensure!(
        txns[1]["effect"].is_null() && txns[1]["no_effect"].is_string(),
        "{}",
        txns[1]
    );
    let deletes = of_kind(&lines, "delete_range");
    ensure!(
        deletes[0]["effect"]["deletes"][0]["key"] == "b\\x01",
        "{}",
        deletes[0]
    );
    ensure!(deletes[1]["no_effect"].is_string(), "{}", deletes[1]);
    ensure!(of_kind(&lines, "auth_user_add")[0]["request"]["name"] == "alice");
    ensure!(of_kind(&lines, "conf_change")[0]["request"]["change"] == "add_node");

    let plain = dump(&["wal", "--etcd-version", &release], dir).await?;
    let plain = String::from_utf8(plain.stdout)?;
    ensure!(
        plain.contains("key=\"a/key\"") && plain.contains("end           \"clean\""),
        "{plain}"
    );
    let json = format!("{lines:?}");
    // A hash as 3.5 and later log it: "$2a$" in Base64.
    for secret in ["top-value", "in txn", "hunter2", "JDJh"] {
        ensure!(
            !plain.contains(secret) && !json.contains(secret),
            "{secret}"
        );
    }
    let all = dump(&["wal", "--show-values", "--show-secrets", "--from=5"], dir).await?;
    let all = String::from_utf8(all.stdout)?;
    let secret = if version == Version::V3_4 {
        "hunter2"
    } else {
        "JDJh"
    };
    for shown in ["top-value", "in txn", secret] {
        ensure!(all.contains(shown), "{shown} is not in {all}");
    }
    ensure!(
        !all.contains("| effect="),
        "nothing says how etcd applies it"
    );
    captured(dir, &release, &lines).await
}

/// The same entries in a captured log give the same lines.
async fn captured(dir: &Path, release: &str, expected: &[Value]) -> Result<()> {
    let header = Header {
        etcd_version: release.to_owned(),
        ..Header::default()
    };
    let mut bytes = Vec::new();
    let mut writer = Writer::begin(&header, &mut bytes);
    for entry in wal::collect_committed(dir)? {
        let entry: Committed = committed(entry);
        writer.entry(&entry, &mut bytes)?;
    }
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("captured");
    std::fs::write(&file, &bytes)?;
    let lines = dump_json(&["log", "--json"], &file).await?;
    ensure!(lines[0]["log"]["etcd_version"] == release);
    ensure!(lines[1..] == expected[1..]);
    bytes.truncate(bytes.len() - 1);
    std::fs::write(&file, &bytes)?;
    let lines = dump_json(&["log", "--json"], &file).await?;
    ensure!(lines.last().context("the end")?["log"]["end"] == "interrupted write");
    bytes[40] ^= 1;
    std::fs::write(&file, &bytes)?;
    let damaged = dump(&["log"], &file).await?;
    ensure!(damaged.status.code() == Some(1));
    ensure!(String::from_utf8(damaged.stderr)?.contains("offset 32"));
    Ok(())
}

#[tokio::test]
async fn a_dump_of_3_4() -> Result<()> {
    check(Version::V3_4).await
}

#[tokio::test]
async fn a_dump_of_3_5() -> Result<()> {
    check(Version::V3_5).await
}

#[tokio::test]
async fn a_dump_of_3_6() -> Result<()> {
    check(Version::V3_6).await
}

#[tokio::test]
async fn a_dump_of_3_7() -> Result<()> {
    check(Version::V3_7).await
}

#[tokio::test]
async fn what_cannot_be_dumped_is_said() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for (args, code, words) in [
        (&["wal"][..], 1, "holds no WAL"),
        (&["log"], 1, "Is a directory"),
        (&["wal", "--etcd-version", "4"], 1, "holds no WAL"),
        (&["log", "--from", "x"], 64, "invalid value"),
    ] {
        let output = dump(args, folder.path()).await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(code), "{args:?}: {said}");
        ensure!(said.contains(words), "{args:?}: {said}");
    }
    Ok(())
}
