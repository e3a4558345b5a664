//! Entries without effect and entries that look like it, one after the other on real members: how
//! many entries each request makes, and whether the keyspace and users move, as etcd says and as
//! we resolve it.
//!
//! Not made by clients here, since none can: those in `crafted`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use etcd_syncer::pb::etcdpb::InternalRaftRequest as Request;

use crate::compare;
use crate::gauges::Gauges;
use crate::harness::{Cluster, Version};
use crate::inject::{FLAGS, LEASE_TTL_MIN};
use crate::judge::{Judge, View};
use crate::picture::Picture;
use crate::rows::{Part, Row, Who, parts};
use crate::rpc::{self, Answer, Connection};
use crate::wal::Log;

/// What a member said before and after a row.
struct Seen {
    name: &'static str,
    before: Gauges,
    after: Gauges,
}

/// One member and those who talk to it.
struct Stage {
    cluster: Cluster,
    connection: Connection,
    seen: Vec<Seen>,
    /// The token that each user got last.
    tokens: std::collections::BTreeMap<&'static str, String>,
}

impl Stage {
    async fn start(version: Version, part: &Part) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut args: Vec<String> = FLAGS.map(str::to_owned).to_vec();
        if part.jwt {
            let key = folder.path().join("key");
            std::fs::write(
                &key,
                b"not much of a secret, and long enough for a signature",
            )?;
            let key = key.display();
            args.push(format!(
                "--auth-token=jwt,priv-key={key},sign-method=HS256,ttl=10m"
            ));
        }
        let cluster = Cluster::builder(version)
            .members(part.members)
            .no_fsync()
            .log_level("error")
            .extra_args(args)
            .start()
            .await?;
        let first = cluster.client_endpoints().into_iter().next();
        Ok(Self {
            connection: Connection::to(first.context("a member")?)?,
            cluster,
            seen: Vec::new(),
            tokens: std::collections::BTreeMap::new(),
        })
    }

    async fn token(&mut self, who: Who) -> Result<Option<String>> {
        let (user, is_fresh) = match who {
            Who::Nobody => return Ok(None),
            Who::Fresh(user) => (user, true),
            Who::Stale(user) => (user, false),
        };
        if is_fresh {
            let request = crate::requests::login(user, "p");
            let Answer::Done(done) = self.connection.send(&request, None).await? else {
                bail!("{user} cannot log in");
            };
            self.tokens.insert(user, rpc::token(&done)?);
        }
        Ok(self.tokens.get(user).cloned())
    }

    async fn send(&mut self, who: Who, request: &Request) -> Result<Answer> {
        let token = self.token(who).await?;
        self.connection.send(request, token.as_deref()).await
    }

    /// The first member, once nothing is under way anywhere.
    async fn at_rest(&self) -> Result<Gauges> {
        let started = Instant::now();
        let mut last = None;
        while started.elapsed() < Duration::from_secs(10) {
            let mut all = Vec::new();
            for member in 0..self.cluster.size() {
                all.push(Gauges::of(&self.cluster, member).await?);
            }
            let first = *all.first().context("a member")?;
            let level = |g: &Gauges| (g.applied, g.committed) == (first.applied, first.applied);
            if all.iter().all(level) && last == Some(first) {
                return Ok(first);
            }
            last = Some(first);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bail!("the cluster does not come to rest")
    }

    async fn run(&mut self, row: &Row) -> Result<()> {
        for (who, request) in &row.first {
            let answer = self.send(*who, request).await?;
            ensure!(
                matches!(answer, Answer::Done(_)),
                "{}: {answer:?}",
                row.name
            );
        }
        let token = self.token(row.who).await?;
        let before = self.at_rest().await?;
        let answer = self.connection.send(&row.request, token.as_deref()).await?;
        let after = self.at_rest().await?;
        let moved = (
            after.applied - before.applied,
            after.revision - before.revision,
            after.auth_revision - before.auth_revision,
        );
        ensure!(
            moved == row.moves,
            "{}: {moved:?} for {:?}, {answer:?}",
            row.name,
            row.moves
        );
        let is_done = matches!(answer, Answer::Done(_));
        ensure!(is_done == row.is_done, "{}: {answer:?}", row.name);
        self.seen.push(Seen {
            name: row.name,
            before,
            after,
        });
        for (who, request) in &row.then {
            let answer = self.send(*who, request).await?;
            ensure!(
                matches!(answer, Answer::Done(_)),
                "after {}: {answer:?}",
                row.name
            );
        }
        Ok(())
    }

    /// Resolves the log as the first member applied it, and compares at every row and at the end;
    /// then the others, at the end.
    async fn judge(mut self, part: &Part) -> Result<()> {
        for member in 0..part.members {
            self.cluster.stop(member).await?;
        }
        let release = self.cluster.release(0)?.to_owned();
        for member in 0..part.members {
            let dir = self.cluster.data_dir(member)?;
            let log = Log::read(dir)?;
            let view = View::Member(self.cluster.member_id(member)?);
            let mut judge = Judge::new(&release, view, LEASE_TTL_MIN)?;
            ensure!(
                judge.feed_all(&log.entries)?.is_none(),
                "{:?}",
                judge.tally.halts
            );
            let found = compare::differences(&judge, &Picture::of_database(dir)?)?;
            ensure!(
                found.is_empty(),
                "{} member {member}: {}",
                part.name,
                found.join("\n")
            );
            if member > 0 {
                continue;
            }
            for Seen {
                name,
                before,
                after,
            } in &self.seen
            {
                for seen in [before, after] {
                    let mark = judge.marks.get(&seen.applied).context("an entry")?;
                    let told = (seen.revision, seen.compact, seen.auth_revision);
                    ensure!(*mark == told, "{name}: resolved {mark:?}, told {told:?}");
                }
            }
        }
        Ok(())
    }
}

async fn catalogue(version: Version) -> Result<()> {
    let mut count = 0;
    for part in parts(version) {
        let mut stage = Stage::start(version, &part).await?;
        for row in &part.rows {
            stage
                .run(row)
                .await
                .with_context(|| format!("{}, {}", part.name, row.name))?;
            count += 1;
        }
        stage
            .judge(&part)
            .await
            .with_context(|| part.name.to_owned())?;
    }
    println!("etcd {version}: {count} rows");
    ensure!(count > 60, "only {count} rows");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn catalogue_on_3_4() -> Result<()> {
    catalogue(Version::V3_4).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn catalogue_on_3_5() -> Result<()> {
    catalogue(Version::V3_5).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn catalogue_on_3_6() -> Result<()> {
    catalogue(Version::V3_6).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn catalogue_on_3_7() -> Result<()> {
    catalogue(Version::V3_7).await
}
