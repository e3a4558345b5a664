//! Users, roles, passwords and auth of the primary, as the standby has them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use etcd_client::{Client, ConnectOptions};
use etcd_syncer::base64;
use etcd_syncer::plan::auth::Store;
use etcd_syncer::secret::{Credentials, Secret};
use etcd_syncer::standby::{Etcd, Options, read_store};
use serde_json::Value;

use crate::harness::{Cluster, Syncer, SyncerBuilder, Version, eventually};

const SOON: Duration = Duration::from_secs(30);
/// Our own user of the standby.
const OURS: &str = "etcd-syncer";
const OUR_WORD: &str = "Vb7-our-own-word";
const ROOT_WORD: &str = "Qw3-word-of-root";
const ALICE_WORD: &str = "Zx9-word-of-alice";

/// Two clusters, the program between them, and who root is on the primary at the moment.
struct World {
    primary: Cluster,
    standby: Cluster,
    syncer: Syncer,
    root: Option<String>,
    puts: u32,
}

async fn cluster(version: Version) -> Result<Cluster> {
    let builder = Cluster::builder(version).no_fsync();
    builder.extra_args(["--bcrypt-cost=4"]).start().await
}

/// A young cluster has no version for some seconds, and then takes no hashes.
async fn wait_version(standby: &Cluster) -> Result<()> {
    let mut asked = store(standby, None);
    eventually("the standby has a version", SOON, async || {
        use etcd_syncer::standby::Auth as _;
        let expected = standby.status(0).await?.version() >= "3.5";
        ensure!(asked.takes_hashes().await? == expected, "takes hashes");
        Ok(())
    })
    .await
}

fn builder(primary: &Cluster, standby: &Cluster) -> Result<SyncerBuilder> {
    let endpoints = format!(
        "--primary-endpoints={}",
        primary.client_endpoints().join(",")
    );
    Ok(Syncer::builder(primary, standby)?
        .args([endpoints.as_str(), "--primary-user=root"])
        .env("ETCD_SYNCER_STANDBY_PASSWORD", OUR_WORD)
        .env("ETCD_SYNCER_PRIMARY_PASSWORD", ROOT_WORD))
}

/// An endpoint's users and roles, asked as somebody.
fn store(cluster: &Cluster, user: Option<(&str, &str)>) -> Etcd {
    let credentials = user.map(|(name, word)| Credentials {
        name: name.to_owned(),
        password: Secret::new(word.to_owned()),
    });
    let options = Options {
        endpoints: cluster.client_endpoints(),
        request_timeout: Duration::from_secs(5),
    };
    Etcd::new(options).log_in_as(credentials)
}

/// A client that is somebody if the cluster asks for that.
async fn client(cluster: &Cluster, user: Option<(&str, &str)>) -> Result<Client> {
    if let Some((name, word)) = user {
        let options = ConnectOptions::new().with_user(name, word);
        match Client::connect(cluster.client_endpoints(), Some(options)).await {
            Ok(client) => return Ok(client),
            Err(error) if error.to_string().contains("not enabled") => {}
            Err(error) => return Err(error.into()),
        }
    }
    cluster.client().await
}

async fn lets_in(cluster: &Cluster, name: &str, word: &str) -> Result<bool> {
    let options = ConnectOptions::new().with_user(name, word);
    match Client::connect(cluster.client_endpoints(), Some(options)).await {
        Ok(_) => Ok(true),
        Err(error) if error.to_string().contains("authentication failed") => Ok(false),
        Err(error) => Err(error.into()),
    }
}

impl World {
    async fn start(from: Version, to: Version) -> Result<Self> {
        Self::start_with(from, to, &["--bcrypt-cost=4"], |builder| builder).await
    }

    async fn start_with(
        from: Version,
        to: Version,
        standby_args: &[&str],
        with: impl FnOnce(SyncerBuilder) -> SyncerBuilder,
    ) -> Result<Self> {
        let standby = Cluster::builder(to).no_fsync();
        let standby = standby.extra_args(standby_args.iter().copied()).start();
        let (primary, standby) = tokio::try_join!(cluster(from), standby)?;
        wait_version(&standby).await?;
        let builder = with(builder(&primary, &standby)?);
        primary.add_learner(&builder.peer_url()).await?;
        let syncer = builder.spawn()?;
        Self::between(primary, standby, syncer).await
    }

    async fn between(primary: Cluster, standby: Cluster, syncer: Syncer) -> Result<Self> {
        let mut world = Self {
            primary,
            standby,
            syncer,
            root: None,
            puts: 0,
        };
        world
            .wait("the stream", |status| status["phase"] == "streaming")
            .await?;
        Ok(world)
    }

    async fn wait(&mut self, what: &str, accepts: impl Fn(&Value) -> bool) -> Result<Value> {
        self.syncer.wait_status(what, SOON, accepts).await
    }

    /// Runs etcdctl on the primary, as root if need be.
    async fn ctl(&self, args: &[&str]) -> Result<String> {
        let user = self.root.as_ref().map(|word| format!("--user=root:{word}"));
        let user = user.iter().map(String::as_str);
        let args: Vec<&str> = user.chain(args.iter().copied()).collect();
        self.primary.etcdctl(&args).await
    }

    async fn all(&self, lines: &[&str]) -> Result<()> {
        for line in lines {
            let args: Vec<&str> = line.split(' ').collect();
            self.ctl(&args).await.with_context(|| (*line).to_owned())?;
        }
        Ok(())
    }

    /// Users, roles, permissions and auth are the same on both sides, and a key arrives behind them.
    async fn same(&mut self, what: &str) -> Result<Store> {
        self.puts += 1;
        let (key, value) = (format!("key/{}", self.puts % 3), self.puts.to_string());
        self.ctl(&["put", &key, &value]).await?;
        let root = self.root.clone();
        let root = root.as_deref().map(|word| ("root", word));
        let mut theirs = read_store(&mut store(&self.primary, root)).await?;
        let mut ours = store(&self.standby, Some((OURS, OUR_WORD)));
        let same = eventually(what, SOON, async || {
            if let Some(ended) = self.syncer.exit_status()? {
                bail!("ended with {ended}");
            }
            let mut reader = client(&self.standby, Some((OURS, OUR_WORD))).await?;
            let stored = reader.get(key.as_str(), None).await?;
            let stored = stored.kvs().first().map(|kv| kv.value().to_vec());
            ensure!(
                stored.as_deref() == Some(value.as_bytes()),
                "{key}: {stored:?}"
            );
            let mut found = read_store(&mut ours).await?;
            let is_root = found
                .users
                .remove(OURS)
                .is_some_and(|roles| roles.contains("root"));
            ensure!(is_root, "our own user");
            found.takes_hashes = theirs.takes_hashes;
            // 3.6 shows one that nobody granted.
            for store in [&mut found, &mut theirs] {
                store.roles.entry("root".to_owned()).and_modify(Vec::clear);
            }
            ensure!(found == theirs, "{found:?} for {theirs:?}");
            Ok(())
        });
        same.await.with_context(|| {
            let log = self.syncer.log().unwrap_or_default();
            format!("{what}; the log:\n{log}")
        })?;
        Ok(theirs)
    }

    async fn lets_in(&self, name: &str, word: &str, expected: bool) -> Result<()> {
        let primary = lets_in(&self.primary, name, word).await?;
        ensure!(primary == expected, "{name} on the primary: {primary}");
        let standby = lets_in(&self.standby, name, word).await?;
        ensure!(standby == expected, "{name} on the standby: {standby}");
        Ok(())
    }

    /// Users, a role, and auth.
    async fn populate(&mut self) -> Result<()> {
        self.all(&[
            "role add app",
            "role grant-permission app readwrite key/ key0",
            "role grant-permission app read single",
            "user add --no-password cert",
            "user grant-role cert app",
            &format!("user add root:{ROOT_WORD}"),
            "user grant-role root root",
            &format!("user add alice:{ALICE_WORD}"),
            "user grant-role alice app",
            "auth enable",
        ])
        .await?;
        self.root = Some(ROOT_WORD.to_owned());
        Ok(())
    }

    /// These users are named, and no others, as those whose password the standby does not have.
    async fn lacks(&self, expected: &[&str]) -> Result<()> {
        let status = self.syncer.status().await?;
        let users = &status["standby_users"]["not_carried"];
        let listed = users.as_array().with_context(|| status.to_string())?;
        let names: Vec<_> = listed.iter().map(|user| user["user"].as_str()).collect();
        let expected: Vec<_> = expected.iter().copied().map(Some).collect();
        let log = || self.syncer.log().unwrap_or_default();
        ensure!(names == expected, "{users} for {expected:?}:\n{}", log());
        Ok(())
    }

    /// Gives up what the standby holds of the stream; the program ends.
    async fn resync(&mut self) -> Result<()> {
        let endpoints = self.standby.client_endpoints().join(",");
        let mut resync = tokio::process::Command::new(env!("CARGO_BIN_EXE_etcd-syncer"));
        let resync = resync
            .args(["resync", "--standby-endpoints", &endpoints])
            .args(["--stream", "test"])
            .env("ETCD_SYNCER_STANDBY_PASSWORD", OUR_WORD);
        let output = resync.output().await?;
        ensure!(output.status.success(), "{output:?}");
        self.ctl(&["put", "key/1", "ends it"]).await?;
        let code = self.syncer.wait_exit(SOON).await?;
        ensure!(code == Some(18), "{code:?}:\n{}", self.syncer.log()?);
        Ok(())
    }

    async fn stop(mut self) -> Result<()> {
        self.syncer.terminate()?;
        let code = self.syncer.wait_exit(SOON).await?;
        ensure!(code == Some(0), "{code:?}:\n{}", self.syncer.log()?);
        Ok(())
    }
}

/// What a primary's administrator does to users in a year, in a minute.
async fn everything(from: Version, to: Version) -> Result<()> {
    let mut world = World::start(from, to).await?;
    world.populate().await?;
    world.same("auth is enabled").await?;
    world.lets_in("root", ROOT_WORD, true).await?;
    world.lets_in("alice", ALICE_WORD, true).await?;
    for (name, word) in [
        ("root", ""),
        ("alice", ""),
        ("alice", ROOT_WORD),
        ("cert", ""),
    ] {
        world.lets_in(name, word, false).await?;
    }
    let mut alice = client(&world.standby, Some(("alice", ALICE_WORD))).await?;
    alice.get("key/1", None).await.context("alice reads")?;
    ensure!(
        alice.get("other", None).await.is_err(),
        "alice reads too much"
    );
    world
        .wait("the primary's index", |status| {
            !status["raft"]["primary_index"].is_null()
        })
        .await?;

    // Leases are kept and ended behind the login too.
    let mut root = client(&world.primary, Some(("root", ROOT_WORD))).await?;
    let lease = root.lease_grant(600, None).await?.id();
    let options = etcd_client::PutOptions::new().with_lease(lease);
    root.put("key/leased", "v", Some(options)).await?;
    world.same("a lease").await?;
    let mut reader = client(&world.standby, Some((OURS, OUR_WORD))).await?;
    let found = reader.get("key/leased", None).await?;
    ensure!(
        found.kvs().first().is_some_and(|kv| kv.lease() == lease),
        "{found:?}"
    );
    root.lease_revoke(lease).await?;
    world.same("the lease is gone").await?;
    let found = reader.get("key/leased", None).await?;
    ensure!(found.kvs().is_empty(), "{found:?}");

    // Passwords change, also that of root; what held before does not any more.
    let (new_root, new_alice) = ("another-of-root", "another-of-alice");
    let mut changed = world.primary.client().await?;
    drop(std::mem::replace(
        &mut changed,
        client(&world.primary, Some(("root", ROOT_WORD))).await?,
    ));
    changed
        .auth_client()
        .user_change_password("alice", new_alice)
        .await?;
    changed
        .auth_client()
        .user_change_password("root", new_root)
        .await?;
    world.root = Some(new_root.to_owned());
    world.same("passwords changed").await?;
    world.lets_in("alice", new_alice, true).await?;
    world.lets_in("alice", ALICE_WORD, false).await?;
    world.lets_in("root", new_root, true).await?;
    world.lets_in("root", ROOT_WORD, false).await?;

    // Roles and users come and go.
    world
        .all(&[
            "role revoke-permission app single",
            "role grant-permission app write key/ key0",
            "role grant-permission app read key/ key1",
            "role add other",
            "user grant-role alice other",
            "user revoke-role alice app",
            "role delete app",
            "user delete cert",
            "user add cert:now-with-a-word",
        ])
        .await?;
    world.same("roles changed").await?;
    world.lets_in("cert", "now-with-a-word", true).await?;

    // Auth is off, and everything that makes it possible goes away and comes back.
    world.all(&["auth disable"]).await?;
    world.root = None;
    world.same("auth is off").await?;
    world
        .all(&["role add root", "user revoke-role root root"])
        .await?;
    world.same("root lost its role").await?;
    world
        .all(&["user grant-role root root", "role delete root"])
        .await?;
    world.same("the role is gone from everybody").await?;
    world.all(&["user delete root"]).await?;
    world.same("root is gone").await?;
    world
        .all(&[
            &format!("user add root:{ROOT_WORD}"),
            "user grant-role root root",
            "auth enable",
        ])
        .await?;
    world.root = Some(ROOT_WORD.to_owned());
    let store = world.same("auth is on again").await?;
    ensure!(
        store.enabled && !store.roles.contains_key("root"),
        "{store:?}"
    );
    world.lets_in("root", ROOT_WORD, true).await?;
    world.lets_in("alice", new_alice, true).await?;

    // Another process knows what the one before gave, and what it did not.
    world.syncer.respawn()?;
    world
        .wait("the stream", |status| status["phase"] == "streaming")
        .await?;
    world
        .all(&["user add late:late-word", "user grant-role late other"])
        .await?;
    world.same("after a restart").await?;
    world.lets_in("late", "late-word", true).await?;
    world.lets_in("alice", new_alice, true).await?;
    let status = world
        .wait("its users", |status| status["standby_users"]["users"] == 5)
        .await?;
    let users = &status["standby_users"];
    ensure!(
        users["auth_enabled"] == true && users["enable_pending"].is_null(),
        "{users}"
    );
    ensure!(users["not_carried"] == serde_json::json!([]), "{users}");
    ensure!(
        world
            .syncer
            .metric("etcd_syncer_standby_auth{state=\"enabled\"}")
            .await?
            == 1.0
    );
    world.stop().await
}

macro_rules! everything {
    ($name:ident, $from:ident, $to:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() -> Result<()> {
            everything(Version::$from, Version::$to).await
        }
    };
}

everything!(users_from_3_4_to_3_4, V3_4, V3_4);
everything!(users_from_3_4_to_3_7, V3_4, V3_7);
everything!(users_from_3_5_to_3_6, V3_5, V3_6);
everything!(users_from_3_6_to_3_5, V3_6, V3_5);
everything!(users_from_3_7_to_3_7, V3_7, V3_7);

#[tokio::test]
async fn to_3_4_the_users_whose_password_is_missing_are_named() -> Result<()> {
    let mut world = World::start(Version::V3_6, Version::V3_4).await?;
    world.populate().await?;
    world.same("auth is enabled").await?;
    for name in ["root", "alice", "cert"] {
        for word in [ROOT_WORD, ALICE_WORD, ""] {
            ensure!(
                !lets_in(&world.standby, name, word).await?,
                "{name} with {word:?}"
            );
        }
    }
    for _ in 0..2 {
        let status = world
            .wait("names", |status| {
                let users = &status["standby_users"]["not_carried"];
                users.as_array().is_some_and(|users| users.len() == 2)
            })
            .await?;
        let users = &status["standby_users"]["not_carried"];
        ensure!(
            users[0]["user"] == "alice" && users[1]["user"] == "root",
            "{users}"
        );
        let metric = "etcd_syncer_standby_users{what=\"not_carried\"}";
        ensure!(world.syncer.metric(metric).await? == 2.0);
        world.syncer.respawn()?;
    }
    world
        .wait("the stream", |status| status["phase"] == "streaming")
        .await?;
    world.stop().await
}

/// A standby that took no hashes, and does so since an upgrade: what it lacks is named until it is
/// there, whoever was running when.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_upgraded_from_3_4_is_not_taken_for_complete() -> Result<()> {
    // Cut by nothing but the many keys below.
    let cut = Cluster::builder(Version::V3_5).no_fsync();
    let cut = cut
        .snapshot_count(500)
        .catch_up_entries(10)
        .extra_args(["--bcrypt-cost=4"]);
    let old = Cluster::builder(Version::V3_4).members(3).no_fsync();
    let old = old.extra_args(["--bcrypt-cost=4"]);
    let (primary, standby) = tokio::try_join!(cut.start(), old.start())?;
    wait_version(&standby).await?;
    let builder = builder(&primary, &standby)?;
    primary.add_learner(&builder.peer_url()).await?;
    let mut world = World::between(primary, standby, builder.spawn()?).await?;
    world.populate().await?;
    world.same("auth is enabled").await?;
    world.lacks(&["alice", "root"]).await?;

    world.syncer.kill()?;
    for i in 0..world.standby.size() {
        // It answers nobody who does not log in.
        world.standby.spawn_as(i, Version::V3_5).await?;
        wait_login(&world.standby.client_endpoints()[i..=i]).await?;
    }
    wait_takes_hashes(&world.standby).await?;
    // Who comes once or twice after the upgrade knows no hash.
    for what in ["started after the upgrade", "started again"] {
        world.syncer.respawn()?;
        world.same(what).await?;
        world.lacks(&["alice", "root"]).await.context(what)?;
        for (name, word) in [("root", ROOT_WORD), ("alice", ALICE_WORD)] {
            let is_in = lets_in(&world.standby, name, word).await?;
            ensure!(!is_in, "{what}: {name} is listed and gets in");
        }
        world.syncer.kill()?;
    }

    // A new password takes one name off.
    world.syncer.respawn()?;
    let mut root = client(&world.primary, Some(("root", ROOT_WORD))).await?;
    root.auth_client()
        .user_change_password("alice", "alice-2")
        .await?;
    world.same("alice's password changed").await?;
    world.lets_in("alice", "alice-2", true).await?;
    world.lacks(&["root"]).await?;
    world.syncer.kill()?;
    world.syncer.respawn()?;
    world.same("killed after the change").await?;
    world.lacks(&["root"]).await?;

    // The primary's database brings the rest.
    world.resync().await?;
    for number in 0..1_000 {
        root.put(format!("key/many/{number}"), "", None).await?;
    }
    world.syncer.respawn()?;
    world.same("resynced").await?;
    let log = world.syncer.log()?;
    ensure!(log.contains("the snapshot is installed"), "{log}");
    for _ in 0..2 {
        world.lets_in("root", ROOT_WORD, true).await?;
        world.lets_in("alice", "alice-2", true).await?;
        world.lacks(&[]).await?;
        world.syncer.kill()?;
        world.syncer.respawn()?;
        world.same("started after the snapshot").await?;
    }
    world.stop().await
}

/// Until an endpoint lets our own user in and reads for it.
async fn wait_login(endpoints: &[String]) -> Result<()> {
    eventually("our own user is let in", SOON, async || {
        let options = ConnectOptions::new().with_user(OURS, OUR_WORD);
        let mut client = Client::connect(endpoints, Some(options)).await?;
        client.get("key/1", None).await?;
        Ok(())
    })
    .await
}

/// Until a cluster knows that all of its members were upgraded.
async fn wait_takes_hashes(standby: &Cluster) -> Result<()> {
    use etcd_syncer::standby::Auth as _;
    let mut asked = store(standby, Some((OURS, OUR_WORD)));
    eventually("the standby takes hashes", SOON, async || {
        ensure!(asked.takes_hashes().await?, "it does not");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn without_a_password_of_our_own_auth_waits_until_there_is_one() -> Result<()> {
    let (primary, standby) = tokio::try_join!(cluster(Version::V3_6), cluster(Version::V3_6))?;
    wait_version(&standby).await?;
    let builder = Syncer::builder(&primary, &standby)?;
    primary.add_learner(&builder.peer_url()).await?;
    let syncer = builder.spawn()?;
    let mut world = World::between(primary, standby, syncer).await?;
    world.populate().await?;
    let status = world
        .wait("it is pending", |status| {
            !status["standby_users"]["enable_pending"].is_null()
        })
        .await?;
    let why = status["standby_users"]["enable_pending"]
        .as_str()
        .context("why")?;
    ensure!(why.contains("--standby-password-file"), "{why}");
    world.ctl(&["put", "key/1", "goes on"]).await?;
    let mut reader = world.standby.client().await?;
    eventually("the key", SOON, async || {
        let found = reader.get("key/1", None).await?;
        ensure!(!found.kvs().is_empty(), "not there");
        Ok(())
    })
    .await?;
    // The same member, now with a password in a file.
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("word");
    std::fs::write(&file, format!("{OUR_WORD}\n"))?;
    let option = format!("--standby-password-file={}", file.display());
    world.syncer.add_arg(option);
    world.syncer.respawn()?;
    world
        .wait("it is enabled", |status| {
            status["standby_users"]["auth_enabled"] == true
        })
        .await?;
    world.same("auth is enabled").await?;
    world.lets_in("alice", ALICE_WORD, true).await?;
    world.stop().await
}

/// What the primary's database told goes the same way as what its log tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_brings_users_with_their_passwords() -> Result<()> {
    let cut = Cluster::builder(Version::V3_6).no_fsync();
    let cut = cut
        .snapshot_count(50)
        .catch_up_entries(10)
        .extra_args(["--bcrypt-cost=4"]);
    let (primary, standby) = tokio::try_join!(cut.start(), cluster(Version::V3_7))?;
    wait_version(&standby).await?;
    let builder = builder(&primary, &standby)?;
    primary.add_learner(&builder.peer_url()).await?;
    let root = ("root", ROOT_WORD);
    let bare = |primary, standby, syncer, root| World {
        primary,
        standby,
        syncer,
        root,
        puts: 0,
    };
    let mut world = bare(primary, standby, builder.spawn()?, None);
    world
        .wait("the stream", |status| status["phase"] == "streaming")
        .await?;
    world.syncer.kill()?;
    world.populate().await?;
    let mut writer = client(&world.primary, Some(root)).await?;
    for number in 0..200 {
        writer.put(format!("key/many/{number}"), "", None).await?;
    }
    world.syncer.respawn()?;
    world.same("the snapshot is installed").await?;
    world.lets_in("alice", ALICE_WORD, true).await?;
    world.lets_in("root", ROOT_WORD, true).await?;
    // Once more, with passwords that are known by their digests.
    world.syncer.kill()?;
    let mut writer = client(&world.primary, Some(root)).await?;
    writer
        .auth_client()
        .user_change_password("alice", "alice-2")
        .await?;
    for number in 0..200 {
        writer.put(format!("key/more/{number}"), "", None).await?;
    }
    world.syncer.respawn()?;
    world.same("another snapshot is installed").await?;
    world.lets_in("alice", "alice-2", true).await?;
    world.lets_in("root", ROOT_WORD, true).await?;
    world.stop().await
}

/// Killed in the middle of changes, again and again, it ends up where the primary is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_users_change_it_still_arrives() -> Result<()> {
    // Each new user takes the standby some 60 ms.
    let slow = World::start_with(Version::V3_7, Version::V3_6, &[], |builder| builder);
    let mut world = slow.await?;
    world.populate().await?;
    let mut words = BTreeMap::new();
    for round in 0..6 {
        let mut changes = Vec::new();
        for number in 0..4 {
            let name = format!("u{}", (round + number) % 5);
            let word = format!("word-{round}-{number}");
            if words.remove(&name).is_some() {
                changes.push(format!("user delete {name}"));
            }
            changes.push(format!("user add {name}:{word}"));
            changes.push(format!("user grant-role {name} app"));
            words.insert(name, word);
        }
        let lines: Vec<&str> = changes.iter().map(String::as_str).collect();
        let (done, ()) = tokio::join!(world.all(&lines), async {
            tokio::time::sleep(Duration::from_millis(150 + 70 * round)).await;
        });
        done?;
        world.syncer.kill()?;
        world.syncer.respawn()?;
    }
    world.same("after all that").await?;
    for (name, word) in &words {
        world.lets_in(name, word, true).await?;
    }
    let status = world
        .wait("users", |status| status["standby_users"].is_object())
        .await?;
    let users = &status["standby_users"];
    ensure!(users["not_carried"] == serde_json::json!([]), "{users}");
    world.stop().await
}

/// What a word looks like where somebody might look.
fn forms(word: &str) -> [String; 2] {
    [word.to_owned(), base64::encode(word.as_bytes())]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_secret_is_shown_or_kept() -> Result<()> {
    for from in [Version::V3_4, Version::V3_7] {
        Box::pin(nothing_secret(from))
            .await
            .with_context(|| format!("from {from}"))?;
    }
    Ok(())
}

async fn nothing_secret(from: Version) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (data, dump) = (folder.path().join("data"), folder.path().join("dump"));
    let with = |builder: SyncerBuilder| {
        builder
            .env("RUST_LOG", "debug,etcd_syncer=trace")
            .data_dir(&data)
            .args(["--dump-state".into(), dump.clone().into_os_string()])
    };
    let mut world = World::start_with(from, Version::V3_7, &["--bcrypt-cost=4"], with).await?;
    world.populate().await?;
    world.same("auth is enabled").await?;
    let (value, new_alice) = ("a-value-of-a-key-8s7d", "another-of-alice-4h2k");
    let mut root = client(&world.primary, Some(("root", ROOT_WORD))).await?;
    root.auth_client()
        .user_change_password("alice", new_alice)
        .await?;
    root.put("key/secret", value, None).await?;
    world.all(&["auth disable"]).await?;
    world.root = None;
    world.same("auth is off").await?;
    world.all(&["auth enable"]).await?;
    world.root = Some(ROOT_WORD.to_owned());
    world.same("auth is on").await?;
    world.syncer.respawn()?;
    world
        .wait("the stream", |status| status["phase"] == "streaming")
        .await?;
    world.same("after a restart").await?;

    let mut shown = BTreeMap::new();
    shown.insert("status", world.syncer.get("/status").await?.body);
    shown.insert("metrics", world.syncer.get("/metrics").await?.body);
    shown.insert("ready", world.syncer.get("/readyz").await?.body);
    let address = world.syncer.status_address();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_etcd-syncer"));
    let command = command.args(["status", "--listen-status", &address]);
    let printed = command.output().await?;
    shown.insert(
        "status command",
        String::from_utf8_lossy(&printed.stdout).into_owned(),
    );
    let mut help = tokio::process::Command::new(env!("CARGO_BIN_EXE_etcd-syncer"));
    let help = help
        .args(["run", "--help"])
        .env("ETCD_SYNCER_STANDBY_PASSWORD", OUR_WORD);
    let printed = help.output().await?;
    shown.insert(
        "help",
        String::from_utf8_lossy(&printed.stdout).into_owned(),
    );
    world.syncer.terminate()?;
    ensure!(
        world.syncer.wait_exit(SOON).await? == Some(0),
        "{}",
        world.syncer.log()?
    );
    shown.insert("log", world.syncer.log()?);
    shown.insert("dump", std::fs::read_to_string(&dump)?);
    for entry in std::fs::read_dir(&data)? {
        let path = entry?.path();
        if path.is_file() {
            let bytes = std::fs::read(&path)?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            *shown.entry("data").or_default() += &text;
        }
    }
    let mut reader = client(&world.standby, Some((OURS, OUR_WORD))).await?;
    let prefix = etcd_client::GetOptions::new().with_prefix();
    let kept = reader
        .get(etcd_syncer::reserved::PREFIX, Some(prefix))
        .await?;
    ensure!(kept.kvs().len() > 1, "there is no ledger");
    let records = kept
        .kvs()
        .iter()
        .flat_map(|kv| kv.value())
        .copied()
        .collect::<Vec<u8>>();
    shown.insert("ledger", String::from_utf8_lossy(&records).into_owned());

    ensure!(
        shown["log"].contains("user passwd"),
        "the log is not that of a full run"
    );
    let words = [OUR_WORD, ROOT_WORD, ALICE_WORD, new_alice, value];
    // Passwords, values, and how every hash of these clusters begins, in either form.
    let mut secrets: Vec<String> = words.into_iter().flat_map(forms).collect();
    secrets.extend(["$2a$".to_owned(), "JDJhJD".to_owned()]);
    for (place, text) in &shown {
        for secret in &secrets {
            if let Some(at) = text.find(secret.trim_end_matches('=')) {
                let start = text[..at].rfind('\n').map_or(0, |start| start + 1);
                let line: String = text[start..].chars().take(300).collect();
                bail!("{place} shows {secret}: {line}");
            }
        }
        if let Some(token) = tokens(text).next() {
            bail!("{place} shows a token: {token}");
        }
    }
    Ok(())
}

/// Sixteen letters, a dot and a number.
fn tokens(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '.');
    words.filter(|word| {
        word.split_once('.').is_some_and(|(letters, number)| {
            letters.len() == 16
                && letters.bytes().all(|byte| byte.is_ascii_alphabetic())
                && !number.is_empty()
                && number.bytes().all(|byte| byte.is_ascii_digit())
        })
    })
}

#[tokio::test]
async fn a_standby_with_auth_enabled_wants_to_know_who_comes() -> Result<()> {
    let (mut primary, standby) = tokio::try_join!(cluster(Version::V3_6), cluster(Version::V3_5))?;
    for line in [
        format!("user add root:{ROOT_WORD}"),
        "user grant-role root root".to_owned(),
        format!("user add {OURS}:{OUR_WORD}"),
        format!("user grant-role {OURS} root"),
        "user add weak:weak".to_owned(),
        "auth enable".to_owned(),
    ] {
        let args: Vec<&str> = line.split(' ').collect();
        standby.etcdctl(&args).await?;
    }
    for (user, word, says) in [
        (OURS, "", "--standby-password-file"),
        (OURS, "wrong", "does not let user \"etcd-syncer\" in"),
        ("weak", "weak", "needs role root"),
    ] {
        let builder = builder_as(&primary, &standby, user, word)?;
        let id = primary.add_learner(&builder.peer_url()).await?;
        let mut syncer = builder.spawn()?;
        let code = syncer.wait_exit(SOON).await?;
        let log = syncer.log()?;
        ensure!(
            code == Some(22) && log.contains(says),
            "{says}: {code:?}\n{log}"
        );
        primary.remove_member(id).await?;
    }
    let builder = builder_as(&primary, &standby, OURS, OUR_WORD)?;
    primary.add_learner(&builder.peer_url()).await?;
    let syncer = builder.spawn()?;
    let mut world = World::between(primary, standby, syncer).await?;
    // A primary without users leaves those of the standby alone.
    world.ctl(&["put", "key/1", "v"]).await?;
    let mut reader = client(&world.standby, Some((OURS, OUR_WORD))).await?;
    eventually("the key", SOON, async || {
        let found = reader.get("key/1", None).await?;
        ensure!(!found.kvs().is_empty(), "not there");
        Ok(())
    })
    .await?;
    ensure!(
        lets_in(&world.standby, "root", ROOT_WORD).await?,
        "it is still enabled"
    );
    // One with users makes the standby its like.
    world.populate().await?;
    world.same("the primary has users").await?;
    world.lets_in("alice", ALICE_WORD, true).await?;
    ensure!(
        !lets_in(&world.standby, "weak", "weak").await?,
        "weak is gone"
    );
    world.stop().await
}

fn builder_as(
    primary: &Cluster,
    standby: &Cluster,
    user: &str,
    word: &str,
) -> Result<SyncerBuilder> {
    Ok(Syncer::builder(primary, standby)?
        .args([format!("--standby-user={user}")])
        .env("ETCD_SYNCER_STANDBY_PASSWORD", word))
}
