//! Addresses and folders that are taken, and a standby that must not be written.

use std::net::TcpListener;

use anyhow::{Context, Result, ensure};
use etcd_syncer::checkpoint::{Checkpoint, Phase, Place};
use etcd_syncer::ids::{ClusterId, LeaseId, MemberId, RaftIndex, Revision, Term};
use etcd_syncer::scope::Prefixes;

use super::{assert_ends, assert_stops, pair, store_checkpoint};
use crate::harness::{Syncer, read_keys};

#[tokio::test]
async fn what_is_taken_is_named() -> Result<()> {
    let (primary, standby) = pair().await?;
    let builder = Syncer::builder(&primary, &standby)?;
    let address = builder.status_address();
    let taken = TcpListener::bind(&address)?;
    let mut syncer = builder.spawn()?;
    let words = ["--listen-status", &address, "in use", "name another one"];
    assert_ends(&mut syncer, 20, &words).await?;
    drop(taken);

    let builder = Syncer::builder(&primary, &standby)?;
    let url = builder.peer_url();
    let address = url.trim_start_matches("http://");
    let taken = TcpListener::bind(address)?;
    let mut syncer = builder.spawn()?;
    let words = ["--listen-peer-url", address, "in use", "name another one"];
    assert_ends(&mut syncer, 20, &words).await?;
    drop(taken);

    let folder = tempfile::tempdir()?;
    let path = folder.path().to_str().context("a path")?;
    let holder = Syncer::builder(&primary, &standby)?.data_dir(folder.path());
    let mut holder = holder.spawn()?;
    holder
        .wait_status("it runs", super::SOON, |status| {
            status["phase"] == "joining"
        })
        .await?;
    let builder = Syncer::builder(&primary, &standby)?.data_dir(folder.path());
    let mut syncer = builder.spawn()?;
    let words = ["--data-dir", path, "another etcd-syncer", "another folder"];
    assert_ends(&mut syncer, 21, &words).await?;
    // A lock does not outlive its process, however that ends.
    holder.kill()?;
    syncer.respawn()?;
    syncer
        .wait_status("it runs", super::SOON, |status| {
            status["phase"] == "joining"
        })
        .await?;
    assert_stops(&mut syncer).await
}

#[tokio::test]
async fn the_primary_is_no_standby_of_itself() -> Result<()> {
    let primary = super::one_member().start().await?;
    let builder = Syncer::builder(&primary, &primary)?;
    primary.add_learner(&builder.peer_url()).await?;
    let mut syncer = builder.spawn()?;
    let cluster = format!("{:x}", primary.cluster_id().await?);
    let words = ["the same cluster", &cluster, "--standby-endpoints"];
    assert_ends(&mut syncer, 13, &words).await?;
    let (revision, keys) = read_keys(&primary.client().await?).await?;
    ensure!(revision == 1 && keys.is_empty(), "written: {keys:?}");
    Ok(())
}

fn checkpoint(primary: u64, member: u64, index: u64) -> Checkpoint {
    Checkpoint {
        primary: ClusterId(primary),
        member: MemberId(member),
        index: RaftIndex(index),
        term: Term(1),
        voters: Vec::new(),
        learners: Vec::new(),
        revision: Revision(1),
        compact_revision: Revision(-1),
        phase: Phase::Streaming,
        writer: 7,
        batch: 1,
        ledger: Place::empty([0; 32]),
        ending_lease: LeaseId(0),
        scope: Prefixes::default(),
    }
}

/// One standby after the other that this process must leave alone, and does.
#[tokio::test]
async fn a_standby_that_is_not_ours_is_left_alone() -> Result<()> {
    let (primary, standby) = pair().await?;
    let mut client = standby.client().await?;
    client.put("somebody's", "key", None).await?;
    let builder = Syncer::builder(&primary, &standby)?;
    let us = primary.add_learner(&builder.peer_url()).await?;
    let cluster = primary.cluster_id().await?;
    let mut syncer = builder.spawn()?;
    let words = ["somebody's", "\"test\"", "must be empty", "delete its keys"];
    assert_ends(&mut syncer, 14, &words).await?;
    client.delete("somebody's", None).await?;

    let ours = format!("{cluster:x}");
    let mut newer = checkpoint(cluster, us, 0).encode();
    // The first field is the format.
    ensure!(newer[..2] == [8, 3], "{newer:?}");
    newer[1] = 4;
    for (stored, code, words) in [
        (
            checkpoint(0xabc, us, 9).encode(),
            15,
            &["cluster abc", &ours, "name the right primary"][..],
        ),
        (b"garbage".to_vec(), 15, &["does not decode", "damaged"]),
        (newer, 15, &["has format 4", "reads format 3 only"]),
    ] {
        store_checkpoint(&mut client, stored).await?;
        let (before, _) = read_keys(&client).await?;
        syncer.respawn()?;
        assert_ends(&mut syncer, code, words).await?;
        let (after, _) = read_keys(&client).await?;
        ensure!(before == after, "revision {before} became {after}");
    }
    Ok(())
}
