//! The naive etcd with users, roles and alarms in front, for every release.
//!
//! Written from the description of the releases and not from the resolver's rules: releases are
//! told apart by number on the spot, permissions by trying keys.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{Crash, Model};
use super::*;

/// Minor and patch release.
pub(super) type Release = (u32, u32);

/// Whether a member checks permissions, stops what takes space, stops everything.
pub(super) type Gates = (bool, bool, bool);

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Full {
    pub(super) kv: Model,
    pub(super) enabled: bool,
    pub(super) auth_revision: u64,
    /// Roles by user.
    pub(super) users: BTreeMap<String, BTreeSet<String>>,
    /// Key, range end and type by role.
    pub(super) roles: BTreeMap<String, Vec<(Bytes, Bytes, i32)>>,
    pub(super) alarms: BTreeSet<(u64, i32)>,
    /// Of a member up to 3.5 that never started anew.
    pub(super) online: Gates,
    /// A member started since these gates were set.
    pub(super) started: bool,
}

impl Full {
    pub(super) fn new() -> Self {
        Self {
            kv: Model::new(),
            enabled: false,
            auth_revision: 1,
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
            alarms: BTreeSet::new(),
            online: (true, false, false),
            started: false,
        }
    }

    /// The gates of a member that started just now.
    pub(super) fn fresh_gates(&self) -> Gates {
        let raised = |kind| self.alarms.iter().any(|(_, raised)| *raised == kind);
        (true, raised(1), raised(2))
    }

    pub(super) fn apply(
        &mut self,
        release: Release,
        (checks, capped, corrupt): Gates,
        header: &Header,
        op: &Op,
        proposes: bool,
    ) -> Result<(), Crash> {
        let mut op = op.clone();
        if let Op::Txn(txn) = &mut op
            && release.0 <= 6
            && !proposes
        {
            let keep = |op: &RequestOp| !matches!(op.request, Some(Request::RequestRange(_)));
            txn.success.retain(keep);
            txn.failure.retain(keep);
        }
        let admin_op = op.kind().starts_with("auth_");
        if checks && admin_op && !self.is_admin(header) {
            return Ok(());
        }
        let lease_op = matches!(op, Op::LeaseGrant(_) | Op::LeaseRevoke(_));
        let write_op = matches!(op, Op::Put(_) | Op::DeleteRange(_) | Op::Txn(_));
        if corrupt && (lease_op || write_op || matches!(op, Op::Compaction(_))) {
            return Ok(());
        }
        if capped && takes_space(release, &op) {
            return Ok(());
        }
        if checks && !self.may(release, header, &op) {
            return Ok(());
        }
        match &op {
            Op::Alarm(alarm) => self.alarm(release, alarm),
            Op::V2 { .. } => {
                self.started = true;
                Ok(())
            }
            _ if admin_op => {
                self.administer(release, &op);
                Ok(())
            }
            _ => self.kv.apply(&op, true),
        }
    }

    fn alarm(&mut self, release: Release, alarm: &etcdpb::AlarmRequest) -> Result<(), Crash> {
        let entry = (alarm.member_id, alarm.alarm);
        let count = |full: &Self| full.alarms.iter().filter(|(_, k)| *k == entry.1).count();
        let before = count(self);
        match alarm.action {
            1 if alarm.alarm == 0 && release.0 >= 5 => return Ok(()),
            1 if entry == (0, 0) && !self.alarms.contains(&entry) => return Err(Crash),
            1 => {
                self.alarms.insert(entry);
            }
            2 => {
                self.alarms.remove(&entry);
            }
            _ => return Ok(()),
        }
        let is_known = alarm.alarm == 1 || alarm.alarm == 2;
        match (before, count(self)) {
            (0, 1) if is_known => self.online = (false, alarm.alarm == 1, alarm.alarm == 2),
            (0, 1) if release.0 == 5 => return Err(Crash),
            (1, 0) if is_known => self.online = (true, false, false),
            _ => return Ok(()),
        }
        self.started &= !is_known;
        Ok(())
    }

    fn is_admin(&self, header: &Header) -> bool {
        let roles = self.users.get(&header.username);
        !self.enabled || roles.is_some_and(|roles| roles.contains("root"))
    }

    fn can(&self, header: &Header, key: &Bytes, end: &Bytes, writes: bool) -> bool {
        if !self.enabled {
            return true;
        }
        let Some(roles) = self.users.get(&header.username) else {
            return false;
        };
        if header.auth_revision == 0 || header.auth_revision < self.auth_revision {
            return false;
        }
        let rights: Vec<_> = roles
            .iter()
            .filter_map(|role| self.roles.get(role))
            .collect();
        let allows = |point: &[u8], (key, end, kind): &(Bytes, Bytes, i32)| {
            (*kind == 2 || *kind == i32::from(writes)) && holds(point, key, end)
        };
        let mut points = POINTS.into_iter().filter(|point| holds(point, key, end));
        roles.contains("root")
            || points.all(|point| {
                let mut all = rights.iter().copied().flatten();
                all.any(|right| allows(point, right))
            })
    }

    fn may(&self, release: Release, header: &Header, op: &Op) -> bool {
        match op {
            Op::Put(put) => self.may_put(release, header, put),
            Op::DeleteRange(delete) => self.may_delete(header, delete),
            Op::LeaseRevoke(revoke) => self.may_write_keys_of(release, header, revoke.id),
            Op::Txn(txn) => self.may_txn(release, header, txn),
            _ => true,
        }
    }

    fn may_put(&self, release: Release, header: &Header, put: &PutRequest) -> bool {
        let none = Bytes::new();
        self.can(header, &put.key, &none, true)
            && (put.lease == 0 || self.may_write_keys_of(release, header, put.lease))
            && (!put.prev_kv || self.can(header, &put.key, &none, false))
    }

    fn may_delete(&self, header: &Header, delete: &DeleteRangeRequest) -> bool {
        let can = |writes| self.can(header, &delete.key, &delete.range_end, writes);
        can(true) && (!delete.prev_kv || can(false))
    }

    fn may_write_keys_of(&self, release: Release, header: &Header, lease: i64) -> bool {
        let skips = self.is_admin(header) && release >= [(4, 27), (5, 10)][release_row(release)];
        let exists = self.kv.leases.contains_key(&lease);
        let mut attached = self.kv.keys.iter().filter(|(_, kv)| kv.lease == lease);
        skips || !exists || attached.all(|(key, _)| self.can(header, key, &Bytes::new(), true))
    }

    fn may_txn(&self, release: Release, header: &Header, txn: &TxnRequest) -> bool {
        let deep = match release.0 {
            4 => release.1 >= 42,
            5 => release.1 >= 28,
            6 => release.1 >= 9,
            _ => true,
        };
        let full = match release.0 {
            4 => release.1 >= 44,
            5 => release.1 >= 30,
            6 => release.1 >= 11,
            _ => true,
        };
        let mut compares = txn.compare.iter();
        let mut ops = txn.success.iter().chain(&txn.failure);
        compares.all(|c| self.can(header, &c.key, &c.range_end, false))
            && ops.all(|op| match op.request.as_ref().unwrap() {
                Request::RequestRange(r) => self.can(header, &r.key, &r.range_end, false),
                Request::RequestPut(put) if full => self.may_put(release, header, put),
                Request::RequestPut(put) => self.can(header, &put.key, &Bytes::new(), true),
                Request::RequestDeleteRange(delete) => self.may_delete(header, delete),
                Request::RequestTxn(inner) => !deep || self.may_txn(release, header, inner),
            })
    }

    fn administer(&mut self, release: Release, op: &Op) {
        let before = self.clone();
        let root = "root".to_owned();
        match op {
            Op::AuthEnable => {
                self.enabled |= self.users.get("root").is_some_and(|r| r.contains("root"));
                return;
            }
            Op::AuthDisable => self.enabled = false,
            Op::AuthUserAdd(r) => {
                self.users.entry(r.name.clone()).or_default();
            }
            Op::AuthUserDelete(r) if !(self.enabled && r.name == root) => {
                self.users.remove(&r.name);
            }
            Op::AuthUserChangePassword(r) => {
                self.auth_revision += u64::from(self.users.contains_key(&r.name));
                return;
            }
            Op::AuthUserGrantRole(r) => {
                if let Some(roles) = self.users.get_mut(&r.user)
                    && (r.role == root || self.roles.contains_key(&r.role))
                {
                    roles.insert(r.role.clone());
                }
            }
            Op::AuthUserRevokeRole(r) if !(self.enabled && r.name == root && r.role == root) => {
                if let Some(roles) = self.users.get_mut(&r.name) {
                    roles.remove(&r.role);
                }
            }
            Op::AuthRoleAdd(r) => {
                self.roles.entry(r.name.clone()).or_default();
            }
            Op::AuthRoleDelete(r) if !(self.enabled && r.role == root) => {
                let existed = self.roles.remove(&r.role).is_some();
                self.users
                    .values_mut()
                    .for_each(|roles| roles.retain(|role| !existed || *role != r.role));
            }
            Op::AuthRoleGrantPermission(r) => {
                self.grant_permission(release, r);
                return;
            }
            Op::AuthRoleRevokePermission(r) => {
                if let Some(rights) = self.roles.get_mut(&r.role) {
                    rights.retain(|(key, end, _)| *key != r.key || *end != r.range_end);
                }
            }
            _ => {}
        }
        self.auth_revision += u64::from(*self != before);
    }

    fn grant_permission(
        &mut self,
        release: Release,
        request: &etcdpb::AuthRoleGrantPermissionRequest,
    ) {
        let perm = request.perm.clone().unwrap();
        let validates = release >= [(4, 25), (5, 8)][release_row(release)];
        let is_empty = perm.range_end.as_ref() != ALL && perm.range_end <= perm.key;
        if validates && !perm.range_end.is_empty() && is_empty {
            return;
        }
        let Some(rights) = self.roles.get_mut(&request.name) else {
            return;
        };
        self.auth_revision += 1;
        let first = rights.iter_mut().find(|(key, _, _)| *key >= perm.key);
        match first {
            Some((key, end, kind)) if *key == perm.key && *end == perm.range_end => {
                *kind = perm.perm_type;
            }
            _ => {
                rights.push((perm.key, perm.range_end, perm.perm_type));
                rights.sort_by(|a, b| a.0.cmp(&b.0));
            }
        }
    }
}

/// For switches that came with a patch of 3.4 and one of 3.5 and are on ever since.
fn release_row(release: Release) -> usize {
    usize::from(release.0 > 4)
}

fn takes_space(release: Release, op: &Op) -> bool {
    fn has_put(txn: &TxnRequest, deep: bool) -> bool {
        txn.success
            .iter()
            .chain(&txn.failure)
            .any(|op| match op.request.as_ref().unwrap() {
                Request::RequestPut(_) => true,
                Request::RequestTxn(inner) => deep && has_put(inner, deep),
                _ => false,
            })
    }
    let deep = [(5, 33), (6, 14), (7, 1)].contains(&release);
    match op {
        Op::Put(_) | Op::LeaseGrant(_) => true,
        Op::Txn(txn) => has_put(txn, deep),
        _ => false,
    }
}

/// One key out of every stretch between two ends that a test can name.
const POINTS: [&[u8]; 12] = [
    b"a", b"a\0", b"b", b"b\0", b"c", b"c\0", b"d", b"d\0", b"dd", b"dd\0", b"e", b"e\0",
];

fn holds(point: &[u8], key: &Bytes, end: &Bytes) -> bool {
    match end.as_ref() {
        [] => point == key,
        [0] => point >= key,
        _ => point >= key && point < end,
    }
}
