//! What is made of a history once its clients are done: each member's log is resolved as that
//! member applied it, and held against its database.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use etcd_syncer::entry::Committed;

use crate::compare;
use crate::harness::Cluster;
use crate::inject::LEASE_TTL_MIN;
use crate::judge::{Judge, Tally, View};
use crate::picture::Picture;
use crate::product;
use crate::wal::Log;

/// What came of a history.
pub(crate) struct Report {
    pub(crate) release: String,
    pub(crate) found: Vec<String>,
    pub(crate) tally: Tally,
    pub(crate) answers: BTreeMap<String, u64>,
    /// For a fixture: the longest log, and what its member holds.
    pub(crate) log: Vec<Committed>,
    pub(crate) pictures: Vec<Picture>,
}

/// What is known of a history besides its log.
pub(crate) struct Verdict {
    /// Releases that members ran, each from behind this entry on.
    pub(crate) switches: Vec<(u64, String)>,
    /// Members that were killed and started again.
    pub(crate) restarted: Vec<bool>,
    /// How far all members got.
    pub(crate) applied: u64,
}

impl Verdict {
    /// Stops all members, and compares.
    pub(crate) async fn give(
        &self,
        cluster: &mut Cluster,
        answers: BTreeMap<String, u64>,
    ) -> Result<Report> {
        for member in 0..self.restarted.len() {
            cluster.stop(member).await?;
        }
        let mut report = Report {
            release: self.last_release().to_owned(),
            found: Vec::new(),
            tally: Tally::default(),
            answers,
            log: Vec::new(),
            pictures: Vec::new(),
        };
        for (member, restarted) in self.restarted.iter().enumerate() {
            let dir = cluster.data_dir(member)?;
            let log = Log::read(dir)?;
            let picture = Picture::of_database(dir)?;
            let view = View::Member(cluster.member_id(member)?);
            let (found, tally) = self.best(view, dir, &log, &picture)?;
            // What a 3.4 member does again after a start is not in the log.
            let again = self.is_3_4() && *restarted && self.restarted.len() > 1;
            let by_the_clock = tally.disagreements.contains_key("FormerRecord");
            if (again || by_the_clock) && !found.is_empty() {
                let what = if again {
                    "3.4 after a start"
                } else {
                    "another way"
                };
                let count = report.tally.disagreements.entry(what.to_owned());
                *count.or_default() += 1;
            } else {
                let found = found.into_iter();
                report
                    .found
                    .extend(found.map(|line| format!("member {member}: {line}")));
            }
            if member == 0 {
                report.tally.add(&tally);
            }
            if log.entries.len() > report.log.len() {
                report.log = log.entries;
            }
            report.pictures.push(picture);
        }
        Ok(report)
    }

    fn last_release(&self) -> &str {
        self.switches.last().map_or("", |(_, release)| release)
    }

    fn is_3_4(&self) -> bool {
        self.last_release().starts_with("3.4.")
    }

    /// Compares with what is resolved up to where the member got. 3.4 does not write that down, so
    /// there it is any entry from where it said that it was.
    fn best(
        &self,
        view: View,
        dir: &Path,
        log: &Log,
        picture: &Picture,
    ) -> Result<(Vec<String>, Tally)> {
        let upto = if self.is_3_4() {
            self.applied..=log.last()
        } else {
            picture.index..=picture.index
        };
        let (_, first) = self.switches.first().context("a release")?;
        let mut judge = Judge::new(first, view, LEASE_TTL_MIN)?;
        let mut nearest = None;
        for index in upto {
            if self.feed(&mut judge, log, index)? {
                return Ok((compare::prefix(&judge, picture)?, judge.tally));
            }
            let found = compare::differences(&judge, picture)?;
            if found.is_empty() {
                let found = product::differences(dir, self.last_release(), log, &judge)?;
                return Ok((found, judge.tally));
            }
            nearest.get_or_insert(found);
        }
        Ok((nearest.context("no entry to compare at")?, judge.tally))
    }

    /// Feeds up to this entry, by the rules of the release that it was applied by; true at a halt.
    fn feed(&self, judge: &mut Judge, log: &Log, upto: u64) -> Result<bool> {
        let mut fed = judge.state().position().index.0;
        for (from, release) in &self.switches {
            if *from >= fed && *from <= upto && *from > 0 {
                if feed(judge, log, &mut fed, *from)? {
                    return Ok(true);
                }
                judge.set_release(release)?;
            }
        }
        feed(judge, log, &mut fed, upto)
    }
}

fn feed(judge: &mut Judge, log: &Log, fed: &mut u64, upto: u64) -> Result<bool> {
    let (from, to) = (usize::try_from(*fed)?, usize::try_from(upto)?);
    ensure!(log.entries.len() >= to, "the log ends before entry {to}");
    *fed = upto;
    Ok(judge.feed_all(&log.entries[from..to])?.is_some())
}
