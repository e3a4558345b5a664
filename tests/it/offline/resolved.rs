//! What a primary holds, worked out from the log in its data directories.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use etcd_client::Client;
use etcd_syncer::entry;
use etcd_syncer::learner::Handout;
use etcd_syncer::offline::{Compared, Effects, Recovery};
use etcd_syncer::resolve::{
    DigestKey, Position, PrimaryState, Rules, Settings, Value, Version as Release,
};

use super::at_the_beginning;
use crate::harness::{Cluster, Keys, Stored, read_keys, read_leases};

/// Keys, leases with granted TTL and attached keys, and the revision.
#[derive(Debug, PartialEq)]
pub(super) struct Content {
    pub(super) revision: i64,
    pub(super) keys: Keys,
    leases: BTreeMap<i64, (i64, BTreeSet<Vec<u8>>)>,
}

impl Content {
    /// As the members say.
    pub(super) async fn of_members(client: &Client) -> Result<Self> {
        let (revision, keys) = read_keys(client).await?;
        let leases = read_leases(client).await?.into_iter();
        let leases = leases.map(|(id, lease)| (id, (lease.granted_ttl, lease.keys)));
        Ok(Self {
            revision,
            keys,
            leases: leases.collect(),
        })
    }

    /// As the log says.
    pub(super) fn of_log(cluster: &Cluster, recovery: &Recovery) -> Result<Self> {
        let release = cluster.binaries()?.version.clone();
        let handouts = || recovery.behind(&at_the_beginning(recovery.cluster()));
        let mut compared = Compared::default();
        for handout in handouts()? {
            compared.look_at(&handout?.entry);
        }
        let settings = Settings {
            digest_key: DigestKey::new(&[1; 32]),
            lease_ttl_min: 2,
            rules: Rules::of(Release::parse(&release).context("a release")?)?,
            voters: 1,
        };
        let state = PrimaryState::new(settings, Position::START);
        let mut effects = Effects::new(state, compared);
        let mut values: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let mut expected = 1;
        for handout in handouts()? {
            let Handout { entry, members } = handout?;
            ensure!(entry.index.0 == expected, "{entry:?} at {expected}");
            expected += 1;
            let resolved = effects.apply(&entry::decode(&entry)?)?;
            if let Some(members) = members {
                effects.set_voters(members.voters.len());
            }
            for range in &resolved.changes.deletes {
                values.retain(|key, _| !range.contains(key));
            }
            for put in resolved.changes.puts {
                if let Value::Given(value) = put.value {
                    values.insert(put.key.to_vec(), value.to_vec());
                }
            }
        }
        ensure!(expected == recovery.bound().0 + 1, "it ends at {expected}");
        let state = effects.state();
        let keys = state.keys().map(|(key, meta)| {
            let stored = Stored {
                value: values.remove(key).context("a key without a value")?,
                create_revision: meta.created.0,
                mod_revision: meta.modified.0,
                version: meta.version,
                lease: meta.lease.0,
            };
            Ok((key.to_vec(), stored))
        });
        let keys = keys.collect::<Result<Keys>>()?;
        ensure!(values.is_empty(), "{} values without a key", values.len());
        let leases = state.leases().map(|(id, lease)| {
            let keys = lease.keys().map(<[u8]>::to_vec).collect();
            (id.0, (lease.ttl(), keys))
        });
        Ok(Self {
            revision: state.position().revision.0,
            leases: leases.collect(),
            keys,
        })
    }

    pub(super) fn ensure_equals(&self, other: &Self) -> Result<()> {
        ensure!(
            self.revision == other.revision && self.keys.len() == other.keys.len(),
            "revision {} with {} keys, and {} with {}",
            self.revision,
            self.keys.len(),
            other.revision,
            other.keys.len()
        );
        let differ = self.keys.iter().find(|(key, stored)| {
            let same = other.keys.get(*key);
            same != Some(stored)
        });
        ensure!(differ.is_none(), "{differ:?}");
        ensure!(self.leases == other.leases, "leases differ");
        Ok(())
    }
}
