//! Clients at work on a cluster: which credentials they use, and what they keep in mind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::Result;
use etcd_syncer::pb::etcdpb::{self, InternalRaftRequest as Request, request_op};
use tokio::sync::RwLock;

use crate::generate::{Generator, PASSWORDS, Seen, USERS};
use crate::rpc::{self, Answer, Connection};

/// What all clients know.
pub(crate) struct Shared {
    members: Vec<Connection>,
    revision: AtomicI64,
    compact: AtomicI64,
    /// Every token that a user ever got, with the number of changes of users and roles before it.
    tokens: Mutex<BTreeMap<&'static str, Vec<(String, u64)>>>,
    /// The password that was right last.
    passwords: Mutex<BTreeMap<&'static str, &'static str>>,
    /// Changes of users and roles that were made.
    changes: AtomicU64,
    /// What the last login said.
    is_auth_on: AtomicBool,
    /// Revisions that deleted a key and put it again; a compaction there destroys it.
    reputs: Mutex<BTreeSet<i64>>,
    /// Set while no alarm may be raised.
    pub(crate) hushed: AtomicBool,
    /// Requests are made while this is read; who writes it has the cluster for itself.
    pub(crate) turn: RwLock<()>,
    pub(crate) counts: Mutex<BTreeMap<String, u64>>,
}

/// Revisions that may still be on their way to a client.
const IN_FLIGHT: i64 = 25;

impl Shared {
    pub(crate) fn new(urls: Vec<String>) -> Result<Arc<Self>> {
        let members = urls
            .into_iter()
            .map(Connection::to)
            .collect::<Result<_>>()?;
        Ok(Arc::new(Self {
            members,
            revision: AtomicI64::new(1),
            compact: AtomicI64::new(0),
            tokens: Mutex::new(BTreeMap::new()),
            passwords: Mutex::new(BTreeMap::new()),
            changes: AtomicU64::new(0),
            is_auth_on: AtomicBool::new(true),
            reputs: Mutex::new(BTreeSet::new()),
            hushed: AtomicBool::new(false),
            turn: RwLock::new(()),
            counts: Mutex::new(BTreeMap::new()),
        }))
    }

    pub(crate) fn seen(&self) -> Seen {
        Seen {
            revision: self.revision.load(Ordering::Relaxed),
            compact: self.compact.load(Ordering::Relaxed),
        }
    }

    /// Sends a request with a token or without, to the member with this number.
    pub(crate) async fn send(
        &self,
        member: usize,
        request: &Request,
        token: Option<&str>,
    ) -> Result<Answer> {
        let member = member % self.members.len();
        let answer = self.members[member].send(request, token).await?;
        let count = match &answer {
            Answer::Done(_) => "done".to_owned(),
            Answer::Refused(why) => format!("refused: {why}"),
            Answer::Unknown => "unknown".to_owned(),
        };
        *lock(&self.counts).entry(count).or_default() += 1;
        if let Answer::Done(done) = &answer {
            let revision = rpc::revision(done);
            self.revision.fetch_max(revision, Ordering::Relaxed);
            if let Some(compaction) = &request.compaction {
                self.compact
                    .fetch_max(compaction.revision, Ordering::Relaxed);
            }
            if is_reput(request) {
                lock(&self.reputs).insert(revision);
            }
            if is_admin(request) {
                self.changes.fetch_add(1, Ordering::Relaxed);
            }
            if request.auth_enable.is_some() {
                self.is_auth_on.store(true, Ordering::Relaxed);
            }
            if request.auth_disable.is_some() {
                self.is_auth_on.store(false, Ordering::Relaxed);
            }
        }
        Ok(answer)
    }

    /// Logs in with any of the passwords that are ever set; true if one is right.
    pub(crate) async fn login(&self, member: usize, user: &'static str) -> Result<bool> {
        let last = lock(&self.passwords).get(user).copied();
        let others = PASSWORDS
            .into_iter()
            .filter(|password| Some(*password) != last);
        for password in last.into_iter().chain(others) {
            let request = Request {
                authenticate: Some(etcdpb::AuthenticateRequest {
                    name: user.to_owned(),
                    password: password.to_owned(),
                    simple_token: String::new(),
                }),
                ..Request::default()
            };
            let changes = self.changes.load(Ordering::Relaxed);
            match self.send(member, &request, None).await? {
                Answer::Done(done) => {
                    let token = (rpc::token(&done)?, changes);
                    lock(&self.tokens).entry(user).or_default().push(token);
                    lock(&self.passwords).insert(user, password);
                    return Ok(true);
                }
                Answer::Refused(why) if why.contains("not enabled") => {
                    self.is_auth_on.store(false, Ordering::Relaxed);
                    return Ok(false);
                }
                Answer::Refused(_) | Answer::Unknown => {}
            }
        }
        Ok(false)
    }

    /// The token that a user got last, or one before it.
    fn token(&self, user: &str, age: usize) -> Option<String> {
        let tokens = lock(&self.tokens);
        let tokens = tokens.get(user)?;
        let at = tokens.len().checked_sub(1)?.saturating_sub(age);
        tokens.get(at).map(|(token, _)| token.clone())
    }

    /// Every token that anybody got.
    pub(crate) fn tokens(&self) -> Vec<String> {
        let tokens = lock(&self.tokens);
        let all = tokens.values().flatten();
        all.map(|(token, _)| token.clone()).collect()
    }

    /// Whether users or roles were changed since the user got a token.
    fn is_outdated(&self, user: &str) -> bool {
        let tokens = lock(&self.tokens);
        let last = tokens.get(user).and_then(|tokens| tokens.last());
        last.is_none_or(|(_, changes)| *changes < self.changes.load(Ordering::Relaxed))
    }

    /// Sends a request as root, who logs in for it if auth is on.
    pub(crate) async fn as_root(&self, member: usize, request: &Request) -> Result<Answer> {
        let logged_in = self.login(member, "root").await?;
        let token = logged_in.then(|| self.token("root", 0)).flatten();
        self.send(member, request, token.as_deref()).await
    }

    /// Clears every alarm, as far as root may.
    pub(crate) async fn clear_alarms(&self, member: usize) -> Result<()> {
        let alarm = |action, member_id, alarm| Request {
            alarm: Some(etcdpb::AlarmRequest {
                action,
                member_id,
                alarm,
            }),
            ..Request::default()
        };
        let Answer::Done(listed) = self.as_root(member, &alarm(0, 0, 0)).await? else {
            return Ok(());
        };
        for (id, kind) in rpc::alarms(&listed)? {
            self.as_root(member, &alarm(2, id, kind)).await?;
        }
        Ok(())
    }

    /// False for a compaction that may hit a revision of [`Shared::reputs`].
    fn is_harmless(&self, request: &Request) -> bool {
        let Some(compaction) = &request.compaction else {
            return true;
        };
        let now = self.revision.load(Ordering::Relaxed);
        let is_certain = (now + 1 - IN_FLIGHT..now + IN_FLIGHT).contains(&compaction.revision);
        !is_certain && !lock(&self.reputs).contains(&compaction.revision)
    }
}

fn is_reput(request: &Request) -> bool {
    let Some(txn) = &request.txn else {
        return false;
    };
    txn.success.iter().any(|op| {
        matches!(&op.request, Some(request_op::Request::RequestDeleteRange(delete))
            if delete.range_end.as_ref() == [0])
    })
}

/// True for what changes users or roles if it is done.
fn is_admin(request: &Request) -> bool {
    let r = request;
    r.auth_disable.is_some()
        || r.auth_user_add.is_some()
        || r.auth_user_delete.is_some()
        || r.auth_user_change_password.is_some()
        || r.auth_user_grant_role.is_some()
        || r.auth_user_revoke_role.is_some()
        || r.auth_role_add.is_some()
        || r.auth_role_delete.is_some()
        || r.auth_role_grant_permission.is_some()
        || r.auth_role_revoke_permission.is_some()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no client panics")
}

/// Makes `count` requests one after the other.
pub(crate) async fn work(
    shared: Arc<Shared>,
    mut generator: Generator,
    number: usize,
    count: usize,
) -> Result<()> {
    for turn in 0..count {
        let _turn = shared.turn.read().await;
        let member = generator.rng.usize(0..shared.members.len());
        generator.seen = shared.seen();
        if number == 0 && turn % 40 == 39 {
            shared.clear_alarms(member).await?;
        }
        let request = generator.request();
        let raises = request
            .alarm
            .as_ref()
            .is_some_and(|alarm| alarm.action == 1);
        let is_hushed = raises && shared.hushed.load(Ordering::Relaxed);
        if is_hushed || (generator.style.reputs && !shared.is_harmless(&request)) {
            continue;
        }
        let token = credentials(&shared, &mut generator, &request, member).await?;
        let answer = shared.send(member, &request, token.as_deref()).await?;
        if matches!(answer, Answer::Unknown) {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

/// Whose token the request gets, and whether it is a fresh one.
async fn credentials(
    shared: &Shared,
    generator: &mut Generator,
    request: &Request,
    member: usize,
) -> Result<Option<String>> {
    let is_plain = request.put.is_some() || request.txn.is_some() || request.delete_range.is_some();
    let user = match generator.rng.u32(0..100) {
        0..7 => return Ok(None),
        10..45 if is_plain => "u",
        45..75 if is_plain => "v",
        10..15 => "u",
        15..18 => USERS[3],
        _ => "root",
    };
    // A token while auth is off is refused by some releases, and then nothing gets into the log.
    if !shared.is_auth_on.load(Ordering::Relaxed) && generator.chance(90) {
        return Ok(None);
    }
    let is_stale = generator.chance(20);
    let age = if is_stale {
        generator.rng.usize(1..4)
    } else {
        0
    };
    let has_none = shared.token(user, 0).is_none();
    if has_none || (!is_stale && shared.is_outdated(user)) || generator.chance(3) {
        shared.login(member, user).await?;
    }
    Ok(shared.token(user, age))
}
