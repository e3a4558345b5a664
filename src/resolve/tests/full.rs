//! Random histories with users, roles and alarms, for every release that has rules of its own.

use proptest::prelude::*;

use super::full_model::{Full, Gates, Release};
use super::harness::{Standby, assert_equal, assert_well_formed, resolve};
use super::model::Crash;
use super::random::{Spans, any_op, span};
use super::*;

const RELEASES: [Release; 17] = [
    (4, 0),
    (4, 25),
    (4, 27),
    (4, 42),
    (4, 45),
    (5, 1),
    (5, 8),
    (5, 10),
    (5, 28),
    (5, 30),
    (5, 33),
    (6, 0),
    (6, 9),
    (6, 11),
    (6, 14),
    (7, 0),
    (7, 1),
];

/// The auth revision of a header, compared with the primary's.
#[derive(Clone, Copy, Debug)]
enum Age {
    Missing,
    Old,
    Current,
    Ahead,
}

#[derive(Clone, Debug)]
struct Proposal {
    username: &'static str,
    age: Age,
    op: Op,
}

impl Proposal {
    fn header(&self, auth_revision: u64) -> Header {
        let auth_revision = match self.age {
            Age::Missing => 0,
            Age::Old => auth_revision - 1,
            Age::Current => auth_revision,
            Age::Ahead => auth_revision + 3,
        };
        Header {
            id: 1,
            username: self.username.into(),
            auth_revision,
        }
    }
}

fn user() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["root", "u", "u", "w"]).prop_map(str::to_owned)
}

fn role() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["root", "r", "r", "s"]).prop_map(str::to_owned)
}

fn grant_permission() -> impl Strategy<Value = Op> {
    (role(), 0_i32..4, span(Spans::Ordinary)).prop_map(|(name, perm_type, (key, range_end))| {
        let perm = Some(etcdpb::Permission {
            perm_type,
            key,
            range_end,
        });
        Op::AuthRoleGrantPermission(etcdpb::AuthRoleGrantPermissionRequest { name, perm })
    })
}

fn any_admin_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        1 => Just(Op::AuthEnable),
        1 => prop::bool::weighted(0.2).prop_map(|is_on| match is_on {
            true => Op::AuthDisable,
            false => Op::AuthEnable,
        }),
        2 => user().prop_map(|name| {
            let request = etcdpb::AuthUserAddRequest { name, ..Default::default() };
            Op::AuthUserAdd(request)
        }),
        1 => user().prop_map(|name| {
            Op::AuthUserDelete(etcdpb::AuthUserDeleteRequest { name })
        }),
        1 => user().prop_map(|name| {
            let request = etcdpb::AuthUserChangePasswordRequest { name, ..Default::default() };
            Op::AuthUserChangePassword(request)
        }),
        4 => (user(), role()).prop_map(|(user, role)| {
            Op::AuthUserGrantRole(etcdpb::AuthUserGrantRoleRequest { user, role })
        }),
        1 => (user(), role()).prop_map(|(name, role)| {
            Op::AuthUserRevokeRole(etcdpb::AuthUserRevokeRoleRequest { name, role })
        }),
        2 => role().prop_map(|name| Op::AuthRoleAdd(etcdpb::AuthRoleAddRequest { name })),
        1 => role().prop_map(|role| Op::AuthRoleDelete(etcdpb::AuthRoleDeleteRequest { role })),
        6 => grant_permission(),
        1 => (role(), span(Spans::Ordinary)).prop_map(|(role, (key, range_end))| {
            let request = etcdpb::AuthRoleRevokePermissionRequest { role, key, range_end };
            Op::AuthRoleRevokePermission(request)
        }),
    ]
}

fn any_alarm() -> impl Strategy<Value = Op> {
    let kind = prop_oneof![8 => 1_i32..3, 1 => Just(0), 1 => Just(5)];
    let action = prop_oneof![4 => Just(1), 5 => Just(2), 1 => Just(0), 1 => Just(7)];
    (action, 0_u64..2, kind).prop_map(|(action, member_id, alarm)| {
        Op::Alarm(etcdpb::AlarmRequest {
            action,
            member_id,
            alarm,
        })
    })
}

fn any_proposal() -> impl Strategy<Value = Proposal> {
    let username = prop_oneof![
        6 => Just("u"),
        4 => Just("root"),
        1 => Just("w"),
        1 => Just("x"),
        1 => Just(""),
    ];
    let age = prop_oneof![
        12 => Just(Age::Current),
        2 => Just(Age::Old),
        1 => Just(Age::Missing),
        1 => Just(Age::Ahead),
    ];
    let published = Op::V2 {
        method: "PUT".into(),
        path: "/0/members/1/attributes".into(),
    };
    let op = prop_oneof![
        24 => any_op(Spans::Ordinary),
        8 => any_admin_op(),
        3 => any_alarm(),
        1 => Just(published),
    ];
    (username, age, op).prop_map(|(username, age, op)| Proposal { username, age, op })
}

/// Puts a root, a user u and a role r there and enables auth.
fn preamble() -> Vec<Proposal> {
    let perm = |kind, key: &'static str, end: &'static str| {
        Op::AuthRoleGrantPermission(etcdpb::AuthRoleGrantPermissionRequest {
            name: "r".into(),
            perm: Some(etcdpb::Permission {
                perm_type: kind,
                key: key.into(),
                range_end: end.into(),
            }),
        })
    };
    let user = |name: &str| {
        Op::AuthUserAdd(etcdpb::AuthUserAddRequest {
            name: name.into(),
            ..Default::default()
        })
    };
    let grant = |user: &str, role: &str| {
        Op::AuthUserGrantRole(etcdpb::AuthUserGrantRoleRequest {
            user: user.into(),
            role: role.into(),
        })
    };
    let ops = vec![
        user("root"),
        grant("root", "root"),
        user("u"),
        Op::AuthRoleAdd(etcdpb::AuthRoleAddRequest { name: "r".into() }),
        grant("u", "r"),
        perm(2, "a", "d"),
        perm(1, "d", ""),
        Op::AuthEnable,
    ];
    let as_root = |op| Proposal {
        username: "root",
        age: Age::Current,
        op,
    };
    ops.into_iter().map(as_root).collect()
}

struct Run {
    release: Release,
    voters: usize,
    state: PrimaryState,
    standby: Standby,
    model: Full,
}

/// A way in which members may take an entry.
type Way = (Gates, bool);

impl Run {
    fn new(release: Release, voters: usize) -> Self {
        let version = Version::new(3, release.0, release.1);
        let settings = Settings {
            rules: Rules::of(version).expect("is known"),
            voters,
            ..settings()
        };
        Self {
            release,
            voters,
            state: PrimaryState::new(settings, Position::START),
            standby: Standby::default(),
            model: Full::new(),
        }
    }

    /// The majority's way, if there is one, and the others; each with whether the first is known to
    /// be the majority's over it.
    fn ways(&self) -> (Way, Vec<(Way, bool)>) {
        let fresh = self.model.fresh_gates();
        let gates = if self.release.0 >= 6 {
            fresh
        } else {
            self.model.online
        };
        let proposes = self.voters == 1;
        let others = vec![
            ((fresh, proposes), !self.model.started),
            ((gates, !proposes), self.voters != 2),
        ];
        ((gates, proposes), others)
    }

    fn modelled(&self, (gates, proposes): Way, header: &Header, op: &Op) -> Result<Full, Crash> {
        let mut model = self.model.clone();
        model.apply(self.release, gates, header, op, proposes)?;
        Ok(model)
    }

    /// False at a halt.
    fn feed(&mut self, proposal: &Proposal) -> bool {
        let op = &proposal.op;
        let header = proposal.header(self.model.auth_revision);
        let (way, others) = self.ways();
        let after = self.modelled(way, &header, op);
        let otherwise = others
            .into_iter()
            .map(|(way, is_known)| (self.modelled(way, &header, op), is_known));
        let differing: Vec<_> = otherwise.filter(|(model, _)| *model != after).collect();
        let crashes = after == Err(Crash) || differing.iter().any(|(m, _)| *m == Err(Crash));

        // The model knows nothing of records that members may still see.
        let is_former = self.state.former.may_be_seen(&header.username);
        let resolved = match resolve(&mut self.state, &self.standby, &header, op) {
            Ok(resolved) => resolved,
            Err(Problem::Poison(_)) => {
                assert!(crashes, "{op:?}");
                return false;
            }
            Err(Problem::MembersDisagree(_)) => {
                let is_open = differing.iter().any(|(_, is_known)| !is_known);
                assert!(is_open || is_former, "{op:?}");
                return false;
            }
            Err(Problem::CompactionLosesKeys { revision, .. }) => {
                assert!(self.model.kv.reputs.contains(&revision.0), "{op:?}");
                assert!(self.release >= [(4, 34), (5, 16)][usize::from(self.release.0 > 4)]);
                return false;
            }
            // More than six permissions, of which several are for one key.
            Err(Problem::Undecided(_)) => {
                let rights = self.model.roles.values();
                assert!(rights.into_iter().any(|rights| rights.len() > 6), "{op:?}");
                return false;
            }
            Err(other) => panic!("{other:?} for {op:?}"),
        };
        let after = after.expect("a crash went unnoticed");
        assert!(!crashes, "a crash went unnoticed: {op:?}");
        assert!(differing.iter().all(|(_, is_known)| *is_known), "{op:?}");
        let disagreement = resolved.disagreement.as_ref();
        let is_of_former = disagreement.is_some_and(|one| one.cause == Cause::FormerRecord);
        assert!(is_former || !is_of_former, "{op:?}");
        assert_eq!(
            disagreement.is_some() && !is_of_former,
            !differing.is_empty(),
            "{op:?}"
        );
        assert_well_formed(&resolved, &self.model.kv, &after.kv);
        self.standby.write(resolved);
        self.model = after;
        self.assert_equal();
        true
    }

    fn assert_equal(&self) {
        let model = &self.model;
        assert_equal(&self.state, &self.standby, &model.kv);
        let auth = self.state.auth();
        assert_eq!(auth.is_enabled(), model.enabled);
        assert_eq!(auth.revision(), model.auth_revision);
        let users = auth.users().iter().map(|(name, user)| (name, &user.roles));
        assert!(
            users
                .map(|(name, roles)| (name, roles.iter().cloned().collect()))
                .eq(model
                    .users
                    .iter()
                    .map(|(name, roles)| (name, roles.clone())))
        );
        let roles = auth.roles().iter().map(|(name, role)| {
            let rights = role.permissions().iter();
            let rights = rights.map(|p| (p.key.clone(), p.range_end.clone(), p.kind));
            (name, rights.collect())
        });
        assert!(
            roles.eq(model
                .roles
                .iter()
                .map(|(name, rights)| (name, rights.clone())))
        );
        let raised = self.state.alarms().raised();
        assert!(
            raised
                .map(|(member, kind)| (member.0, kind))
                .eq(model.alarms.iter().copied())
        );
    }
}

proptest! {
    /// State and standby equal the model of the release after each entry, members disagree where
    /// its ways part, and a history ends at a halt that the model sees the cause of.
    #[test]
    fn random_histories_of_every_release_equal_the_model(
        release in prop::sample::select(RELEASES.to_vec()),
        voters in prop_oneof![6 => Just(3_usize), 2 => Just(1), 1 => Just(2)],
        begins_secured in prop::bool::weighted(0.8),
        proposals in prop::collection::vec(any_proposal(), 1..50),
    ) {
        let mut run = Run::new(release, voters);
        let preamble = if begins_secured { preamble() } else { vec![] };
        for proposal in preamble.iter().chain(&proposals) {
            if !run.feed(proposal) {
                break;
            }
        }
    }
}
