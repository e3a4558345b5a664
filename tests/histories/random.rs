//! Random logs and random histories, short or by the minute.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use etcd_syncer::entry::Committed;
use etcd_syncer::pb::etcdpb::InternalRaftRequest as Request;
use prost::Message as _;

use crate::api::Plan;
use crate::budget::{Budget, setting};
use crate::fixture::Fixture;
use crate::harness::Version;
use crate::inject::{Bench, LEASE_TTL_MIN, Outcome};
use crate::judge::Tally;
use crate::raw;
use crate::shrink::shrink;

/// Entries of a log that is given to a member, and requests of a history.
const ENTRIES: u64 = 500;
const REQUESTS: u64 = 400;

async fn raw_logs(version: Version, short: u64) -> Result<()> {
    let mut bench = Bench::start(version).await?;
    let mut total = Tally::default();
    let mut logs = 0_u64;
    let (mut poison, mut undecided) = (0, 0);
    for seed in Budget::new(short) {
        let length = usize::try_from(setting("OPERATIONS").unwrap_or(ENTRIES))?;
        let made = raw::make(&bench, seed, length)?;
        if setting("TRACE").is_some() {
            raw::trace(&bench, &made.requests)?;
        }
        let (found, tally) = raw::check(&mut bench, &made.requests).await?;
        if !found.is_empty() {
            println!(
                "etcd {version}, log with seed {seed}:\n{}",
                found.join("\n")
            );
            return cut(&mut bench, seed, &made.requests).await;
        }
        total.add(&tally);
        logs += 1;
        poison += made.poison;
        undecided += made.undecided.len();
    }
    let (with, without) = total.sums();
    println!(
        "etcd {version}: {logs} logs, {} entries, {with} with effect, {without} without; left out: \
         {poison} on which members crash, {undecided} that cannot be decided",
        with + without
    );
    show(&total);
    Ok(())
}

/// Cuts a log that shows a fault, keeps it, and fails.
async fn cut(bench: &mut Bench, seed: u64, requests: &[Request]) -> Result<()> {
    let short = shrink(requests, async |requests| {
        Ok(!raw::check(bench, requests).await?.0.is_empty())
    })
    .await?;
    let (found, _) = raw::check(bench, &short).await?;
    let shown: Vec<String> = short.iter().map(raw::show).collect();
    println!("cut to {} entries:\n{}", short.len(), shown.join("\n"));
    let path = found_at(bench.release()?, &format!("{seed}-cut"));
    if let Outcome::Applied { log, picture } = bench.apply(&short).await? {
        let about = format!("Log of etcd {}, cut from seed {seed}.", bench.release()?);
        Fixture::new(3, LEASE_TTL_MIN, &log, &picture).write(&path, &about)?;
        println!("kept in {}", path.display());
    }
    bail!("seed {seed}:\n{}", found.join("\n"))
}

/// Cuts the log of a history down, if it shows the fault when it is given to a member alone.
async fn cut_history(version: Version, seed: u64, log: &[Committed]) -> Result<Vec<String>> {
    let requests = log.iter().filter(|entry| entry.kind == 0);
    let requests = requests.filter_map(|entry| Request::decode(entry.data.clone()).ok());
    // Those of a start name a member.
    let requests: Vec<Request> = requests
        .filter(|request| request.header.is_some() && request.cluster_member_attr_set.is_none())
        .collect();
    let mut bench = Bench::start(version).await?;
    if raw::check(&mut bench, &requests).await?.0.is_empty() {
        return Ok(vec!["a member alone does not show it".to_owned()]);
    }
    let shown = cut(&mut bench, seed, &requests).await;
    Ok(vec![shown.map_or_else(
        |error| format!("{error:#}"),
        |()| String::new(),
    )])
}

async fn histories(what: &str, short: u64, plan: impl Fn(u64, usize) -> Plan) -> Result<()> {
    let mut total = Tally::default();
    let (mut count, mut requests, mut done) = (0_u64, 0, 0);
    let mut wrong = Vec::new();
    for seed in Budget::new(short) {
        let length = usize::try_from(setting("OPERATIONS").unwrap_or(REQUESTS))?;
        let plan = plan(seed, length);
        println!("{plan:?}");
        let report = plan.run().await.with_context(|| format!("seed {seed}"))?;
        count += 1;
        requests += report.answers.values().sum::<u64>();
        done += report.answers.get("done").copied().unwrap_or(0);
        total.add(&report.tally);
        if !report.found.is_empty() {
            let path = found_at(&report.release, &seed.to_string());
            let about = format!("Log of etcd {}, history with seed {seed}.", report.release);
            let picture = &report.pictures[0];
            Fixture::new(plan.members, LEASE_TTL_MIN, &report.log, picture).write(&path, &about)?;
            wrong.push(format!("seed {seed}, kept in {}:", path.display()));
            wrong.extend(report.found);
            if plan.upgrades.is_empty() {
                wrong.extend(cut_history(plan.version, seed, &report.log).await?);
            }
        }
    }
    let (with, without) = total.sums();
    println!(
        "{what}: {count} histories, {requests} requests, {done} done, {} entries, {with} with \
         effect, {without} without",
        with + without
    );
    show(&total);
    if !wrong.is_empty() {
        bail!("{what}: {}", wrong.join("\n"));
    }
    Ok(())
}

pub(crate) fn found_at(release: &str, seed: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("histories");
    folder.join(format!("{release}-seed-{seed}.txt"))
}

/// Kinds with their outcomes, in a long run only.
fn show(total: &Tally) {
    if setting("MINUTES").is_none() && setting("VERBOSE").is_none() {
        return;
    }
    for ((kind, outcome), count) in &total.entries {
        println!("  {count:>8} {kind}: {outcome}");
    }
    let Tally {
        disagreements,
        reads,
        halts,
        ..
    } = total;
    println!("  values read for {reads} entries; members may differ: {disagreements:?}");
    println!("  halts: {halts:?}");
}

macro_rules! random {
    ($logs:ident, $histories:ident, $version:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $logs() -> Result<()> {
            raw_logs(Version::$version, 2).await
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $histories() -> Result<()> {
            let version = Version::$version;
            let what = format!("etcd {version}");
            histories(&what, 2, |seed, length| Plan::new(version, seed, length)).await
        }
    };
}

random!(logs_given_to_3_4, histories_on_3_4, V3_4);
random!(logs_given_to_3_5, histories_on_3_5, V3_5);
random!(logs_given_to_3_6, histories_on_3_6, V3_6);
random!(logs_given_to_3_7, histories_on_3_7, V3_7);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_over_upgrades() -> Result<()> {
    histories("etcd 3.4 to 3.7", 1, Plan::with_upgrades).await
}
