//! `etcd-syncer status`.

use anyhow::{Result, ensure};
use serde_json::Value;

use super::{assert_says, pair, run, streaming};
use crate::harness::{Syncer, free_port};

#[tokio::test]
async fn status_shows_a_running_process_as_text_and_as_json() -> Result<()> {
    let (primary, standby) = pair().await?;
    let (syncer, learner) = streaming(&primary, Syncer::builder(&primary, &standby)?).await?;
    let folder = tempfile::tempdir()?;
    let address = syncer.status_address();
    let args = ["status", "--listen-status", &address];
    let output = run(folder.path(), &args, &[]).await?;
    ensure!(output.status.success(), "{output:?}");
    let (ours, theirs) = (primary.cluster_id().await?, standby.cluster_id().await?);
    let text = String::from_utf8(output.stdout)?;
    let lines = [
        "stream      test (streaming)".to_owned(),
        "ready       yes".to_owned(),
        format!("primary     cluster {ours:x}, we are member {learner:x}"),
        format!("standby     cluster {theirs:x}"),
        format!("leader      {:x}, term ", primary.member_id(0)?),
        "lag         0 entries".to_owned(),
        "raft index  received ".to_owned(),
        "revision    primary 1, ".to_owned(),
        "batches     ".to_owned(),
        "entries     conf_change: ".to_owned(),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    assert_says(&text, &lines)?;
    ensure!(!text.contains("WARNING"), "{text}");

    // The address can come from the environment as well.
    let env = [("ETCD_SYNCER_LISTEN_STATUS", address.as_str())];
    let output = run(folder.path(), &["status", "--json"], &env).await?;
    ensure!(output.status.success(), "{output:?}");
    let shown: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(shown["member_id"] == format!("{learner:x}"), "{shown}");
    let page = syncer.status().await?;
    for field in ["phase", "raft", "revision", "entries"] {
        let keys = |value: &Value| value[field].as_object().map(|map| map.len());
        ensure!(keys(&shown) == keys(&page), "{field}: {shown} and {page}");
    }
    Ok(())
}

#[tokio::test]
async fn status_of_nobody_says_where_it_looked() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let address = format!("127.0.0.1:{}", free_port()?);
    let args = ["status", "--listen-status", &address];
    let output = run(folder.path(), &args, &[]).await?;
    ensure!(output.status.code() == Some(1), "{output:?}");
    ensure!(output.stdout.is_empty(), "{output:?}");
    let said = String::from_utf8(output.stderr)?;
    let words = [
        "no status from",
        &address,
        "refused",
        "is etcd-syncer running",
    ];
    assert_says(&said, &words)?;
    let output = run(folder.path(), &["status", "--listen-status", "x"], &[]).await?;
    ensure!(output.status.code() == Some(1), "{output:?}");
    Ok(())
}
