//! What a standby must do, asked of real etcd and of the fake alike.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use etcd_client::{Client, DeleteOptions, GetOptions};
use etcd_syncer::ids::{ClusterId, LeaseId, RaftIndex, Revision, Term};
use etcd_syncer::plan::{History, Limits, Nested, Planner, Unit, Write, nest, on_standby};
use etcd_syncer::range::KeyRange;
use etcd_syncer::reserved;
use etcd_syncer::resolve::{Changes, Delta, Put, Value};
use etcd_syncer::scope::{Scope, parse};
use etcd_syncer::standby::{
    Answer, Compaction, Etcd, Failure, Guard, Leases, Options, Standby, Stored, Transaction,
};

use crate::fake_standby::{CLUSTER, FakeStandby};
use crate::harness::{Cluster, Version, read_keys};
use crate::lease_suite;

/// Value, mod revision and version of each key.
pub(crate) type Contents = BTreeMap<Vec<u8>, (Vec<u8>, i64, i64)>;

/// A standby under test, and a second way into it.
pub(crate) trait Bench {
    type Standby: Standby + Leases + Compaction;

    fn standby_for(&self, scope: Scope) -> Self::Standby;
    fn standby(&self) -> Self::Standby {
        self.standby_for(Scope::all())
    }
    fn cluster(&self) -> ClusterId;
    async fn contents(&self) -> Result<Contents>;
    async fn put(&self, key: &[u8], value: &[u8]) -> Result<()>;
    async fn delete(&self, key: &[u8]) -> Result<()>;
    async fn clear(&self) -> Result<()>;
    async fn is_compacted(&self, revision: i64) -> Result<bool>;
}

pub(crate) struct Real {
    cluster: Cluster,
    id: ClusterId,
    client: Client,
}

impl Real {
    pub(crate) async fn start(version: Version, args: &[&str]) -> Result<Self> {
        let builder = Cluster::builder(version).no_fsync();
        let cluster = builder.extra_args(args.iter().copied()).start().await?;
        Ok(Self {
            id: ClusterId(cluster.cluster_id().await?),
            client: cluster.client().await?,
            cluster,
        })
    }
}

impl Bench for Real {
    type Standby = Etcd;

    fn standby_for(&self, scope: Scope) -> Etcd {
        Etcd::new(Options {
            endpoints: self.cluster.client_endpoints(),
            request_timeout: std::time::Duration::from_secs(5),
        })
        .for_scope(Arc::new(scope))
    }

    fn cluster(&self) -> ClusterId {
        self.id
    }

    async fn contents(&self) -> Result<Contents> {
        let (_, keys) = read_keys(&self.client).await?;
        let each = keys.into_iter();
        Ok(each
            .map(|(key, kept)| (key, (kept.value, kept.mod_revision, kept.version)))
            .collect())
    }

    async fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.client.kv_client().put(key, value, None).await?;
        Ok(())
    }

    async fn delete(&self, key: &[u8]) -> Result<()> {
        self.client.kv_client().delete(key, None).await?;
        Ok(())
    }

    async fn clear(&self) -> Result<()> {
        let all = DeleteOptions::new().with_from_key();
        self.client.kv_client().delete([0], Some(all)).await?;
        Ok(())
    }

    async fn is_compacted(&self, revision: i64) -> Result<bool> {
        let options = GetOptions::new().with_revision(revision);
        match self.client.kv_client().get("a", Some(options)).await {
            Ok(_) => Ok(false),
            Err(error) if error.to_string().contains("has been compacted") => Ok(true),
            Err(error) => Err(error.into()),
        }
    }
}

impl Bench for FakeStandby {
    type Standby = Self;

    fn standby_for(&self, scope: Scope) -> Self {
        self.clone().scope(scope)
    }

    fn cluster(&self) -> ClusterId {
        CLUSTER
    }

    async fn contents(&self) -> Result<Contents> {
        let state = self.state();
        let each = state.keys.iter();
        Ok(each
            .map(|(key, kept)| {
                let stored = (kept.value.to_vec(), kept.modified, kept.version);
                (key.to_vec(), stored)
            })
            .collect())
    }

    async fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.state().put(key, value);
        Ok(())
    }

    async fn delete(&self, key: &[u8]) -> Result<()> {
        self.state().delete(key);
        Ok(())
    }

    async fn clear(&self) -> Result<()> {
        self.state().clear();
        Ok(())
    }

    async fn is_compacted(&self, revision: i64) -> Result<bool> {
        Ok(revision < self.state().leases.compacted)
    }
}

fn checkpoint_key() -> Bytes {
    reserved::checkpoint_key("s")
}

pub(crate) fn transaction(
    guard: Guard,
    checkpoint: &'static str,
    writes: Vec<Nested<Write>>,
) -> Transaction {
    Transaction {
        guard,
        checkpoint_key: checkpoint_key(),
        checkpoint: checkpoint.into(),
        writes,
    }
}

pub(crate) fn put_value(key: impl Into<Bytes>, value: Value) -> Write {
    Write::Put(Put {
        key: key.into(),
        value,
        lease: LeaseId(0),
    })
}

fn put(key: impl Into<Bytes>, value: &'static str) -> Nested<Write> {
    Nested::Op(put_value(key, Value::Given(value.into())))
}

fn kept(key: &'static str) -> Nested<Write> {
    Nested::Op(put_value(key, Value::Kept))
}

fn between(start: &'static str, end: &'static str) -> KeyRange {
    KeyRange::between(start.into(), end.into()).expect("a range")
}

fn delete(range: KeyRange) -> Nested<Write> {
    Nested::Op(Write::Delete(range))
}

/// An empty standby, claimed.
pub(crate) async fn claimed<B: Bench>(bench: &B) -> Result<(B::Standby, Guard)> {
    bench.clear().await?;
    let mut standby = bench.standby();
    let claim = transaction(Guard::NothingThere, "claim", vec![]);
    let guard = applied(standby.write(&claim).await)?;
    Ok((standby, guard))
}

/// The guard of the next transaction.
pub(crate) fn applied(answer: Result<Answer, Failure>) -> Result<Guard> {
    match answer? {
        Answer::Applied(revision) => Ok(Guard::WrittenAt(revision)),
        Answer::GuardFailed => anyhow::bail!("the guard failed"),
    }
}

/// What `transaction` is answered with, when that must leave everything as it was.
pub(crate) async fn refused<B: Bench>(
    bench: &B,
    standby: &mut B::Standby,
    transaction: &Transaction,
) -> Result<Result<Answer, Failure>> {
    let before = bench.contents().await?;
    let revision = standby.about().await?.revision;
    let answer = standby.write(transaction).await;
    ensure!(bench.contents().await? == before, "{answer:?}: it writes");
    ensure!(standby.about().await?.revision == revision, "{answer:?}");
    Ok(answer)
}

async fn fails_guard<B: Bench>(
    bench: &B,
    standby: &mut B::Standby,
    transaction: &Transaction,
) -> Result<()> {
    let answer = refused(bench, standby, transaction).await?;
    ensure!(answer == Ok(Answer::GuardFailed), "{answer:?}");
    Ok(())
}

async fn says_who_it_is(bench: &impl Bench) -> Result<()> {
    let (mut standby, guard) = claimed(bench).await?;
    let before = standby.about().await?;
    ensure!(before.cluster == bench.cluster(), "{before:?}");
    ensure!(Guard::WrittenAt(before.revision) == guard, "{before:?}");
    let writes = vec![put("a", "1"), put("b", "1"), delete(between("c", "d"))];
    applied(standby.write(&transaction(guard, "1", writes)).await)?;
    let after = standby.about().await?;
    ensure!(after.revision == before.revision + 1, "{after:?}");
    Ok(())
}

async fn reads_one_key(bench: &impl Bench) -> Result<()> {
    let (mut standby, guard) = claimed(bench).await?;
    let nothing = standby.read(&"a".into()).await?;
    ensure!(nothing.is_none(), "{nothing:?}");
    let write = transaction(guard, "1", vec![put("a", "value"), put("ab", "other")]);
    let Guard::WrittenAt(mod_revision) = applied(standby.write(&write).await)? else {
        anyhow::bail!("no revision");
    };
    for (key, value) in [("a".into(), "value"), (checkpoint_key(), "1")] {
        let stored = Stored {
            value: value.into(),
            mod_revision,
        };
        ensure!(standby.read(&key).await? == Some(stored), "{key:?}");
    }
    Ok(())
}

async fn guards_each_transaction(bench: &impl Bench) -> Result<()> {
    let (mut standby, first) = claimed(bench).await?;
    let second = transaction(first, "2", vec![put("a", "2")]);
    let guard = applied(standby.write(&second).await)?;
    // The same once more, with the revision that is passed; and from the beginning.
    fails_guard(bench, &mut standby, &second).await?;
    let claim = transaction(Guard::NothingThere, "claim", vec![put("a", "0")]);
    fails_guard(bench, &mut standby, &claim).await?;
    // What others write beside the checkpoint is none of the guard's business.
    bench.put(b"a", b"foreign").await?;
    let third = transaction(guard, "3", vec![put("a", "3")]);
    let guard = applied(standby.write(&third).await)?;
    // The same bytes by somebody else are not ours.
    bench.put(&checkpoint_key(), b"3").await?;
    let fourth = transaction(guard, "4", vec![put("a", "4")]);
    fails_guard(bench, &mut standby, &fourth).await?;
    bench.clear().await?;
    fails_guard(bench, &mut standby, &fourth).await
}

async fn tells_an_empty_standby(bench: &impl Bench) -> Result<()> {
    let mut standby = bench.standby();
    let claim = transaction(Guard::NothingThere, "claim", vec![put("z", "1")]);
    let last = [0xff_u8; 4];
    for (key, is_empty) in [
        (&b"\0"[..], false),
        (b"!", false),
        (b"-etcd-syncer-meta-.", false),
        (b"-etcd-syncer-meta-/", true),
        (b"-etcd-syncer-meta-/other/checkpoint", true),
        (b"-etcd-syncer-meta-0", false),
        (b"work", false),
        (&last, false),
        (&checkpoint_key(), false),
    ] {
        bench.clear().await?;
        bench.put(key, b"").await?;
        let shown = key.escape_ascii();
        if is_empty {
            applied(standby.write(&claim).await).with_context(|| format!("{shown}"))?;
        } else {
            let answer = refused(bench, &mut standby, &claim).await?;
            ensure!(answer == Ok(Answer::GuardFailed), "{shown}: {answer:?}");
        }
    }
    Ok(())
}

fn many(count: usize) -> Vec<Write> {
    (0..count)
        .map(|n| put_value(format!("n/{n:04}"), Value::Given("1".into())))
        .collect()
}

async fn takes_nested_writes_whole(bench: &impl Bench) -> Result<()> {
    let (mut standby, guard) = claimed(bench).await?;
    let limit = standby.txn_ops_max().await?;
    let writes = nest(many(1000), limit - 1).context("they fit")?;
    let guard = applied(standby.write(&transaction(guard, "1", writes)).await)?;
    let contents = bench.contents().await?;
    ensure!(contents.len() == 1001, "{} keys", contents.len());
    let in_one = |(_, revision, _): &(_, i64, _)| Guard::WrittenAt(*revision) == guard;
    ensure!(contents.values().all(in_one), "several revisions");

    // One list as long as it may be with the checkpoint in it, and one longer.
    let flat = |count| many(count).into_iter().map(Nested::Op).collect();
    let full = transaction(guard, "2", flat(limit - 1));
    let guard = applied(standby.write(&full).await)?;
    let mut outer: Vec<_> = flat(limit - 3);
    outer.push(Nested::Txn(vec![put("x", ""), put("y", "")]));
    for writes in [flat(limit), outer.clone()] {
        let over = transaction(guard, "3", writes);
        let answer = refused(bench, &mut standby, &over).await?;
        ensure!(matches!(answer, Err(Failure::TooManyOps(_))), "{answer:?}");
    }
    outer.remove(0);
    applied(standby.write(&transaction(guard, "4", outer)).await)?;
    Ok(())
}

async fn keeps_values(bench: &impl Bench) -> Result<()> {
    let (mut standby, guard) = claimed(bench).await?;
    let write = transaction(guard, "1", vec![put("a", "value")]);
    let guard = applied(standby.write(&write).await)?;
    let inner = vec![kept("a"), put("b", "1")];
    let write = transaction(guard, "2", vec![Nested::Txn(inner)]);
    let guard = applied(standby.write(&write).await)?;
    let contents = bench.contents().await?;
    let (value, revision, version) = &contents[&b"a"[..]];
    ensure!(
        (value.as_slice(), *version) == (b"value", 2),
        "{contents:?}"
    );
    ensure!(Guard::WrittenAt(*revision) == guard, "{contents:?}");
    let missing = transaction(guard, "3", vec![put("c", "1"), kept("missing")]);
    let answer = refused(bench, &mut standby, &missing).await?;
    ensure!(matches!(answer, Err(Failure::Diverged(_))), "{answer:?}");
    Ok(())
}

async fn deletes_ranges(bench: &impl Bench) -> Result<()> {
    let (mut standby, mut guard) = claimed(bench).await?;
    for (range, left) in [
        (KeyRange::single(&"b".into()), &["a", "b\0", "c", "d"][..]),
        (between("b", "c"), &["a", "c", "d"]),
        (between("a", "d"), &["d"]),
        (KeyRange::from("b\0".into()), &["a", "b"]),
        (between("x", "z"), &["a", "b", "b\0", "c", "d"]),
    ] {
        for key in ["a", "b", "b\0", "c", "d"] {
            bench.put(key.as_bytes(), b"1").await?;
        }
        let write = transaction(guard, "1", vec![delete(range.clone())]);
        guard = applied(standby.write(&write).await)?;
        let contents = bench.contents().await?;
        let ours = reserved::range();
        let found = contents.keys().filter(|key| !ours.contains(key));
        let found: Vec<&[u8]> = found.map(Vec::as_slice).collect();
        let left: Vec<&[u8]> = left.iter().map(|key| key.as_bytes()).collect();
        ensure!(found == left, "{range:?} leaves {found:?}");
    }
    // What is put in a transaction cannot be deleted in it, the checkpoint included.
    for range in [between("a", "c"), reserved::range()] {
        let both = transaction(guard, "2", vec![put("b", "2"), delete(range)]);
        let answer = refused(bench, &mut standby, &both).await?;
        ensure!(matches!(answer, Err(Failure::Refused(_))), "{answer:?}");
    }
    let twice = transaction(guard, "2", vec![put("b", "2"), put("b", "3")]);
    let answer = refused(bench, &mut standby, &twice).await?;
    ensure!(matches!(answer, Err(Failure::Refused(_))), "{answer:?}");
    Ok(())
}

/// Whatever the primary deletes or puts there, as a batch it leaves the reserved keys alone.
async fn leaves_reserved_keys_alone(bench: &impl Bench) -> Result<()> {
    let (mut standby, mut guard) = claimed(bench).await?;
    let other = b"-etcd-syncer-meta-/other/checkpoint";
    bench.put(other, b"other").await?;
    for range in [
        KeyRange::from(Bytes::from_static(&[0])),
        KeyRange::from("-".into()),
        between("-", "."),
        reserved::range(),
        between("-etcd-syncer-meta-/o", "a"),
    ] {
        for key in ["+", "-etcd-syncer-meta-.", "-etcd-syncer-meta-0"] {
            bench.put(key.as_bytes(), b"1").await?;
        }
        let before = bench.contents().await?;
        let writes = planned(Changes {
            puts: vec![],
            deletes: vec![range.clone()],
        })?;
        guard = applied(standby.write(&transaction(guard, "claim", writes)).await)?;
        let after = bench.contents().await?;
        let ours = reserved::range();
        for key in before.keys() {
            let stays = ours.contains(key) || !range.contains(key);
            ensure!(after.contains_key(key) == stays, "{range:?}: {key:?}");
        }
        ensure!(after[&other[..]] == before[&other[..]], "{range:?}");
    }
    let foreign = planned(Changes {
        puts: vec![Put {
            key: Bytes::from_static(other),
            value: Value::Given("replicated".into()),
            lease: LeaseId(0),
        }],
        deletes: vec![],
    })?;
    ensure!(foreign.is_empty(), "{foreign:?}");
    Ok(())
}

fn planned(changes: Changes) -> Result<Vec<Nested<Write>>> {
    let mut planner = Planner::new(Limits {
        batch_ops_max: 1000,
        batch_bytes_max: 1 << 20,
        txn_ops_max: 128,
    });
    let unit = Unit {
        index: RaftIndex(1),
        term: Term(1),
        revision: Revision(2),
        compact_revision: Revision(-1),
        members: None,
        changes: on_standby(changes, &Scope::all()),
        lease: None,
        auth: Vec::new(),
        delta: Delta::default(),
    };
    let back = planner.push(unit, History::Keep)?;
    ensure!(back.is_none(), "it does not fit");
    let batch = planner.take().context("a batch")?;
    nest(batch.writes().collect(), 127).context("it fits")
}

async fn shows_foreign_keys(bench: &impl Bench) -> Result<()> {
    let (mut standby, _) = claimed(bench).await?;
    let none: Vec<Bytes> = Vec::new();
    ensure!(standby.foreign_keys(3).await? == none, "reserved keys");
    let keys = ["!", "-etcd-syncer-meta-.", "-etcd-syncer-meta-0", "z"];
    for key in keys.iter().rev() {
        bench.put(key.as_bytes(), b"1").await?;
    }
    for limit in 0..=5 {
        let found = standby.foreign_keys(limit).await?;
        ensure!(found == keys[..limit.min(4)], "{limit}: {found:?}");
    }
    Ok(())
}

/// What is not in scope does not stand in the way of the first transaction.
async fn looks_at_its_scope_only(bench: &impl Bench) -> Result<()> {
    bench.clear().await?;
    let texts = |texts: &[&str]| {
        texts
            .iter()
            .map(|text| (*text).to_owned())
            .collect::<Vec<_>>()
    };
    let prefixes = parse(&texts(&["a/", "c/"]), &texts(&["a/x/"]), &texts(&["c/=b/"]));
    let prefixes = prefixes.map_err(|(_, _, why)| anyhow::anyhow!(why))?;
    let mut standby = bench.standby_for(Scope::new(prefixes)?);
    for key in ["a", "a/x/1", "a0", "c/1", "-etcd-syncer-meta-/o/checkpoint"] {
        bench.put(key.as_bytes(), b"1").await?;
    }
    let none: Vec<Bytes> = Vec::new();
    ensure!(standby.foreign_keys(9).await? == none, "keys out of scope");
    let claim = transaction(Guard::NothingThere, "claim", vec![put("z", "1")]);
    for key in ["a/", "a/w", "a/x0", "b/1"] {
        bench.put(key.as_bytes(), b"1").await?;
        let found = standby.foreign_keys(9).await?;
        ensure!(found == [key], "{found:?} for {key}");
        fails_guard(bench, &mut standby, &claim).await?;
        bench.delete(key.as_bytes()).await?;
    }
    applied(standby.write(&claim).await)?;
    // A fake has one scope at a time.
    bench.standby();
    Ok(())
}

async fn refuses_what_is_too_large(bench: &impl Bench) -> Result<()> {
    let (mut standby, guard) = claimed(bench).await?;
    for bytes in [(3 << 19) + 1, 3 << 20] {
        let value = Value::Given(vec![0; bytes].into());
        let write = Nested::Op(put_value("large", value));
        let answer = refused(bench, &mut standby, &transaction(guard, "1", vec![write])).await?;
        ensure!(matches!(answer, Err(Failure::TooLarge(_))), "{answer:?}");
    }
    let value = Value::Given(vec![0; 1 << 20].into());
    let write = Nested::Op(put_value("large", value));
    applied(standby.write(&transaction(guard, "1", vec![write])).await)?;
    Ok(())
}

async fn suite(bench: &impl Bench) -> Result<()> {
    says_who_it_is(bench).await.context("about")?;
    reads_one_key(bench).await.context("read")?;
    guards_each_transaction(bench).await.context("guards")?;
    tells_an_empty_standby(bench).await.context("empty")?;
    takes_nested_writes_whole(bench).await.context("nested")?;
    keeps_values(bench).await.context("kept values")?;
    deletes_ranges(bench).await.context("deletes")?;
    leaves_reserved_keys_alone(bench)
        .await
        .context("reserved keys")?;
    lease_suite::suite(bench).await.context("leases")?;
    shows_foreign_keys(bench).await.context("foreign keys")?;
    looks_at_its_scope_only(bench).await.context("scope")?;
    refuses_what_is_too_large(bench).await.context("too large")
}

#[tokio::test]
async fn the_fake_is_a_standby() -> Result<()> {
    suite(&FakeStandby::new()).await?;
    for limit in [64, 1000] {
        let bench = FakeStandby::new().txn_ops(limit);
        ensure!(bench.standby().txn_ops_max().await? == limit, "{limit}");
        takes_nested_writes_whole(&bench).await?;
    }
    Ok(())
}

macro_rules! real {
    ($name:ident, $version:ident) => {
        #[tokio::test]
        async fn $name() -> Result<()> {
            suite(&Real::start(Version::$version, &[]).await?).await
        }
    };
}

real!(etcd_3_4_is_a_standby, V3_4);
real!(etcd_3_5_is_a_standby, V3_5);
real!(etcd_3_6_is_a_standby, V3_6);
real!(etcd_3_7_is_a_standby, V3_7);

#[tokio::test]
async fn the_longest_operation_list_is_found() -> Result<()> {
    for limit in [128, 64, 1000, 129, 10] {
        let flag = format!("--max-txn-ops={limit}");
        let bench = Real::start(Version::V3_7, &[&flag]).await?;
        let revision = bench.standby().about().await?.revision;
        let found = bench.standby().txn_ops_max().await?;
        ensure!(found == limit, "{found} for {limit}");
        let after = bench.standby().about().await?.revision;
        ensure!(after == revision, "asking wrote something");
        if limit >= 64 {
            takes_nested_writes_whole(&bench).await?;
        }
    }
    Ok(())
}
