//! A part of the primary's keys, under other names, in a standby that has keys of its own: by the
//! log, by snapshots, and over again from nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etcd_client::{
    Client, Compare, CompareOp, DeleteOptions, GetOptions, LeaseGrantOptions, PutOptions, Txn,
    TxnOp,
};
use serde_json::Value;

use crate::harness::attach;
use crate::harness::{
    Cluster, ClusterBuilder, Keys, Stored, Syncer, Version, Workload, eventually, read_keys,
    read_leases,
};
use crate::state::{Dump, assert_same_state};

const SCOPE: [&str; 4] = [
    "--include-prefix=work/,aside/",
    "--exclude-prefix=aside/x/",
    "--rewrite-prefix=work/=copy/",
    "--rewrite-prefix=work/05/=five/",
];
/// Keys of the standby that are none of the stream's, most of them beside its own.
const STRANGERS: [&str; 9] = [
    "apart/1",
    "aside.",
    "aside/x/1",
    "aside0",
    "copy",
    "copy0",
    "five0",
    "work/00/00000",
    "zzz",
];
const META: &[u8] = b"-etcd-syncer-meta-/";

/// The rule, for one key.
fn renamed(key: &[u8]) -> Option<Vec<u8>> {
    if key.starts_with(b"aside/") {
        return (!key.starts_with(b"aside/x/")).then(|| key.to_vec());
    }
    if let Some(rest) = key.strip_prefix(b"work/05/") {
        return Some([b"five/", rest].concat());
    }
    let rest = key.strip_prefix(b"work/")?;
    Some([b"copy/", rest].concat())
}

type Values = BTreeMap<Vec<u8>, Vec<u8>>;

async fn expected(primary: &Cluster) -> Result<(i64, Values)> {
    let (revision, keys) = read_keys(&primary.client().await?).await?;
    let named = |(key, stored): (&Vec<u8>, &Stored)| Some((renamed(key)?, stored.value.clone()));
    Ok((revision, keys.iter().filter_map(named).collect()))
}

/// Puts the keys that the stream must never touch, and returns them as they are.
async fn put_strangers(standby: &Cluster) -> Result<Keys> {
    let mut client = standby.client().await?;
    for key in STRANGERS {
        client.put(key, "theirs", None).await?;
    }
    Ok(read_keys(&client).await?.1)
}

/// The standby holds what is in scope, the strangers as they were, and nothing else.
async fn assert_follows(primary: &Cluster, standby: &Cluster, strangers: &Keys) -> Result<i64> {
    let (revision, expected) = expected(primary).await?;
    let (_, mut keys) = read_keys(&standby.client().await?).await?;
    keys.retain(|key, _| !key.starts_with(META));
    for (key, before) in strangers {
        let now = keys.remove(key);
        ensure!(
            now.as_ref() == Some(before),
            "{} was {before:?} and is {now:?}",
            key.escape_ascii()
        );
    }
    let found: Values = keys
        .into_iter()
        .map(|(key, kept)| (key, kept.value))
        .collect();
    let all = expected.keys().chain(found.keys());
    let differ = all.filter(|key| expected.get(*key) != found.get(*key));
    let differ: Vec<String> = differ.map(|key| key.escape_ascii().to_string()).collect();
    ensure!(
        differ.is_empty(),
        "{} keys differ at revision {revision}, of {} and {}: {:?}",
        differ.len(),
        expected.len(),
        found.len(),
        differ.iter().take(10).collect::<Vec<_>>()
    );
    Ok(revision)
}

/// Random work in scope, and other work out of it, below and beside it.
async fn work(primary: &Cluster, seed: u64, operations: usize) -> Result<()> {
    let inside = Workload::new(seed)
        .clients(6)
        .operations(operations)
        .keys(300);
    let inside = tokio::spawn(inside.run_on(primary.client_endpoints()));
    let outside = tokio::spawn(outside(primary.client().await?, seed, operations / 4));
    inside.await??;
    outside.await?
}

/// Puts and deletes over the borders of the scope. No compare by order: the values are not known.
async fn outside(mut client: Client, seed: u64, operations: usize) -> Result<()> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let places = ["apart/", "aside/", "aside/w", "aside/x/", "aside0", "b/"];
    let lease = client.lease_grant(3600, None).await?.id();
    for number in 0..operations {
        let mut key = || format!("{}{:02}", rng.choice(places).unwrap(), rng.u8(0..15));
        let (one, two) = (key(), key());
        let value = number.to_string();
        match number % 12 {
            0 => {
                client.delete(one, None).await?;
            }
            1 => {
                let (from, to) = (one.clone().min(two.clone()), one.max(two));
                let range = DeleteOptions::new().with_range(to);
                client.delete(from, Some(range)).await?;
            }
            2 | 3 if one != two => {
                let first = Compare::value(one.clone(), CompareOp::NotEqual, "1");
                let puts = [one, two].map(|key| TxnOp::put(key, value.clone(), None));
                client.txn(Txn::new().when([first]).and_then(puts)).await?;
            }
            4 | 5 => {
                let leased = PutOptions::new().with_lease(lease);
                client.put(one, value, Some(leased)).await?;
            }
            6 => {
                let exists = Compare::version(one.clone(), CompareOp::Greater, 0);
                let kept = PutOptions::new().with_ignore_value();
                let put = TxnOp::put(one, "", Some(kept));
                client
                    .txn(Txn::new().when([exists]).and_then([put]))
                    .await?;
            }
            _ => {
                client.put(one, value, None).await?;
            }
        }
    }
    // Everything up to the work of the others, in one delete.
    let all = DeleteOptions::new().with_range("work");
    client.delete("a", Some(all)).await?;
    for key in ["apart/end", "aside/end", "aside/x/end", "v"] {
        client.put(key, seed.to_string(), None).await?;
    }
    Ok(())
}

/// Waits until the standby follows, though the last entries are none of its business.
async fn settle(
    primary: &Cluster,
    standby: &Cluster,
    strangers: &Keys,
    syncer: &mut Syncer,
) -> Result<Value> {
    primary.client().await?.put("last", "", None).await?;
    let follows = eventually("the standby follows", Duration::from_secs(60), async || {
        assert_follows(primary, standby, strangers).await
    });
    let revision = follows
        .await
        .with_context(|| syncer.log().unwrap_or_default())?;
    syncer
        .wait_status("the last revision", Duration::from_secs(20), |status| {
            status["revision"]["primary"].as_i64() == Some(revision)
                && status["lag"]["entries"] == 0
        })
        .await
}

async fn stop(syncer: &mut Syncer) -> Result<()> {
    syncer.terminate()?;
    let code = syncer.wait_exit(Duration::from_secs(15)).await?;
    ensure!(code == Some(0), "{code:?}: {}", syncer.log()?);
    Ok(())
}

fn args(file: &str) -> Vec<&str> {
    let more = ["--history", "keep", "--dump-state", file];
    SCOPE.into_iter().chain(more).collect()
}

/// The ledger lacks a record, so that the standby's own keys count.
async fn spoil_ledger(standby: &Cluster) -> Result<()> {
    let mut client = standby.client().await?;
    let prefix = "-etcd-syncer-meta-/test/ledger/journal/";
    let options = GetOptions::new().with_prefix().with_limit(1);
    let journals = client.get(prefix, Some(options)).await?;
    let journal = journals.kvs().first().context("a journal")?;
    client.delete(journal.key(), None).await?;
    Ok(())
}

/// The leader believes that we are up to date; the next one believes nothing.
async fn new_leader(primary: &mut Cluster) -> Result<()> {
    primary.kill(0)?;
    primary.restart(0).await
}

async fn pair(from: ClusterBuilder, to: Version) -> Result<(Cluster, Cluster)> {
    let standby = Cluster::builder(to).no_fsync();
    tokio::try_join!(from.no_fsync().start(), standby.start())
}

async fn by_log(from: Version, to: Version, seed: u64) -> Result<()> {
    println!("{from:?} -> {to:?}: seed {seed}");
    let from = Cluster::builder(from).snapshot_count(1_000_000);
    let (mut primary, standby) = pair(from, to).await?;
    let strangers = put_strangers(&standby).await?;
    let folder = tempfile::tempdir()?;
    let dump = folder.path().join("state");
    let args = args(dump.to_str().context("a path")?);
    let mut syncer = attach(&primary, &standby, &args).await?;
    work(&primary, seed, 3_000).await?;
    let status = settle(&primary, &standby, &strangers, &mut syncer).await?;
    ensure!(
        status["scope"].as_str()
            == Some(
                "--include-prefix=aside/ --include-prefix=work/ --exclude-prefix=aside/x/ \
             --rewrite-prefix=work/=copy/ --rewrite-prefix=work/05/=five/"
            ),
        "{status}"
    );
    stop(&mut syncer).await?;
    // What is known of the primary is about all of its keys.
    assert_same_state(&Dump::read(&dump)?, &primary).await?;

    work(&primary, seed + 1, 1_000).await?;
    syncer.respawn()?;
    settle(&primary, &standby, &strangers, &mut syncer).await?;
    stop(&mut syncer).await?;
    assert_same_state(&Dump::read(&dump)?, &primary).await?;

    // The standby is emptied of what is in scope, and filled by the log from its first entry.
    spoil_ledger(&standby).await?;
    let mut client = standby.client().await?;
    for key in ["aside/none", "copy/none", "five/"] {
        client.put(key, "of nobody", None).await?;
    }
    syncer.respawn()?;
    syncer
        .wait_status(
            "the need of a snapshot",
            Duration::from_secs(10),
            |status| status["phase"] == "installing",
        )
        .await?;
    new_leader(&mut primary).await?;
    settle(&primary, &standby, &strangers, &mut syncer).await?;
    ensure!(
        syncer.log()?.contains("beginning anew"),
        "{}",
        syncer.log()?
    );
    stop(&mut syncer).await?;
    assert_same_state(&Dump::read(&dump)?, &primary).await
}

async fn by_snapshot(from: Version, to: Version, seed: u64) -> Result<()> {
    println!("{from:?} -> {to:?}: seed {seed}");
    let from = Cluster::builder(from)
        .snapshot_count(100)
        .catch_up_entries(100);
    let (mut primary, standby) = pair(from, to).await?;
    let strangers = put_strangers(&standby).await?;
    work(&primary, seed, 2_000).await?;
    let folder = tempfile::tempdir()?;
    let dump = folder.path().join("state");
    let args = args(dump.to_str().context("a path")?);
    let mut syncer = attach(&primary, &standby, &args).await?;
    work(&primary, seed + 1, 500).await?;
    let status = settle(&primary, &standby, &strangers, &mut syncer).await?;
    let (_, named) = expected(&primary).await?;
    ensure!(status["snapshot"]["stage"] == "done", "{status}");
    let puts = status["snapshot"]["puts"].as_u64().context("puts")?;
    let keys = status["snapshot"]["keys"].as_u64().context("keys")?;
    ensure!(0 < puts && puts < keys, "{} named; {status}", named.len());
    stop(&mut syncer).await?;
    assert_same_state(&Dump::read(&dump)?, &primary).await?;

    // The standby's own keys are compared under the primary's names.
    spoil_ledger(&standby).await?;
    let mut client = standby.client().await?;
    for key in ["aside/none", "copy/none", "five/"] {
        client.put(key, "of nobody", None).await?;
    }
    syncer.respawn()?;
    syncer
        .wait_status(
            "the need of a snapshot",
            Duration::from_secs(10),
            |status| status["phase"] == "installing",
        )
        .await?;
    new_leader(&mut primary).await?;
    work(&primary, seed + 2, 400).await?;
    let status = settle(&primary, &standby, &strangers, &mut syncer).await?;
    let same = status["snapshot"]["same_value"].as_u64();
    ensure!(same > Some(0), "nothing was found to be there: {status}");
    ensure!(
        syncer.log()?.contains("cannot be trusted"),
        "{}",
        syncer.log()?
    );
    stop(&mut syncer).await?;
    assert_same_state(&Dump::read(&dump)?, &primary).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_the_keys_follows_the_log_3_5() -> Result<()> {
    Box::pin(by_log(Version::V3_5, Version::V3_6, 735)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_the_keys_follows_the_log_3_4() -> Result<()> {
    Box::pin(by_log(Version::V3_4, Version::V3_7, 734)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_the_keys_comes_by_snapshot_3_6() -> Result<()> {
    Box::pin(by_snapshot(Version::V3_6, Version::V3_4, 736)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_the_keys_comes_by_snapshot_3_7() -> Result<()> {
    Box::pin(by_snapshot(Version::V3_7, Version::V3_5, 737)).await
}

async fn assert_ends(syncer: &mut Syncer, code: i32, words: &[&str]) -> Result<()> {
    let ended = syncer.wait_exit(Duration::from_secs(20)).await?;
    let log = syncer.log()?;
    ensure!(ended == Some(code), "{ended:?} for {code}: {log}");
    for word in words {
        ensure!(log.contains(word), "no {word:?} in {log}");
    }
    Ok(())
}

/// Two primaries in one standby, each under a prefix of its own; a scope that changes, and one that
/// meets another, are refused and change nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_share_a_standby_and_keep_their_scopes() -> Result<()> {
    let (one, standby) = pair(Cluster::builder(Version::V3_7), Version::V3_6).await?;
    let two = Cluster::builder(Version::V3_6).no_fsync().start().await?;
    let mut first = attach(&one, &standby, &["--rewrite-prefix==one/"]).await?;
    let mut client = one.client().await?;
    client.put("k", "1", None).await?;
    let builder = Syncer::builder(&two, &standby)?.stream("second");
    let builder = builder.args(["--rewrite-prefix==one/x/"]);
    two.add_learner(&builder.peer_url()).await?;
    let mut second = builder.spawn()?;
    let words = [
        "stream \"test\" writes to the same keys",
        "etcdctl del --prefix",
    ];
    assert_ends(&mut second, 14, &words).await?;
    second.respawn_with(["--rewrite-prefix==two/"])?;
    let mut other = two.client().await?;
    other.put("k", "2", None).await?;
    let all = DeleteOptions::new().with_from_key();
    client.put("gone", "", None).await?;
    client.delete([0], Some(all)).await?;
    client.put("k", "3", None).await?;
    let both = [("one/k", "3"), ("two/k", "2")].map(|(key, value)| (key.into(), value.into()));
    let both = Values::from(both);
    eventually("both are there", Duration::from_secs(20), async || {
        let (_, mut keys) = read_keys(&standby.client().await?).await?;
        keys.retain(|key, _| !key.starts_with(META));
        let found: Values = keys
            .into_iter()
            .map(|(key, kept)| (key, kept.value))
            .collect();
        ensure!(found == both, "{found:?}");
        Ok(())
    })
    .await?;
    stop(&mut first).await?;
    stop(&mut second).await?;
    let (before, _) = read_keys(&standby.client().await?).await?;
    for (args, shown) in [
        (vec!["--rewrite-prefix==three/"], "=three/"),
        (vec![], "this process every key"),
        (
            vec!["--rewrite-prefix==one/", "--exclude-prefix=b"],
            "--exclude-prefix=b",
        ),
    ] {
        first.respawn_with(args)?;
        let words = [
            "was made with another scope",
            "--rewrite-prefix==one/",
            shown,
            "--stream",
        ];
        assert_ends(&mut first, 15, &words).await?;
        let (after, _) = read_keys(&standby.client().await?).await?;
        ensure!(before == after, "revision {before} became {after}");
    }
    first.respawn_with(["--rewrite-prefix==one/"])?;
    first
        .wait_status("it goes on", Duration::from_secs(20), |status| {
            status["phase"] == "streaming"
        })
        .await?;
    stop(&mut first).await
}

/// Which of two values is greater is known of keys in scope only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compare_that_needs_what_is_not_there_halts_by_name() -> Result<()> {
    let (primary, standby) = pair(Cluster::builder(Version::V3_7), Version::V3_7).await?;
    let args = ["--include-prefix=a/", "--rewrite-prefix=a/=c/"];
    let mut syncer = attach(&primary, &standby, &args).await?;
    let mut client = primary.client().await?;
    client.put("a/1", "m", None).await?;
    client.put("b", "m", None).await?;
    let compare = |key: &str, then: &str| {
        let greater = Compare::value(key, CompareOp::Greater, "k");
        let put = TxnOp::put(then, "greater", None);
        Txn::new().when([greater]).and_then([put])
    };
    client.txn(compare("a/1", "a/2")).await?;
    let index = 1 + primary.status(0).await?.raft_index();
    client.txn(compare("b", "a/3")).await?;
    let status = syncer
        .wait_status("it halts", Duration::from_secs(20), |status| {
            status["phase"] == "halted"
        })
        .await?;
    let reason = status["halted"]["reason"].as_str().context("a reason")?;
    for words in [
        &format!("entry {index} (txn)"),
        "\"b\"",
        "not in the stream's scope",
    ] {
        ensure!(reason.contains(words), "{reason}");
    }
    ensure!(status["halted"]["exit_code"] == 19, "{status}");
    let (_, keys) = read_keys(&standby.client().await?).await?;
    let found: Vec<_> = keys.keys().filter(|key| !key.starts_with(META)).collect();
    ensure!(found == [b"c/1", b"c/2"], "{found:?}");
    Ok(())
}

async fn put(client: &Client, key: &str, lease: i64) -> Result<()> {
    let leased = PutOptions::new().with_lease(lease);
    client.kv_client().put(key, "value", Some(leased)).await?;
    Ok(())
}

/// The keys of a lease of the standby become these, and it says how many it has put right.
async fn wait_leased(
    standby: &Cluster,
    syncer: &mut Syncer,
    expected: &[&str],
    restored: u64,
) -> Result<()> {
    let client = standby.client().await?;
    let what = format!("lease 7 has {expected:?}");
    eventually(&what, Duration::from_secs(20), async || {
        let leases = read_leases(&client).await?;
        let keys = &leases.get(&7).context("no lease")?.keys;
        let expected = expected.iter().map(|key| key.as_bytes().to_vec());
        ensure!(*keys == expected.collect(), "{keys:?}");
        Ok(())
    })
    .await?;
    syncer
        .wait_status("leases", Duration::from_secs(20), |status| {
            status["phase"] == "streaming" && status["leases"]["restored"] == restored
        })
        .await?;
    Ok(())
}

/// What is put right about leases is put right under the names that keys have on the standby.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_in_scope_are_attached_to_leases() -> Result<()> {
    let (primary, standby) = pair(Cluster::builder(Version::V3_6), Version::V3_7).await?;
    let mut syncer = attach(&primary, &standby, &SCOPE).await?;
    let (client, there) = (primary.client().await?, standby.client().await?);
    let id = LeaseGrantOptions::new().with_id(7);
    client.lease_client().grant(600, Some(id)).await?;
    for key in ["work/1", "work/05/1", "aside/1", "aside/x/1", "apart/1"] {
        put(&client, key, 7).await?;
    }
    let mut all = vec!["aside/1", "copy/1", "five/1"];
    wait_leased(&standby, &mut syncer, &all, 0).await?;

    // The lease is gone, and its keys are not.
    for key in &all {
        put(&there, key, 0).await?;
    }
    put(&there, "work/1", 0).await?;
    there.lease_client().revoke(7).await?;
    put(&client, "work/2", 7).await?;
    all.push("copy/2");
    wait_leased(&standby, &mut syncer, &all, 1).await?;

    // A process that starts finds out which keys it has.
    stop(&mut syncer).await?;
    put(&there, "copy/1", 0).await?;
    put(&there, "work/1", 7).await?;
    syncer.respawn()?;
    all.push("work/1");
    wait_leased(&standby, &mut syncer, &all, 1).await?;
    put(&there, "work/1", 0).await?;

    client.lease_client().revoke(7).await?;
    eventually("they are gone", Duration::from_secs(20), async || {
        let (_, mut keys) = read_keys(&there).await?;
        keys.retain(|key, _| !key.starts_with(META));
        ensure!(keys.keys().eq([b"work/1"]), "{keys:?}");
        Ok(())
    })
    .await
}
