//! A log given to a member alone, and what the program makes of it on a standby: the same each
//! time, so that a log which shows a fault can be cut down.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use etcd_syncer::entry::Committed;
use etcd_syncer::pb::etcdpb::InternalRaftRequest as Request;
use prost::Message as _;

use crate::carried::{self, Told};
use crate::fixture::Fixture;
use crate::harness::{Cluster, Syncer, Version};
use crate::inject::{Bench, FLAGS, LEASE_TTL_MIN};
use crate::judge::{Judge, View};
use crate::leaks::OUR_WORD;
use crate::pair::{arrive, versioned};
use crate::picture::Picture;
use crate::random::found_at;
use crate::shrink::shrink;
use crate::wal::Log;

/// How long a log is cut down at most.
const CUT_WITHIN: Duration = Duration::from_secs(300);
const STOPPED_WITHIN: Duration = Duration::from_secs(30);

/// The requests of a log, without those of members that start.
pub(crate) fn requests(log: &[Committed]) -> Vec<Request> {
    let requests = log.iter().filter(|entry| entry.kind == 0);
    let requests = requests.filter_map(|entry| Request::decode(entry.data.clone()).ok());
    requests
        .filter(|request| request.header.is_some() && request.cluster_member_attr_set.is_none())
        .collect()
}

/// What is different on a standby that gets these entries, also from a process that is started
/// again; and the whole log with what its member holds.
pub(crate) async fn differences(
    from: Version,
    to: Version,
    requests: &[Request],
) -> Result<(Vec<String>, Vec<Committed>, Picture)> {
    let standby = Cluster::builder(to).no_fsync().log_level("error");
    let mut standby = standby.extra_args(FLAGS).start().await?;
    let builder = Syncer::builder(&standby, &standby)?;
    let url = builder.peer_url();
    let bench = Bench::start_with(from, Some(&url));
    let (bench, ready) = tokio::join!(bench, versioned(&standby, to));
    let (mut bench, ()) = (bench?, ready?);
    let last = match bench.serve(requests).await? {
        Ok(last) => last,
        Err(_crash) => return Ok((Vec::new(), Vec::new(), Picture::default())),
    };
    let mut syncer = builder
        .primary_peer_urls(bench.cluster().peer_urls())
        .env("ETCD_SYNCER_STANDBY_PASSWORD", OUR_WORD)
        .spawn()?;
    arrive(&mut syncer, last, false).await?;
    syncer.respawn()?;
    arrive(&mut syncer, last, false).await?;
    // Users are looked at behind that, if there are any.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let status = arrive(&mut syncer, last, false).await?;
    syncer.terminate()?;
    syncer.wait_exit(STOPPED_WITHIN).await?;
    tokio::time::sleep(Duration::from_millis(250)).await;
    standby.stop(0).await?;
    let (release, dir) = (bench.release()?.to_owned(), bench.stop().await?);
    let (log, picture) = (Log::read(&dir)?.entries, Picture::of_database(&dir)?);
    let theirs = Picture::of_database(standby.data_dir(0)?)?;
    let mut judge = Judge::new(&release, View::Voters(1), LEASE_TTL_MIN)?;
    let (_, mut found) = carried::on_the_way(&mut judge, &log, &theirs)?;
    let is_clear = judge.tally.halts.is_empty() && judge.tally.disagreements.is_empty();
    if is_clear && status["phase"] == "streaming" && status["standby_users"].is_object() {
        let told = Told::of(&status)?;
        let own_hashes = from == Version::V3_4;
        let ours = judge.picture()?;
        found.extend(carried::differences(&ours, &theirs, &told, own_hashes));
        for (name, user) in judge.state().auth().users() {
            if user.password.is_empty_clear() && !told.not_carried.contains_key(name) {
                found.push(format!("user {name} gets in without a password: not named"));
            }
        }
    }
    Ok((found, log, picture))
}

/// Cuts a log down as far as time permits, if it shows its fault here, and keeps it; says what it
/// did.
pub(crate) async fn cut(
    from: Version,
    to: Version,
    seed: u64,
    log: &[Committed],
) -> Result<Vec<String>> {
    let whole = requests(log);
    if differences(from, to, &whole).await?.0.is_empty() {
        return Ok(vec!["a member alone does not show it".to_owned()]);
    }
    let started = Instant::now();
    let short = shrink(&whole, async |some| {
        Ok(started.elapsed() < CUT_WITHIN && !differences(from, to, some).await?.0.is_empty())
    })
    .await?;
    let (mut found, log, picture) = differences(from, to, &short).await?;
    ensure!(!log.is_empty(), "the member crashed");
    let path = found_at(from.minor(), &format!("{seed}-pair-cut"));
    let about = format!("Log of etcd {from} to {to}, cut from seed {seed}.");
    Fixture::new(1, LEASE_TTL_MIN, &log, &picture).write(&path, &about)?;
    let kept = format!("cut to {} entries, kept in {}", short.len(), path.display());
    found.insert(0, kept);
    Ok(found)
}
