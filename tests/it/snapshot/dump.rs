//! `etcd-syncer dump snapshot` and `dump diff`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use fastrand::Rng;
use serde_json::{Value, json};

use super::build::{Bucket, Shape, build};
use super::history::{History, bucket_key};

const HASH: &str = "$2a$10$hash-of-alice";
const VALUE: &str = "value-of-a";

/// A database with one of everything.
fn buckets() -> Vec<Bucket> {
    let mut history = History {
        revision: 1,
        ..History::default()
    };
    for (key, value, lease) in [
        (&b"a"[..], VALUE, 0),
        (b"b\n\xff", "2", 7),
        (b"c", "3", -9),
        (b"a", VALUE, 0),
    ] {
        history.revision += 1;
        history.put(key, value.into(), lease, &mut 0);
    }
    history.revision += 1;
    let mut sub = 0;
    history.delete(b"c", &mut sub);
    history.put(b"c", "4".into(), 0, &mut sub);
    history.scheduled = Some(3);
    let mut buckets = history.buckets();
    set(
        &mut buckets,
        "authUsers",
        b"alice",
        &[
            b"\x0a\x05alice\x12",
            &[u8::try_from(HASH.len()).unwrap()],
            HASH.as_bytes(),
            b"\x1a\x01r\x22\x00",
        ],
    );
    set(
        &mut buckets,
        "meta",
        b"confState",
        &[br#"{"voters":[5],"learners":[255]}"#],
    );
    set(&mut buckets, "meta", b"term", &[&3_u64.to_be_bytes()]);
    buckets
}

fn set(buckets: &mut [Bucket], bucket: &str, key: &[u8], value: &[&[u8]]) {
    let (_, elements) = buckets
        .iter_mut()
        .find(|(name, _)| name == bucket.as_bytes())
        .unwrap();
    elements.retain(|(name, _)| name != key);
    elements.push((key.to_vec(), value.concat()));
    elements.sort();
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, buckets: &[Bucket]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, build(&Shape::ETCD, buckets).file).unwrap();
        path
    }
}

fn dump(what: &str, paths: &[&Path], options: &[&str]) -> (Option<i32>, String, String) {
    let program = env!("CARGO_BIN_EXE_etcd-syncer");
    let output = Command::new(program)
        .args(["dump", what])
        .args(paths)
        .args(options)
        .output();
    let Output {
        status,
        stdout,
        stderr,
    } = output.unwrap();
    let [stdout, stderr] = [stdout, stderr].map(|text| String::from_utf8(text).unwrap());
    (status.code(), stdout, stderr)
}

fn objects(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_database_is_shown_without_values_and_hashes() {
    let folder = Folder::new();
    let path = folder.write("db", &buckets());
    let (code, shown, said) = dump("snapshot", &[&path], &[]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    let lines: Vec<&str> = shown.lines().collect();
    let file = format!(
        "file    page_bytes=4096 pages=4 path=\"{}\" sha256=\"none\" transaction=7",
        path.display()
    );
    let expected = [
        file.as_str(),
        "state   auth_enabled=true auth_revision=1 cluster_version=\"3.6.0\" compact_revision=3 \
         compaction_pending=true consistent_index=77 format=\"3.5\" keys=3 learners=[\"ff\"] \
         leases=1 records=6 revision=6 roles=1 term=3 users=2 voters=[\"5\"]",
        "member  5 client_urls=[] peer_urls=[\"http://a\"]",
        "removed 6",
        "user    alice password=\"(hidden)\" roles=[\"r\"]",
        "user    u password=\"(hidden)\" roles=[\"r\"]",
        "role    r permissions=[{\"key\":\"k\",\"permission\":\"read\"}]",
        "alarm   5 no_space",
        "lease   7 keys=1 ttl=60",
        "deleted_and_put 6 c",
        "key     a created=2 modified=5 value_bytes=10 version=2",
        "key     b\\n\\xff created=3 lease=\"7\" modified=3 value_bytes=1 version=1",
        "key     c created=6 modified=6 value_bytes=1 version=1",
    ];
    assert_eq!(lines, expected);

    let (_, shown, _) = dump("snapshot", &[&path], &["--show-values"]);
    assert!(shown.contains(VALUE) && !shown.contains(HASH), "{shown}");
    let (_, shown, _) = dump("snapshot", &[&path], &["--show-secrets"]);
    assert!(shown.contains(HASH) && !shown.contains(VALUE), "{shown}");
    let (_, shown, _) = dump("snapshot", &[&path], &["--json"]);
    assert!(!shown.contains(HASH) && !shown.contains(VALUE), "{shown}");
    let shown = objects(&shown);
    assert_eq!(shown.len(), expected.len());
    let b = json!({
        "kind": "key", "id": "b\\n\\xff", "created": 3, "modified": 3, "version": 1,
        "lease": "7", "value_bytes": 1,
    });
    assert_eq!(shown[11], b);
    assert_eq!(shown[1]["revision"], 6);
}

#[test]
fn what_cannot_be_read_is_named() {
    let folder = Folder::new();
    let missing = folder.0.path().join("missing");
    let (code, _, said) = dump("snapshot", &[&missing], &[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("missing: No such file"), "{said}");
    let (code, _, said) = dump("snapshot", &[folder.0.path()], &[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("member/snap/db"), "{said}");

    let path = folder.write("db", &buckets());
    let locked = File::options().read(true).open(&path).unwrap();
    locked.lock().unwrap();
    let (code, shown, said) = dump("snapshot", &[&path], &[]);
    assert_eq!((code, shown.as_str()), (Some(1), ""));
    assert!(
        said.contains("in use by an etcd") && said.contains("snapshot save"),
        "{said}"
    );
    drop(locked);

    let mut saved = std::fs::read(&path).unwrap();
    saved.extend([0; 32]);
    std::fs::write(&path, &saved).unwrap();
    let (code, shown, said) = dump("snapshot", &[&path], &[]);
    assert_eq!((code, shown.as_str()), (Some(1), ""));
    assert!(said.contains("SHA-256"), "{said}");
    let (code, shown, _) = dump("snapshot", &[&path], &["--skip-hash-check"]);
    assert_eq!(code, Some(0));
    assert!(shown.contains("sha256=\"not checked\""), "{shown}");
    std::fs::write(&path, &saved[..saved.len() - 4128]).unwrap();
    let (code, _, said) = dump("snapshot", &[&path], &[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("db: the file is cut short"), "{said}");
    let (code, _, said) = dump("diff", &[&path, &path], &[]);
    assert_eq!(code, Some(2));
    assert!(said.contains("cut short"), "{said}");
}

#[test]
fn equal_databases_do_not_differ() {
    let folder = Folder::new();
    let history = History::random(&mut Rng::with_seed(3), 200, 50, 100);
    let first = folder.write("first", &history.buckets());
    let shape = Shape {
        page_bytes: 1024,
        is_scattered: true,
        ..Shape::ETCD
    };
    let second = folder.0.path().join("second");
    std::fs::write(&second, build(&shape, &history.buckets()).file).unwrap();
    let equal = (Some(0), "no difference\n".to_owned(), String::new());
    assert_eq!(dump("diff", &[&first, &second], &[]), equal);
    let (code, shown, _) = dump("diff", &[&first, &second], &["--json"]);
    assert_eq!(
        (code, objects(&shown)),
        (Some(0), vec![json!({"differences": {}})])
    );
}

/// The same database a little later.
fn changed() -> Vec<Bucket> {
    let mut changed = buckets();
    let key = |main, sub| bucket_key(main, sub, b"");
    // Another value of the same length, another lease, a new key.
    set(
        &mut changed,
        "key",
        &key(5, 0),
        &[b"\x0a\x01a\x10\x02\x18\x05\x20\x02\x2a\x0aVALUE-of-a"],
    );
    set(
        &mut changed,
        "key",
        &key(3, 0),
        &[b"\x0a\x03b\n\xff\x10\x03\x18\x03\x20\x01\x2a\x012"],
    );
    set(
        &mut changed,
        "key",
        &key(7, 0),
        &[b"\x0a\x01d\x10\x07\x18\x07\x20\x01"],
    );
    set(
        &mut changed,
        "authUsers",
        b"alice",
        &[b"\x0a\x05alice\x12\x05other\x1a\x01r\x22\x00"],
    );
    set(
        &mut changed,
        "authUsers",
        b"new",
        &[b"\x0a\x03new\x22\x02\x08\x01"],
    );
    let lease = changed
        .iter_mut()
        .find(|(name, _)| name == b"lease")
        .unwrap();
    lease.1.clear();
    changed
}

#[test]
fn differences_are_named_without_values_and_hashes() {
    let folder = Folder::new();
    let first = folder.write("first", &buckets());
    let second = folder.write("second", &changed());
    let (code, shown, said) = dump("diff", &[&first, &second], &[]);
    assert_eq!((code, said.as_str()), (Some(1), ""));
    let expected = [
        "- lease 7 keys=1 ttl=60",
        "! state keys=3 -> 4 leases=1 -> 0 records=6 -> 7 revision=6 -> 7 users=2 -> 3",
        "! user alice password=\"(hidden)\" -> \"(hidden)\"",
        "+ user new login=\"no password\" roles=[]",
        "! key a value=\"(hidden)\" -> \"(hidden)\"",
        "! key b\\n\\xff lease=\"7\" -> none",
        "+ key d created=7 modified=7 value=\"(hidden)\" value_bytes=0 version=1",
        "differences: key 3, lease 1, state 1, user 2",
    ];
    assert_eq!(shown.lines().collect::<Vec<_>>(), expected);

    let (code, shown, _) = dump(
        "diff",
        &[&second, &first],
        &["--show-values", "--show-secrets"],
    );
    assert_eq!(code, Some(1));
    assert!(shown.contains("! user alice password=\"other\" -> \"$2a$10$hash-of-alice\""));
    assert!(
        shown.contains("! key a value=\"VALUE-of-a\" -> \"value-of-a\""),
        "{shown}"
    );
    assert!(
        shown.contains("- key d ") && shown.contains("+ lease 7 "),
        "{shown}"
    );

    let (_, shown, _) = dump("diff", &[&first, &second], &["--json"]);
    let shown = objects(&shown);
    let b = json!({"kind": "key", "id": "b\\n\\xff", "first": {"lease": "7"}, "second": {}});
    assert_eq!(shown[5], b);
    assert_eq!(shown[0]["second"], Value::Null);
    let totals = json!({"differences": {"key": 3, "lease": 1, "state": 1, "user": 2}});
    assert_eq!(shown[7], totals);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let folder = Folder::new();
    let history = History::random(&mut Rng::with_seed(3), 3000, 3000, 10);
    let path = folder.write("db", &history.buckets());
    let mut child = Command::new(env!("CARGO_BIN_EXE_etcd-syncer"))
        .args(["dump", "snapshot"])
        .arg(&path)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}
