//! Users, roles and permissions: one test for each rule.

use super::fixture::*;
use super::*;
use crate::secret::Secret;

fn add_user(name: &str, password: &str) -> Op {
    Op::AuthUserAdd(etcdpb::AuthUserAddRequest {
        name: name.into(),
        hashed_password: password.into(),
        ..etcdpb::AuthUserAddRequest::default()
    })
}

fn delete_user(name: &str) -> Op {
    Op::AuthUserDelete(etcdpb::AuthUserDeleteRequest { name: name.into() })
}

fn grant_role(user: &str, role: &str) -> Op {
    Op::AuthUserGrantRole(etcdpb::AuthUserGrantRoleRequest {
        user: user.into(),
        role: role.into(),
    })
}

fn revoke_role(name: &str, role: &str) -> Op {
    Op::AuthUserRevokeRole(etcdpb::AuthUserRevokeRoleRequest {
        name: name.into(),
        role: role.into(),
    })
}

fn add_role(name: &str) -> Op {
    Op::AuthRoleAdd(etcdpb::AuthRoleAddRequest { name: name.into() })
}

fn delete_role(name: &str) -> Op {
    Op::AuthRoleDelete(etcdpb::AuthRoleDeleteRequest { role: name.into() })
}

fn permit(role: &str, kind: i32, key: &'static str, end: &'static str) -> Op {
    Op::AuthRoleGrantPermission(etcdpb::AuthRoleGrantPermissionRequest {
        name: role.into(),
        perm: Some(etcdpb::Permission {
            perm_type: kind,
            key: key.into(),
            range_end: end.into(),
        }),
    })
}

fn forbid(role: &str, key: &'static str, end: &'static str) -> Op {
    Op::AuthRoleRevokePermission(etcdpb::AuthRoleRevokePermissionRequest {
        role: role.into(),
        key: key.into(),
        range_end: end.into(),
    })
}

fn change_password(name: &str, clear: &str, hashed: &str) -> Op {
    Op::AuthUserChangePassword(etcdpb::AuthUserChangePasswordRequest {
        name: name.into(),
        password: clear.into(),
        hashed_password: hashed.into(),
    })
}

fn hash(of: &'static str) -> Password {
    Password::Hash(Secret::new(of))
}

fn user_added(name: &str, login: Login, password: Password) -> AuthChange {
    AuthChange::UserAdded {
        name: name.into(),
        login,
        password,
    }
}

fn user_roles(name: &str, roles: &[&str]) -> AuthChange {
    AuthChange::UserRoles {
        name: name.into(),
        roles: roles.iter().map(|role| (*role).into()).collect(),
    }
}

const READ: i32 = 0;
const WRITE: i32 = 1;
const BOTH: i32 = 2;

impl Fixture {
    /// The changes of an op that raises the auth revision.
    fn auth_changes(&mut self, op: Op) -> Vec<AuthChange> {
        let auth_revision = self.state.auth().revision();
        let revision = self.state.position().revision;
        let resolved = self.done(op);
        assert_eq!(resolved.outcome, Outcome::Effect);
        assert_eq!(resolved.revision, revision);
        assert!(resolved.changes.is_empty());
        assert_eq!(self.state.auth().revision(), auth_revision + 1);
        resolved.auth
    }

    /// Further entries come from this user, with the auth revision of now.
    fn login(&mut self, username: &str) {
        self.header = Header {
            id: 1,
            username: username.into(),
            auth_revision: self.state.auth().revision(),
        };
    }

    /// Auth is on. `root` has role root, `u` may read and write from k to m and write at w.
    fn secured(version: &str) -> Self {
        let mut f = Self::new();
        f.state.set_rules(rules_of(version));
        for op in [
            add_user("root", ""),
            grant_role("root", "root"),
            add_user("u", ""),
            add_role("r"),
            grant_role("u", "r"),
            permit("r", BOTH, "k", "m"),
            permit("r", WRITE, "w", ""),
        ] {
            f.auth_changes(op);
        }
        assert_eq!(f.done(Op::AuthEnable).auth, [AuthChange::Enabled]);
        f.login("u");
        f
    }

    fn denied(&mut self, op: Op) {
        self.nothing(op, "permission denied");
    }
}

#[test]
fn users_and_roles_change_as_asked() {
    let mut f = Fixture::new();
    let name = || "u".to_owned();
    assert_eq!(
        f.auth_changes(add_user("u", "aGk=")),
        [user_added("u", Login::Password, hash("hi"))]
    );
    f.nothing(add_user("u", ""), "user name already exists");
    f.nothing(add_user("", ""), "user name is empty");
    f.nothing(add_user("x", "a"), "password hash cannot be read");
    assert_eq!(
        f.auth_changes(change_password("u", "", "aGkh")),
        [AuthChange::PasswordChanged {
            name: name(),
            password: hash("hi!")
        }]
    );
    // The same again is a change, too.
    f.auth_changes(change_password("u", "", "aGkh"));
    f.nothing(change_password("x", "", ""), "user name not found");
    f.nothing(
        change_password("u", "", "a"),
        "password hash cannot be read",
    );

    assert_eq!(
        f.auth_changes(add_role("r")),
        [AuthChange::RoleAdded { name: "r".into() }]
    );
    f.nothing(add_role("r"), "role name already exists");
    f.nothing(add_role(""), "role name is empty");
    assert_eq!(
        f.auth_changes(grant_role("u", "r")),
        [user_roles("u", &["r"])]
    );
    // Role root needs not exist.
    assert_eq!(
        f.auth_changes(grant_role("u", "root")),
        [user_roles("u", &["r", "root"])]
    );
    f.auth_changes(add_role("a"));
    assert_eq!(
        f.auth_changes(grant_role("u", "a")),
        [user_roles("u", &["a", "r", "root"])]
    );
    f.nothing(grant_role("u", "r"), "role is granted already");
    f.nothing(grant_role("x", "r"), "user name not found");
    f.nothing(grant_role("u", "x"), "role name not found");
    assert_eq!(
        f.auth_changes(revoke_role("u", "root")),
        [user_roles("u", &["a", "r"])]
    );
    f.nothing(revoke_role("u", "root"), "role is not granted");
    f.nothing(revoke_role("x", "r"), "user name not found");

    f.auth_changes(add_user("v", ""));
    f.auth_changes(grant_role("v", "r"));
    assert_eq!(
        f.auth_changes(delete_role("r")),
        [
            AuthChange::RoleDeleted { name: "r".into() },
            user_roles("u", &["a"]),
            user_roles("v", &[]),
        ]
    );
    f.nothing(delete_role("r"), "role name not found");
    assert_eq!(
        f.auth_changes(delete_user("u")),
        [AuthChange::UserDeleted { name: name() }]
    );
    f.nothing(delete_user("u"), "user name not found");
}

#[test]
fn permissions_change_as_asked() {
    let mut f = Fixture::new();
    f.auth_changes(add_role("r"));
    let permissions = |f: &mut Fixture, op| {
        let changes = f.auth_changes(op);
        let [AuthChange::RolePermissions { permissions, .. }] = changes.as_slice() else {
            panic!("{changes:?}");
        };
        let short = permissions.iter().map(|p| (p.kind, p.key.clone()));
        short.collect::<Vec<_>>()
    };
    assert_eq!(
        permissions(&mut f, permit("r", BOTH, "k", "m")),
        [(2, "k".into())]
    );
    // The same again counts.
    assert_eq!(
        permissions(&mut f, permit("r", BOTH, "k", "m")),
        [(2, "k".into())]
    );
    assert_eq!(
        permissions(&mut f, permit("r", 9, "a", "\0")),
        [(9, "a".into()), (2, "k".into())]
    );
    f.nothing(permit("x", READ, "k", ""), "role name not found");
    f.nothing(forbid("x", "k", "m"), "role name not found");
    f.nothing(
        forbid("r", "k", ""),
        "permission is not granted to the role",
    );
    assert_eq!(
        permissions(&mut f, forbid("r", "a", "\0")),
        [(2, "k".into())]
    );
    for (key, end) in [("", ""), ("", "b"), ("m", "k"), ("m", "m")] {
        f.nothing(permit("r", READ, key, end), "invalid auth management");
    }
    let without = || {
        Op::AuthRoleGrantPermission(etcdpb::AuthRoleGrantPermissionRequest {
            name: "r".into(),
            perm: None,
        })
    };
    f.nothing(without(), "permission is not given");
    f.state.set_rules(rules_of("3.4.24"));
    assert!(matches!(f.halts(without()), Problem::Poison(_)));
    assert_eq!(
        permissions(&mut f, permit("r", READ, "m", "k")),
        [(2, "k".into()), (0, "m".into())]
    );
}

#[test]
fn auth_is_enabled_only_with_a_root() {
    let mut f = Fixture::new();
    f.nothing(Op::AuthDisable, "auth is disabled already");
    f.nothing(Op::AuthEnable, "root user does not exist");
    f.auth_changes(add_user("root", ""));
    f.nothing(Op::AuthEnable, "root user does not have root role");
    f.auth_changes(grant_role("root", "root"));
    let before = f.state.auth().revision();
    assert_eq!(f.done(Op::AuthEnable).auth, [AuthChange::Enabled]);
    assert_eq!(
        f.state.auth().revision(),
        before,
        "enabling alone counts not"
    );
    f.login("root");
    f.nothing(Op::AuthEnable, "auth is enabled already");

    f.auth_changes(add_role("root"));
    for op in [
        delete_user("root"),
        delete_role("root"),
        revoke_role("root", "root"),
    ] {
        f.nothing(op, "invalid auth management");
    }
    assert_eq!(f.auth_changes(Op::AuthDisable), [AuthChange::Disabled]);
    f.header = Header::default();
    f.auth_changes(delete_role("root"));
    f.auth_changes(delete_user("root"));
}

#[test]
fn changes_of_users_need_an_admin_of_any_revision() {
    let mut f = Fixture::secured("3.5.33");
    for (username, reason) in [
        ("", "user name is empty"),
        ("x", "user name not found"),
        ("u", "permission denied"),
    ] {
        f.login(username);
        for op in [
            Op::AuthEnable,
            Op::AuthDisable,
            add_user("y", ""),
            delete_user("u"),
            change_password("u", "", ""),
            grant_role("u", "r"),
            revoke_role("u", "r"),
            add_role("y"),
            delete_role("r"),
            permit("r", READ, "a", ""),
            forbid("r", "k", "m"),
        ] {
            f.nothing(op, reason);
        }
    }
    f.login("root");
    f.header.auth_revision = 1;
    f.auth_changes(add_user("y", ""));
    f.header.auth_revision = 0;
    f.auth_changes(delete_user("y"));
}

#[test]
fn credentials_are_judged_in_order() {
    let mut f = Fixture::secured("3.5.33");
    let now = f.state.auth().revision();
    let mut put_as = |username: &str, auth_revision, reason: Option<&'static str>| {
        f.header = Header {
            id: 1,
            username: username.into(),
            auth_revision,
        };
        let op = Op::Put(put("k1", ""));
        match reason {
            Some(reason) => f.nothing(op, reason),
            None => assert!(!f.changes(op).is_empty()),
        }
    };
    put_as("", 0, Some("user name is empty"));
    put_as("root", 0, Some("user name is empty"));
    put_as("root", now - 1, Some("auth revision is old"));
    put_as("u", now - 1, Some("auth revision is old"));
    put_as("", now, Some("permission denied"));
    put_as("x", now, Some("permission denied"));
    put_as("u", now, None);
    put_as("u", now + 100, None);
    put_as("root", now, None);
    f.header.auth_revision = now;
    f.auth_changes(Op::AuthDisable);
    f.header = Header::default();
    f.changes(Op::Put(put("z", "")));
}

#[test]
fn keys_must_lie_in_the_ranges_of_the_user() {
    let mut f = Fixture::secured("3.5.33");
    f.changes(Op::Put(put("k", "")));
    f.denied(Op::Put(put("m", "")));
    f.denied(Op::Put(put("j", "")));
    f.nothing(Op::DeleteRange(delete("k5", "k7")), "no key changes");
    f.nothing(Op::DeleteRange(delete("k5", "m")), "no key changes");
    f.denied(Op::DeleteRange(delete("k5", "n")));
    f.denied(Op::DeleteRange(delete("k", ALL)));
    // What is read back must be readable; what is kept need not.
    f.changes(Op::Put(put("w", "")));
    let prev_kv = true;
    f.denied(Op::Put(PutRequest {
        prev_kv,
        ..put("w", "")
    }));
    f.denied(Op::DeleteRange(DeleteRangeRequest {
        prev_kv,
        ..delete("w", "")
    }));
    f.changes(Op::Put(put_value_kept("w", 0)));
    f.changes(Op::Put(PutRequest {
        prev_kv,
        ..put("k", "")
    }));
    f.changes(Op::DeleteRange(DeleteRangeRequest {
        prev_kv,
        ..delete("k", "m")
    }));
}

#[test]
fn touching_permissions_join_up() {
    let mut f = Fixture::secured("3.5.33");
    f.login("root");
    f.auth_changes(permit("r", WRITE, "m", "p"));
    f.auth_changes(permit("r", READ, "p", "q"));
    f.login("u");
    f.nothing(Op::DeleteRange(delete("k", "p")), "no key changes");
    f.denied(Op::DeleteRange(delete("k", "q")));
    f.login("root");
    f.auth_changes(permit("r", WRITE, "o", "\0"));
    f.login("u");
    f.changes(Op::Put(put("zz", "")));
    f.changes(Op::DeleteRange(delete("k", ALL)));
}

#[test]
fn a_txn_is_checked_in_both_branches() {
    let mut f = Fixture::secured("3.5.33");
    let run = |success, failure| Op::Txn(txn(vec![], success, failure));
    let reads = |key| vec![compare(0, 0, key, TargetUnion::Version(0))];
    f.changes(run(vec![op(put("k1", ""))], vec![]));
    f.denied(run(vec![op(put("k1", ""))], vec![op(put("z", ""))]));
    f.denied(run(vec![op(put("k1", "")), op(delete("z", ""))], vec![]));
    f.denied(Op::Txn(txn(reads("z"), vec![op(put("k1", ""))], vec![])));
    f.denied(Op::Txn(txn(reads("w"), vec![op(put("k1", ""))], vec![])));
    f.changes(Op::Txn(txn(reads("k"), vec![op(put("k1", ""))], vec![])));
    // Nothing to check: passes with any header.
    f.header = Header::default();
    f.nothing(run(vec![], vec![]), "no key changes");
}

#[test]
fn nested_ops_are_checked_by_newer_releases() {
    let inner = || nested(vec![op(put("z", ""))]);
    let reading = || {
        op(txn(
            vec![compare(0, 0, "z", TargetUnion::Version(0))],
            vec![op(put("k2", ""))],
            vec![],
        ))
    };
    let ranging = || nested(vec![op(range_at(0)), op(put("k2", ""))]);
    for make in [inner as fn() -> RequestOp, reading, ranging] {
        for (version, is_checked) in [
            ("3.4.41", false),
            ("3.4.42", true),
            ("3.5.27", false),
            ("3.5.28", true),
            ("3.6.8", false),
            ("3.6.9", true),
            ("3.7.0", true),
        ] {
            let mut f = Fixture::secured(version);
            let ask = always(vec![op(put("k1", "")), make()]);
            if is_checked {
                f.denied(ask);
            } else {
                assert!(!f.changes(ask).is_empty(), "{version}");
            }
        }
    }
}

#[test]
fn a_nested_range_is_never_dropped() {
    let at = |key: &'static str| RangeRequest {
        key: key.into(),
        ..RangeRequest::default()
    };
    let ask = |top, inner| {
        always(vec![
            op(put("k1", "")),
            op(at(top)),
            nested(vec![op(at(inner))]),
        ])
    };
    let mut f = Fixture::secured("3.6.14");
    f.denied(ask("k", "z"));
    f.denied(ask("z", "z"));
    assert_eq!(f.done(ask("k", "k")).disagreement, None);
}

#[test]
fn a_lease_with_keys_of_others_is_out_of_bounds() {
    let direct = || Op::Put(put_leased("k2", "", 7));
    let in_txn = || always(vec![op(put_leased("k2", "", 7))]);
    for (version, in_txn_denied) in [
        ("3.4.43", false),
        ("3.4.44", true),
        ("3.5.29", false),
        ("3.5.30", true),
        ("3.6.10", false),
        ("3.6.11", true),
        ("3.7.1", true),
    ] {
        let mut f = Fixture::secured(version);
        f.denied(direct());
        f.denied(revoke(7));
        if in_txn_denied {
            f.denied(in_txn());
        } else {
            f.changes(in_txn());
        }
        // The lease's only key is b.
        f.login("root");
        f.changes(Op::DeleteRange(delete("b", "")));
        f.login("u");
        f.changes(in_txn());
        assert_eq!(f.done(revoke(7)).outcome, Outcome::Effect);
    }
}

#[test]
fn old_credentials_of_an_admin_revoke_leases_in_newer_releases() {
    for (version, is_refused) in [
        ("3.4.26", true),
        ("3.4.27", false),
        ("3.5.9", true),
        ("3.5.10", false),
        ("3.6.0", false),
        ("3.7.0", false),
    ] {
        let mut f = Fixture::secured(version);
        f.login("root");
        f.header.auth_revision -= 1;
        if is_refused {
            f.nothing(revoke(7), "auth revision is old");
        } else {
            assert_eq!(f.done(revoke(7)).outcome, Outcome::Effect, "{version}");
        }
    }
}

#[test]
fn grants_and_compactions_need_no_rights() {
    let mut f = Fixture::secured("3.5.33");
    f.header = Header::default();
    assert_eq!(f.done(grant(8, 60)).outcome, Outcome::Effect);
    assert_eq!(f.done(revoke(8)).outcome, Outcome::Effect, "it has no keys");
    assert_eq!(f.done(compact(2)).outcome, Outcome::Effect);
}

#[test]
fn only_the_proposer_needs_rights_for_top_level_ranges() {
    let secret = || RangeRequest {
        key: "secret".into(),
        ..RangeRequest::default()
    };
    let asks = || {
        [
            Op::Txn(txn(vec![], vec![op(put("k5", "")), op(secret())], vec![])),
            Op::Txn(txn(vec![], vec![op(put("k5", ""))], vec![op(secret())])),
        ]
    };
    let disagreement = Disagreement {
        cause: Cause::TopLevelRange,
        keys: vec![single("k5")],
    };
    for ask in asks() {
        let mut f = Fixture::secured("3.6.14");
        let resolved = f.done(ask.clone());
        assert_eq!(resolved.outcome, Outcome::Effect);
        assert_eq!(resolved.disagreement, Some(disagreement.clone()));

        let mut f = Fixture::secured("3.6.14");
        f.state.set_voters(1);
        let resolved = f.done(ask.clone());
        assert_eq!(resolved.outcome, Outcome::None("permission denied"));
        assert_eq!(resolved.disagreement, Some(disagreement.clone()));

        Fixture::secured("3.7.1").denied(ask);
    }
}

#[test]
fn inverted_ranges_next_to_puts_are_judged_by_the_tree() {
    let ask = || always(vec![op(put("k1", "")), op(delete("l", "k"))]);
    Fixture::secured("3.5.33").changes(ask());
    // A permission inside the inverted range hides the one around it.
    let mut f = Fixture::secured("3.5.33");
    f.login("root");
    f.auth_changes(permit("r", BOTH, "k", ""));
    f.login("u");
    f.denied(ask());
    f.nothing(Op::DeleteRange(delete("z", "y")), "permission denied");
}

#[test]
fn passwords_come_in_three_forms() {
    let options = |no_password| Some(etcdpb::UserAddOptions { no_password });
    let add = |clear: &str, hashed: &str, options| {
        Op::AuthUserAdd(etcdpb::AuthUserAddRequest {
            name: "u".into(),
            password: clear.into(),
            hashed_password: hashed.into(),
            options,
        })
    };
    let clear = |text: &'static str| Password::Clear(Secret::new(text));
    let rows = [
        // Hashed by the proposer.
        (
            "3.5.0",
            add("", "aGk=", options(false)),
            Some((Login::Password, hash("hi"))),
        ),
        (
            "3.5.0",
            add("p", "aGk=", None),
            Some((Login::Password, hash("hi"))),
        ),
        // Written by 3.4 and applied by a newer release.
        (
            "3.6.0",
            add("p", "", None),
            Some((Login::Password, clear("p"))),
        ),
        (
            "3.6.0",
            add("", "", None),
            Some((Login::Password, hash(""))),
        ),
        (
            "3.6.0",
            add("p", "!", options(true)),
            Some((Login::NoPassword, Password::None)),
        ),
        ("3.6.0", add("p", "!", None), None),
        // 3.4 knows no hashes.
        (
            "3.4.23",
            add("p", "aGk=", options(false)),
            Some((Login::Password, clear("p"))),
        ),
        (
            "3.4.23",
            add("", "!", None),
            Some((Login::Password, clear(""))),
        ),
        (
            "3.4.23",
            add("p", "", options(true)),
            Some((Login::NoPassword, Password::None)),
        ),
        (
            "3.4.3",
            add("p", "", None),
            Some((Login::Password, hash(""))),
        ),
        (
            "3.4.3",
            add("p", "", options(false)),
            Some((Login::Password, clear("p"))),
        ),
    ];
    for (version, op, expected) in rows {
        let mut f = Fixture::new();
        f.state.set_rules(rules_of(version));
        match expected {
            Some((login, password)) => {
                assert_eq!(f.auth_changes(op), [user_added("u", login, password)]);
            }
            None => f.nothing(op, "password hash cannot be read"),
        }
    }
    let mut f = Fixture::new();
    f.state.set_rules(rules_of("3.4.23"));
    f.auth_changes(add(&"p".repeat(72), "", None));
    let problem = f.halts(change_password("u", &"p".repeat(73), ""));
    assert!(matches!(problem, Problem::Undecided(_)), "{problem}");
}

#[test]
fn changing_a_password_depends_on_how_the_user_was_made() {
    let changed = |version, login, op| {
        let mut f = Fixture::new();
        f.state.set_rules(rules_of(version));
        let mut auth = AuthState::default();
        let user = User {
            password: Password::None,
            login,
            roles: vec![],
        };
        auth.insert_user("u".into(), user);
        f.state.restore_auth(auth);
        match f.try_with(op, &Values::default()) {
            Ok(Resolution::Done(resolved)) => Ok(resolved.auth),
            Ok(Resolution::NeedsValues(keys)) => panic!("{keys:?}"),
            Err(problem) => Err(problem),
        }
    };
    let to = |password| {
        Ok(vec![AuthChange::PasswordChanged {
            name: "u".into(),
            password,
        }])
    };
    let clear = || change_password("u", "p", "");
    let hashed = || change_password("u", "", "aGk=");
    let p = || Password::Clear(Secret::new("p"));
    assert_eq!(
        changed("3.5.8", Login::NoPassword, hashed()),
        to(Password::None)
    );
    assert_eq!(changed("3.4.23", Login::NoPassword, clear()), to(p()));
    assert_eq!(
        changed("3.5.8", Login::Unspecified, hashed()),
        to(hash("hi"))
    );
    assert_eq!(changed("3.4.23", Login::Unspecified, clear()), to(p()));
    let crash = changed("3.5.7", Login::Unspecified, hashed());
    assert!(matches!(crash, Err(Problem::Poison(_))), "{crash:?}");
}

#[test]
fn no_password_is_ever_shown() {
    let mut f = Fixture::new();
    f.state.set_rules(rules_of("3.4.23"));
    let resolved = f.done(Op::AuthUserAdd(etcdpb::AuthUserAddRequest {
        name: "u".into(),
        password: "hunter2".into(),
        ..etcdpb::AuthUserAddRequest::default()
    }));
    let shown = format!("{resolved:?} {:?}", f.state);
    assert!(
        shown.contains("UserAdded") && !shown.contains("hunter2"),
        "{shown}"
    );
}

/// Auth is on in a release whose members may see former records of users, and the last entry is
/// requested by `u`, who got role root and lost it again.
fn former_root(version: &str) -> Fixture {
    let mut f = Fixture::secured(version);
    f.login("root");
    f.auth_changes(grant_role("u", "root"));
    f.auth_changes(revoke_role("u", "root"));
    f.login("u");
    f
}

const SEEN: &str = "the requester lost role root, which etcd 3.5 may not notice at once";

#[test]
fn a_deleted_admin_may_still_be_seen() {
    for version in ["3.4.23", "3.5.2", "3.5.3", "3.5.33", "3.6.0", "3.7.1"] {
        let mut f = Fixture::secured(version);
        f.login("root");
        f.auth_changes(grant_role("u", "root"));
        f.auth_changes(delete_user("u"));
        f.login("u");
        if version.starts_with("3.5.3") {
            assert_eq!(f.halts(add_role("x")), Problem::MembersDisagree(SEEN));
            assert_eq!(
                f.halts(Op::Put(put("x", ""))),
                Problem::MembersDisagree(SEEN)
            );
        } else {
            f.nothing(add_role("x"), "user name not found");
            f.denied(Op::Put(put("x", "")));
        }
        // Whoever has no role root anyway is not looked up for it.
        f.header.auth_revision -= 1;
        f.nothing(Op::Put(put("x", "")), "auth revision is old");
    }
}

#[test]
fn a_former_record_needs_others_written_around_the_change() {
    let mut f = former_root("3.5.33");
    f.denied(add_role("x"));
    f.login("root");
    // b comes before u, and is written after it.
    f.auth_changes(add_user("b", ""));
    f.login("u");
    assert_eq!(f.halts(add_role("x")), Problem::MembersDisagree(SEEN));
    // What u may do by other roles does not depend on the record.
    f.changes(Op::Put(put("k1", "")));

    // Two batches without a user, and nothing is left.
    for _ in 0..19_999 {
        f.changes(Op::Put(put("k1", "")));
    }
    f.denied(add_role("x"));
}

/// Who goes on from a ledger is as careful as who saw it all.
#[test]
fn a_former_record_outlives_a_restart() {
    let mut f = former_root("3.5.33");
    f.login("root");
    let before = f.state.small();
    let resolved = f.done(add_user("b", ""));
    let delta = f.state.delta(&resolved, &before);
    let mut restored = f.state.clone();
    restored.set_rules(rules_of("3.5.32"));
    restored.set_rules(rules_of("3.5.33"));
    f.state = restored;
    f.login("u");
    f.denied(add_role("x"));
    f.state.take_in(delta);
    assert_eq!(f.halts(add_role("x")), Problem::MembersDisagree(SEEN));
    // What is forgotten is told too, with the entry that comes next.
    let before = f.state.small();
    f.state.set_rules(rules_of("3.5.32"));
    f.login("root");
    let resolved = f.done(Op::Put(put("k1", "")));
    let told = f.state.delta(&resolved, &before).auth.unwrap().former;
    assert!(told.users.is_empty() && told.first.is_none(), "{told:?}");
}

#[test]
fn a_new_admin_may_not_be_seen_yet() {
    let mut f = Fixture::secured("3.5.33");
    f.login("root");
    for op in [
        add_user("a", ""),
        grant_role("u", "root"),
        change_password("a", "", ""),
    ] {
        f.auth_changes(op);
    }
    f.login("u");
    let resolved = f.done(add_role("x"));
    assert_eq!(resolved.outcome, Outcome::Effect);
    let cause = resolved.disagreement.map(|disagreement| disagreement.cause);
    assert_eq!(cause, Some(Cause::FormerRecord));
    // Another release starts its members anew.
    f.state.set_rules(rules_of("3.5.32"));
    assert_eq!(f.done(add_role("y")).disagreement, None);
}
