//! The logs that real members of each release wrote, against what these members answered afterwards.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use etcd_syncer::entry::Committed;
use etcd_syncer::ids::{RaftIndex, Term};
use etcd_syncer::learner::Handout;
use etcd_syncer::pipeline::{HistoryPolicy, Pipeline, Polled};
use etcd_syncer::plan::{Limits, Write};
use etcd_syncer::resolve::{
    DigestKey, Position, PrimaryState, Put, Rules, Settings, Value, Version,
};
use etcd_syncer::scope::Scope;

/// Create revision, mod revision, version, lease.
type Meta = (i64, i64, i64, i64);

#[derive(Debug, Default)]
struct Fixture {
    revision: i64,
    keys: BTreeMap<Bytes, (Meta, Bytes)>,
    entries: Vec<Handout>,
}

fn bytes(text: &str) -> Result<Bytes> {
    let digits = if text == "-" { "" } else { text };
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16);
    Ok((0..digits.len())
        .step_by(2)
        .map(byte)
        .collect::<Result<Vec<u8>, _>>()?
        .into())
}

fn read(path: &Path) -> Result<Fixture> {
    let mut fixture = Fixture::default();
    for line in std::fs::read_to_string(path)?.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<i64>().with_context(|| line.to_owned());
        match words[0] {
            "#" => {}
            "revision" => fixture.revision = number(1)?,
            "key" => {
                let meta = (number(2)?, number(3)?, number(4)?, number(5)?);
                fixture
                    .keys
                    .insert(bytes(words[1])?, (meta, bytes(words[6])?));
            }
            "entry" => {
                let entry = Committed {
                    index: RaftIndex(number(1)?.try_into()?),
                    term: Term(number(2)?.try_into()?),
                    kind: number(3)?.try_into()?,
                    data: bytes(words[4])?,
                };
                fixture.entries.push(Handout {
                    entry,
                    members: None,
                });
            }
            other => anyhow::bail!("{other} in {}", path.display()),
        }
    }
    Ok(fixture)
}

fn pipeline(version: Version) -> Result<Pipeline> {
    let settings = Settings {
        digest_key: DigestKey::new(&[1; 32]),
        lease_ttl_min: 2,
        rules: Rules::of(version)?,
        voters: 1,
    };
    let limits = Limits {
        batch_ops_max: 100,
        batch_bytes_max: 1 << 20,
        txn_ops_max: 128,
    };
    let state = PrimaryState::new(settings, Position::START);
    let scope = Arc::new(Scope::all());
    Ok(Pipeline::new(state, scope, limits, HistoryPolicy::Keep))
}

/// Drives the log through, answering questions for values, and returns what a standby would hold.
fn replay(pipeline: &mut Pipeline) -> Result<BTreeMap<Bytes, Bytes>> {
    let mut standby: BTreeMap<Bytes, Bytes> = BTreeMap::new();
    loop {
        match pipeline.poll()? {
            Polled::Idle => return Ok(standby),
            Polled::Read(keys) => {
                let values: Vec<_> = keys
                    .into_iter()
                    .map(|key| (key.clone(), standby.get(&key).cloned()))
                    .collect();
                pipeline.provide(values)?;
            }
            Polled::Batch(batch) => {
                for write in batch.writes() {
                    match write {
                        Write::Put(Put {
                            key,
                            value: Value::Given(value),
                            ..
                        }) => {
                            standby.insert(key, value);
                        }
                        Write::Put(Put {
                            key,
                            value: Value::Kept,
                            ..
                        }) => {
                            ensure!(standby.contains_key(&key), "{key:?} keeps a value it lacks");
                        }
                        Write::Delete(range) => standby.retain(|key, _| !range.contains(key)),
                    }
                }
            }
        }
    }
}

fn check(release: &str) -> Result<()> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/entries/{release}.txt"));
    let fixture = read(&path)?;
    ensure!(
        fixture.entries.len() > 25 && fixture.keys.len() == 8,
        "{fixture:?}"
    );
    let mut pipeline = pipeline(Version::parse(release).context("a release")?)?;
    pipeline.push(fixture.entries);
    let standby = replay(&mut pipeline)?;
    let values: BTreeMap<_, _> = fixture
        .keys
        .iter()
        .map(|(key, (_, value))| (key.clone(), value.clone()))
        .collect();
    assert_eq!(standby, values);
    let ours: BTreeMap<Bytes, Meta> = pipeline
        .state()
        .keys()
        .map(|(key, meta)| {
            let meta = (meta.created.0, meta.modified.0, meta.version, meta.lease.0);
            (Bytes::copy_from_slice(key), meta)
        })
        .collect();
    let theirs: BTreeMap<_, _> = fixture
        .keys
        .into_iter()
        .map(|(key, (meta, _))| (key, meta))
        .collect();
    assert_eq!(ours, theirs);
    assert_eq!(pipeline.resolved().1.0, fixture.revision);
    Ok(())
}

#[test]
fn the_log_of_3_4() -> Result<()> {
    check("3.4.23")
}

#[test]
fn the_log_of_3_5() -> Result<()> {
    check("3.5.33")
}

#[test]
fn the_log_of_3_6() -> Result<()> {
    check("3.6.14")
}

#[test]
fn the_log_of_3_7() -> Result<()> {
    check("3.7.1")
}
