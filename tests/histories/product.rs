//! What the program itself reads out of a stopped member's files, held against the readers here.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, ensure};
use bytes::Bytes;
use etcd_syncer::offline::committed;
use etcd_syncer::resolve::{DigestKey, Settings};
use etcd_syncer::snapshot::{self, DbFile};
use etcd_syncer::wal;

use crate::compare;
use crate::judge::{Judge, rules};
use crate::picture::Picture;
use crate::wal::Log;

/// What is different between the log and the database as the program reads them, and as they are.
pub(crate) fn differences(
    dir: &Path,
    release: &str,
    log: &Log,
    judge: &Judge,
) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let wal = wal::Wal::open(wal::locate(dir)?)?;
    let entries = wal.all_entries().map(|entry| Ok(committed(entry?)));
    let entries: Vec<_> = entries.collect::<Result<_>>()?;
    if entries != log.entries {
        found.push(format!(
            "the program reads {} entries, not {}",
            entries.len(),
            log.entries.len()
        ));
    }
    if wal.commit().0 != log.commit {
        found.push(format!(
            "the program reads commit {}, not {}",
            wal.commit(),
            log.commit
        ));
    }
    let file = DbFile::open(&dir.join("member/snap/db"))?;
    let contents = snapshot::read(&file)?;
    let settings = Settings {
        digest_key: DigestKey::new(&[1; 32]),
        lease_ttl_min: 0,
        rules: rules(release)?,
        voters: 1,
    };
    let digests = snapshot::digests(&file, &contents.keys, &settings.digest_key)?;
    let state = contents.primary_state(settings, |place, _| digests[place]);
    let values: BTreeMap<Bytes, Bytes> = judge.values().clone();
    ensure!(
        values.len() == contents.keys.len(),
        "keys of the database: {}",
        contents.keys.len()
    );
    let mut read = Picture::of_state(&state, &values, &BTreeMap::new())?;
    read.history.clone_from(&judge.picture()?.history);
    let differences = compare::differences(judge, &read)?;
    found.extend(
        differences
            .into_iter()
            .map(|line| format!("by the program: {line}")),
    );
    // Only what is still in the database can be known from it.
    let compact = judge.state().position().compact_revision;
    let reputs = |of: &etcd_syncer::resolve::PrimaryState| -> Vec<_> {
        let reputs = of.reputs().filter(|(revision, _)| *revision > compact);
        reputs
            .map(|(revision, keys)| (revision, keys.map(<[u8]>::to_vec).collect::<Vec<_>>()))
            .collect()
    };
    if reputs(&state) != reputs(judge.state()) {
        found.push(format!(
            "deleted and put: {:?}, {:?}",
            reputs(&state),
            reputs(judge.state())
        ));
    }
    Ok(found)
}
