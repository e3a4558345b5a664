//! Random histories of a keyspace, as the records that a member stores of them.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use prost::Message;

use super::build::Bucket;
use super::judge::KeyValue;

/// A keyspace and all that was stored of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) records: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) live: BTreeMap<Vec<u8>, KeyValue>,
    pub(crate) revision: i64,
    pub(crate) scheduled: Option<i64>,
    pub(crate) finished: Option<i64>,
}

pub(crate) fn bucket_key(main: i64, sub: i64, mark: &[u8]) -> Vec<u8> {
    [&main.to_be_bytes()[..], b"_", &sub.to_be_bytes(), mark].concat()
}

impl History {
    pub(crate) fn random(rng: &mut Rng, revisions: usize, keys: usize, value_bytes: usize) -> Self {
        let mut history = Self {
            revision: 1,
            ..Self::default()
        };
        for _ in 0..revisions {
            history.revision += 1;
            let mut sub = 0;
            for _ in 0..rng.usize(1..5) {
                let name = format!("key/{:05}", rng.usize(0..keys)).into_bytes();
                if rng.u8(..) < 80 {
                    history.delete(&name, &mut sub);
                } else {
                    let value = (0..rng.usize(0..=value_bytes))
                        .map(|_| rng.u8(..))
                        .collect();
                    let lease = [0, 0, 7, -9][rng.usize(0..4)];
                    history.put(&name, value, lease, &mut sub);
                }
            }
            if sub == 0 {
                history.revision -= 1;
            } else if rng.u8(..) < 3 {
                history.compact(rng);
            }
        }
        history
    }

    pub(crate) fn put(&mut self, name: &[u8], value: Vec<u8>, lease: i64, sub: &mut i64) {
        let old = self.live.get(name);
        let kv = KeyValue {
            key: name.to_vec(),
            create_revision: old.map_or(self.revision, |old| old.create_revision),
            mod_revision: self.revision,
            version: old.map_or(1, |old| old.version + 1),
            value,
            lease,
        };
        let at = bucket_key(self.revision, *sub, b"");
        self.records.insert(at, kv.encode_to_vec());
        self.live.insert(name.to_vec(), kv);
        *sub += 1;
    }

    pub(crate) fn delete(&mut self, name: &[u8], sub: &mut i64) {
        if self.live.remove(name).is_none() {
            return;
        }
        let kv = KeyValue {
            key: name.to_vec(),
            ..KeyValue::default()
        };
        let at = bucket_key(self.revision, *sub, b"t");
        self.records.insert(at, kv.encode_to_vec());
        *sub += 1;
    }

    /// Deletes what a compaction deletes, or a part of it.
    fn compact(&mut self, rng: &mut Rng) {
        let at = rng.i64(self.revision / 2..=self.revision);
        if Some(at) <= self.scheduled {
            return;
        }
        self.scheduled = Some(at);
        let mut newest = BTreeMap::new();
        for (key, record) in &self.records {
            let main = i64::from_be_bytes(key[..8].try_into().unwrap());
            if main <= at {
                let name = KeyValue::decode(record.as_slice()).unwrap().key;
                newest.insert(name, key.clone());
            }
        }
        let kept: BTreeSet<Vec<u8>> = newest.into_values().collect();
        let doomed: Vec<Vec<u8>> = self.records.keys().cloned().collect();
        let doomed = doomed.into_iter().filter(|key| {
            let main = i64::from_be_bytes(key[..8].try_into().unwrap());
            main <= at && (key.len() == 18 || !kept.contains(key))
        });
        let doomed: Vec<Vec<u8>> = doomed.collect();
        let done = if rng.bool() {
            doomed.len()
        } else {
            rng.usize(0..=doomed.len())
        };
        for key in &doomed[..done] {
            self.records.remove(key);
        }
        if done == doomed.len() {
            self.finished = Some(at);
        }
    }

    /// All buckets of a database.
    pub(crate) fn buckets(&self) -> Vec<Bucket> {
        let mut meta =
            BTreeMap::from([(b"consistent_index".to_vec(), 77_u64.to_be_bytes().to_vec())]);
        let compaction = [("scheduled", self.scheduled), ("finished", self.finished)];
        for (name, revision) in compaction {
            if let Some(revision) = revision {
                let name = format!("{name}CompactRev").into_bytes();
                meta.insert(name, bucket_key(revision, 0, b""));
            }
        }
        let lease = (7_i64.to_be_bytes().to_vec(), b"\x08\x07\x10\x3c".to_vec());
        let of = |name: &str, elements: Vec<_>| (name.as_bytes().to_vec(), elements);
        vec![
            of("alarm", vec![(b"\x08\x05\x10\x01".to_vec(), vec![])]),
            of("auth", vec![(b"authEnabled".to_vec(), vec![1])]),
            of(
                "authRoles",
                vec![(b"r".to_vec(), b"\x0a\x01r\x12\x03\x12\x01k".to_vec())],
            ),
            of(
                "authUsers",
                vec![(
                    b"u".to_vec(),
                    b"\x0a\x01u\x12\x02$2\x1a\x01r\x22\x00".to_vec(),
                )],
            ),
            of(
                "cluster",
                vec![(b"clusterVersion".to_vec(), b"3.6.0".to_vec())],
            ),
            of("key", self.records.clone().into_iter().collect()),
            of("lease", vec![lease]),
            of(
                "members",
                vec![(
                    b"5".to_vec(),
                    br#"{"id":5,"peerURLs":["http://a"]}"#.to_vec(),
                )],
            ),
            of(
                "members_removed",
                vec![(b"6".to_vec(), b"removed".to_vec())],
            ),
            of("meta", meta.into_iter().collect()),
        ]
    }
}
