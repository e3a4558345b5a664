//! The demo, step by step.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::Args;
use crate::clients::{CLIENTS, MIXED, STEADY, Working};
use crate::harness::{Cluster, Syncer, SyncerBuilder, Version, key_differences, read_keys};
use crate::live::{PERIOD, Watcher};
use crate::show::{Screen, seconds, thousands};

const STREAM: &str = "demo";
const JOINED_WITHIN: Duration = Duration::from_secs(20);
const STREAMING_WITHIN: Duration = Duration::from_secs(30);
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(60);
const SHOWN_DIFFERENCES: usize = 10;

/// What the summary tells.
struct Outcome {
    operations: u64,
    watcher: Watcher,
    worked: Duration,
    caught_up: Duration,
}

/// Does it all; true if the standby has what the primary has.
///
/// # Errors
/// If a step fails.
pub(crate) async fn run(args: &Args) -> Result<bool> {
    let screen = &mut Screen::new();
    let (version, binaries) = Version::choose(args.etcd.as_deref()).await?;
    screen.say(format!(
        "etcd-syncer: real etcd {} clusters on this machine, with their data in temporary \
         folders\nand fsync off, so that the disk does not set the pace.\n",
        binaries.version
    ));
    let (mut primary, standby) = start_clusters(screen, version, args).await?;
    let builder = Syncer::builder(&primary, &standby)?
        .stream(STREAM)
        .args(["--primary-endpoints", &primary.client_endpoints().join(",")]);
    add_learner(screen, &primary, &builder.peer_url()).await?;
    let mut syncer = start_syncer(screen, builder, &primary, &standby).await?;
    let outcome = work(screen, args, &mut primary, &mut syncer).await?;
    let equal = compare(screen, &primary, &standby).await?;
    summary(screen, &outcome);
    Ok(equal)
}

async fn start_clusters(
    screen: &mut Screen,
    version: Version,
    args: &Args,
) -> Result<(Cluster, Cluster)> {
    let members = usize::from(args.standby_members);
    screen.say(format!(
        "1. Start a primary of 3 members, and a standby of {members}: two clusters that know \
         nothing of each other."
    ));
    let started = Instant::now();
    let (primary, standby) = tokio::try_join!(
        Cluster::builder(version).members(3).no_fsync().start(),
        Cluster::builder(version)
            .members(members)
            .no_fsync()
            .start(),
    )?;
    screen.say(format!("   up after {}", seconds(started.elapsed())));
    Ok((primary, standby))
}

async fn add_learner(screen: &mut Screen, primary: &Cluster, peer_url: &str) -> Result<()> {
    let urls = format!("--peer-urls={peer_url}");
    let name = format!("etcd-syncer-{STREAM}");
    let arguments = ["member", "add", &name, "--learner", &urls];
    screen
        .say("\n2. Make room for etcd-syncer in the primary: a learner gets the log and no vote.");
    screen.say(format!(
        "   $ etcdctl --endpoints={} {}",
        primary.client_endpoints().join(","),
        arguments.join(" ")
    ));
    let started = Instant::now();
    // etcd takes no new member before all have been connected for 5 seconds.
    loop {
        match primary.etcdctl(&arguments).await {
            Ok(_) => break,
            Err(error) if started.elapsed() > JOINED_WITHIN => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
    screen.say(format!(
        "   taken after {} (etcd wants its members connected for 5 s before)",
        seconds(started.elapsed())
    ));
    Ok(())
}

async fn start_syncer(
    screen: &mut Screen,
    builder: SyncerBuilder,
    primary: &Cluster,
    standby: &Cluster,
) -> Result<Syncer> {
    screen.say("\n3. Start etcd-syncer.");
    screen.say(format!(
        "   $ etcd-syncer run --stream={STREAM} \\\n       --primary-peer-urls={} \\\n       \
         --listen-peer-url={url} --advertise-peer-url={url} \\\n       --standby-endpoints={}",
        primary.peer_urls().join(","),
        standby.client_endpoints().join(","),
        url = builder.peer_url(),
    ));
    let started = Instant::now();
    let mut syncer = builder.spawn()?;
    syncer
        .wait_status("the stream begins", STREAMING_WITHIN, |page| {
            page["phase"] == "streaming" && page["raft"]["durable"].as_u64() > Some(0)
        })
        .await?;
    screen.say(format!(
        "   replicating after {}",
        seconds(started.elapsed())
    ));
    Ok(syncer)
}

/// Works on the primary, kills its leader a third of the way in and starts it again at two thirds.
async fn work(
    screen: &mut Screen,
    args: &Args,
    primary: &mut Cluster,
    syncer: &mut Syncer,
) -> Result<Outcome> {
    screen.say(format!(
        "\n4. Work on the primary for {} s: {MIXED} clients put, delete ranges, compare and swap, \
         run nested\n   transactions and use leases, {STEADY} put a new key each time. Lag is what \
         the primary has\n   committed and the standby lacks.",
        args.seconds
    ));
    let until = Duration::from_secs(args.seconds);
    let mut watcher = Watcher::new();
    let working = Working::start(&primary.client_endpoints(), until);
    follow(screen, &mut watcher, syncer, until / 3).await?;
    let victim = primary.leader().await?;
    primary.kill(victim)?;
    let killed = Instant::now();
    screen.say(format!(
        "   {:5.1} s   -- the primary's leader, member {victim}, killed by SIGKILL",
        watcher.elapsed().as_secs_f64()
    ));
    let leader = next_leader(screen, &mut watcher, primary, syncer).await?;
    screen.say(format!(
        "   {:5.1} s   -- member {leader} leads, {} later; nobody touched etcd-syncer",
        watcher.elapsed().as_secs_f64(),
        seconds(killed.elapsed())
    ));
    follow(screen, &mut watcher, syncer, until * 2 / 3).await?;
    primary.spawn(victim)?;
    screen.say(format!(
        "   {:5.1} s   -- member {victim} started again",
        watcher.elapsed().as_secs_f64()
    ));
    follow(screen, &mut watcher, syncer, until).await?;
    let operations = working.end().await?;
    let worked = watcher.elapsed();
    primary.wait_ready().await?;
    let caught_up = catch_up(screen, &mut watcher, primary, syncer).await?;
    Ok(Outcome {
        operations,
        watcher,
        worked,
        caught_up,
    })
}

/// Shows the lag until so much time has passed.
async fn follow(
    screen: &mut Screen,
    watcher: &mut Watcher,
    syncer: &mut Syncer,
    until: Duration,
) -> Result<()> {
    while watcher.elapsed() < until {
        watcher.look(syncer).await?;
        watcher.show(screen);
        tokio::time::sleep(PERIOD).await;
    }
    Ok(())
}

async fn next_leader(
    screen: &mut Screen,
    watcher: &mut Watcher,
    primary: &mut Cluster,
    syncer: &mut Syncer,
) -> Result<usize> {
    let electing = primary.leader();
    tokio::pin!(electing);
    loop {
        tokio::select! {
            leader = &mut electing => return leader,
            () = tokio::time::sleep(PERIOD) => {
                watcher.look(syncer).await?;
                watcher.show(screen);
            }
        }
    }
}

/// Waits until the standby has reached the primary's revision, which stands still now.
async fn catch_up(
    screen: &mut Screen,
    watcher: &mut Watcher,
    primary: &Cluster,
    syncer: &mut Syncer,
) -> Result<Duration> {
    let started = Instant::now();
    let answer = primary.client().await?.get("any", None).await?;
    let revision = answer.header().context("no header")?.revision();
    loop {
        let look = watcher.look(syncer).await?;
        if look.revision >= revision {
            screen.keep();
            return Ok(started.elapsed());
        }
        if started.elapsed() > CAUGHT_UP_WITHIN {
            bail!(
                "the standby is at revision {} and the primary at {revision}, {} after the work",
                look.revision,
                seconds(CAUGHT_UP_WITHIN)
            );
        }
        watcher.show(screen);
        tokio::time::sleep(PERIOD).await;
    }
}

/// Compares every key and value; true if all are equal.
async fn compare(screen: &mut Screen, primary: &Cluster, standby: &Cluster) -> Result<bool> {
    screen.say("\n5. Compare every key and value of the primary with the standby.");
    let (_, theirs) = read_keys(&primary.client().await?).await?;
    let (_, ours) = read_keys(&standby.client().await?).await?;
    let differences = key_differences(&theirs, &ours);
    if differences.is_empty() {
        screen.say(format!(
            "   EQUAL: {} keys, each with the same value",
            thousands(theirs.len() as u64)
        ));
        return Ok(true);
    }
    screen.say(format!("   DIFFERENT: {} keys", differences.len()));
    for difference in differences.iter().take(SHOWN_DIFFERENCES) {
        screen.say(format!("   {difference}"));
    }
    Ok(false)
}

fn summary(screen: &mut Screen, outcome: &Outcome) {
    let watcher = &outcome.watcher;
    let writes = thousands(watcher.last.revision.unsigned_abs().saturating_sub(1));
    screen.say(format!(
        "\nSummary\n   operations   {} by {CLIENTS} clients in {}\n   writes       {writes} revisions of \
         the primary\n   batches      {}, the largest of {} operations\n   lag          at most {} \
         entries, {:.3} s\n   caught up    {} after the work ended",
        thousands(outcome.operations),
        seconds(outcome.worked),
        thousands(watcher.last.batches),
        thousands(watcher.last.largest_batch),
        thousands(watcher.worst.lag_entries),
        watcher.worst.lag_seconds,
        seconds(outcome.caught_up),
    ));
}
