//! Compares what the program knows of the primary with what the primary says itself.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use etcd_client::Client;
use serde::Deserialize;

use crate::harness::{Cluster, read_keys, read_leases};

/// One key: create revision, mod revision, version, lease.
type Meta = (i64, i64, i64, i64);

/// What the program wrote down with `--dump-state`.
#[derive(Debug, Default)]
pub(crate) struct Dump {
    revision: i64,
    keys: BTreeMap<Vec<u8>, Meta>,
    leases: BTreeMap<i64, Vec<Vec<u8>>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Key {
        key: String,
        create_revision: i64,
        mod_revision: i64,
        version: i64,
        lease: i64,
    },
    Lease {
        lease: i64,
        keys: Vec<String>,
    },
    Head {
        revision: i64,
    },
}

impl Dump {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
        let mut dump = Self::default();
        for line in text.lines() {
            match serde_json::from_str(line).with_context(|| line.to_owned())? {
                Line::Head { revision } => dump.revision = revision,
                Line::Key {
                    key,
                    create_revision,
                    mod_revision,
                    version,
                    lease,
                } => {
                    let meta = (create_revision, mod_revision, version, lease);
                    dump.keys.insert(bytes(&key), meta);
                }
                Line::Lease { lease, keys } => {
                    dump.leases
                        .insert(lease, keys.iter().map(|key| bytes(key)).collect());
                }
            }
        }
        Ok(dump)
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

/// Every key's metadata, the revision, and every lease with its keys are the primary's own.
pub(crate) async fn assert_same_state(dump: &Dump, primary: &Cluster) -> Result<()> {
    assert_same_state_of(dump, &primary.client().await?).await
}

/// The same, asked by somebody who may read everything.
pub(crate) async fn assert_same_state_of(dump: &Dump, primary: &Client) -> Result<()> {
    let (revision, keys) = read_keys(primary).await?;
    let theirs: BTreeMap<Vec<u8>, Meta> = keys
        .into_iter()
        .map(|(key, kv)| {
            (
                key,
                (kv.create_revision, kv.mod_revision, kv.version, kv.lease),
            )
        })
        .collect();
    ensure!(
        dump.revision == revision,
        "revision {} for {revision}",
        dump.revision
    );
    let different: Vec<_> = theirs
        .keys()
        .chain(dump.keys.keys())
        .filter(|key| theirs.get(*key) != dump.keys.get(*key))
        .map(|key| {
            (
                String::from_utf8_lossy(key),
                dump.keys.get(key),
                theirs.get(key),
            )
        })
        .take(10)
        .collect();
    ensure!(different.is_empty(), "key, ours, theirs: {different:?}");
    let leases: BTreeMap<i64, Vec<Vec<u8>>> = read_leases(primary)
        .await?
        .into_iter()
        .map(|(id, info)| (id, info.keys.into_iter().collect()))
        .collect();
    ensure!(
        dump.leases == leases,
        "leases: ours {:?}, theirs {leases:?}",
        dump.leases
    );
    Ok(())
}
