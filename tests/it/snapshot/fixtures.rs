//! Files that bbolt itself wrote, against what bbolt reads from them.

use std::path::Path;

use etcd_syncer::snapshot::read;

use super::judge::Judge;
use super::shapes::{assert_equal, elements};

pub(super) fn file(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/bbolt");
    std::fs::read(folder.join(name)).unwrap()
}

/// What bbolt says, in the words of the program that wrote the file.
fn described(found: &Judge) -> String {
    let lines = found.buckets.iter().map(|(name, elements)| {
        let hash = elements.iter().fold(0, |hash, (key, value)| {
            crc32c::crc32c_append(crc32c::crc32c_append(hash, key), value)
        });
        let name = name.escape_ascii();
        format!("{name} {} {hash:08x}\n", elements.len())
    });
    lines.collect()
}

#[test]
fn what_bbolt_wrote_is_read_as_bbolt_reads_it() {
    for (name, page_bytes, keys) in [
        ("1k-freelist", 1024, 133),
        ("4k-freelist", 4096, 67),
        ("16k", 16_384, 53),
    ] {
        let database = file(&format!("{name}.db"));
        let found = elements(&database);
        assert_eq!(
            described(&found).as_bytes(),
            file(&format!("{name}.txt")),
            "{name}"
        );
        assert_eq!(found, Judge::read(&database), "{name}");
        let contents = read(database.as_slice()).unwrap();
        assert_equal(&contents, &database, &found.keyspace());
        assert_eq!(contents.database.page_bytes, page_bytes);
        assert_eq!(contents.keys.len(), keys, "{name}");
    }
}

#[test]
fn the_second_meta_page_is_found_without_the_first() {
    for name in ["1k-freelist.db", "4k-freelist.db", "16k.db"] {
        let mut database = file(name);
        let whole = read(database.as_slice()).unwrap();
        database[..80].fill(0);
        let found = read(database.as_slice()).unwrap();
        // In a copy that bbolt makes both lead to the same.
        assert_eq!(found.database.txid + 1, whole.database.txid, "{name}");
        assert_eq!(found.keys.len(), whole.keys.len());
    }
}

#[test]
fn a_bucket_inside_a_bucket_is_refused() {
    let error = read(file("nested.db").as_slice()).unwrap_err().to_string();
    assert!(error.contains("a bucket inside a bucket"), "{error}");
}
