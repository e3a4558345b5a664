//! Files of all shapes, read as the simple reader reads them.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io;

use etcd_syncer::resolve::DigestKey;
use etcd_syncer::snapshot::bbolt::{Database, Error as BboltError, Order, PageSource};
use etcd_syncer::snapshot::{Contents, Values, digests, read, value};
use fastrand::Rng;

use super::build::{Shape, build};
use super::history::History;
use super::judge::{Judge, Keyspace};

/// Asserts that everything that is known of the keyspace is so.
pub(super) fn assert_equal(contents: &Contents, file: &[u8], expected: &Keyspace) {
    assert_eq!(contents.revision.0, expected.revision);
    assert_eq!(contents.compaction.revision().0, expected.compact_revision);
    let reputs = contents.reputs.iter().map(|(at, key)| (at.0, key.to_vec()));
    assert_eq!(reputs.collect::<BTreeSet<_>>(), expected.reputs);
    assert_eq!(contents.keys.len(), expected.keys.len());
    for (key, (name, stored)) in contents.keys.iter().zip(&expected.keys) {
        let value = value(file, key.value).unwrap().to_vec();
        let (created, modified) = (key.created.0, key.modified.0);
        let found = (created, modified, key.version, key.lease.0, value);
        assert_eq!((key.key, &found), (name.as_slice(), stored));
        assert_eq!(contents.keys.find(name), Some(key));
    }
    assert_eq!(contents.keys.find(b"no such key"), None);
}

/// Asserts that values come with their keys, in the order of the file, and their digests too.
pub(super) fn assert_values(contents: &Contents, file: &[u8], expected: &Keyspace, rng: &mut Rng) {
    let wanted: Vec<usize> = (0..contents.keys.len()).filter(|_| rng.bool()).collect();
    let at = |place: usize| contents.keys.get(place).unwrap().value;
    let mut values = Values::new(
        file,
        wanted.iter().map(|place| (at(*place), *place)).collect(),
    );
    let mut stored: Vec<_> = expected
        .keys
        .values()
        .map(|stored| Some(&stored.4))
        .collect();
    let mut last = 0;
    assert_eq!(values.left(), wanted.len());
    while let Some((place, value)) = values.next_value().unwrap() {
        assert_eq!(stored[place].take().map(Vec::as_slice), Some(value));
        assert!(at(place).offset >= last);
        last = at(place).offset;
    }
    assert!(wanted.iter().all(|place| stored[*place].is_none()));

    let key = DigestKey::new(&[3; 32]);
    let expected = expected.keys.values().map(|stored| key.digest(&stored.4));
    let found = digests(file, &contents.keys, &key).unwrap();
    assert_eq!(found, expected.collect::<Vec<_>>());
}

/// Counts what is read of a file.
pub(super) struct Counted<'a> {
    pub(super) file: &'a [u8],
    pub(super) read_bytes: Cell<u64>,
    pub(super) longest: Cell<usize>,
}

impl<'a> Counted<'a> {
    pub(super) fn new(file: &'a [u8]) -> Self {
        Self {
            file,
            read_bytes: Cell::new(0),
            longest: Cell::new(0),
        }
    }
}

impl PageSource for Counted<'_> {
    fn size(&self) -> u64 {
        self.file.size()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_bytes
            .set(self.read_bytes.get() + buffer.len() as u64);
        self.longest.set(self.longest.get().max(buffer.len()));
        self.file.read_exact_at(buffer, offset)
    }
}

/// All elements, as the reader walks them in the order of their keys.
pub(super) fn elements(file: &[u8]) -> Judge {
    let database = Database::open(file).unwrap();
    let (mut walker, buckets) = database.buckets().unwrap();
    let mut found = Judge::default();
    for named in buckets {
        let elements = found.buckets.entry(named.name.to_vec()).or_default();
        let walked = walker.walk(named.bucket, Order::Key, |element| {
            let start = usize::try_from(element.value_at).unwrap();
            assert_eq!(&file[start..start + element.value.len()], element.value);
            elements.push((element.key.to_vec(), element.value.to_vec()));
            Ok::<(), BboltError>(())
        });
        walked.unwrap();
    }
    found
}

fn check(shape: &Shape, history: &History, rng: &mut Rng) {
    let built = build(shape, &history.buckets());
    let judge = Judge::read(&built.file);
    let space = judge.keyspace();
    assert_eq!(elements(&built.file), judge);
    assert_eq!(
        space.revision,
        history.revision.max(history.scheduled.unwrap_or(0))
    );
    assert_eq!(
        space.keys.keys().collect::<Vec<_>>(),
        history.live.keys().collect::<Vec<_>>()
    );
    let contents = read(built.file.as_slice()).unwrap();
    assert_equal(&contents, &built.file, &space);
    assert_values(&contents, &built.file, &space, rng);
    assert_eq!(contents.records, history.records.len() as u64);
    assert_eq!(
        contents.orphans,
        space.keys.values().filter(|stored| stored.3 == -9).count() as u64
    );
    assert_eq!(contents.raft.index.0, 77);
    assert_eq!(
        contents.compaction.is_pending(),
        history.scheduled > history.finished
    );
    assert_eq!(
        contents.leases.len() + contents.alarms.len() + contents.cluster.members.len(),
        3
    );
    assert!(contents.auth.is_enabled() && contents.unknown_buckets.is_empty());
}

#[test]
fn files_of_all_shapes_are_read() {
    let mut rng = Rng::with_seed(5);
    let mut reputs = 0;
    for round in 0..120 {
        let elements_max = [2, 3, 7, usize::MAX][rng.usize(0..4)];
        let shape = Shape {
            // Pages that are nearly empty make long files.
            page_bytes: 1024 << rng.usize(0..if elements_max > 7 { 7 } else { 3 }),
            elements_max,
            inline_bytes_max: [0, 200, 1024][rng.usize(0..3)],
            is_scattered: rng.bool(),
            newer_first: rng.bool(),
            extra_bytes: 512 * rng.usize(0..3),
            seed: round,
        };
        let (revisions, keys) = (rng.usize(0..400), rng.usize(1..100));
        let value_bytes = [0, 20, 300, 3000][rng.usize(0..4)];
        let history = History::random(&mut rng, revisions, keys, value_bytes);
        check(&shape, &history, &mut rng);
        let contents = read(build(&shape, &history.buckets()).file.as_slice()).unwrap();
        reputs += contents.reputs.len();
    }
    assert!(reputs > 100, "{reputs}");
}

#[test]
fn a_file_is_read_once() {
    let mut rng = Rng::with_seed(6);
    let history = History::random(&mut rng, 6000, 6000, 1000);
    for is_scattered in [false, true] {
        let shape = Shape {
            is_scattered,
            ..Shape::ETCD
        };
        let file = build(&shape, &history.buckets()).file;
        let counted = Counted::new(&file);
        let contents = read(&counted).unwrap();
        let read_bytes = counted.read_bytes.get();
        assert!(file.len() > 1 << 20 && contents.keys.len() > 500);
        assert!(
            read_bytes < file.len() as u64 * 11 / 10,
            "{read_bytes} of {}",
            file.len()
        );
        assert!(counted.longest.get() <= 1 << 20);
    }
}

/// Bytes of databases that etcd 3.5.1 wrote.
#[test]
fn files_made_here_are_as_those_of_etcd() {
    let auth = vec![
        (b"authEnabled".to_vec(), vec![1]),
        (b"authRevision".to_vec(), 11_u64.to_be_bytes().to_vec()),
    ];
    let buckets = [(b"alarm".to_vec(), vec![]), (b"auth".to_vec(), auth)];
    let file = build(&Shape::ETCD, &buckets).file;
    let file: String = file.iter().map(|byte| format!("{byte:02x}")).collect();
    let no_alarm = "00000000000000000000000000000000\
                    00000000000000000200000000000000";
    let auth = "0000000000000000000000000000000000000000000000000200020000000000\
                00000000200000000b00000001000000000000001c0000000c00000008000000\
                61757468456e61626c6564016175746852657669\
                73696f6e000000000000000b";
    for (name, vector) in [("alarm", no_alarm), ("auth", auth)] {
        let name: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
        assert!(file.contains(&format!("{name}{vector}")), "{name}");
    }
    assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
}
