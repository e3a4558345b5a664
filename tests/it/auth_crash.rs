//! A process that ends at any call to the standby, between keys and users: the next one goes on
//! from the checkpoint, with digests for what it does not know, and everything ends up as it would.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use etcd_syncer::apply::{self, Apply, Left};
use etcd_syncer::base64;
use etcd_syncer::checkpoint::{Checkpoint, Phase, Place};
use etcd_syncer::entry::{self, Committed};
use etcd_syncer::ids::{ClusterId, LeaseId, MemberId, RaftIndex, Revision, Term};
use etcd_syncer::learner::Handout;
use etcd_syncer::ledger::{Ledger, Loader};
use etcd_syncer::pb::etcdpb::{self, InternalRaftRequest};
use etcd_syncer::pipeline::{HistoryPolicy, Pipeline};
use etcd_syncer::plan::auth::{Access, AuthCall, Given};
use etcd_syncer::plan::{CompactionPolicy, Limits};
use etcd_syncer::range::KeyRange;
use etcd_syncer::reserved;
use etcd_syncer::resolve::{
    DigestKey, Password, Permission, Position, PrimaryState, Rules, Settings, Version,
};
use etcd_syncer::scope::{Prefixes, Scope};
use etcd_syncer::standby::keeper::{self, Keeper};
use etcd_syncer::standby::{
    About, Answer, Auth, Claim, Failure, KeyValue, Reconciler, Standby, Stored, Transaction,
    Writer, first_contact,
};
use prost::Message as _;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::auth_model::{OURS, Word};
use crate::fake_auth::FakeAuth;
use crate::fake_standby::FakeStandby;

const STREAM: &str = "s";
const PRIMARY: ClusterId = ClusterId(1);
/// Longer than any wait: a call that takes so long has crashed.
const CRASHED: Duration = Duration::from_secs(3600);
/// Between the calls at which a standby is upgraded, which are others for each end of a process.
const STRIDE: usize = 29;

/// Keys and users of one standby, whose calls are counted together.
#[derive(Clone, Debug)]
struct Both {
    keys: FakeStandby,
    users: FakeAuth,
    calls: Arc<AtomicUsize>,
    /// At which call the process ends, and whether that is done.
    crash: Option<(usize, bool)>,
    /// From which call on it takes hashes; None for always.
    upgrade: Option<usize>,
}

impl Both {
    fn new() -> Self {
        Self {
            keys: FakeStandby::new().txn_ops(16),
            users: FakeAuth::new(true),
            calls: Arc::default(),
            crash: None,
            upgrade: None,
        }
    }

    /// One that takes no hashes before a call.
    fn upgraded_at(call: usize) -> Self {
        Self {
            users: FakeAuth::new(false),
            upgrade: Some(call),
            ..Self::new()
        }
    }

    fn ends(&self) -> Option<bool> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        if self.upgrade.is_some_and(|at| at <= call) {
            self.users.state().model.takes_hashes = true;
        }
        let (_, is_done) = self.crash.filter(|(at, _)| *at == call)?;
        Some(is_done)
    }

    async fn through<T>(&mut self, call: impl AsyncFnOnce(&mut Self) -> T) -> T {
        match self.ends() {
            None => call(self).await,
            Some(false) => std::future::pending().await,
            Some(true) => {
                call(self).await;
                std::future::pending().await
            }
        }
    }
}

impl Standby for Both {
    async fn write(&mut self, transaction: &Transaction) -> Result<Answer, Failure> {
        self.through(async |this| this.keys.write(transaction).await)
            .await
    }

    async fn read(&mut self, key: &Bytes) -> Result<Option<Stored>, Failure> {
        self.through(async |this| this.keys.read(key).await).await
    }

    async fn read_range(
        &mut self,
        range: &KeyRange,
        limit: usize,
    ) -> Result<Vec<KeyValue>, Failure> {
        self.through(async |this| this.keys.read_range(range, limit).await)
            .await
    }

    async fn about(&mut self) -> Result<About, Failure> {
        self.keys.about().await
    }

    async fn foreign_keys(&mut self, limit: usize) -> Result<Vec<Bytes>, Failure> {
        self.keys.foreign_keys(limit).await
    }

    async fn txn_ops_max(&mut self) -> Result<usize, Failure> {
        self.keys.txn_ops_max().await
    }

    fn try_another_endpoint(&mut self) {}
}

impl Auth for Both {
    async fn is_auth_enabled(&mut self) -> Result<bool, Failure> {
        self.users.is_auth_enabled().await
    }

    async fn takes_hashes(&mut self) -> Result<bool, Failure> {
        self.users.takes_hashes().await
    }

    async fn users(&mut self) -> Result<Vec<String>, Failure> {
        self.users.users().await
    }

    async fn roles_of(&mut self, users: &[String]) -> Result<Vec<Option<Vec<String>>>, Failure> {
        self.users.roles_of(users).await
    }

    async fn roles(&mut self) -> Result<Vec<String>, Failure> {
        self.users.roles().await
    }

    async fn permissions_of(
        &mut self,
        roles: &[String],
    ) -> Result<Vec<Option<Vec<Permission>>>, Failure> {
        self.users.permissions_of(roles).await
    }

    async fn change_auth(&mut self, calls: &[AuthCall]) -> Vec<Result<(), Failure>> {
        let mut answers = Vec::new();
        for call in calls {
            let call = std::slice::from_ref(call);
            let answer = self.through(async |this| this.users.change_auth(call).await);
            answers.extend(answer.await);
        }
        answers
    }

    fn leave_endpoint(&mut self) {}
}

fn put(key: &str, value: &str) -> InternalRaftRequest {
    let (key, value) = (key.to_owned().into(), value.to_owned().into());
    InternalRaftRequest {
        put: Some(etcdpb::PutRequest {
            key,
            value,
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn add(name: &str, hash: &str) -> InternalRaftRequest {
    InternalRaftRequest {
        auth_user_add: Some(etcdpb::AuthUserAddRequest {
            name: name.to_owned(),
            hashed_password: base64::encode(hash.as_bytes()),
            options: Some(etcdpb::UserAddOptions {
                no_password: hash.is_empty(),
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn delete(name: &str) -> InternalRaftRequest {
    let name = name.to_owned();
    InternalRaftRequest {
        auth_user_delete: Some(etcdpb::AuthUserDeleteRequest { name }),
        ..Default::default()
    }
}

fn change(name: &str, hash: &str) -> InternalRaftRequest {
    InternalRaftRequest {
        auth_user_change_password: Some(etcdpb::AuthUserChangePasswordRequest {
            name: name.to_owned(),
            hashed_password: base64::encode(hash.as_bytes()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn grant(user: &str, role: &str) -> InternalRaftRequest {
    let (user, role) = (user.to_owned(), role.to_owned());
    InternalRaftRequest {
        auth_user_grant_role: Some(etcdpb::AuthUserGrantRoleRequest { user, role }),
        ..Default::default()
    }
}

fn add_role(name: &str) -> InternalRaftRequest {
    let name = name.to_owned();
    InternalRaftRequest {
        auth_role_add: Some(etcdpb::AuthRoleAddRequest { name }),
        ..Default::default()
    }
}

fn switch(enabled: bool) -> InternalRaftRequest {
    InternalRaftRequest {
        auth_enable: enabled.then(Default::default),
        auth_disable: (!enabled).then(Default::default),
        ..Default::default()
    }
}

/// A log in which keys and users take turns.
fn log() -> Vec<Handout> {
    let requests = [
        put("a", "1"),
        add("root", "root-1"),
        grant("root", "root"),
        put("b", "2"),
        add_role("r"),
        add("u", "u-1"),
        grant("u", "r"),
        switch(true),
        put("a", "3"),
        change("u", "u-2"),
        put("a", "4"),
        change("root", "root-2"),
        delete("u"),
        add("u", ""),
        put("b", "5"),
        switch(false),
        delete("root"),
        put("c", "6"),
        delete("u"),
        add("u", "u-3"),
        put("b", "5"),
        add("root", "root-3"),
        grant("root", "root"),
        switch(true),
        put("c", "7"),
    ];
    let each = (1..).zip(requests);
    each.map(|(index, request)| {
        let header = etcdpb::RequestHeader {
            id: index,
            username: "root".to_owned(),
            auth_revision: 1_000,
        };
        let request = InternalRaftRequest {
            header: Some(header),
            ..request
        };
        let entry = Committed {
            index: RaftIndex(index),
            term: Term(1),
            kind: 0,
            data: request.encode_to_vec().into(),
        };
        Handout {
            entry,
            members: None,
        }
    })
    .collect()
}

fn settings(digest_key: DigestKey) -> Settings {
    Settings {
        digest_key,
        lease_ttl_min: 2,
        rules: Rules::of(Version::new(3, 6, 14)).unwrap(),
        voters: 1,
    }
}

fn beginning() -> Checkpoint {
    Checkpoint {
        primary: PRIMARY,
        member: MemberId(1),
        index: RaftIndex(0),
        term: Term(0),
        voters: Vec::new(),
        learners: Vec::new(),
        revision: Revision(1),
        compact_revision: Revision(-1),
        phase: Phase::Streaming,
        writer: 0,
        batch: 0,
        ledger: Place::empty([7; 32]),
        ending_lease: LeaseId(0),
        scope: Prefixes::default(),
    }
}

/// What the standby holds of the primary, as a new process finds it.
async fn loaded(standby: &mut Both, checkpoint: &Checkpoint) -> (PrimaryState, Ledger) {
    let place = checkpoint.ledger.clone();
    let position = Position {
        index: checkpoint.index,
        revision: checkpoint.revision,
        compact_revision: checkpoint.compact_revision,
    };
    let settings = settings(DigestKey::new(&place.digest_key));
    let mut loader = Loader::new(STREAM, place, settings, position);
    while let Some(key) = loader.next_key() {
        let record = standby.keys.read(&key).await.unwrap().unwrap();
        loader.take_in(&key, &record.value).unwrap();
    }
    let loaded = loader.finish().unwrap();
    (loaded.state, loaded.ledger)
}

/// A keeper that has nothing to do, on a standby of its own.
fn idle_keeper() -> (keeper::Handle, DropGuard) {
    let options = keeper::Options {
        ttl: Duration::from_secs(3600),
        compaction: CompactionPolicy::None,
    };
    let known = keeper::Known {
        held: Vec::new(),
        ended: BTreeSet::new(),
    };
    let (keeper, handle) = Keeper::new(FakeStandby::new, options, known, watch::Sender::default());
    let stop = CancellationToken::new();
    tokio::spawn(keeper.run(stop.clone()));
    (handle, stop.drop_guard())
}

/// One process, until it has written everything.
async fn live(mut standby: Both, process: u64) -> Left<Both> {
    let key = reserved::checkpoint_key(STREAM);
    let scope = Arc::new(Scope::all());
    let claim = Claim {
        stream: STREAM,
        primary: PRIMARY,
        scope: &scope,
    };
    let contact = first_contact(&mut standby, &claim).await;
    let contact = contact.unwrap();
    let mut checkpoint = contact.checkpoint.unwrap_or_else(beginning);
    let (state, ledger) = loaded(&mut standby, &checkpoint).await;
    checkpoint.writer = process;
    checkpoint.batch = 0;
    let trouble = watch::Sender::new(None);
    let mut writer = Writer::new(standby, key, contact.guard, trouble.clone());
    writer.write(Vec::new(), &checkpoint).await.unwrap();
    let given = Given::restored(state.auth(), ledger.not_carried());
    let view = watch::Sender::new(None);
    let reconciler = Reconciler::new(OURS, Access::Password, given, view, trouble);
    let limits = Limits {
        batch_ops_max: 100,
        batch_bytes_max: 1 << 20,
        txn_ops_max: 16,
    };
    let rest = log().into_iter();
    let (handouts_in, handouts) = mpsc::unbounded_channel();
    let rest = rest.filter(|handout| handout.entry.index > checkpoint.index);
    handouts_in.send(rest.collect()).unwrap();
    drop(handouts_in);
    let (_rules, rules) = watch::channel(Rules::of(Version::new(3, 6, 14)));
    let (keeper, _stop) = idle_keeper();
    let channels = apply::Channels {
        handouts,
        durable: watch::Sender::new(RaftIndex(0)),
        rules,
        keeper,
    };
    let metrics = apply::Metrics::register(&prometheus::Registry::new()).unwrap();
    let apply = Apply::new(
        Pipeline::new(state, scope, limits, HistoryPolicy::Keep),
        (writer, reconciler),
        (checkpoint, ledger),
        16,
        channels,
        watch::Sender::default(),
        metrics,
    );
    apply.run(CancellationToken::new()).await
}

/// The primary at the end of the log.
fn primary() -> PrimaryState {
    let mut state = PrimaryState::new(settings(DigestKey::new(&[7; 32])), Position::START);
    for handout in log() {
        state
            .resolve(&entry::decode(&handout.entry).unwrap())
            .unwrap();
    }
    state
}

fn assert_same(standby: &Both, primary: &PrimaryState, what: &str) {
    let left = standby.users.state().model.differences(primary.auth());
    assert!(left.is_empty(), "{what}: {left:?}");
    assert!(standby.users.state().model.lets_us_in(), "{what}");
    assert_same_keys(standby, what);
}

fn assert_same_keys(standby: &Both, what: &str) {
    for (key, value) in [("a", "4"), ("b", "5"), ("c", "7")] {
        let kept = standby.keys.state().keys.get(key.as_bytes()).cloned();
        assert_eq!(kept.unwrap().value, value, "{what}: {key}");
    }
}

/// Users with a password that are in the list that the next process finds; the others have the
/// primary's password, and those have it too or one that nobody knows.
async fn listed(standby: &Both, left: &Left<Both>, primary: &PrimaryState, what: &str) -> usize {
    let mut reader = standby.clone();
    let (_, ledger) = loaded(&mut reader, &left.checkpoint).await;
    let listed = ledger.not_carried().clone();
    assert_eq!(&listed, left.reconciler.not_carried(), "{what}");
    let mut model = standby.users.state().model.clone();
    assert!(model.lets_us_in(), "{what}");
    for (name, wanted) in primary.auth().users() {
        let Password::Hash(hash) = &wanted.password else {
            panic!("{what}: {name} has no hash");
        };
        let right = Word::Hash(hash.expose().clone());
        let user = model.users.get_mut(name).unwrap();
        let word = user.word.replace(right.clone());
        let is_nobodys = listed.contains(name) && word == Some(Word::Random);
        let is_right = word.as_ref() == Some(&right);
        assert!(
            is_right || is_nobodys,
            "{what}: {name}: {word:?}, {listed:?}"
        );
    }
    // But for the words.
    let differences = model.differences(primary.auth());
    assert!(differences.is_empty(), "{what}: {differences:?}");
    assert_same_keys(standby, what);
    let is_there = |name: &String| primary.auth().users().contains_key(name);
    assert!(listed.iter().all(is_there), "{what}: {listed:?}");
    listed.len()
}

#[tokio::test(start_paused = true)]
async fn a_process_may_end_at_every_call() {
    let primary = primary();
    let whole = Both::new();
    let left = Box::pin(live(whole.clone(), 1)).await;
    assert!(matches!(left.end, apply::End::Alone), "{:?}", left.end);
    assert_same(&whole, &primary, "without a crash");
    let count = whole.calls.load(Ordering::Relaxed);
    assert!(count > 40, "{count} calls");
    for at in 0..count {
        for is_done in [false, true] {
            let mut standby = Both::new();
            standby.crash = Some((at, is_done));
            let first = Box::pin(live(standby.clone(), 1));
            let ended = tokio::time::timeout(CRASHED, first).await;
            assert!(ended.is_err(), "{at}: it did not crash");
            // The next one ends too, some calls later.
            let second = standby.calls.load(Ordering::Relaxed) + at % 7;
            standby.crash = Some((second, is_done));
            let next = Box::pin(live(standby.clone(), 2));
            let _ended = tokio::time::timeout(CRASHED, next).await;
            standby.crash = None;
            let left = Box::pin(live(standby.clone(), 3)).await;
            assert!(matches!(left.end, apply::End::Alone), "{:?}", left.end);
            assert_same(&standby, &primary, &format!("{at}, done: {is_done}"));
        }
    }
}

/// The standby is upgraded at some call and the process ends at any other: whoever comes next must
/// not take for carried what was not.
#[tokio::test(start_paused = true)]
async fn a_process_may_end_at_every_call_before_and_after_an_upgrade() {
    let primary = primary();
    let never = Both::upgraded_at(usize::MAX);
    let left = Box::pin(live(never.clone(), 1)).await;
    assert!(matches!(left.end, apply::End::Alone), "{:?}", left.end);
    assert_eq!(listed(&never, &left, &primary, "never").await, 2);
    let count = never.calls.load(Ordering::Relaxed);
    assert!(count > 40, "{count} calls");
    let mut seen = BTreeSet::new();
    for at in 0..count {
        for upgrade in (at * 3 % STRIDE..count + STRIDE).step_by(STRIDE) {
            for is_done in [false, true] {
                let what = format!("{at}, done: {is_done}, upgraded at {upgrade}");
                let mut standby = Both::upgraded_at(upgrade);
                standby.crash = Some((at, is_done));
                let first = Box::pin(live(standby.clone(), 1));
                let ended = tokio::time::timeout(CRASHED, first).await;
                let left = match ended {
                    // With hashes it makes fewer calls.
                    Ok(left) => left,
                    Err(_) => {
                        let second = standby.calls.load(Ordering::Relaxed) + at % 7;
                        standby.crash = Some((second, is_done));
                        let next = Box::pin(live(standby.clone(), 2));
                        let _ended = tokio::time::timeout(CRASHED, next).await;
                        standby.crash = None;
                        Box::pin(live(standby.clone(), 3)).await
                    }
                };
                assert!(matches!(left.end, apply::End::Alone), "{:?}", left.end);
                seen.insert(listed(&standby, &left, &primary, &what).await);
            }
        }
    }
    assert_eq!(seen, BTreeSet::from([0, 1, 2]), "how many were listed");
}
