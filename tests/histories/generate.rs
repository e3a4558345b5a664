//! Random requests of every kind.

use bytes::Bytes;
use etcd_syncer::pb::etcdpb::{self, InternalRaftRequest as Request};
use fastrand::Rng;

/// What requests may be like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// The minor release.
    pub(crate) minor: u32,
    /// They go into the log as they are, so they may be what no client can propose.
    pub(crate) is_raw: bool,
    /// Ranges at the top level of Txns, on which members may disagree.
    pub(crate) top_ranges: bool,
    /// Txns that delete a key and put it again.
    pub(crate) reputs: bool,
    /// Alarms are raised and cleared.
    pub(crate) alarms: bool,
    /// Some values are large, so that space runs out.
    pub(crate) large_values: bool,
    /// Permissions for inverted ranges and for ranges of one begin.
    pub(crate) odd_permissions: bool,
    /// Empty passwords, and hashes that clients send.
    pub(crate) odd_passwords: bool,
}

/// What a request can refer to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) revision: i64,
    pub(crate) compact: i64,
}

pub(crate) struct Generator {
    pub(crate) rng: Rng,
    pub(crate) style: Style,
    pub(crate) seen: Seen,
    pub(super) count: u64,
}

pub(crate) const KEYS: [&[u8]; 9] = [
    b"a", b"b", b"c", b"d", b"dd", b"e", b"f\0\xff", b"g/1", b"g/2",
];
pub(crate) const USERS: [&str; 4] = ["root", "u", "v", "w"];
const ROLES: [&str; 4] = ["root", "r", "s", "t"];
/// They begin like nothing else, and so does most of [`VALUES`]: where one is shown it is found.
pub(crate) const PASSWORDS: [&str; 3] = ["Zx9-p0", "Zx9-p1", "Zx9-p2"];
const VALUES: [&[u8]; 5] = [b"Kq7-1", b"Kq7-2", b"Kq7-3", b"Kq7-30", b"\xff"];
/// bcrypt hashes of nothing in particular, in base64.
const HASHES: [&str; 3] = ["JDJhJDA0JGFiYw==", "JDJiJDA0JGRlZmc=", ""];
/// A range end that is no end.
const OPEN: &[u8] = &[0];

impl Generator {
    pub(crate) fn new(seed: u64, style: Style) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            style,
            seen: Seen::default(),
            count: 0,
        }
    }

    /// True in so many of a hundred cases.
    pub(crate) fn chance(&mut self, of_hundred: u32) -> bool {
        self.rng.u32(0..100) < of_hundred
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.rng.usize(0..from.len())]
    }

    pub(super) fn key(&mut self) -> Bytes {
        Bytes::from_static(self.pick(&KEYS))
    }

    /// A key and a range end.
    pub(super) fn span(&mut self) -> (Bytes, Bytes) {
        let key = self.key();
        let mut other = self.key();
        let end = match self.rng.u32(0..100) {
            0..50 => Bytes::new(),
            50..72 => {
                if other < key {
                    return (other, key);
                }
                if other == key {
                    other = Bytes::new();
                }
                other
            }
            72..80 => [key.as_ref(), &[0]].concat().into(),
            80..92 => Bytes::from_static(OPEN),
            92..95 => Bytes::from_static(b"zz"),
            // Mostly inverted or empty.
            _ => other,
        };
        (key, end)
    }

    pub(super) fn value(&mut self) -> Bytes {
        self.count += 1;
        match self.rng.u32(0..10) {
            0 => Bytes::new(),
            1 if self.style.large_values => vec![b'v'; self.rng.usize(1000..6000)].into(),
            1..7 => Bytes::from_static(self.pick(&VALUES)),
            _ => format!("Kq7-value {}", self.count).into(),
        }
    }

    pub(super) fn lease_id(&mut self) -> i64 {
        match self.rng.u32(0..20) {
            0 => -1,
            1 => 99,
            _ => self.rng.i64(1..7),
        }
    }

    pub(super) fn put(&mut self) -> etcdpb::PutRequest {
        let mut put = etcdpb::PutRequest {
            key: self.key(),
            value: self.value(),
            lease: if self.chance(40) { self.lease_id() } else { 0 },
            prev_kv: self.chance(15),
            ignore_value: self.chance(12),
            ignore_lease: self.chance(12),
        };
        // Together only in a raw entry, and there rarely.
        let may_both = self.style.is_raw && self.chance(10);
        if put.ignore_value && !may_both {
            put.value = Bytes::new();
        }
        if put.ignore_lease && !may_both {
            put.lease = 0;
        }
        put
    }

    pub(super) fn delete(&mut self) -> etcdpb::DeleteRangeRequest {
        let (key, range_end) = self.span();
        etcdpb::DeleteRangeRequest {
            key,
            range_end,
            prev_kv: self.chance(15),
        }
    }

    pub(super) fn range(&mut self) -> etcdpb::RangeRequest {
        let (key, range_end) = self.span();
        let revision = match self.rng.u32(0..10) {
            0..6 => 0,
            6 | 7 => self.revision_near(),
            8 => self.seen.compact + self.rng.i64(-1..2),
            _ => self.pick(&[-1, self.seen.revision + 1, self.seen.revision + 1000]),
        };
        etcdpb::RangeRequest {
            key,
            range_end,
            revision,
            limit: self.pick(&[0, 0, 0, 1]),
            ..Default::default()
        }
    }

    /// One of the last revisions.
    pub(super) fn revision_near(&mut self) -> i64 {
        (self.seen.revision - self.rng.i64(0..15)).max(0)
    }

    /// A request of any kind, without a header.
    pub(crate) fn request(&mut self) -> Request {
        let mut request = Request::default();
        match self.rng.u32(0..1000) {
            0..230 => request.put = Some(self.put()),
            230..310 => request.delete_range = Some(self.delete()),
            310..610 => request.txn = Some(self.txn()),
            610..640 => request.compaction = Some(self.compaction()),
            640..710 => request.lease_grant = Some(self.grant()),
            710..745 => {
                let id = self.lease_id();
                request.lease_revoke = Some(etcdpb::LeaseRevokeRequest { id });
            }
            745..775 if self.style.alarms => request.alarm = Some(self.alarm()),
            775..790 if self.style.is_raw => {
                request.lease_checkpoint = Some(self.lease_checkpoint());
            }
            // Each of them makes tokens old.
            _ if self.style.is_raw || self.chance(45) => self.admin(&mut request),
            _ => request.put = Some(self.put()),
        }
        request
    }

    fn compaction(&mut self) -> etcdpb::CompactionRequest {
        let revision = match self.rng.u32(0..10) {
            0..7 => self.revision_near(),
            7 => self.seen.compact + self.rng.i64(-1..2),
            _ => self.pick(&[0, -1, self.seen.revision, self.seen.revision + 1]),
        };
        let physical = self.chance(50);
        etcdpb::CompactionRequest { revision, physical }
    }

    fn grant(&mut self) -> etcdpb::LeaseGrantRequest {
        let id = self.lease_id();
        let ttl = match self.rng.u32(0..20) {
            0 => 9_000_000_000,
            1 => 9_000_000_001,
            2 => -5,
            3 => 0,
            // In a raw history nothing may expire by itself: it is too short for that.
            4..10 if !self.style.is_raw => self.rng.i64(1..5),
            _ => 3000 + self.rng.i64(0..100),
        };
        etcdpb::LeaseGrantRequest { ttl, id }
    }

    fn lease_checkpoint(&mut self) -> etcdpb::LeaseCheckpointRequest {
        let checkpoints = (0..self.rng.usize(1..4))
            .map(|_| etcdpb::LeaseCheckpoint {
                id: self.lease_id(),
                remaining_ttl: self.pick(&[0, 100, 2000]),
            })
            .collect();
        etcdpb::LeaseCheckpointRequest { checkpoints }
    }

    pub(crate) fn alarm(&mut self) -> etcdpb::AlarmRequest {
        let mut alarm = etcdpb::AlarmRequest {
            // Cleared more often than raised.
            action: self.pick(&[0, 1, 1, 1, 2, 2, 2, 2, 2, 2]),
            member_id: self.pick(&[0, 1, 1]),
            alarm: self.pick(&[1, 1, 1, 2, 2]),
        };
        if self.chance(4) {
            alarm.alarm = 0;
            // With member 0 it crashes 3.4.
            alarm.member_id = 1;
        }
        alarm
    }

    /// A request about users, roles or whether they matter.
    fn admin(&mut self, request: &mut Request) {
        let name = self.pick(&USERS[..]).to_owned();
        // Rarely what takes root's power away: little would be left to see.
        let user = if name == "root" && self.chance(80) {
            "u".to_owned()
        } else {
            name.clone()
        };
        let role = self.pick(&ROLES[..]).to_owned();
        let spared = if role == "root" && self.chance(80) {
            "r".to_owned()
        } else {
            role.clone()
        };
        match self.rng.u32(0..100) {
            0..14 => request.auth_enable = Some(etcdpb::AuthEnableRequest {}),
            14..17 => request.auth_disable = Some(etcdpb::AuthDisableRequest {}),
            17..27 => request.auth_user_add = Some(self.user_add()),
            27..30 => {
                request.auth_user_delete = Some(etcdpb::AuthUserDeleteRequest { name: user });
            }
            30..38 => request.auth_user_change_password = Some(self.change_password(user)),
            38..54 => {
                let grant = etcdpb::AuthUserGrantRoleRequest { user: name, role };
                request.auth_user_grant_role = Some(grant);
            }
            54..58 => {
                let revoke = etcdpb::AuthUserRevokeRoleRequest {
                    name: user,
                    role: spared,
                };
                request.auth_user_revoke_role = Some(revoke);
            }
            58..65 => request.auth_role_add = Some(etcdpb::AuthRoleAddRequest { name: role }),
            65..67 => {
                request.auth_role_delete = Some(etcdpb::AuthRoleDeleteRequest { role: spared });
            }
            67..85 => {
                let perm = Some(self.permission());
                let grant = etcdpb::AuthRoleGrantPermissionRequest { name: role, perm };
                request.auth_role_grant_permission = Some(grant);
            }
            85..91 => {
                let etcdpb::Permission { key, range_end, .. } = self.permission();
                let revoke = etcdpb::AuthRoleRevokePermissionRequest {
                    role,
                    key,
                    range_end,
                };
                request.auth_role_revoke_permission = Some(revoke);
            }
            91..93 => request.auth_user_list = Some(etcdpb::AuthUserListRequest {}),
            93..95 => request.auth_role_list = Some(etcdpb::AuthRoleListRequest {}),
            95..97 => request.auth_user_get = Some(etcdpb::AuthUserGetRequest { name }),
            97..99 => request.auth_role_get = Some(etcdpb::AuthRoleGetRequest { role }),
            _ if self.style.minor > 4 => {
                request.auth_status = Some(etcdpb::AuthStatusRequest {});
            }
            _ => request.auth_disable = Some(etcdpb::AuthDisableRequest {}),
        }
    }

    fn user_add(&mut self) -> etcdpb::AuthUserAddRequest {
        let name = if self.chance(3) {
            ""
        } else {
            self.pick(&USERS[..])
        };
        let mut add = etcdpb::AuthUserAddRequest {
            name: name.to_owned(),
            password: self.pick(&PASSWORDS).to_owned(),
            options: None,
            hashed_password: String::new(),
        };
        let no_password = name != "root" && self.chance(10);
        if no_password || self.chance(80) {
            add.options = Some(etcdpb::UserAddOptions { no_password });
        }
        if no_password {
            add.password.clear();
        }
        if self.style.is_raw && self.style.minor > 4 {
            (add.password, add.hashed_password) = self.hashed();
        } else if self.is_odd(&add.name) {
            add.password.clear();
        }
        add
    }

    fn change_password(&mut self, name: String) -> etcdpb::AuthUserChangePasswordRequest {
        let mut change = etcdpb::AuthUserChangePasswordRequest {
            name,
            password: self.pick(&PASSWORDS).to_owned(),
            hashed_password: String::new(),
        };
        if self.style.is_raw && self.style.minor > 4 {
            (change.password, change.hashed_password) = self.hashed();
        } else if self.is_odd(&change.name) {
            change.password.clear();
            change.hashed_password = self.pick(&HASHES).to_owned();
        }
        change
    }

    /// Whether to leave a user's password out; rarely root's, without whom little is left to see.
    fn is_odd(&mut self, name: &str) -> bool {
        self.style.odd_passwords && self.chance(if name == "root" { 3 } else { 25 })
    }

    /// As a member proposes it, and rarely as an older one does, or nobody.
    fn hashed(&mut self) -> (String, String) {
        let hash = self.pick(&HASHES).to_owned();
        match self.rng.u32(0..20) {
            0 => ("p1".to_owned(), String::new()),
            1 => ("p1".to_owned(), hash),
            2 => (String::new(), "not base64".to_owned()),
            3 => (String::new(), "JDJhJDA0\nJGFiYw==\r\n".to_owned()),
            _ => (String::new(), hash),
        }
    }

    fn permission(&mut self) -> etcdpb::Permission {
        let (mut key, mut range_end) = self.span();
        let is_inverted = !range_end.is_empty() && range_end.as_ref() != OPEN && range_end <= key;
        if is_inverted && !self.style.odd_permissions {
            range_end = Bytes::new();
        }
        if self.style.odd_permissions && self.chance(4) {
            key = Bytes::new();
        }
        let kind = if self.style.odd_permissions && self.chance(5) {
            7
        } else {
            self.pick(&[0, 1, 2, 2])
        };
        etcdpb::Permission {
            perm_type: kind,
            key,
            range_end,
        }
    }
}
