//! Damaged and hostile files: each is refused with its reason, or read as what it says.

use std::io;

use etcd_syncer::snapshot::bbolt::{Database, PageSource};
use etcd_syncer::snapshot::read;
use fastrand::Rng;

use super::build::{Bucket, Built, Meta, Page, Shape, build};
use super::history::{History, bucket_key};
use super::judge::Judge;
use super::shapes::{Counted, assert_equal, elements};

/// Bucket `key` has branches at two levels, and some pages go on over others.
fn sound() -> Built {
    let mut history = History::random(&mut Rng::with_seed(7), 60, 30, 60);
    history.revision += 1;
    history.put(b"long", vec![b'v'; 5000], 0, &mut 0);
    let shape = Shape {
        page_bytes: 1024,
        elements_max: 4,
        inline_bytes_max: 256,
        ..Shape::ETCD
    };
    build(&shape, &history.buckets())
}

/// Asserts that the changed file is refused with this reason.
fn refused(reason: &str, change: impl FnOnce(&mut Built)) {
    let mut built = sound();
    assert!(read(built.file.as_slice()).is_ok());
    change(&mut built);
    match read(built.file.as_slice()) {
        Ok(_) => panic!("read, instead of: {reason}"),
        Err(error) => {
            let shown = error.to_string();
            assert!(shown.contains(reason), "{shown} instead of: {reason}");
        }
    }
}

impl Built {
    /// A page of bucket `key`, which has the deepest tree.
    fn page(&self, is_leaf: bool) -> Page {
        let pages = self
            .pages
            .iter()
            .filter(|page| page.is_leaf == is_leaf && page.depth > 0);
        let found = pages.clone().find(|page| page.count > 2 && page.pages == 1);
        found.unwrap_or_else(|| panic!("{:?}", self.pages)).clone()
    }

    fn set(&mut self, at: usize, bytes: &[u8]) {
        self.file[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn get(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.file[at..at + 4].try_into().unwrap())
    }

    /// Where an element's key begins.
    fn key_at(&self, element: usize, pos: usize) -> usize {
        element + self.get(element + pos) as usize
    }
}

#[test]
fn headers_are_checked() {
    for is_leaf in [true, false] {
        let at = move |built: &Built| built.at(&built.page(is_leaf));
        refused("it says that it is page 1", |b| b.set(at(b), &[1, 0, 0, 0]));
        for flags in [0_u8, 3, 4, 0x10, 0x82] {
            refused("neither branch nor leaf", |b| b.set(at(b) + 8, &[flags]));
        }
        refused("neither branch nor leaf", |b| b.set(at(b) + 9, &[1]));
        for overflow in [1 << 16, u32::MAX] {
            let overflow = overflow.to_le_bytes();
            refused("behind the end of the database", |b| {
                b.set(at(b) + 12, &overflow)
            });
        }
        refused("elements do not fit in", |b| b.set(at(b) + 10, &[200, 0]));
        refused("elements do not fit in", |b| {
            b.set(at(b) + 10, &[0xff, 0xff])
        });
        // The pages that follow belong to others.
        refused("it is reached twice", |b| b.set(at(b) + 12, &[9]));
    }
    refused("a branch without children", |b| {
        b.set(b.at(&b.page(false)) + 10, &[0])
    });
    refused("a branch beside leaves", |b| {
        let last = b
            .pages
            .iter()
            .rfind(|page| page.is_leaf && page.depth > 0)
            .unwrap();
        b.set(b.at(last) + 8, &[1]);
    });
    refused("a leaf beside branches", |b| {
        let branches = b
            .pages
            .iter()
            .filter(|page| !page.is_leaf && page.depth == 1);
        let last = branches.max_by_key(|page| page.id).unwrap();
        b.set(b.at(last) + 8, &[2]);
    });
}

#[test]
fn elements_are_checked() {
    for (is_leaf, pos, key, value) in [(true, 4, 8, Some(12)), (false, 0, 4, None)] {
        let second = move |b: &Built| b.element_at(&b.page(is_leaf), 1);
        for step in [1_u32, u32::MAX, 1 << 30] {
            refused("element 1 does not begin where", |b| {
                let at = second(b) + pos;
                b.set(at, &b.get(at).wrapping_add(step).to_le_bytes());
            });
        }
        for length in [0_u32, 32_769, u32::MAX] {
            refused("the key of element 1 has", |b| {
                b.set(second(b) + key, &length.to_le_bytes())
            });
        }
        refused("element 1 ends behind the page", |b| {
            b.set(second(b) + key, &[0, 0x10])
        });
        if !is_leaf {
            refused("element 2 does not begin where", |b| {
                let at = second(b) + key;
                b.set(at, &(b.get(at) + 1).to_le_bytes());
            });
        }
        if let Some(value) = value {
            for length in [1_u32 << 12, u32::MAX] {
                let length = length.to_le_bytes();
                refused("element 1 ends behind the page", |b| {
                    b.set(second(b) + value, &length)
                });
            }
            refused("the flags of element 1 are 0x2", |b| b.set(second(b), &[2]));
            refused("the flags of element 1 are 0x1000001", |b| {
                b.set(second(b), &[1, 0, 0, 1])
            });
            refused("a bucket inside a bucket", |b| b.set(second(b), &[1]));
        }
        let third = move |b: &Built| b.key_at(b.element_at(&b.page(is_leaf), 2), pos);
        let first = move |b: &Built| b.key_at(b.element_at(&b.page(is_leaf), 0), pos);
        refused("the key of element 2 is not above", |b| {
            b.set(third(b), &[0; 8])
        });
        refused("outside the range that the parent", |b| {
            b.set(first(b), &[0; 8])
        });
        refused("outside the range that the parent", |b| {
            let page = b.page(is_leaf);
            let last = b.element_at(&page, page.count - 1);
            b.set(b.key_at(last, pos), &[0x7f; 8]);
        });
    }
    refused("lies outside all buckets", |b| {
        // The tree of buckets was laid out last.
        let leaf = b.pages.iter().rfind(|page| page.is_leaf).unwrap();
        b.set(b.element_at(leaf, 0), &[0]);
    });
}

#[test]
fn children_are_checked() {
    let child = |b: &Built| b.element_at(&b.page(false), 1) + 8;
    for id in [0, 1, 10_000, u64::MAX] {
        refused("there is no such page", |b| {
            b.set(child(b), &id.to_le_bytes())
        });
    }
    refused("there is no such page", |b| {
        b.set(child(b), &b.high_water.to_le_bytes())
    });
    refused("it is reached twice", |b| {
        let root = b.pages[b.root].id as u64;
        b.set(child(b), &root.to_le_bytes());
    });
    refused("it is reached twice", |b| {
        let other = b.file[child(b) + 16..][..8].to_vec();
        b.set(child(b), &other);
    });
    // Page 2 is free and was never written.
    refused("it says that it is page 0", |b| {
        b.set(child(b), &2_u64.to_le_bytes())
    });
}

/// A database whose root is a chain of branches.
fn chain(levels: usize) -> Vec<u8> {
    let mut built = sound();
    let page_bytes = built.page_bytes;
    let first = built.high_water;
    let high_water = first + levels as u64;
    for (id, at) in (first..high_water).zip(0_usize..) {
        let mut page = vec![0; page_bytes];
        page[..8].copy_from_slice(&id.to_le_bytes());
        let is_last = at + 1 == levels;
        page[8] = if is_last { 2 } else { 1 };
        if !is_last {
            page[10] = 1;
            page[16] = 16;
            page[20] = 1;
            page[24..32].copy_from_slice(&(id + 1).to_le_bytes());
        }
        built.file.extend(page);
    }
    let meta = Meta {
        root: first,
        high_water,
        txid: 9,
    };
    built.write_meta(0, meta);
    built.file
}

#[test]
fn trees_are_not_deeper_than_any_is() {
    let opened = |levels| {
        let file = chain(levels);
        let database = Database::open(file.as_slice()).unwrap();
        let buckets = database.buckets().map(|(_, buckets)| buckets.len());
        buckets.map_err(|error| error.to_string())
    };
    assert_eq!(opened(1), Ok(0));
    assert_eq!(opened(32), Ok(0));
    let error = opened(33).unwrap_err();
    assert!(error.contains("more than 32 levels deep"), "{error}");
    assert!(opened(5000).is_err());
}

/// A file with a long hole behind what there is.
struct Sparse(Vec<u8>, u64);

impl PageSource for Sparse {
    fn size(&self) -> u64 {
        self.1
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = self.0.len().min(offset.try_into().unwrap_or(usize::MAX));
        let end = self.0.len().min(start.saturating_add(buffer.len()));
        buffer.fill(0);
        buffer[..end - start].copy_from_slice(&self.0[start..end]);
        Ok(())
    }
}

#[test]
fn a_page_that_claims_to_be_huge_is_not_loaded() {
    let mut built = sound();
    let pages = 1_u64 << 40;
    let root = built.pages[built.root].clone();
    let meta = Meta {
        root: root.id as u64,
        high_water: 1 << 32,
        txid: 9,
    };
    built.write_meta(0, meta);
    built.set(built.at(&root) + 12, &(1_u32 << 31).to_le_bytes());
    let error = read(Sparse(built.file, pages << 10))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("2199023256576 bytes, more than the 536870912"),
        "{error}"
    );
}

/// The file with other content of its buckets.
fn with(change: impl FnOnce(&mut Vec<Bucket>)) -> Result<(), String> {
    let history = History::random(&mut Rng::with_seed(8), 40, 20, 30);
    let mut buckets = history.buckets();
    change(&mut buckets);
    let built = build(&Shape::ETCD, &buckets);
    read(built.file.as_slice())
        .map(drop)
        .map_err(|error| error.to_string())
}

/// Adds an element to a bucket, or replaces it.
fn put<'a>(bucket: &'a str, key: &'a [u8], value: &'a [u8]) -> impl FnOnce(&mut Vec<Bucket>) + 'a {
    move |buckets| {
        let found = buckets
            .iter_mut()
            .find(|(name, _)| name == bucket.as_bytes());
        let (_, elements) = found.unwrap();
        elements.retain(|(other, _)| other != key);
        elements.push((key.to_vec(), value.to_vec()));
        elements.sort();
    }
}

#[test]
fn records_are_checked() {
    let last = i64::MAX;
    let key = |mark: &[u8]| bucket_key(last, 0, mark);
    assert_eq!(with(put("key", &key(b""), b"")), Ok(()));
    let put_at_last = [
        b"\x0a\x01k\x10\x01\x18".as_slice(),
        &[0xff; 8],
        b"\x7f\x20\x01",
    ]
    .concat();
    assert_eq!(with(put("key", &key(b""), &put_at_last)), Ok(()));
    let twice = |buckets: &mut Vec<Bucket>| {
        put("key", &key(b""), &put_at_last)(buckets);
        put("key", &key(b"t"), b"\x0a\x01k")(buckets);
    };
    let rows: [(&str, &[u8], &[u8], &str); 20] = [
        ("key", &key(b"x"), b"\x0a\x01k", "unknown mark"),
        ("key", b"short", b"\x0a\x01k", "5 bytes"),
        ("key", &key(b"t"), b"", "a tombstone without a key"),
        ("key", &key(b""), b"\x10\x01", "a put without a key"),
        (
            "key",
            &key(b""),
            b"\x0a\x01k\x10\x01\x18\x02\x20\x01",
            "different revisions",
        ),
        ("key", &key(b""), b"\x0a\x09k", "end inside a field"),
        (
            "meta",
            b"consistent_index",
            b"1",
            "the consistent index has 1 bytes",
        ),
        ("meta", b"finishedCompactRev", b"", "0 bytes"),
        ("meta", b"confState", b"{", "cannot be read"),
        ("meta", b"storageVersion", b"\xff", "not UTF-8"),
        ("meta", b"zz", b"", "no known release"),
        ("auth", b"authEnabled", b"\x02", "no known release"),
        ("auth", b"authRevision", b"\x02", "1 bytes"),
        ("authUsers", b"v", b"\x0a\x01u", "different users"),
        ("authRoles", b"v", b"\x0a\x01u", "different roles"),
        ("lease", &[0; 8], b"\x08\x07\x10\x3c", "different leases"),
        ("alarm", b"\x10\x01", b"x", "the value of an alarm"),
        ("members", b"9", b"{}", "cannot be read"),
        ("members_removed", b"x", b"removed", "no member id"),
        ("cluster", b"other", b"", "no known release"),
    ];
    for (bucket, key, value, reason) in rows {
        let error = with(put(bucket, key, value)).unwrap_err();
        let place = format!("a record of bucket \"{bucket}\", value at byte ");
        assert!(
            error.contains(&place) && error.contains(reason),
            "{error}: {reason}"
        );
    }
    assert!(
        with(twice)
            .unwrap_err()
            .contains("two records of one revision")
    );
}

#[test]
fn a_bucket_that_is_missing_is_not_an_empty_one() {
    let names = History::default()
        .buckets()
        .into_iter()
        .map(|(name, _)| name);
    for (at, name) in names.enumerate() {
        let name = String::from_utf8(name).unwrap();
        let error = with(|buckets| drop(buckets.remove(at))).unwrap_err();
        assert!(error.contains(&format!("no bucket \"{name}\"")), "{error}");
    }
    let history = History::default();
    let mut buckets = history.buckets();
    buckets.push((b"other".to_vec(), vec![(b"k".to_vec(), b"v".to_vec())]));
    let built = build(&Shape::ETCD, &buckets);
    let contents = read(built.file.as_slice()).unwrap();
    assert_eq!(contents.unknown_buckets, [b"other".as_slice().into()]);
    assert_eq!(
        (contents.revision.0, contents.compaction.revision().0),
        (1, -1)
    );
}

/// Damages a file in one of many ways.
fn mutate(built: &mut Built, rng: &mut Rng) {
    let page = built.pages[rng.usize(0..built.pages.len())].clone();
    let (page_at, length) = (built.at(&page), built.file.len());
    let number = [0, 1, 2, 3, 16, 255, 4096, 65_535, u32::MAX][rng.usize(0..9)].to_le_bytes();
    match rng.usize(0..7) {
        0 => {
            for _ in 0..rng.usize(1..10) {
                built.file[rng.usize(0..length)] = rng.u8(..);
            }
        }
        1 => built.file[page_at + rng.usize(0..16)] = rng.u8(..),
        2 => built.set(page_at + 4 * rng.usize(0..4), &number),
        3 if page.count > 0 => {
            let element = built.element_at(&page, rng.usize(0..page.count));
            built.set(element + 4 * rng.usize(0..4), &number);
        }
        4 if page.count > 0 => {
            // To another page of the file, or near it.
            let element = built.element_at(&page, rng.usize(0..page.count));
            let other = built.pages[rng.usize(0..built.pages.len())].id as u64 + rng.u64(0..2);
            built.set(element + 8, &other.to_le_bytes());
        }
        5 => built.file.truncate(rng.usize(0..length)),
        _ => {
            // A page in the place of another one.
            let from = rng.usize(0..length / built.page_bytes) * built.page_bytes;
            let to = rng.usize(0..length / built.page_bytes) * built.page_bytes;
            built.file.copy_within(from..from + built.page_bytes, to);
        }
    }
}

/// A file that bbolt wrote.
fn fixture(name: &str, page_bytes: usize) -> Built {
    let file = super::fixtures::file(name);
    let number = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    let tree_pages = (0..file.len() / page_bytes).filter(|id| {
        let at = id * page_bytes;
        number(at) == *id && [1, 2].contains(&file[at + 8])
    });
    let pages = tree_pages.map(|id| Page {
        id,
        is_leaf: file[id * page_bytes + 8] == 2,
        count: number(id * page_bytes + 8) >> 16,
        pages: number(id * page_bytes + 12) + 1,
        depth: 0,
    });
    let pages: Vec<Page> = pages.collect();
    assert!(pages.len() > 8, "{pages:?}");
    Built {
        pages,
        page_bytes,
        high_water: (file.len() / page_bytes) as u64,
        root: 0,
        file,
    }
}

#[test]
fn damaged_files_are_refused_or_read_as_what_they_say() {
    let bases = [
        sound(),
        fixture("1k-freelist.db", 1024),
        fixture("4k-freelist.db", 4096),
    ];
    let (mut refused, mut read_rightly) = (0, 0);
    for (seed, base) in (0..1500).zip(bases.iter().cycle()) {
        let mut rng = Rng::with_seed(seed);
        let mut built = base.clone();
        for _ in 0..rng.usize(1..3) {
            if built.file.len() == base.file.len() {
                mutate(&mut built, &mut rng);
            }
        }
        let counted = Counted::new(&built.file);
        let outcome = read(&counted);
        let limit = 2 * base.file.len() as u64 + (2 << 20);
        assert!(counted.read_bytes.get() < limit, "seed {seed}");
        assert!(
            counted.longest.get() <= built.file.len().max(80),
            "seed {seed}"
        );
        let Ok(contents) = outcome else {
            refused += 1;
            continue;
        };
        let meta = contents.database;
        let [page_bytes, root] = [meta.page_bytes, meta.root].map(|n| usize::try_from(n).unwrap());
        let judge = Judge::read_from(&built.file, page_bytes, root);
        assert_eq!(elements(&built.file), judge, "seed {seed}");
        assert_equal(&contents, &built.file, &judge.keyspace());
        read_rightly += 1;
    }
    assert!(
        refused > 700 && read_rightly > 300,
        "{refused} {read_rightly}"
    );
}
