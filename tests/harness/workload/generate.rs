//! Which operations a client asks for.

use fastrand::Rng;

use super::Workload;
use super::op::{Op, Put, Read, Span};

/// Keys lie in this many groups, each with a prefix of its own below the workload's.
pub const GROUPS: usize = 10;

/// An endless stream of operations; the same for the same workload and client.
#[derive(Clone, Debug)]
pub struct OpStream {
    pub(super) rng: Rng,
    pub(super) keys: usize,
    client: usize,
    prefix: Vec<u8>,
    value_bytes: usize,
    lease_ttl: i64,
    count: u64,
    /// Granted and not revoked, unless the cluster saw it otherwise.
    leases: Vec<i64>,
}

impl OpStream {
    pub(super) fn new(workload: &Workload, client: usize) -> Self {
        let number = client as u64 + 1;
        let seed = workload
            .seed
            .wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Self {
            rng: Rng::with_seed(seed),
            keys: workload.keys,
            client,
            prefix: workload.prefix.clone(),
            value_bytes: workload.value_bytes,
            lease_ttl: workload.lease_ttl,
            count: 0,
            leases: Vec::new(),
        }
    }

    /// True in so many of a thousand cases.
    pub(super) fn chance(&mut self, of_thousand: u32) -> bool {
        self.rng.u32(0..1000) < of_thousand
    }

    /// The prefix of a group of keys.
    pub(super) fn group(&self, group: usize) -> Vec<u8> {
        [&self.prefix, format!("{group:02}/").as_bytes()].concat()
    }

    /// Key number `i`; it is in group `i % GROUPS`.
    pub(super) fn key(&self, i: usize) -> Vec<u8> {
        let mut key = self.group(i % GROUPS);
        key.extend_from_slice(format!("{i:05}").as_bytes());
        if i.is_multiple_of(7) {
            // Keys are bytes, not text.
            key.extend_from_slice(&[0, 0xff]);
        }
        key
    }

    pub(super) fn any_key(&mut self) -> Vec<u8> {
        let i = self.rng.usize(0..self.keys);
        self.key(i)
    }

    /// Some keys that follow each other, all of one group.
    pub(super) fn run_of_keys(&mut self, group: usize) -> Span {
        let in_group = self.keys / GROUPS;
        let from = self.rng.usize(0..in_group);
        let to = from + self.rng.usize(1..=3);
        let start = self.key(from * GROUPS + group);
        if to < in_group {
            Span::Range(start, self.key(to * GROUPS + group))
        } else {
            // Past the last: `0` comes right after `/`.
            let mut end = self.group(group);
            end.pop();
            end.push(b'0');
            Span::Range(start, end)
        }
    }

    pub(super) fn any_span(&mut self) -> Span {
        let group = self.rng.usize(0..GROUPS);
        match self.rng.u32(0..100) {
            0..50 => Span::One(self.any_key()),
            50..80 => self.run_of_keys(group),
            80..96 => Span::Prefix(self.group(group)),
            _ => Span::FromKey(self.any_key()),
        }
    }

    /// Few short values, so that compares hold at times, and many that occur once.
    pub(super) fn value(&mut self) -> Vec<u8> {
        match self.rng.u32(0..10) {
            0 => Vec::new(),
            1 | 2 => vec![self.rng.u8(b'a'..=b'c')],
            _ => {
                let mut value = format!("{}-{}-", self.client, self.count).into_bytes();
                let bytes = self.rng.usize(0..=self.value_bytes);
                value.extend(std::iter::repeat_with(|| self.rng.u8(..)).take(bytes));
                value
            }
        }
    }

    /// A lease that was granted, or 0.
    pub(super) fn lease(&mut self) -> i64 {
        self.rng.choice(&self.leases).copied().unwrap_or(0)
    }

    fn new_lease(&mut self) -> i64 {
        let client = i64::try_from(self.client + 1).unwrap_or(i64::MAX >> 32);
        (client << 32) | i64::from(self.rng.u32(1..u32::MAX))
    }

    /// A put of `key` without options.
    pub(super) fn plain_put(&mut self, key: Vec<u8>) -> Put {
        Put {
            key,
            value: self.value(),
            lease: 0,
            ignore_value: false,
            ignore_lease: false,
        }
    }

    /// A put of `key` with any of a put's options.
    pub(super) fn put(&mut self, key: Vec<u8>) -> Put {
        let mut put = self.plain_put(key);
        match self.rng.u32(0..1000) {
            0..200 => put.lease = self.lease(),
            200..260 => {
                put.ignore_value = true;
                put.value.clear();
                if self.chance(300) {
                    put.lease = self.lease();
                }
            }
            260..320 => put.ignore_lease = true,
            320..350 => {
                put.ignore_value = true;
                put.ignore_lease = true;
                put.value.clear();
            }
            // Refused when applied: there is no such lease.
            350..375 => put.lease = self.new_lease(),
            // Refused at once: a value that is to be ignored, a lease that is to be ignored.
            375..380 => {
                put.ignore_value = true;
                put.value = b"ignored".to_vec();
            }
            380..385 => {
                put.ignore_lease = true;
                put.lease = self.lease().max(1);
            }
            _ => {}
        }
        put
    }

    pub(super) fn read(&mut self) -> Read {
        Read {
            span: self.any_span(),
            limit: i64::from(self.rng.u8(0..20)),
            serializable: self.chance(200),
            future: self.chance(25),
        }
    }

    fn delete(&mut self) -> Span {
        let group = self.rng.usize(0..GROUPS);
        match self.rng.u32(0..1000) {
            0..600 => Span::One(self.any_key()),
            600..850 => self.run_of_keys(group),
            850..975 => Span::Prefix(self.group(group)),
            _ => Span::FromKey(self.key(GROUPS - 1)),
        }
    }

    fn grant(&mut self) -> Op {
        // At times again with an id that is taken, which is refused.
        let taken = self.chance(100);
        let id = match self.lease() {
            id if taken && id != 0 => id,
            _ => self.new_lease(),
        };
        if !self.leases.contains(&id) {
            self.leases.push(id);
        }
        let ttl = self.lease_ttl;
        Op::Grant { id, ttl }
    }

    fn revoke(&mut self) -> Op {
        // At times one that was never granted, which is refused.
        let unknown = self.chance(150);
        let id = if unknown || self.leases.is_empty() {
            self.new_lease()
        } else {
            let i = self.rng.usize(0..self.leases.len());
            self.leases.swap_remove(i)
        };
        Op::Revoke { id }
    }
}

impl Iterator for OpStream {
    type Item = Op;

    fn next(&mut self) -> Option<Op> {
        self.count += 1;
        Some(match self.rng.u32(0..1000) {
            0..420 => {
                let key = self.any_key();
                Op::Put(self.put(key))
            }
            420..510 => Op::Delete(self.delete()),
            510..580 => Op::Read(self.read()),
            580..700 => {
                let key = self.any_key();
                let put = self.plain_put(key);
                let stale = self.chance(300);
                Op::Swap { put, stale }
            }
            700..910 => Op::Txn(self.txn()),
            910..965 => self.grant(),
            _ => self.revoke(),
        })
    }
}
