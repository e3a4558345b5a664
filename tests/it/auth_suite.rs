//! What a standby must do with users and roles, asked of real etcd and of the fake alike.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etcd_client::{Client, ConnectOptions};
use etcd_syncer::plan::auth::{AuthCall, FirstPassword, NewPassword};
use etcd_syncer::resolve::Permission;
use etcd_syncer::secret::{Credentials, Secret};
use etcd_syncer::standby::{Auth, Etcd, Failure, Options, Standby, read_store};

use crate::auth_model::{OURS, Word};
use crate::fake_auth::FakeAuth;
use crate::harness::{Cluster, Version, eventually};

/// What our own user says, and what `HASH` is the hash of.
const OUR_WORD: &str = "the word of our own";
const WORD: &str = "swordfish";
/// bcrypt of [`WORD`] with cost 4.
const HASH: &str = "$2a$04$NuZtxFT5hff261P.dFSbEeMIsnFthFEg8GgOGLZsp1.srD2rnEwB2";

/// A standby under test, and whether it lets somebody in.
trait Bench {
    type Standby: Auth;

    fn standby(&self) -> Self::Standby;
    /// None if it does not check requests.
    async fn lets_in(&self, name: &str, word: &str) -> Result<Option<bool>>;
}

struct Real(Cluster);

fn options(cluster: &Cluster) -> Options {
    Options {
        endpoints: cluster.client_endpoints(),
        request_timeout: Duration::from_secs(5),
    }
}

fn ours() -> Option<Credentials> {
    Some(Credentials {
        name: OURS.to_owned(),
        password: Secret::new(OUR_WORD),
    })
}

impl Bench for Real {
    type Standby = Etcd;

    fn standby(&self) -> Etcd {
        Etcd::new(options(&self.0)).log_in_as(ours())
    }

    async fn lets_in(&self, name: &str, word: &str) -> Result<Option<bool>> {
        let options = ConnectOptions::new().with_user(name, word);
        let error = match Client::connect(self.0.client_endpoints(), Some(options)).await {
            Ok(_) => return Ok(Some(true)),
            Err(error) => error.to_string(),
        };
        if error.contains("authentication is not enabled") {
            return Ok(None);
        }
        ensure!(error.contains("authentication failed"), "{error}");
        Ok(Some(false))
    }
}

impl Bench for FakeAuth {
    type Standby = Self;

    fn standby(&self) -> Self {
        self.clone()
    }

    async fn lets_in(&self, name: &str, word: &str) -> Result<Option<bool>> {
        let state = self.state();
        let expected = match state
            .model
            .users
            .get(name)
            .and_then(|user| user.word.clone())
        {
            Some(Word::Ours) => Some(OUR_WORD.into()),
            Some(Word::Hash(hash)) if hash == HASH => Some(WORD.into()),
            Some(Word::Clear(clear)) => Some(clear),
            _ => None,
        };
        let is_right = expected.is_some_and(|expected: bytes::Bytes| expected == word);
        Ok(state.model.enabled.then_some(is_right))
    }
}

fn add(name: &str, first: FirstPassword) -> AuthCall {
    let name = name.to_owned();
    AuthCall::AddUser { name, first }
}

fn delete(name: &str) -> AuthCall {
    AuthCall::DeleteUser {
        name: name.to_owned(),
    }
}

fn set(name: &str, password: NewPassword) -> AuthCall {
    let name = name.to_owned();
    AuthCall::SetPassword { name, password }
}

fn grant(user: &str, role: &str) -> AuthCall {
    let (user, role) = (user.to_owned(), role.to_owned());
    AuthCall::GrantRole { user, role }
}

fn revoke(user: &str, role: &str) -> AuthCall {
    let (user, role) = (user.to_owned(), role.to_owned());
    AuthCall::RevokeRole { user, role }
}

fn add_role(name: &str) -> AuthCall {
    AuthCall::AddRole {
        name: name.to_owned(),
    }
}

fn delete_role(name: &str) -> AuthCall {
    AuthCall::DeleteRole {
        name: name.to_owned(),
    }
}

fn permission(kind: i32, key: &'static str, range_end: &'static str) -> Permission {
    Permission {
        kind,
        key: key.into(),
        range_end: range_end.into(),
    }
}

fn allow(role: &str, kind: i32, key: &'static str, range_end: &'static str) -> AuthCall {
    AuthCall::GrantPermission {
        role: role.to_owned(),
        permission: permission(kind, key, range_end),
    }
}

fn forbid(role: &str, key: &'static str, range_end: &'static str) -> AuthCall {
    AuthCall::RevokePermission {
        role: role.to_owned(),
        key: key.into(),
        range_end: range_end.into(),
    }
}

async fn change<S: Auth>(standby: &mut S, call: &AuthCall) -> Result<(), Failure> {
    let answers = standby.change_auth(std::slice::from_ref(call)).await;
    answers.into_iter().next().expect("an answer")
}

/// Does each, which must be taken, and once more, which must change nothing.
async fn all_done<S: Auth>(standby: &mut S, calls: &[AuthCall]) -> Result<()> {
    for call in calls {
        change(standby, call)
            .await
            .with_context(|| format!("{call:?}"))?;
        let before = read_store(standby).await?;
        change(standby, call)
            .await
            .with_context(|| format!("{call:?} again"))?;
        ensure!(read_store(standby).await? == before, "{call:?} again");
    }
    Ok(())
}

/// Each presumes something that is not so.
async fn all_refused<S: Auth>(standby: &mut S, calls: &[AuthCall]) -> Result<()> {
    let before = read_store(standby).await?;
    for call in calls {
        let answer = change(standby, call).await;
        ensure!(
            matches!(answer, Err(Failure::NotApplied(_))),
            "{call:?}: {answer:?}"
        );
    }
    ensure!(read_store(standby).await? == before, "they are refused");
    Ok(())
}

async fn clear<S: Auth>(standby: &mut S) -> Result<()> {
    change(standby, &AuthCall::Disable).await?;
    let store = read_store(standby).await?;
    for name in store.users.keys() {
        change(standby, &delete(name)).await?;
    }
    for name in store.roles.keys() {
        change(standby, &delete_role(name)).await?;
    }
    let store = read_store(standby).await?;
    ensure!(
        store.users.is_empty() && store.roles.is_empty(),
        "{store:?}"
    );
    ensure!(!store.enabled, "{store:?}");
    Ok(())
}

async fn keeps_users_and_roles(bench: &impl Bench) -> Result<()> {
    let mut standby = bench.standby();
    clear(&mut standby).await?;
    let missing = [
        grant("u", "r"),
        grant("u", "root"),
        set("u", NewPassword::Random),
        allow("r", 0, "k", ""),
        AuthCall::Enable,
    ];
    all_refused(&mut standby, &missing).await?;
    let gone = [
        delete("u"),
        delete_role("r"),
        revoke("u", "r"),
        forbid("r", "k", ""),
    ];
    all_done(&mut standby, &gone).await?;
    let calls = [
        add("u", FirstPassword::Random),
        add("cert", FirstPassword::Nothing),
        set("u", NewPassword::Random),
        add_role("r"),
        grant("u", "r"),
        grant("u", "root"),
        grant("cert", "r"),
        forbid("r", "k", ""),
    ];
    all_done(&mut standby, &calls).await?;
    all_refused(&mut standby, &[grant("u", "nothing"), AuthCall::Enable]).await?;
    let store = read_store(&mut standby).await?;
    let roles = |name: &str| store.users.get(name).cloned();
    ensure!(
        roles("u") == Some(BTreeSet::from(["r".into(), "root".into()])),
        "{store:?}"
    );
    ensure!(
        roles("cert") == Some(BTreeSet::from(["r".into()])),
        "{store:?}"
    );
    let names = ["nobody".to_owned(), "u".to_owned()];
    let found = standby.roles_of(&names).await?;
    ensure!(found[0].is_none() && found[1].is_some(), "{found:?}");
    let found = standby.permissions_of(&["nothing".to_owned()]).await?;
    ensure!(found == [None], "{found:?}");
    let calls = [revoke("u", "root"), delete_role("r"), delete("cert")];
    all_done(&mut standby, &calls).await?;
    let store = read_store(&mut standby).await?;
    ensure!(
        store.users.len() == 1 && store.roles.is_empty(),
        "{store:?}"
    );
    ensure!(
        store.users["u"].is_empty(),
        "the role went with its holders: {store:?}"
    );
    Ok(())
}

/// The plan knows the outcome of each call beforehand.
async fn replaces_permissions_as_is_known(bench: &impl Bench) -> Result<()> {
    let mut standby = bench.standby();
    clear(&mut standby).await?;
    all_done(&mut standby, &[add_role("r")]).await?;
    let mut store = read_store(&mut standby).await?;
    for call in [
        allow("r", 0, "m", ""),
        allow("r", 1, "k", ""),
        allow("r", 2, "k", "z"),
        allow("r", 0, "k", "z"),
        allow("r", 2, "k", ""),
        allow("r", 1, "z", "\0"),
        allow("r", 7, "y", ""),
        forbid("r", "k", ""),
        allow("r", 1, "k", "z"),
        forbid("r", "k", "z"),
        forbid("r", "nothing", ""),
    ] {
        change(&mut standby, &call)
            .await
            .with_context(|| format!("{call:?}"))?;
        store.apply(&call);
        let found = read_store(&mut standby).await?;
        ensure!(found == store, "{call:?}: {found:?} for {store:?}");
    }
    let left = [
        permission(0, "m", ""),
        permission(7, "y", ""),
        permission(1, "z", "\0"),
    ];
    ensure!(store.roles["r"] == left, "{store:?}");
    Ok(())
}

async fn checks_requests_and_lets_us_in(bench: &impl Bench) -> Result<()> {
    let mut standby = bench.standby();
    clear(&mut standby).await?;
    let takes_hashes = standby.takes_hashes().await?;
    let secret = || Secret::new(WORD);
    let known = if takes_hashes {
        NewPassword::Hash(Secret::new(HASH))
    } else {
        NewPassword::Clear(secret())
    };
    let calls = [
        add(OURS, FirstPassword::Ours),
        grant(OURS, "root"),
        add("root", FirstPassword::Random),
        grant("root", "root"),
        set("root", known.clone()),
        add("random", FirstPassword::Random),
        add("cert", FirstPassword::Nothing),
        set("cert", known.clone()),
        add("clear", FirstPassword::Random),
        set("clear", NewPassword::Clear(secret())),
        add_role("root"),
    ];
    all_done(&mut standby, &calls).await?;
    ensure!(
        bench.lets_in(OURS, OUR_WORD).await?.is_none(),
        "no login while disabled"
    );
    all_done(&mut standby, &[AuthCall::Enable]).await?;
    ensure!(standby.is_auth_enabled().await?, "enabled");
    for (name, word, expected) in [
        (OURS, OUR_WORD, true),
        (OURS, "", false),
        ("root", WORD, true),
        ("root", "", false),
        ("random", WORD, false),
        ("random", "", false),
        ("cert", WORD, false),
        ("cert", "", false),
        ("clear", WORD, true),
        ("clear", "", false),
        ("nobody", WORD, false),
    ] {
        let answer = bench.lets_in(name, word).await?;
        ensure!(answer == Some(expected), "{name} with {word:?}: {answer:?}");
    }
    // Ours goes on, also where another process had no token yet.
    let protected = [delete("root"), revoke("root", "root"), delete_role("root")];
    all_refused(&mut bench.standby(), &protected).await?;
    all_done(&mut standby, &[set("root", NewPassword::Random)]).await?;
    ensure!(
        bench.lets_in("root", WORD).await? == Some(false),
        "it has another one"
    );
    all_done(&mut standby, &[AuthCall::Disable]).await?;
    ensure!(!standby.is_auth_enabled().await?, "disabled");
    // The token of before does no harm.
    all_done(&mut standby, &[delete("root"), AuthCall::Disable]).await
}

/// Several at a time, and each answer at its place.
async fn does_several_at_once(bench: &impl Bench) -> Result<()> {
    let mut standby = bench.standby();
    clear(&mut standby).await?;
    let names: Vec<String> = (0..10).map(|number| format!("u{number}")).collect();
    let adds: Vec<_> = names
        .iter()
        .map(|name| add(name, FirstPassword::Random))
        .collect();
    ensure!(
        adds.chunk_by(AuthCall::goes_with).count() == 1,
        "they go together"
    );
    let answers = standby.change_auth(&adds).await;
    ensure!(answers.iter().all(Result::is_ok), "{answers:?}");
    let sets: Vec<_> = ["u3", "nobody", "u4"]
        .map(|name| set(name, NewPassword::Random))
        .into();
    let answers = standby.change_auth(&sets).await;
    ensure!(answers[0].is_ok() && answers[2].is_ok(), "{answers:?}");
    ensure!(
        matches!(answers[1], Err(Failure::NotApplied(_))),
        "{answers:?}"
    );
    ensure!(standby.users().await? == names, "all of them");
    Ok(())
}

async fn everything(bench: &impl Bench) -> Result<()> {
    keeps_users_and_roles(bench)
        .await
        .context("users and roles")?;
    replaces_permissions_as_is_known(bench)
        .await
        .context("permissions")?;
    does_several_at_once(bench).await.context("several")?;
    checks_requests_and_lets_us_in(bench).await.context("auth")
}

#[tokio::test]
async fn the_fake() -> Result<()> {
    everything(&FakeAuth::new(true)).await?;
    everything(&FakeAuth::new(false)).await
}

/// Tokens that are refused, or missing, cost one more attempt and no failure.
async fn logs_in_when_asked_to(cluster: &Cluster) -> Result<()> {
    let mut standby = Etcd::new(options(cluster)).log_in_as(ours());
    for call in [
        add(OURS, FirstPassword::Ours),
        grant(OURS, "root"),
        add("root", FirstPassword::Random),
        grant("root", "root"),
    ] {
        change(&mut standby, &call).await?;
    }
    let mut idle = Etcd::new(options(cluster)).log_in_as(ours());
    idle.about().await?;
    change(&mut standby, &AuthCall::Enable).await?;
    idle.about().await.context("without a token")?;
    // Every token is gone after that.
    change(&mut standby, &AuthCall::Disable).await?;
    change(&mut standby, &AuthCall::Enable).await?;
    idle.about().await.context("with an old token")?;
    // So it is when the password is set again.
    change(&mut standby, &set(OURS, NewPassword::Ours)).await?;
    standby
        .about()
        .await
        .context("after its own password changed")?;
    for round in 0..20 {
        change(&mut standby, &add_role(&format!("r{round}"))).await?;
        idle.about().await.context("while roles change")?;
    }

    let mut nobody = Etcd::new(options(cluster));
    let answer = nobody.about().await.map_err(|failure| failure.to_string());
    ensure!(
        answer
            .as_ref()
            .is_err_and(|text| text.contains("--standby-password-file")),
        "{answer:?}"
    );
    let wrong = Credentials {
        name: OURS.to_owned(),
        password: Secret::new("wrong"),
    };
    let mut wrong = Etcd::new(options(cluster)).log_in_as(Some(wrong));
    let answer = wrong.about().await;
    ensure!(
        matches!(&answer, Err(Failure::Refused(text)) if text.contains("does not let user")),
        "{answer:?}"
    );
    change(&mut standby, &revoke(OURS, "root")).await?;
    let answer = standby.about().await;
    ensure!(
        matches!(&answer, Err(Failure::Refused(text)) if text.contains("needs role root")),
        "{answer:?}"
    );
    Ok(())
}

async fn start(version: Version, args: &[&str]) -> Result<Cluster> {
    let builder = Cluster::builder(version).no_fsync();
    builder.extra_args(args.iter().copied()).start().await
}

/// A young cluster has no version for some seconds.
async fn wait_takes_hashes(cluster: &Cluster, expected: bool) -> Result<()> {
    let mut standby = Etcd::new(options(cluster)).log_in_as(ours());
    eventually("hashes", Duration::from_secs(20), async || {
        let takes = standby.takes_hashes().await?;
        ensure!(takes == expected, "takes hashes: {takes}");
        Ok(())
    })
    .await
}

async fn real(version: Version) -> Result<()> {
    let (one, two) = tokio::try_join!(start(version, &[]), start(version, &[]))?;
    wait_takes_hashes(&one, version > Version::V3_4).await?;
    everything(&Real(one)).await?;
    logs_in_when_asked_to(&two).await
}

#[tokio::test]
async fn etcd_3_4() -> Result<()> {
    real(Version::V3_4).await
}

#[tokio::test]
async fn etcd_3_5() -> Result<()> {
    real(Version::V3_5).await
}

#[tokio::test]
async fn etcd_3_6() -> Result<()> {
    real(Version::V3_6).await
}

#[tokio::test]
async fn etcd_3_7() -> Result<()> {
    real(Version::V3_7).await
}

/// A token is as old as it is, however often it is used, and holds for one auth revision.
#[tokio::test]
async fn etcd_3_6_with_jwt() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let key = folder.path().join("key");
    std::fs::write(&key, "a key of thirty-two bytes or more")?;
    let token = format!(
        "--auth-token=jwt,priv-key={},sign-method=HS256,ttl=2s",
        key.display()
    );
    let cluster = start(Version::V3_6, &[&token]).await?;
    logs_in_when_asked_to(&cluster).await?;
    let cluster = start(Version::V3_6, &[&token]).await?;
    outlives_its_token(&cluster).await
}

#[tokio::test]
async fn etcd_3_7_with_short_tokens() -> Result<()> {
    outlives_its_token(&start(Version::V3_7, &["--auth-token-ttl=1"]).await?).await
}

async fn outlives_its_token(cluster: &Cluster) -> Result<()> {
    let mut standby = Etcd::new(options(cluster)).log_in_as(ours());
    for call in [
        add(OURS, FirstPassword::Ours),
        grant(OURS, "root"),
        add("root", FirstPassword::Random),
        grant("root", "root"),
        AuthCall::Enable,
    ] {
        change(&mut standby, &call).await?;
    }
    for _ in 0..2 {
        standby.about().await?;
        tokio::time::sleep(Duration::from_secs(4)).await;
        standby.about().await.context("after 4 s")?;
    }
    Ok(())
}

/// A member of 3.4 makes an empty password of a hash that another member took.
#[tokio::test]
async fn a_standby_half_upgraded_from_3_4_takes_no_hashes() -> Result<()> {
    let builder = Cluster::builder(Version::V3_4).members(2).no_fsync();
    let mut cluster = builder.start().await?;
    wait_takes_hashes(&cluster, false).await?;
    cluster.restart_as(0, Version::V3_5).await?;
    let mut upgraded = Etcd::new(Options {
        endpoints: vec![cluster.client_endpoints()[0].clone()],
        ..options(&cluster)
    });
    ensure!(!upgraded.takes_hashes().await?, "one member is of 3.4");
    cluster.restart_as(1, Version::V3_5).await?;
    wait_takes_hashes(&cluster, true).await
}
