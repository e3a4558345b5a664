//! Alarms and their layers: one test for each rule.

use super::fixture::*;
use super::*;
use crate::ids::MemberId;
use crate::pb::etcdpb::{AlarmRequest, AuthRoleAddRequest, AuthUserAddRequest};

const NONE: i32 = 0;
const NO_SPACE: i32 = 1;
const CORRUPT: i32 = 2;

fn alarm(action: i32, member_id: u64, alarm: i32) -> Op {
    Op::Alarm(AlarmRequest {
        action,
        member_id,
        alarm,
    })
}

fn raise(member: u64, kind: i32) -> Op {
    alarm(1, member, kind)
}

fn clear(member: u64, kind: i32) -> Op {
    alarm(2, member, kind)
}

fn add_role(name: &str) -> Op {
    Op::AuthRoleAdd(AuthRoleAddRequest { name: name.into() })
}

fn published() -> Op {
    Op::V2 {
        method: "PUT".into(),
        path: "/0/members/2d273ed66ea46b0e/attributes".into(),
    }
}

fn new(version: &str) -> Fixture {
    let mut f = Fixture::new();
    f.state.set_rules(rules_of(version));
    // The release was the same all along.
    assert_eq!(f.done(raise(9, CORRUPT)).outcome, Outcome::Effect);
    assert_eq!(f.done(clear(9, CORRUPT)).outcome, Outcome::Effect);
    f
}

/// Auth is on, and entries come without credentials.
fn secured(version: &str) -> Fixture {
    let mut f = new(version);
    let mut auth = AuthState::new(true, 5);
    let root = User {
        password: Password::None,
        login: Login::Password,
        roles: vec!["root".into()],
    };
    auth.insert_user("root".into(), root);
    f.state.restore_auth(auth);
    f
}

fn root_header() -> Header {
    Header {
        id: 1,
        username: "root".into(),
        auth_revision: 100,
    }
}

fn put_op() -> Op {
    Op::Put(put("a", ""))
}

#[test]
fn the_set_of_alarms_follows_the_requests() {
    let mut f = new("3.6.14");
    let (member, kind) = (MemberId(1), NO_SPACE);
    let resolved = f.done(raise(1, NO_SPACE));
    assert_eq!(resolved.alarm, Some(AlarmChange::Raised { member, kind }));
    assert_eq!(resolved.outcome, Outcome::Effect);
    f.nothing(raise(1, NO_SPACE), "alarm is raised already");
    f.nothing(clear(2, NO_SPACE), "alarm is not raised");
    f.nothing(clear(1, CORRUPT), "alarm is not raised");
    f.nothing(clear(0, NONE), "alarm is not raised");
    f.nothing(alarm(0, 1, NO_SPACE), "read only");
    f.nothing(alarm(7, 1, NO_SPACE), "unknown alarm action");
    f.done(raise(2, NO_SPACE));
    let raised: Vec<_> = f.state.alarms().raised().collect();
    assert_eq!(raised, [(MemberId(1), 1), (MemberId(2), 1)]);
    let resolved = f.done(clear(1, NO_SPACE));
    assert_eq!(resolved.alarm, Some(AlarmChange::Cleared { member, kind }));
    f.nothing(put_op(), "no space alarm");
    f.done(clear(2, NO_SPACE));
    f.changes(put_op());
}

#[test]
fn alarms_of_undefined_types() {
    let stored = |version, member, kind| {
        let mut f = new(version);
        match f.try_with(raise(member, kind), &Values::default()) {
            Ok(Resolution::Done(resolved)) => {
                assert!(!f.changes(put_op()).is_empty(), "no layer");
                Some(resolved.outcome == Outcome::Effect)
            }
            Ok(Resolution::NeedsValues(_)) | Err(_) => None,
        }
    };
    // Some: whether it is stored; None: members crash.
    assert_eq!(stored("3.4.45", 5, NONE), Some(true));
    assert_eq!(stored("3.4.45", 0, NONE), None);
    assert_eq!(stored("3.4.45", 5, 5), Some(true));
    assert_eq!(stored("3.5.33", 5, NONE), Some(false));
    assert_eq!(stored("3.5.33", 0, NONE), Some(false));
    assert_eq!(stored("3.5.33", 5, 5), None);
    assert_eq!(stored("3.6.14", 5, NONE), Some(false));
    assert_eq!(stored("3.6.14", 5, 5), Some(true));
    assert_eq!(stored("3.7.1", 5, 5), Some(true));
}

#[test]
fn no_space_stops_what_takes_space() {
    for version in ["3.4.45", "3.5.1", "3.5.33", "3.6.0", "3.7.1"] {
        let mut f = new(version);
        f.done(raise(1, NO_SPACE));
        let reason = "no space alarm";
        f.nothing(put_op(), reason);
        f.nothing(grant(8, 60), reason);
        let run = |success, failure| Op::Txn(txn(vec![], success, failure));
        f.nothing(run(vec![op(put("a", ""))], vec![]), reason);
        f.nothing(
            run(vec![op(delete("a", ""))], vec![op(put("a", ""))]),
            reason,
        );
        f.changes(run(vec![op(delete("a", ""))], vec![]));
        f.changes(Op::DeleteRange(delete("c", "")));
        assert_eq!(f.done(revoke(7)).outcome, Outcome::Effect);
        assert_eq!(f.done(compact(3)).outcome, Outcome::Effect);
        assert_eq!(f.done(add_role("r")).outcome, Outcome::Effect);
    }
}

#[test]
fn nested_puts_take_space_in_newer_releases() {
    for (version, is_stopped) in [
        ("3.4.45", false),
        ("3.5.32", false),
        ("3.5.33", true),
        ("3.6.13", false),
        ("3.6.14", true),
        ("3.7.0", false),
        ("3.7.1", true),
    ] {
        let asks = [
            always(vec![nested(vec![op(put("a", ""))])]),
            Op::Txn(txn(
                vec![],
                vec![nested(vec![nested(vec![op(put("a", ""))])])],
                vec![],
            )),
        ];
        for ask in asks {
            let mut f = new(version);
            f.done(raise(1, NO_SPACE));
            if is_stopped {
                f.nothing(ask, "no space alarm");
            } else {
                assert!(!f.changes(ask).is_empty(), "{version}");
            }
        }
    }
}

#[test]
fn corruption_stops_the_keyspace_and_leases() {
    for version in ["3.4.45", "3.5.33", "3.6.14", "3.7.1"] {
        let mut f = new(version);
        f.done(raise(1, CORRUPT));
        for op in [
            put_op(),
            Op::DeleteRange(delete("a", "")),
            always(vec![]),
            compact(2),
            grant(8, 60),
            revoke(7),
            Op::Range(range_at(0)),
        ] {
            f.nothing(op, "corrupt alarm");
        }
        assert_eq!(f.done(add_role("r")).outcome, Outcome::Effect);
        let add = Op::AuthUserAdd(AuthUserAddRequest {
            name: "u".into(),
            ..AuthUserAddRequest::default()
        });
        assert_eq!(f.done(add).outcome, Outcome::Effect);
        assert_eq!(f.done(clear(1, CORRUPT)).outcome, Outcome::Effect);
        f.changes(put_op());
    }
}

#[test]
fn from_3_6_on_layers_follow_from_the_set() {
    let mut f = secured("3.6.14");
    f.done(raise(1, NO_SPACE));
    f.nothing(Op::DeleteRange(delete("a", "")), "user name is empty");
    f.nothing(add_role("r"), "user name is empty");
    f.done(raise(1, CORRUPT));
    f.nothing(put_op(), "corrupt alarm");
    f.done(clear(1, CORRUPT));
    f.nothing(put_op(), "no space alarm");
}

#[test]
fn up_to_3_5_an_alarm_replaces_all_layers_while_members_stay_up() {
    let mut f = secured("3.5.33");
    f.nothing(Op::DeleteRange(delete("a", "")), "user name is empty");
    f.done(raise(1, NO_SPACE));
    // Not checked any more; a member that had started since would refuse it.
    let resolved = f.done(Op::DeleteRange(delete("a", "")));
    assert_eq!(resolved.changes, deletes(vec![single("a")]));
    let disagreement = |keys| {
        Some(Disagreement {
            cause: Cause::AlarmLayers,
            keys,
        })
    };
    assert_eq!(resolved.disagreement, disagreement(vec![single("a")]));
    let resolved = f.done(add_role("r"));
    assert_eq!(resolved.outcome, Outcome::Effect);
    assert_eq!(resolved.disagreement, disagreement(vec![]));
    f.nothing(put_op(), "no space alarm");

    // The other type takes the place of the first, and both go with it.
    f.done(raise(1, CORRUPT));
    f.nothing(put_op(), "corrupt alarm");
    f.done(clear(1, CORRUPT));
    f.header = root_header();
    let resolved = f.done(put_op());
    assert_eq!(resolved.outcome, Outcome::Effect);
    assert_eq!(resolved.disagreement, disagreement(vec![single("a")]));
}

#[test]
fn only_the_first_alarm_of_a_type_and_the_last_change_layers() {
    for (version, is_known) in [("3.5.33", true), ("3.6.14", false)] {
        let mut f = new(version);
        f.done(raise(1, NO_SPACE));
        f.done(raise(1, CORRUPT));
        f.done(raise(2, NO_SPACE));
        f.nothing(Op::DeleteRange(delete("a", "")), "corrupt alarm");
        f.done(clear(2, NO_SPACE));
        f.nothing(Op::DeleteRange(delete("a", "")), "corrupt alarm");
        f.nothing(put_op(), "corrupt alarm");
        f.done(clear(1, CORRUPT));
        if is_known {
            // The other type is raised still, and its layer is gone all the same.
            assert!(f.done(put_op()).disagreement.is_some());
        } else {
            f.nothing(put_op(), "no space alarm");
        }
    }
}

#[test]
fn up_to_3_5_layers_are_not_known_once_a_member_started() {
    let mut f = secured("3.5.33");
    f.done(raise(1, NO_SPACE));
    f.nothing(published(), "cluster information");
    let problem = f.halts(Op::DeleteRange(delete("a", "")));
    assert!(matches!(problem, Problem::MembersDisagree(_)), "{problem}");
    // Where all ways lead to the same the stream goes on.
    f.nothing(put_op(), "no space alarm");
    // Clearing it makes all members equal.
    f.done(clear(1, NO_SPACE));
    f.nothing(Op::DeleteRange(delete("a", "")), "user name is empty");
}

#[test]
fn up_to_3_5_layers_of_a_restored_alarm_are_not_known() {
    let mut f = secured("3.5.33");
    f.state.restore_alarm(MemberId(1), NO_SPACE);
    f.halts(Op::DeleteRange(delete("a", "")));
    // Another alarm may have been cleared since, which would have let puts through again.
    let stranger = std::mem::replace(&mut f.header, root_header());
    f.halts(put_op());
    f.state.set_rules(rules_of("3.6.14"));
    f.nothing(put_op(), "no space alarm");
    f.header = stranger;
    f.nothing(Op::DeleteRange(delete("a", "")), "user name is empty");
}
