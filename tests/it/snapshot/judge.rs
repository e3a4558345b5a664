//! A second reader of databases, as simple as can be: it holds the whole file, recurses, checks
//! nothing, and keeps every value. What it finds in a sound file is what there is.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

/// What etcd stores of a key.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeyValue {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) key: Vec<u8>,
    #[prost(int64, tag = "2")]
    pub(crate) create_revision: i64,
    #[prost(int64, tag = "3")]
    pub(crate) mod_revision: i64,
    #[prost(int64, tag = "4")]
    pub(crate) version: i64,
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) value: Vec<u8>,
    #[prost(int64, tag = "6")]
    pub(crate) lease: i64,
}

/// Create revision, mod revision, version, lease, value.
pub(super) type Stored = (i64, i64, i64, i64, Vec<u8>);

/// A key and a value of a bucket.
pub(crate) type Pair = (Vec<u8>, Vec<u8>);

/// All elements of all buckets, in the order of the tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Judge {
    pub(super) buckets: BTreeMap<Vec<u8>, Vec<Pair>>,
}

/// What a keyspace comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Keyspace {
    pub(super) keys: BTreeMap<Vec<u8>, Stored>,
    pub(super) revision: i64,
    pub(super) compact_revision: i64,
    pub(super) reputs: BTreeSet<(i64, Vec<u8>)>,
}

/// A revision and its place in it.
pub(super) fn revision(key: &[u8]) -> (i64, i64, bool) {
    let number = |at: usize| i64::from_be_bytes(key[at..at + 8].try_into().unwrap());
    (number(0), number(9), key.len() == 18)
}

fn u16_at(bytes: &[u8], at: usize) -> usize {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap()).into()
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

fn u64_at(bytes: &[u8], at: usize) -> usize {
    usize::try_from(u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())).unwrap()
}

impl Judge {
    /// Reads a file whose meta pages are sound.
    pub(super) fn read(file: &[u8]) -> Self {
        let page_bytes = u32_at(file, 24);
        let metas = [file, &file[page_bytes..]];
        let newer = metas.into_iter().max_by_key(|meta| u64_at(meta, 64));
        Self::read_from(file, page_bytes, u64_at(newer.unwrap(), 32))
    }

    /// Reads a file with pages of this size, whose buckets are in the tree with this root.
    pub(super) fn read_from(file: &[u8], page_bytes: usize, root: usize) -> Self {
        let mut judge = Self::default();
        let mut roots = Vec::new();
        walk(file, page_bytes, &file[root * page_bytes..], &mut roots);
        for (name, value) in roots {
            let mut elements = Vec::new();
            match u64_at(&value, 0) {
                0 => walk(file, page_bytes, &value[16..], &mut elements),
                root => walk(file, page_bytes, &file[root * page_bytes..], &mut elements),
            }
            judge.buckets.insert(name, elements);
        }
        judge
    }

    pub(super) fn bucket(&self, name: &str) -> &[Pair] {
        &self.buckets[name.as_bytes()]
    }

    fn compaction(&self, name: &str) -> Option<i64> {
        let meta = self.bucket("meta").iter();
        let found = meta.clone().find(|(key, _)| key == name.as_bytes());
        found.map(|(_, value)| revision(value).0)
    }

    pub(super) fn keyspace(&self) -> Keyspace {
        let scheduled = self.compaction("scheduledCompactRev");
        let compact_revision = scheduled.max(self.compaction("finishedCompactRev"));
        let mut space = Keyspace {
            compact_revision: compact_revision.unwrap_or(-1),
            revision: compact_revision.unwrap_or(-1).max(1),
            ..Keyspace::default()
        };
        // The keys that the revision looked at has deleted so far.
        let mut deleted = BTreeSet::new();
        for (key, value) in self.bucket("key") {
            let (main, _, is_tombstone) = revision(key);
            if main > space.revision {
                deleted.clear();
            }
            space.revision = space.revision.max(main);
            let kv = KeyValue::decode(value.as_slice()).unwrap();
            if kv.key.is_empty() {
                continue;
            }
            if is_tombstone {
                space.keys.remove(&kv.key);
                space.reputs.remove(&(main, kv.key.clone()));
                deleted.insert((main, kv.key));
                continue;
            }
            if main > space.compact_revision && deleted.contains(&(main, kv.key.clone())) {
                space.reputs.insert((main, kv.key.clone()));
            }
            let stored = (
                kv.create_revision,
                kv.mod_revision,
                kv.version,
                kv.lease,
                kv.value,
            );
            space.keys.insert(kv.key, stored);
        }
        space
    }

    /// The hash that a member answers for its current revision.
    pub(super) fn hash_kv(&self) -> u32 {
        let compact_revision = self.keyspace().compact_revision;
        hash_kv(self.bucket("key"), compact_revision)
    }
}

/// The hash of the elements of bucket `key`, in their order.
pub(super) fn hash_kv(elements: &[Pair], compact_revision: i64) -> u32 {
    let mut newest = BTreeMap::new();
    for (key, value) in elements {
        let name = KeyValue::decode(value.as_slice()).unwrap().key;
        newest.insert(name, key);
    }
    let kept: BTreeSet<&[u8]> = newest.into_values().map(Vec::as_slice).collect();
    let kept: BTreeSet<&[u8]> = kept
        .into_iter()
        .filter(|key| revision(key).0 <= compact_revision && !revision(key).2)
        .collect();
    let mut hash = crc32c::crc32c(b"key");
    for (key, value) in elements {
        let (main, _, is_tombstone) = revision(key);
        let is_superseded = main <= compact_revision && !kept.contains(key.as_slice());
        let is_last_tombstone = main == compact_revision && is_tombstone;
        if (is_superseded && !kept.is_empty()) || is_last_tombstone {
            continue;
        }
        hash = crc32c::crc32c_append(hash, key);
        hash = crc32c::crc32c_append(hash, value);
    }
    hash
}

/// Adds all elements below a page, which these bytes begin with.
fn walk(file: &[u8], page_bytes: usize, page: &[u8], found: &mut Vec<Pair>) {
    for i in 0..u16_at(page, 10) {
        let element = &page[16 + 16 * i..];
        if u16_at(page, 8) == 1 {
            let child = u64_at(element, 8);
            walk(file, page_bytes, &file[child * page_bytes..], found);
        } else {
            let (pos, key, value) = (u32_at(element, 4), u32_at(element, 8), u32_at(element, 12));
            let bytes = &element[pos..pos + key + value];
            found.push((bytes[..key].to_vec(), bytes[key..].to_vec()));
        }
    }
}
