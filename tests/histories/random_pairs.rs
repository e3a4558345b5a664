//! Random histories on a primary, and what the program makes of them on a standby.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::budget::{Budget, setting};
use crate::fixture::Fixture;
use crate::harness::Version;
use crate::inject::LEASE_TTL_MIN;
use crate::pair::Pair;
use crate::random::found_at;
use crate::rerun;

const REQUESTS: u64 = 300;

async fn pairs(version: Version, short: u64) -> Result<()> {
    let mut wrong = Vec::new();
    let mut sums: BTreeMap<String, usize> = BTreeMap::new();
    let mut add = |what: &str, count: usize| *sums.entry(what.to_owned()).or_default() += count;
    for seed in Budget::new(short) {
        let length = usize::try_from(setting("OPERATIONS").unwrap_or(REQUESTS))?;
        let mut pair = Pair::new(version, seed, length);
        if setting("SEED").or(setting("MINUTES")).is_none() {
            // Behind a revoke that was lost with a member its lease rests for two minutes.
            pair.standby_kills = 0;
        }
        println!("{pair:?}");
        let outcome = match Box::pin(pair.run())
            .await
            .with_context(|| format!("seed {seed}"))
        {
            Ok(outcome) => outcome,
            Err(error) => {
                println!("{error:#}");
                wrong.push(format!("{error:#}"));
                continue;
            }
        };
        let report = &outcome.report;
        add("histories", 1);
        add(&format!("to {}", pair.to), 1);
        add("entries", usize::try_from(outcome.index)?);
        add("with effect", usize::try_from(report.tally.sums().0)?);
        add("logins", outcome.logins);
        add("revisions compared", outcome.compared);
        add("keys", outcome.keys);
        add("snapshots", outcome.snapshots);
        add("passwords not carried", outcome.not_carried);
        for note in &outcome.notes {
            add(note, 1);
        }
        let found: Vec<&String> = outcome.found.iter().chain(&report.found).collect();
        if !found.is_empty() {
            let path = found_at(&report.release, &format!("{seed}-pair"));
            let about = format!("Log of etcd {}, history with seed {seed}.", report.release);
            let (log, picture) = (&report.log, &report.pictures[0]);
            Fixture::new(pair.history.members, LEASE_TTL_MIN, log, picture).write(&path, &about)?;
            let mut lines = vec![format!("seed {seed}, kept in {}:", path.display())];
            lines.extend(found.into_iter().cloned());
            println!("{}", lines.join("\n"));
            let cut = rerun::cut(version, pair.to, seed, &report.log).await;
            lines.extend(cut.unwrap_or_else(|error| vec![format!("not cut down: {error:#}")]));
            wrong.extend(lines);
        }
    }
    println!("from etcd {version}: {sums:?}");
    if !wrong.is_empty() {
        bail!("from etcd {version}: {}", wrong.join("\n"));
    }
    Ok(())
}

macro_rules! pairs {
    ($name:ident, $version:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() -> Result<()> {
            Box::pin(pairs(Version::$version, 2)).await
        }
    };
}

pairs!(pairs_from_3_4, V3_4);
pairs!(pairs_from_3_5, V3_5);
pairs!(pairs_from_3_6, V3_6);
pairs!(pairs_from_3_7, V3_7);

/// Every log in `fixtures/pairs`; the name of a file begins with the releases, as in `3.4-to-3.7-`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kept_log_is_carried() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/pairs");
    let (mut count, mut wrong) = (0, Vec::new());
    for file in std::fs::read_dir(folder)? {
        let path = file?.path();
        let name = path.file_stem().and_then(|name| name.to_str());
        let name = name.context("a name")?;
        let mut words = name.split('-');
        let mut release = || {
            let minor = words.find(|word| *word != "to");
            let mut all = Version::ALL.into_iter();
            all.find(|version| minor == Some(version.minor()))
        };
        let (from, to) = (release().context("a release")?, release().context("two")?);
        let requests = rerun::requests(&Fixture::read(&path)?.log);
        ensure!(!requests.is_empty(), "{name} has no entries");
        let (found, _, _) = Box::pin(rerun::differences(from, to, &requests)).await?;
        wrong.extend(found.into_iter().map(|line| format!("{name}: {line}")));
        count += 1;
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    ensure!(count > 0, "there is no log");
    Ok(())
}
