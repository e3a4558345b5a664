//! What a standby must do about leases and its history, asked of real etcd and of the fake alike.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use etcd_syncer::ids::LeaseId;
use etcd_syncer::plan::{Nested, Write};
use etcd_syncer::resolve::{Put, Value};
use etcd_syncer::standby::{Compaction, Failure, Granted, Guard, LeaseStatus, Leases, Standby};

use crate::harness::eventually;
use crate::standby_suite::{Bench, applied, claimed, refused, transaction};

const HOLD: i64 = 3600;
const IDS: [LeaseId; 4] = [
    LeaseId(1),
    LeaseId(-7),
    LeaseId(i64::MAX),
    LeaseId(i64::MIN),
];
const MISSING: LeaseId = LeaseId(404);
const SOON: Duration = Duration::from_secs(20);

fn attached(key: &'static str, value: Value, lease: LeaseId) -> Nested<Write> {
    let key = key.into();
    Nested::Op(Write::Put(Put { key, value, lease }))
}

fn put(key: &'static str, lease: LeaseId) -> Nested<Write> {
    attached(key, Value::Given("1".into()), lease)
}

/// Every lease is made, and was not there before.
async fn granted(standby: &mut impl Leases, ids: &[LeaseId], ttl: i64) -> Result<()> {
    let grants = standby.grant(ids, ttl).await;
    ensure!(grants == vec![Ok(Granted::Made); ids.len()], "{grants:?}");
    Ok(())
}

async fn revoked(standby: &mut impl Leases, ids: &[LeaseId]) -> Result<()> {
    let revokes = standby.revoke(ids).await;
    ensure!(revokes == vec![Ok(()); ids.len()], "{revokes:?}");
    Ok(())
}

/// What one lease is like.
async fn status(standby: &mut impl Leases, id: LeaseId) -> Result<Option<LeaseStatus>> {
    let mut all = standby.time_to_live(&[id]).await;
    ensure!(all.len() == 1, "{all:?}");
    Ok(all.remove(0)?)
}

async fn keys_of(standby: &mut impl Leases, id: LeaseId) -> Result<Vec<Bytes>> {
    let status = status(standby, id).await?;
    Ok(status.with_context(|| format!("no lease {id}"))?.keys)
}

async fn grants_lists_and_revokes(bench: &impl Bench) -> Result<()> {
    let (mut standby, _) = claimed(bench).await?;
    let revision = standby.about().await?.revision;
    ensure!(standby.leases().await?.is_empty(), "leases of others");
    granted(&mut standby, &IDS, HOLD).await?;
    let again = standby.grant(&[IDS[1], MISSING, IDS[0]], 77).await;
    let expected = [Granted::Existed, Granted::Made, Granted::Existed];
    ensure!(again == expected.map(Ok), "{again:?}");
    let mut listed = standby.leases().await?;
    listed.sort_unstable();
    let mut expected = [&IDS[..], &[MISSING]].concat();
    expected.sort_unstable();
    ensure!(listed == expected, "{listed:?}");
    for id in IDS {
        let status = status(&mut standby, id).await?.context("it is there")?;
        ensure!(status.granted_ttl == HOLD, "{status:?}");
        ensure!((HOLD - 30..=HOLD).contains(&status.remaining), "{status:?}");
        ensure!(status.keys.is_empty(), "{status:?}");
    }
    revoked(&mut standby, &[IDS[0], LeaseId(405), MISSING, IDS[0]]).await?;
    ensure!(status(&mut standby, IDS[0]).await?.is_none(), "revoked");
    revoked(&mut standby, &IDS).await?;
    ensure!(standby.leases().await?.is_empty(), "all are revoked");
    let after = standby.about().await?.revision;
    ensure!(after == revision, "empty leases make no revision");
    let too_large = standby.grant(&[MISSING], 9_000_000_001).await;
    let refusal = matches!(too_large[..], [Err(Failure::Refused(_))]);
    ensure!(refusal, "{too_large:?}");
    Ok(())
}

async fn grants_many_at_a_time(bench: &impl Bench) -> Result<()> {
    let mut standby = bench.standby();
    let ids: Vec<LeaseId> = (1000..1500).map(LeaseId).collect();
    granted(&mut standby, &ids, HOLD).await?;
    let mut listed = standby.leases().await?;
    listed.sort_unstable();
    ensure!(listed == ids, "{} are listed", listed.len());
    let all = standby.time_to_live(&ids).await;
    let is_held = |one: &Result<Option<LeaseStatus>, Failure>| match one {
        Ok(Some(status)) => status.granted_ttl == HOLD && status.keys.is_empty(),
        Ok(None) | Err(_) => false,
    };
    ensure!(all.len() == ids.len() && all.iter().all(is_held), "{all:?}");
    let kept = standby.keep_alive(&ids).await?;
    ensure!(kept == vec![Some(HOLD); ids.len()], "{kept:?}");
    revoked(&mut standby, &ids).await?;
    ensure!(standby.keep_alive(&ids[..20]).await? == vec![None; 20]);
    Ok(())
}

async fn keeps_leases_alive(bench: &impl Bench) -> Result<()> {
    let mut standby = bench.standby();
    let [a, b] = [LeaseId(1), LeaseId(2)];
    granted(&mut standby, &[a], 20).await?;
    granted(&mut standby, &[b], HOLD).await?;
    let nothing = standby.keep_alive(&[]).await?;
    ensure!(nothing.is_empty(), "{nothing:?}");
    eventually("some time passes", SOON, async || {
        let status = status(&mut bench.standby(), a).await?;
        ensure!(status.context("it is there")?.remaining <= 17);
        Ok(())
    })
    .await?;
    let kept = standby
        .keep_alive(&[MISSING, MISSING, a, MISSING, b, a])
        .await?;
    let expected = [None, None, Some(20), None, Some(HOLD), Some(20)];
    ensure!(kept == expected, "{kept:?}");
    let status = status(&mut standby, a).await?.context("it is there")?;
    ensure!(status.remaining >= 18, "{status:?}");
    revoked(&mut standby, &[a, b]).await
}

async fn puts_carry_their_leases(bench: &impl Bench) -> Result<()> {
    let (mut standby, guard) = claimed(bench).await?;
    let [a, b, none] = [LeaseId(11), LeaseId(-12), LeaseId(0)];
    granted(&mut standby, &[a, b], HOLD).await?;
    let inner = Nested::Txn(vec![put("y", b), put("z", a)]);
    let writes = vec![put("x", a), inner, put("w", none)];
    let guard = applied(standby.write(&transaction(guard, "1", writes)).await)?;
    ensure!(keys_of(&mut standby, a).await? == ["x", "z"], "attached");
    ensure!(keys_of(&mut standby, b).await? == ["y"], "attached");

    // A kept value: moved to another lease, attached and detached.
    let writes = vec![
        attached("x", Value::Kept, b),
        attached("w", Value::Kept, a),
        attached("z", Value::Kept, none),
    ];
    let guard = applied(standby.write(&transaction(guard, "2", writes)).await)?;
    ensure!(keys_of(&mut standby, a).await? == ["w"], "moved");
    ensure!(keys_of(&mut standby, b).await? == ["x", "y"], "moved");

    // A lease that is not there: the whole transaction is refused.
    for writes in [
        vec![put("v", none), put("w", MISSING)],
        vec![put("v", a), Nested::Txn(vec![put("w", MISSING)])],
        vec![put("v", a), attached("w", Value::Kept, MISSING)],
    ] {
        let refusal = transaction(guard, "3", writes);
        let answer = refused(bench, &mut standby, &refusal).await?;
        let is_refusal = matches!(answer, Err(Failure::LeaseNotFound(_)));
        ensure!(is_refusal, "{answer:?}");
    }

    // A revoke deletes what is attached, in one revision.
    let before = standby.about().await?.revision;
    revoked(&mut standby, &[b]).await?;
    ensure!(standby.about().await?.revision == before + 1);
    for (key, is_there) in [("x", false), ("y", false), ("z", true), ("w", true)] {
        let stored = standby.read(&key.into()).await?;
        ensure!(stored.is_some() == is_there, "{key}: {stored:?}");
    }
    // An id may be used again, and has none of its old keys.
    granted(&mut standby, &[b], HOLD).await?;
    ensure!(keys_of(&mut standby, b).await?.is_empty(), "an old key");
    revoked(&mut standby, &[a, b]).await
}

async fn expiry_deletes_keys(bench: &impl Bench) -> Result<()> {
    let (mut standby, guard) = claimed(bench).await?;
    let id = LeaseId(21);
    granted(&mut standby, &[id], 2).await?;
    let writes = vec![put("x", id), put("y", LeaseId(0))];
    applied(standby.write(&transaction(guard, "1", writes)).await)?;
    eventually("the lease expires", SOON, async || {
        let stored = bench.standby().read(&"x".into()).await?;
        ensure!(stored.is_none(), "{stored:?}");
        Ok(())
    })
    .await?;
    ensure!(standby.read(&"y".into()).await?.is_some());
    ensure!(status(&mut standby, id).await?.is_none());
    ensure!(standby.keep_alive(&[id]).await? == [None]);
    granted(&mut standby, &[id], 2).await?;
    revoked(&mut standby, &[id]).await
}

async fn gives_up_history(bench: &impl Bench) -> Result<()> {
    let (mut standby, mut guard) = claimed(bench).await?;
    let first = standby.about().await?.revision;
    for _ in 0..4 {
        let writes = vec![put("a", LeaseId(0))];
        guard = applied(standby.write(&transaction(guard, "1", writes)).await)?;
    }
    let Guard::WrittenAt(last) = guard else {
        anyhow::bail!("no revision");
    };
    standby.compact(first + 2).await?;
    ensure!(bench.is_compacted(first + 1).await?, "the history is there");
    ensure!(!bench.is_compacted(first + 2).await?, "too much is gone");
    for again in [first + 2, first + 1, 1] {
        standby.compact(again).await?;
    }
    let future = standby.compact(last + 1).await;
    ensure!(matches!(future, Err(Failure::Refused(_))), "{future:?}");
    standby.compact(last).await?;
    ensure!(!bench.is_compacted(last).await?, "too much is gone");
    Ok(())
}

pub(crate) async fn suite(bench: &impl Bench) -> Result<()> {
    grants_lists_and_revokes(bench).await.context("grants")?;
    grants_many_at_a_time(bench).await.context("many")?;
    keeps_leases_alive(bench).await.context("keep-alives")?;
    puts_carry_their_leases(bench).await.context("puts")?;
    expiry_deletes_keys(bench).await.context("expiry")?;
    gives_up_history(bench).await.context("compaction")
}
