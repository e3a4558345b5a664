//! What changes in the primary meanwhile. Each value is written once only, so that a history of
//! values tells which write each of them is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use etcd_client::{
    Client, Compare, CompareOp, DeleteOptions, LeaseGrantOptions, Permission, PutOptions, Txn,
    TxnOp,
};
use tokio::task::JoinSet;

use super::{Counts, root};
use crate::harness::{Cluster, eventually};

/// What every key begins with.
pub(super) const PREFIX: &str = "k/";
/// The last key that is written.
pub(super) const LAST: &str = "k/~last";
const KEYS: usize = 300;
/// Keys of a kilobyte that no compression makes shorter: 8 MiB of journals make a new base.
const LONG_KEYS: usize = 1_500;
const LONG_KEY_BYTES: usize = 1_100;
const LONG_AT_ONCE: usize = 20;
/// More than the standby deletes in one transaction.
const LARGE_LEASE_KEYS: usize = 1_000;
const USERS: usize = 5;
const ROLES: usize = 3;

/// Words that were once the password of each user.
pub(super) type Words = BTreeMap<String, Vec<String>>;

/// Told to all who write.
#[derive(Debug, Default)]
struct Orders {
    stop: AtomicBool,
    /// Long keys are wanted faster.
    hurry: AtomicBool,
    /// Values and leases are numbered through.
    next: AtomicU64,
}

impl Orders {
    fn value(&self) -> String {
        format!("value {}", self.next.fetch_add(1, Ordering::Relaxed))
    }

    fn lease(&self) -> i64 {
        1_000 + i64::try_from(self.next.fetch_add(1, Ordering::Relaxed)).unwrap_or_default()
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

/// Asks until it is done: others lead now and then, and each change of roles refuses what is under
/// way.
async fn insist<T>(mut ask: impl AsyncFnMut() -> Result<T, etcd_client::Error>) -> Result<()> {
    eventually(
        "the primary takes a request",
        Duration::from_secs(20),
        async || match ask().await {
            Ok(_) => Ok(()),
            Err(error) if error.to_string().contains("lease already exists") => Ok(()),
            Err(error) if error.to_string().contains("lease not found") => Ok(()),
            Err(error) => Err(error.into()),
        },
    )
    .await
}

/// Clients at work.
pub(super) struct Load {
    orders: Arc<Orders>,
    client: Client,
    workers: JoinSet<(&'static str, usize, Words)>,
}

/// A client that works off its list.
struct Worker {
    client: Client,
    orders: Arc<Orders>,
    rng: fastrand::Rng,
    done: usize,
}

impl Load {
    pub(super) async fn start(primary: &Cluster, seed: u64) -> Result<Self> {
        let orders = Arc::new(Orders::default());
        let mut workers = JoinSet::new();
        for number in 0..6 {
            let worker = Worker {
                client: root(&primary.client_endpoints()).await?,
                orders: Arc::clone(&orders),
                rng: fastrand::Rng::with_seed(seed + number),
                done: 0,
            };
            match number {
                0..=2 => drop(workers.spawn(worker.keys())),
                3 => drop(workers.spawn(worker.long_keys(seed))),
                4 => drop(workers.spawn(worker.leases())),
                _ => drop(workers.spawn(worker.users())),
            }
        }
        Ok(Self {
            orders,
            client: root(&primary.client_endpoints()).await?,
            workers,
        })
    }

    /// Whether long keys are to be written as fast as can be.
    pub(super) fn hurry(&self, hurry: bool) {
        self.orders.hurry.store(hurry, Ordering::Relaxed);
    }

    /// As many entries at once, or a few less.
    pub(super) async fn burst(&self, entries: u64) -> Result<()> {
        let mut putting = JoinSet::new();
        for number in 0..16 {
            let (mut client, orders) = (self.client.clone(), Arc::clone(&self.orders));
            putting.spawn(async move {
                let mut taken = 0;
                for round in 0..entries.div_ceil(16) {
                    let key = format!("{PREFIX}burst/{}", (number * 7 + round) % 100);
                    taken += u64::from(client.put(key, orders.value(), None).await.is_ok());
                }
                taken
            });
        }
        let mut taken = 0;
        while let Some(done) = putting.join_next().await {
            taken += done?;
        }
        ensure!(taken > entries / 2, "{taken} of {entries} puts were taken");
        Ok(())
    }

    /// A lease with more keys than the standby deletes at once, and its end.
    pub(super) async fn large_lease(&self) -> Result<()> {
        let (mut client, id) = (self.client.clone(), self.orders.lease());
        let granting = LeaseGrantOptions::new().with_id(id);
        insist(async || client.lease_grant(600, Some(granting.clone())).await).await?;
        for some in 0..LARGE_LEASE_KEYS / 100 {
            insist(async || {
                let puts = (0..100).map(|key| {
                    let options = PutOptions::new().with_lease(id);
                    let key = format!("{PREFIX}large/{:04}", some * 100 + key);
                    TxnOp::put(key, self.orders.value(), Some(options))
                });
                let puts: Vec<TxnOp> = puts.collect();
                client.txn(Txn::new().and_then(puts)).await
            })
            .await?;
        }
        insist(async || client.lease_revoke(id).await).await
    }

    /// Many leases, each with a key, that end together.
    pub(super) async fn many_leases(&self) -> Result<()> {
        let mut client = self.client.clone();
        let ids: Vec<i64> = (0..30).map(|_| self.orders.lease()).collect();
        for id in &ids {
            let granting = LeaseGrantOptions::new().with_id(*id);
            insist(async || client.lease_grant(600, Some(granting.clone())).await).await?;
            let options = PutOptions::new().with_lease(*id);
            let key = format!("{PREFIX}many/{id}");
            let _refused = client.put(key, self.orders.value(), Some(options)).await;
        }
        let revoking = ids.into_iter().map(|id| {
            let mut client = client.clone();
            async move { insist(async || client.lease_revoke(id).await).await }
        });
        futures_util::future::try_join_all(revoking).await?;
        Ok(())
    }

    /// Several changes of users at once.
    pub(super) async fn change_users(&self, round: u64) -> Result<()> {
        let mut auth = self.client.auth_client();
        for number in 0..4 {
            // Each may be refused, as others change users, too.
            let name = format!("once-{round}-{number}");
            let _added = auth.user_add(name.as_str(), "a word", None).await;
            let _granted = auth.user_grant_role(name.as_str(), "root").await;
        }
        for number in 0..4 {
            let _deleted = auth.user_delete(format!("once-{round}-{number}")).await;
        }
        Ok(())
    }

    /// Lets all end, and writes the last key.
    pub(super) async fn stop(mut self) -> Result<(Counts, Words)> {
        self.orders.stop.store(true, Ordering::Relaxed);
        let (mut counts, mut all) = (Counts::new(), Words::new());
        while let Some(ended) = self.workers.join_next().await {
            let (what, done, words) = ended?;
            *counts.entry(what).or_default() += done;
            all.extend(words);
        }
        // What expires by itself has done so then.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let mut client = self.client.clone();
        insist(async || client.put(LAST, "last", None).await).await?;
        Ok((counts, all))
    }
}

impl Worker {
    /// Counts what was taken; others lead now and then, and roles change, so much is refused.
    async fn rest<T>(
        &mut self,
        millis: u64,
        asked: impl Future<Output = Result<T, etcd_client::Error>>,
    ) {
        match asked.await {
            Ok(_) => self.done += 1,
            Err(error) if error.to_string().contains("token") => {
                let _again = self.client.refresh_token().await;
            }
            Err(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    fn key(&mut self) -> String {
        format!("{PREFIX}{:03}", self.rng.usize(..KEYS))
    }

    /// Puts, deletes of keys and ranges, transactions.
    async fn keys(mut self) -> (&'static str, usize, Words) {
        while self.orders.goes_on() {
            let mut client = self.client.clone();
            let (one, two) = (self.key(), self.key());
            let value = self.orders.value();
            match self.rng.u32(..10) {
                0 => self.rest(30, client.delete(one, None)).await,
                1 => {
                    let end = format!("{one}~");
                    let from = &one[..one.len() - 1];
                    let range = DeleteOptions::new().with_range(end);
                    self.rest(30, client.delete(from, Some(range))).await;
                }
                2..=4 if one != two => {
                    let other = self.orders.value();
                    let puts = [
                        TxnOp::put(one.as_str(), value, None),
                        TxnOp::txn(Txn::new().and_then([TxnOp::put(two.as_str(), other, None)])),
                    ];
                    let txn = Txn::new()
                        .when([Compare::version(one.as_str(), CompareOp::Greater, 0)])
                        .and_then(puts)
                        .or_else([TxnOp::delete(two, None)]);
                    self.rest(30, client.txn(txn)).await;
                }
                _ => self.rest(30, client.put(one, value, None)).await,
            }
        }
        ("keys", self.done, Words::new())
    }

    /// Transactions over long keys.
    async fn long_keys(mut self, seed: u64) -> (&'static str, usize, Words) {
        while self.orders.goes_on() {
            let mut client = self.client.clone();
            let first = self.rng.usize(..LONG_KEYS);
            let ops = (0..LONG_AT_ONCE).map(|offset| {
                let number = (first + offset * 7) % LONG_KEYS;
                let mut random = fastrand::Rng::with_seed(seed * 10_000 + number as u64);
                let mut key = format!("{PREFIX}long/{number:04}/").into_bytes();
                key.extend(std::iter::repeat_with(|| random.u8(..)).take(LONG_KEY_BYTES));
                if self.rng.u8(..8) == 0 {
                    TxnOp::delete(key, None)
                } else {
                    TxnOp::put(key, self.orders.value(), None)
                }
            });
            let ops: Vec<TxnOp> = ops.collect();
            let pause = if self.orders.hurry.load(Ordering::Relaxed) {
                2
            } else {
                100
            };
            self.rest(pause, client.txn(Txn::new().and_then(ops))).await;
        }
        ("transactions of long keys", self.done, Words::new())
    }

    /// Leases that are granted, used, revoked, and that expire.
    async fn leases(mut self) -> (&'static str, usize, Words) {
        let mut held = Vec::new();
        while self.orders.goes_on() {
            let mut client = self.client.clone();
            match self.rng.u32(..6) {
                0 => {
                    let id = self.orders.lease();
                    let ttl = if self.rng.bool() { 2 } else { 600 };
                    let options = LeaseGrantOptions::new().with_id(id);
                    self.rest(40, client.lease_grant(ttl, Some(options))).await;
                    held.push(id);
                }
                1 if held.len() > 5 => {
                    let id = held.swap_remove(self.rng.usize(..held.len()));
                    self.rest(40, client.lease_revoke(id)).await;
                }
                _ => {
                    // Under a lease that may have ended, which is refused.
                    let key = format!("{PREFIX}leased/{:02}", self.rng.u8(..60));
                    let id = self.rng.choice(&held).copied().unwrap_or_default();
                    let options = PutOptions::new().with_lease(id);
                    let value = self.orders.value();
                    self.rest(40, client.put(key, value, Some(options))).await;
                }
            }
        }
        ("leases", self.done, Words::new())
    }

    /// Users and roles that come, change and go.
    async fn users(mut self) -> (&'static str, usize, Words) {
        let mut words = Words::new();
        while self.orders.goes_on() {
            let mut auth = self.client.auth_client();
            let name = format!("user-{}", self.rng.usize(..USERS));
            let role = format!("role-{}", self.rng.usize(..ROLES));
            let word = self.orders.value();
            let known = words.entry(name.clone()).or_default();
            match self.rng.u32(..9) {
                0 => self.rest(200, auth.user_delete(name)).await,
                1 | 2 => {
                    known.push(word.clone());
                    self.rest(200, auth.user_add(name, word, None)).await;
                }
                3 | 4 => {
                    known.push(word.clone());
                    self.rest(200, auth.user_change_password(name, word)).await;
                }
                5 => self.rest(200, auth.user_grant_role(name, role)).await,
                6 => self.rest(200, auth.user_revoke_role(name, role)).await,
                7 if self.rng.bool() => self.rest(200, auth.role_delete(role)).await,
                7 => self.rest(200, auth.role_add(role)).await,
                _ => {
                    let _there = auth.role_add(role.as_str()).await;
                    let of = format!("{PREFIX}{:02}", self.rng.u8(..100));
                    let permission = Permission::read_write(of).with_prefix();
                    let granting = auth.role_grant_permission(role, permission);
                    self.rest(200, granting).await;
                }
            }
        }
        for known in words.values_mut() {
            known.drain(..known.len().saturating_sub(4));
        }
        ("users and roles", self.done, words)
    }
}
