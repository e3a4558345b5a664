//! Whether two clusters hold the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use etcd_client::{Client, GetOptions, LeaseTimeToLiveOptions};

use super::cluster::Cluster;
use super::poll::eventually;

/// Keys with this prefix are the syncer's own: comparisons leave them out.
pub const META_PREFIX: &[u8] = b"-etcd-syncer-meta-/";
const PAGE: i64 = 1000;
const ANSWER_BYTES: usize = 512 << 20;
const SHOWN_DIFFERENCES: usize = 20;
const SHOWN_BYTES: usize = 64;

/// What a cluster holds under one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub value: Vec<u8>,
    pub create_revision: i64,
    pub mod_revision: i64,
    pub version: i64,
    /// 0 if no lease is attached.
    pub lease: i64,
}

/// All keys of a cluster.
pub type Keys = BTreeMap<Vec<u8>, Stored>;

/// A lease of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseInfo {
    /// In seconds, as granted.
    pub granted_ttl: i64,
    /// In seconds, what is left.
    pub ttl: i64,
    pub keys: BTreeSet<Vec<u8>>,
}

/// Whether the standby may have empty leases that the primary does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftOver {
    None,
    Allowed,
}

/// Reads all keys at one revision, in pages of 1000, and returns that revision too.
///
/// # Errors
/// If a page can't be read, be it since the revision was compacted meanwhile.
pub async fn read_keys(client: &Client) -> Result<(i64, Keys)> {
    let mut kv = client.kv_client().max_decoding_message_size(ANSWER_BYTES);
    let mut keys = Keys::new();
    let mut revision = 0;
    let mut from = vec![0];
    loop {
        let options = GetOptions::new()
            .with_from_key()
            .with_limit(PAGE)
            .with_revision(revision);
        let mut page = kv.get(from, Some(options)).await.with_context(|| {
            let count = keys.len();
            format!("can't read the keys behind the first {count} at revision {revision}")
        })?;
        if revision == 0 {
            let header = page.header().context("a page of keys has no header")?;
            revision = header.revision();
        }
        let more = page.more();
        for kv in page.take_kvs() {
            let stored = Stored {
                create_revision: kv.create_revision(),
                mod_revision: kv.mod_revision(),
                version: kv.version(),
                lease: kv.lease(),
                value: kv.value().to_vec(),
            };
            keys.insert(kv.into_key_value().0, stored);
        }
        from = match keys.last_key_value() {
            Some((last, _)) if more => [last.as_slice(), &[0]].concat(),
            _ => return Ok((revision, keys)),
        };
    }
}

/// Reads all leases with their keys.
///
/// # Errors
/// If a request fails. A lease that ends in between is left out.
pub async fn read_leases(client: &Client) -> Result<BTreeMap<i64, LeaseInfo>> {
    let mut lease_client = client.lease_client();
    let listed = lease_client.leases().await.context("can't list leases")?;
    let mut leases = BTreeMap::new();
    for status in listed.leases() {
        let id = status.id();
        let options = LeaseTimeToLiveOptions::new().with_keys();
        let answer = lease_client
            .time_to_live(id, Some(options))
            .await
            .with_context(|| format!("can't read lease {id:x}"))?;
        if answer.ttl() >= 0 {
            let lease = LeaseInfo {
                granted_ttl: answer.granted_ttl(),
                ttl: answer.ttl(),
                keys: answer.keys().iter().cloned().collect(),
            };
            leases.insert(id, lease);
        }
    }
    Ok(leases)
}

/// One line for each key that only one side has or whose values differ, the syncer's own left out.
pub fn key_differences(primary: &Keys, standby: &Keys) -> Vec<String> {
    let all: BTreeSet<&Vec<u8>> = primary.keys().chain(standby.keys()).collect();
    let foreign = all.into_iter().filter(|key| !key.starts_with(META_PREFIX));
    foreign
        .filter_map(|key| {
            let what = match (primary.get(key), standby.get(key)) {
                (Some(a), Some(b)) if a.value == b.value => return None,
                (Some(a), Some(b)) => format!("primary {}, standby {}", show(a), show(b)),
                (Some(a), None) => format!("missing on the standby; primary {}", show(a)),
                (None, Some(b)) => format!("only on the standby: {}", show(b)),
                (None, None) => return None,
            };
            Some(format!("{}: {what}", show_bytes(key)))
        })
        .collect()
}

/// One line for each lease that only one side has, or whose granted TTL or keys differ. The
/// syncer's own keys are left out, and so is a lease to which nothing else is attached.
pub fn lease_differences(
    primary: &BTreeMap<i64, LeaseInfo>,
    standby: &BTreeMap<i64, LeaseInfo>,
) -> Vec<String> {
    let (primary, standby) = (foreign_leases(primary), foreign_leases(standby));
    let all: BTreeSet<i64> = primary.keys().chain(standby.keys()).copied().collect();
    all.into_iter()
        .filter(|id| primary.get(id) != standby.get(id))
        .map(|id| {
            let show = |side: &BTreeMap<i64, (i64, Vec<String>)>| match side.get(&id) {
                Some((ttl, keys)) => format!("{ttl} s on [{}]", keys.join(", ")),
                None => "none".to_owned(),
            };
            let (primary, standby) = (show(&primary), show(&standby));
            format!("lease {id:x}: primary {primary}, standby {standby}")
        })
        .collect()
}

/// Granted TTL and shown keys of the leases that are not the syncer's own.
fn foreign_leases(leases: &BTreeMap<i64, LeaseInfo>) -> BTreeMap<i64, (i64, Vec<String>)> {
    let mut foreign = BTreeMap::new();
    for (id, lease) in leases {
        let keys = lease
            .keys
            .iter()
            .filter(|key| !key.starts_with(META_PREFIX));
        let keys: Vec<String> = keys.map(|key| show_bytes(key)).collect();
        if !keys.is_empty() || lease.keys.is_empty() {
            foreign.insert(*id, (lease.granted_ttl, keys));
        }
    }
    foreign
}

/// Succeeds if both clusters hold the same keys with the same values, the syncer's own left out.
///
/// # Errors
/// If not, with the first 20 differences, or if a cluster can't be read.
pub async fn assert_same_keys_and_values(primary: &Cluster, standby: &Cluster) -> Result<()> {
    let (primary_revision, primary) = read_side(primary, "primary").await?;
    let (standby_revision, standby) = read_side(standby, "standby").await?;
    report(
        &key_differences(&primary, &standby),
        &format!(
            "keys differ between primary ({} at revision {primary_revision}) and standby ({} at \
             revision {standby_revision})",
            primary.len(),
            standby.len()
        ),
    )
}

async fn read_side(cluster: &Cluster, side: &str) -> Result<(i64, Keys)> {
    read_keys(&cluster.client().await?)
        .await
        .with_context(|| format!("can't read the {side}"))
}

/// Waits until [`assert_same_keys_and_values`] succeeds.
///
/// # Errors
/// At the deadline, with the last differences.
pub async fn wait_same_keys_and_values(
    primary: &Cluster,
    standby: &Cluster,
    within: Duration,
) -> Result<()> {
    eventually("the standby equals the primary", within, async || {
        assert_same_keys_and_values(primary, standby).await
    })
    .await
}

/// Succeeds if both clusters have the same leases with the same keys; TTLs may differ. The syncer's
/// own keys are left out, and so is a lease without keys that only the standby has if `left_over`.
///
/// # Errors
/// If not, with the first 20 differences, or if a cluster can't be read.
pub async fn assert_same_lease_keys(
    primary: &Cluster,
    standby: &Cluster,
    left_over: LeftOver,
) -> Result<()> {
    let without_ttl = |leases: BTreeMap<i64, LeaseInfo>| {
        let each = leases.into_iter();
        each.map(|(id, lease)| {
            let (granted_ttl, ttl, keys) = (0, 0, lease.keys);
            let lease = LeaseInfo {
                granted_ttl,
                ttl,
                keys,
            };
            (id, lease)
        })
        .collect()
    };
    let primary = read_leases(&primary.client().await?).await;
    let standby = read_leases(&standby.client().await?).await;
    let primary: BTreeMap<_, _> = without_ttl(primary.context("can't read the primary")?);
    let mut standby = without_ttl(standby.context("can't read the standby")?);
    if left_over == LeftOver::Allowed {
        standby.retain(|id, lease| primary.contains_key(id) || !lease.keys.is_empty());
    }
    let differences = lease_differences(&primary, &standby);
    report(&differences, "leases differ between primary and standby")
}

/// Succeeds if both clusters have the same leases with the same granted TTLs and keys, see
/// [`lease_differences`].
///
/// # Errors
/// If not, with the first 20 differences, or if a cluster can't be read.
pub async fn assert_same_leases(primary: &Cluster, standby: &Cluster) -> Result<()> {
    let primary = read_leases(&primary.client().await?).await;
    let standby = read_leases(&standby.client().await?).await;
    let primary = primary.context("can't read the primary")?;
    let standby = standby.context("can't read the standby")?;
    let differences = lease_differences(&primary, &standby);
    report(&differences, "leases differ between primary and standby")
}

fn report(differences: &[String], what: &str) -> Result<()> {
    if differences.is_empty() {
        return Ok(());
    }
    let count = differences.len();
    let shown = &differences[..count.min(SHOWN_DIFFERENCES)];
    let rest = match count - shown.len() {
        0 => String::new(),
        more => format!("\n  and {more} more"),
    };
    bail!("{count} {what}:\n  {}{rest}", shown.join("\n  "))
}

fn show(stored: &Stored) -> String {
    format!(
        "{} (mod {}, create {}, version {}, lease {:x})",
        show_bytes(&stored.value),
        stored.mod_revision,
        stored.create_revision,
        stored.version,
        stored.lease
    )
}

fn show_bytes(bytes: &[u8]) -> String {
    if bytes.len() <= SHOWN_BYTES {
        return format!("\"{}\"", bytes.escape_ascii());
    }
    let start = bytes[..SHOWN_BYTES].escape_ascii();
    format!("\"{start}\"... ({} bytes)", bytes.len())
}
