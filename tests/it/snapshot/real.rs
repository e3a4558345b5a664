//! Databases that members of each release wrote, against what these members answered.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use etcd_client::{
    AlarmAction, AlarmOptions, AlarmType, Client, CompactionOptions, DeleteOptions,
    LeaseGrantOptions, Permission, PutOptions, RoleRevokePermissionOptions, Txn, TxnOp,
    UserAddOptions,
};
use etcd_syncer::resolve::{DigestKey, Login, Password, PrimaryState, Rules, Settings};
use etcd_syncer::snapshot::{
    Contents, DbFile, Error, FileError, Form, check_hash, digests, read, value,
};

use super::judge::Judge;
use super::shapes::{assert_equal, elements};
use crate::harness::{Cluster, Keys, LeaseInfo, Version, Workload, read_keys, read_leases};

/// Type, key and range end of a permission.
type Granted = (i32, Vec<u8>, Vec<u8>);

/// What a member answered.
#[derive(Debug)]
struct Answers {
    keys: Keys,
    revision: i64,
    compact_revision: i64,
    hash_kv: u32,
    leases: BTreeMap<i64, LeaseInfo>,
    users: BTreeMap<String, Vec<String>>,
    roles: BTreeMap<String, Vec<Granted>>,
    auth_revision: Option<u64>,
    alarms: Vec<(u64, i32)>,
    members: Vec<(u64, String, Vec<String>, bool)>,
    /// The index of the last entry that wrote a key, a user or a role.
    written: u64,
    applied: u64,
    term: u64,
}

const ROOT: &str = "--user=root:secret";

/// Everything that a database can hold.
async fn fill(cluster: &Cluster) -> Result<i64> {
    let mut client = cluster.client().await?;
    let work = Workload::new(17).keys(80).operations(500);
    work.run(cluster).await?;
    for (id, ttl) in [(4242, 4000), (-5, 700), (11, 650)] {
        let options = LeaseGrantOptions::new().with_id(id);
        client.lease_grant(ttl, Some(options)).await?;
    }
    let leased = |id| Some(PutOptions::new().with_lease(id));
    client.put("leased/a", "1", leased(4242)).await?;
    client.put("leased/b", "2", leased(-5)).await?;
    client.put("leased/c", "3", leased(4242)).await?;
    client.put("leased/c", "4", None).await?;
    client.put("large", vec![b'v'; 300_000], None).await?;
    client.put("empty", "", None).await?;
    client.put(vec![0, 0xff, 0], vec![0, 0xff], None).await?;
    let status = client.status().await?;
    let revision = status.header().context("no header")?.revision();
    let physical = Some(CompactionOptions::new().with_physical());
    client.compact(revision - 30, physical).await?;
    let more = Workload::new(18).keys(80).operations(120).prefix("more/");
    more.run(cluster).await?;

    // Deletes a key and puts it again in one revision.
    client.put("zz/m", "1", None).await?;
    let everything = DeleteOptions::new().with_from_key();
    let reput = Txn::new().and_then([
        TxnOp::delete("zz/", Some(everything)),
        TxnOp::put("zz/m", "2", None),
    ]);
    let answer = client.txn(reput).await?;
    let reput = answer.header().context("no header")?.revision();
    client.put("last", "1", None).await?;
    client.delete("last", None).await?;
    users(&mut client).await?;
    Ok(reput)
}

async fn users(client: &mut Client) -> Result<()> {
    for role in ["ranges", "one", "empty", "gone"] {
        client.role_add(role).await?;
    }
    for permission in [
        Permission::read("k"),
        Permission::write("k").with_range_end("z"),
        Permission::read_write("a").with_from_key(),
        Permission::read("p/").with_prefix(),
    ] {
        client.role_grant_permission("ranges", permission).await?;
    }
    client
        .role_grant_permission("one", Permission::read_write("one"))
        .await?;
    client
        .role_grant_permission("gone", Permission::read("one"))
        .await?;
    let revoked = None::<RoleRevokePermissionOptions>;
    client
        .role_revoke_permission("gone", "one", revoked)
        .await?;
    for user in ["root", "alice", "bob"] {
        client.user_add(user, "secret", None).await?;
    }
    let no_password = UserAddOptions::new().with_no_pwd();
    client.user_add("cert", "", Some(no_password)).await?;
    for (user, role) in [
        ("root", "root"),
        ("alice", "ranges"),
        ("alice", "one"),
        ("cert", "one"),
    ] {
        client.user_grant_role(user, role).await?;
    }
    client.user_change_password("bob", "other").await?;
    Ok(())
}

async fn ask(cluster: &Cluster, version: Version, written: u64) -> Result<Answers> {
    let mut client = cluster.client().await?;
    let (revision, keys) = read_keys(&client).await?;
    let hash = client.hash_kv(0).await?;
    let mut users = BTreeMap::new();
    for user in client.user_list().await?.users() {
        users.insert(
            user.clone(),
            client.user_get(user.as_str()).await?.roles().to_vec(),
        );
    }
    let mut roles = BTreeMap::new();
    for role in client.role_list().await?.roles() {
        let permissions = client.role_get(role.as_str()).await?.permissions();
        let permissions = permissions.iter();
        let permissions =
            permissions.map(|one| (one.get_type(), one.key().to_vec(), one.range_end().to_vec()));
        roles.insert(role.clone(), permissions.collect());
    }
    let members = client.member_list().await?;
    let members = members.members().iter().map(|member| {
        let (name, urls) = (member.name().to_owned(), member.peer_urls().to_vec());
        (member.id(), name, urls, member.is_learner())
    });
    let alarms = client
        .alarm(AlarmAction::Get, AlarmType::None, None)
        .await?;
    let alarms = alarms.alarms().iter();
    let status = client.status().await?;
    Ok(Answers {
        keys,
        revision,
        compact_revision: hash.compact_version(),
        hash_kv: hash.hash(),
        leases: read_leases(&client).await?,
        users,
        roles,
        auth_revision: match version {
            Version::V3_4 => None,
            Version::V3_5 | Version::V3_6 | Version::V3_7 => {
                let answer = cluster.etcdctl(&["auth", "status"]).await?;
                let number = answer.rsplit(' ').next().context("an empty answer")?;
                Some(number.trim().parse()?)
            }
        },
        alarms: alarms
            .map(|alarm| (alarm.member_id(), alarm.alarm() as i32))
            .collect(),
        members: members.collect(),
        written,
        applied: status.raft_applied_index(),
        term: status.raft_term(),
    })
}

fn assert_as_answered(contents: &Contents, file: &DbFile, answers: &Answers) -> Result<()> {
    assert_eq!(contents.revision.0, answers.revision);
    assert_eq!(contents.compaction.revision().0, answers.compact_revision);
    assert!(!contents.compaction.is_pending());
    assert_eq!(contents.keys.len(), answers.keys.len());
    for (key, (name, stored)) in contents.keys.iter().zip(&answers.keys) {
        let found = crate::harness::Stored {
            value: value(file, key.value)?.to_vec(),
            create_revision: key.created.0,
            mod_revision: key.modified.0,
            version: key.version,
            lease: key.lease.0,
        };
        assert_eq!((key.key, &found), (name.as_slice(), stored));
    }
    let leases = contents.leases.iter();
    let leases: Vec<_> = leases
        .map(|lease| (lease.id.0, lease.ttl, lease.remaining))
        .collect();
    let granted = answers.leases.iter();
    let granted: Vec<_> = granted
        .map(|(id, lease)| (*id, lease.granted_ttl, 0))
        .collect();
    assert_eq!(leases, granted);
    assert_eq!(contents.orphans, 0);
    // 3.4 stores it with writes of keys, users and roles only.
    let index = contents.raft.index.0;
    match contents.raft.term {
        Some(_) => assert!(index > answers.applied, "{index} {answers:?}"),
        None => assert_eq!(index, answers.written),
    }
    let alarms = contents
        .alarms
        .iter()
        .map(|(member, kind)| (member.0, *kind));
    assert_eq!(alarms.collect::<Vec<_>>(), answers.alarms);
    let members = contents.cluster.members.iter().map(|member| {
        (
            member.id.0,
            member.name.clone(),
            member.peer_urls.clone(),
            member.is_learner,
        )
    });
    assert_eq!(members.collect::<Vec<_>>(), answers.members);
    assert!(
        contents.unknown_buckets.is_empty(),
        "{:?}",
        contents.unknown_buckets
    );
    assert_auth(contents, answers);
    Ok(())
}

fn assert_auth(contents: &Contents, answers: &Answers) {
    assert!(contents.auth.is_enabled());
    if let Some(revision) = answers.auth_revision {
        assert_eq!(contents.auth.revision(), revision);
    }
    let users = contents.auth.users().iter();
    let users = users.map(|(name, user)| (name.clone(), user.roles.clone()));
    assert_eq!(users.collect::<BTreeMap<_, _>>(), answers.users);
    let mut hashes = BTreeSet::new();
    for (name, user) in contents.auth.users() {
        match (&user.password, user.login) {
            (Password::Hash(hash), Login::Password) => {
                let hash = hash.expose();
                assert!(hash.starts_with(b"$2a$10$") && hash.len() == 60, "{name}");
                hashes.insert(hash.clone());
            }
            (Password::None, Login::NoPassword) => assert_eq!(name, "cert"),
            other => panic!("{name}: {other:?}"),
        }
    }
    assert_eq!(hashes.len(), 3);
    let roles = contents.auth.roles().iter().map(|(name, role)| {
        let permissions = role.permissions().iter();
        let permissions =
            permissions.map(|one| (one.kind, one.key.to_vec(), one.range_end.to_vec()));
        (name.clone(), permissions.collect())
    });
    assert_eq!(roles.collect::<BTreeMap<_, Vec<_>>>(), answers.roles);
}

/// Asserts that what the release stores of itself is found.
fn assert_release(contents: &Contents, answers: &Answers, version: Version) {
    let release = format!("{}.0", version.minor());
    let cluster = &contents.cluster;
    assert_eq!(cluster.version.as_ref(), Some(&release));
    let is_new = matches!(version, Version::V3_6 | Version::V3_7);
    assert_eq!(cluster.storage_version, is_new.then_some(release));
    let term = (version != Version::V3_4).then_some(answers.term);
    assert_eq!(contents.raft.term.map(|term| term.0), term);
    let voters = contents
        .raft
        .conf_state
        .as_ref()
        .map(|state| state.voters.clone());
    let ids = cluster.members.iter().map(|member| member.id).collect();
    assert_eq!(voters, (version != Version::V3_4).then_some(ids));
    let format = match version {
        Version::V3_4 => "3.4 or older",
        Version::V3_5 => "3.5",
        Version::V3_6 => "3.6.0",
        Version::V3_7 => "3.7.0",
    };
    assert_eq!(contents.format(), format);
}

fn assert_state(contents: &Contents, file: &DbFile, answers: &Answers) -> Result<PrimaryState> {
    let key = DigestKey::new(&[9; 32]);
    let settings = Settings {
        digest_key: key.clone(),
        lease_ttl_min: 2,
        rules: Rules::of(etcd_syncer::resolve::Version::new(3, 6, 14))?,
        voters: 1,
    };
    let found = digests(file, &contents.keys, &key)?;
    let state = contents.primary_state(settings, |place, _| found[place]);
    assert_eq!(state.position(), contents.position());
    assert_eq!(state.keys().len(), answers.keys.len());
    for ((name, meta), (expected, stored)) in state.keys().zip(&answers.keys) {
        assert_eq!(name, expected.as_slice());
        assert_eq!(meta.digest, key.digest(&stored.value));
        assert_eq!(
            (meta.modified.0, meta.lease.0),
            (stored.mod_revision, stored.lease)
        );
    }
    for ((id, lease), (expected, answered)) in state.leases().zip(&answers.leases) {
        assert_eq!((id.0, lease.ttl()), (*expected, answered.granted_ttl));
        let attached = answered.keys.iter().map(Vec::as_slice);
        assert!(lease.keys().eq(attached), "lease {id}");
    }
    assert_eq!(state.leases().len(), answers.leases.len());
    assert_eq!(state.auth(), &contents.auth);
    let alarms = state.alarms().raised();
    assert_eq!(alarms.collect::<Vec<_>>(), contents.alarms);
    Ok(state)
}

async fn check(version: Version) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut cluster = Cluster::builder(version).no_fsync().start().await?;
    let reput = fill(&cluster).await?;
    let mut client = cluster.client().await?;
    let written = client.status().await?.raft_applied_index();
    let mut member = AlarmOptions::new();
    member.with_member(cluster.member_id(0)?);
    client
        .alarm(AlarmAction::Activate, AlarmType::Nospace, Some(member))
        .await?;
    let answers = ask(&cluster, version, written).await?;
    assert_eq!(
        (
            answers.alarms.len(),
            answers.users.len(),
            answers.roles.len()
        ),
        (1, 4, 4)
    );
    assert!(answers.leases.len() > 3 && answers.leases[&4242].keys.len() == 1);
    client.auth_enable().await?;

    let saved = folder.path().join("saved");
    let path = saved.to_str().context("a temporary folder")?;
    cluster.etcdctl(&[ROOT, "snapshot", "save", path]).await?;
    let database = cluster.database(0)?;
    let in_use = DbFile::open(&database).err().context("it is in use")?;
    assert!(matches!(in_use, FileError::InUse(_)), "{in_use}");
    cluster.stop(0).await?;

    for (path, form) in [(saved, Form::Saved), (database, Form::Plain)] {
        let file = DbFile::open(&path)?;
        assert_eq!(check_hash(&file)?, form);
        let contents = read(&file)?;
        assert_as_answered(&contents, &file, &answers)?;
        assert_release(&contents, &answers, version);
        let state = assert_state(&contents, &file, &answers)?;
        let reputs: Vec<_> = contents
            .reputs
            .iter()
            .map(|(at, key)| (at.0, &**key))
            .collect();
        assert!(reputs.contains(&(reput, b"zz/m")), "{reputs:?}");
        let restored = state
            .reputs()
            .flat_map(|(at, keys)| keys.map(move |key| (at.0, key)));
        assert_eq!(restored.collect::<Vec<_>>(), reputs);

        let bytes = std::fs::read(&path)?;
        let judge = Judge::read(&bytes);
        assert_eq!(judge.hash_kv(), answers.hash_kv);
        assert_eq!(elements(&bytes), judge);
        assert_equal(&contents, &bytes, &judge.keyspace());
        if form == Form::Saved {
            assert_damage_is_found(&bytes, &contents)?;
        }
    }
    Ok(())
}

/// Saved snapshots that were cut or changed.
fn assert_damage_is_found(saved: &[u8], contents: &Contents) -> Result<()> {
    let length = contents.database.database_bytes();
    assert_eq!(saved.len() as u64, length + 32);
    let mut changed = saved.to_vec();
    changed[saved.len() / 2] ^= 1;
    let error = check_hash(changed.as_slice()).err().context("changed")?;
    assert!(matches!(error, Error::HashMismatch), "{error}");

    let without_hash = &saved[..saved.len() - 32];
    assert_eq!(check_hash(without_hash)?, Form::Plain);
    assert_eq!(read(without_hash)?.revision, contents.revision);
    let cut_hash = &saved[..saved.len() - 5];
    let error = check_hash(cut_hash).err().context("half a hash")?;
    assert!(matches!(error, Error::OddLength(_)), "{error}");
    let truncated = &saved[..saved.len() - 4096];
    let error = read(truncated).err().context("a page is missing")?;
    assert!(error.to_string().contains("cut short"), "{error}");
    let error = check_hash(truncated).err().context("a page is missing")?;
    assert!(matches!(error, Error::HashMismatch), "{error}");
    Ok(())
}

/// A deletion that is the last revision, compacted away.
async fn check_compacted_tail(version: Version) -> Result<()> {
    let mut cluster = Cluster::builder(version).no_fsync().start().await?;
    let mut client = cluster.client().await?;
    client.put("kept", "1", None).await?;
    client.put("gone", "1", None).await?;
    let answer = client.delete("gone", None).await?;
    let revision = answer.header().context("no header")?.revision();
    let physical = Some(CompactionOptions::new().with_physical());
    client.compact(revision, physical).await?;
    cluster.stop(0).await?;
    let file = DbFile::open(&cluster.database(0)?)?;
    let contents = read(&file)?;
    assert_eq!(
        (contents.revision.0, contents.compaction.revision().0),
        (4, 4)
    );
    let keys: Vec<_> = contents.keys.iter().map(|key| key.key).collect();
    assert_eq!(keys, [b"kept"]);
    // 3.4.23 deletes the tombstone at the compact revision too.
    assert_eq!(
        contents.records,
        if version == Version::V3_4 { 1 } else { 2 }
    );
    Ok(())
}

/// A snapshot restored with a higher revision, before its member has started.
async fn check_bumped(version: Version) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let cluster = Cluster::builder(version).no_fsync().start().await?;
    let mut client = cluster.client().await?;
    for value in ["1", "2"] {
        client.put("a", value, None).await?;
    }
    client.put("b", "1", None).await?;
    let saved = folder.path().join("saved");
    let path = saved.to_str().context("a temporary folder")?;
    cluster.etcdctl(&["snapshot", "save", path]).await?;
    let restored = restore(&cluster, &saved, &folder.path().join("restored"))?;
    let contents = read(DbFile::open(&restored)?)?;
    assert_eq!(
        (contents.revision.0, contents.compaction.revision().0),
        (1004, 1004)
    );
    assert!(contents.compaction.is_pending());
    assert_eq!((contents.records, contents.keys.len()), (4, 2));
    let a = contents.keys.find(b"a").context("a is live")?;
    assert_eq!((a.created.0, a.modified.0, a.version), (2, 3, 2));
    Ok(())
}

/// The database of a restored snapshot.
fn restore(cluster: &Cluster, saved: &Path, folder: &Path) -> Result<PathBuf> {
    let etcdutl = cluster.binaries()?.etcdutl.as_ref().context("etcdutl")?;
    let output = Command::new(etcdutl)
        .args([
            "snapshot",
            "restore",
            "--bump-revision=1000",
            "--mark-compacted",
        ])
        .arg("--data-dir")
        .arg(folder)
        .arg(saved)
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(folder.join("member/snap/db"))
}

#[tokio::test]
async fn a_database_of_3_4_is_read() -> Result<()> {
    check(Version::V3_4).await?;
    check_compacted_tail(Version::V3_4).await
}

#[tokio::test]
async fn a_database_of_3_5_is_read() -> Result<()> {
    check(Version::V3_5).await?;
    check_compacted_tail(Version::V3_5).await?;
    check_bumped(Version::V3_5).await
}

#[tokio::test]
async fn a_database_of_3_6_is_read() -> Result<()> {
    check(Version::V3_6).await?;
    check_compacted_tail(Version::V3_6).await?;
    check_bumped(Version::V3_6).await
}

#[tokio::test]
async fn a_database_of_3_7_is_read() -> Result<()> {
    check(Version::V3_7).await?;
    check_compacted_tail(Version::V3_7).await?;
    check_bumped(Version::V3_7).await
}
