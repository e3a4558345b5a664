//! From every small auth store of a primary to every other one: the calls are never refused, never
//! lock us out, and lead there, also when they are cut off anywhere.

use std::collections::BTreeSet;

use bytes::Bytes;
use etcd_syncer::plan::auth::{
    Access, AuthCall, FirstPassword, Given, NewPassword, Plan, Store, Terms, reconcile,
};
use etcd_syncer::resolve::{AuthState, DigestKey, Login, Password, Permission, Role, User};
use etcd_syncer::secret::Secret;

use crate::auth_model::{Model, OURS, Word};

fn key() -> DigestKey {
    DigestKey::new(&[7; 32])
}

fn permission(kind: i32, key: &'static str, range_end: &'static str) -> Permission {
    Permission {
        kind,
        key: key.into(),
        range_end: range_end.into(),
    }
}

fn hash(name: &'static str) -> Password {
    Password::Hash(Secret::new(Bytes::from_static(name.as_bytes())))
}

fn clear(name: &'static str) -> Password {
    Password::Clear(Secret::new(Bytes::from_static(name.as_bytes())))
}

fn user(password: Password, roles: &[&str]) -> User {
    let login = if password == Password::None {
        Login::NoPassword
    } else {
        Login::Password
    };
    User {
        password,
        login,
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
    }
}

/// Every store that etcd can hold of these users, with a role and what that allows or not.
fn states(clears: bool) -> Vec<AuthState> {
    let secret = |name| if clears { clear(name) } else { hash(name) };
    let roots = [
        None,
        Some(user(secret("1"), &[])),
        Some(user(secret("2"), &["root"])),
        Some(user(Password::None, &["root"])),
    ];
    let others = [
        None,
        Some(user(Password::None, &[])),
        Some(user(secret("a"), &["r"])),
        Some(user(secret("b"), &["r", "root"])),
    ];
    let mut states = Vec::new();
    for root in &roots {
        let is_root = root.as_ref().is_some_and(|root| !root.roles.is_empty());
        for other in &others {
            for (enabled, with_object) in [(false, false), (false, true), (true, false)] {
                if enabled && !is_root {
                    continue;
                }
                let mut state = AuthState::new(enabled, 2);
                if let Some(root) = root {
                    state.insert_user("root".into(), root.clone());
                }
                if let Some(other) = other {
                    state.insert_user("u".into(), other.clone());
                    if !other.roles.is_empty() {
                        state.insert_role("r".into(), Role::default());
                    }
                }
                if with_object {
                    state.insert_role("root".into(), Role::default());
                }
                states.push(state);
            }
        }
    }
    states
}

/// One role with every list of up to three permissions that a primary may hold.
fn roles() -> Vec<AuthState> {
    let each = [
        permission(0, "k", ""),
        permission(1, "k", ""),
        permission(2, "k", "z"),
        permission(0, "k", "z"),
        permission(7, "k", "z"),
        permission(1, "l", "\0"),
    ];
    let mut lists = vec![vec![]];
    for one in &each {
        lists.push(vec![one.clone()]);
        for two in each.iter().filter(|two| two.key >= one.key) {
            lists.push(vec![one.clone(), two.clone()]);
        }
    }
    lists.push(vec![each[3].clone(), each[0].clone(), each[2].clone()]);
    let with = |list| {
        let mut state = AuthState::new(false, 2);
        state.insert_role("r".into(), Role::new(list));
        state
    };
    lists.into_iter().map(with).collect()
}

/// What a ledger keeps of it.
fn digests(state: &AuthState) -> AuthState {
    let mut kept = AuthState::new(state.is_enabled(), state.revision());
    for (name, user) in state.users() {
        let digest = user.password.to_digest(name, &key());
        let password = digest.map_or(Password::None, Password::Digest);
        let user = User {
            password,
            ..user.clone()
        };
        kept.insert_user(name.clone(), user);
    }
    for (name, role) in state.roles() {
        kept.insert_role(name.clone(), role.clone());
    }
    kept
}

/// `to` as a process knows it that began at `from`: passwords that were not set since are digests.
fn as_known(from: &AuthState, to: &AuthState) -> AuthState {
    let mut known = digests(to);
    for (name, user) in to.users() {
        let same = from
            .users()
            .get(name)
            .is_some_and(|old| old.password == user.password && old.login == user.login);
        if !same {
            known.insert_user(name.clone(), user.clone());
        }
    }
    known
}

fn store_of(model: &Model) -> Store {
    let users = model.users.iter();
    Store {
        enabled: model.enabled,
        takes_hashes: model.takes_hashes,
        users: users
            .map(|(name, user)| (name.clone(), user.roles.clone()))
            .collect(),
        roles: model.roles.clone(),
    }
}

fn plan(wanted: &AuthState, given: &Given, model: &Model, access: Access) -> Plan {
    let digest_key = key();
    let terms = Terms {
        ours: model.ours,
        access,
        digest_key: &digest_key,
    };
    reconcile(wanted, given, &store_of(model), &terms)
}

/// Does what is planned, up to `count` calls; each must be taken, and we must stay inside.
fn run(plan: &Plan, count: usize, model: &mut Model, given: &mut Given) {
    let mut store = store_of(model);
    for call in plan.calls.iter().take(count) {
        given.doubt(call);
        let answer = model.change(call);
        assert_eq!(answer, Ok(()), "{call:?} in {plan:?} on {model:?}");
        given.note(call);
        store.apply(call);
        assert_eq!(store, store_of(model), "{call:?}");
        assert!(model.lets_us_in(), "{call:?} locks us out: {model:?}");
    }
}

fn names(plan: &Plan) -> BTreeSet<String> {
    let short = plan.shortfall.passwords.iter();
    short.map(|(name, _)| name.clone()).collect()
}

fn bring(wanted: &AuthState, model: &mut Model, given: &mut Given) {
    let there = plan(wanted, given, model, Access::Password);
    run(&there, usize::MAX, model, given);
    assert_eq!(there.shortfall, Default::default());
    let left = model.differences(wanted);
    assert!(left.is_empty(), "{left:?} after {there:?}");
    let again = plan(wanted, given, model, Access::Password);
    assert_eq!(again.calls, [], "{wanted:?} is reached");
}

fn every_pair(states: &[AuthState], takes_hashes: bool) {
    println!("{} stores", states.len());
    for from in states {
        let (mut start, mut told) = (Model::new(takes_hashes), Given::default());
        bring(from, &mut start, &mut told);
        for to in states {
            every_cut(from, to, &start, &told);
        }
    }
}

fn every_cut(from: &AuthState, to: &AuthState, start: &Model, told: &Given) {
    let way = plan(to, told, start, Access::Password);
    for cut in 0..=way.calls.len() {
        let (mut model, mut given) = (start.clone(), told.clone());
        run(&way, cut, &mut model, &mut given);
        // The next call was lost, or its answer.
        if let Some(lost) = way.calls.get(cut) {
            given.doubt(lost);
            bring(to, &mut model.clone(), &mut given.clone());
            let mut done = model.clone();
            assert_eq!(done.change(lost), Ok(()));
            bring(to, &mut done, &mut given);
        }
        // Another process goes on from the last checkpoint.
        let mut given = Given::restored(&digests(from), &Default::default());
        let known = as_known(from, to);
        let there = plan(&known, &given, &model, Access::Password);
        run(&there, usize::MAX, &mut model, &mut given);
        let left = model.differences(to);
        assert!(
            left.is_empty(),
            "{left:?}: {from:?} to {to:?}, cut at {cut}"
        );
        assert_eq!(there.shortfall, Default::default());
    }
}

#[test]
fn every_store_leads_to_every_other_one() {
    every_pair(&states(false), true);
}

#[test]
fn every_store_of_3_4_leads_to_every_other_one_of_3_4() {
    every_pair(&states(true), false);
}

#[test]
fn every_list_of_permissions_leads_to_every_other_one() {
    every_pair(&roles(), true);
}

/// A primary with root, `u` and auth enabled.
fn enabled(password: Password) -> AuthState {
    let mut state = AuthState::new(true, 2);
    state.insert_user("root".into(), user(hash("1"), &["root"]));
    state.insert_user("u".into(), user(password, &[]));
    state
}

#[test]
fn what_cannot_be_carried_is_named_and_lets_nobody_in() {
    for (password, takes_hashes) in [
        (hash("a"), false),
        (clear(""), false),
        (clear(""), true),
        (Password::Digest([1; 16]), true),
        (Password::Digest([1; 16]), false),
    ] {
        let (mut model, mut given) = (Model::new(takes_hashes), Given::default());
        let wanted = enabled(password.clone());
        for _ in 0..2 {
            let there = plan(&wanted, &given, &model, Access::Password);
            run(&there, usize::MAX, &mut model, &mut given);
            let names: Vec<&str> = there
                .shortfall
                .passwords
                .iter()
                .map(|p| p.0.as_str())
                .collect();
            let expected: &[&str] = if takes_hashes { &["u"] } else { &["root", "u"] };
            assert_eq!(names, expected, "{password:?}");
        }
        assert_eq!(model.users["u"].word, Some(Word::Random), "{password:?}");
        assert!(model.enabled);
        let again = plan(&wanted, &given, &model, Access::Password);
        assert_eq!(again.calls, [], "{password:?}");
    }
}

#[test]
fn a_password_that_cannot_be_carried_ends_the_one_before() {
    let (mut model, mut given) = (Model::new(false), Given::default());
    for (password, expected) in [
        (clear("a"), Word::Clear("a".into())),
        (hash("b"), Word::Random),
        (clear("c"), Word::Clear("c".into())),
        (hash(""), Word::Random),
    ] {
        let there = plan(&enabled(password), &given, &model, Access::Password);
        run(&there, usize::MAX, &mut model, &mut given);
        assert_eq!(model.users["u"].word, Some(expected));
    }
}

#[test]
fn an_upgraded_standby_gets_the_hashes_that_it_lacked() {
    let (mut model, mut given) = (Model::new(false), Given::default());
    let wanted = enabled(hash("a"));
    let there = plan(&wanted, &given, &model, Access::Password);
    run(&there, usize::MAX, &mut model, &mut given);
    model.takes_hashes = true;
    bring(&wanted, &mut model, &mut given);
}

/// A process that was started again knows no hash, and must not take the password for carried.
#[test]
fn what_a_standby_lacked_is_named_after_an_upgrade_and_a_restart() {
    let (mut model, mut given) = (Model::new(false), Given::default());
    let wanted = enabled(hash("a"));
    let first = plan(&wanted, &given, &model, Access::Password);
    run(&first, usize::MAX, &mut model, &mut given);
    let mut short = names(&first);
    for takes_hashes in [false, true, true] {
        model.takes_hashes = takes_hashes;
        let known = digests(&wanted);
        given = Given::restored(&known, &short);
        let there = plan(&known, &given, &model, Access::Password);
        assert!(
            !there
                .calls
                .iter()
                .any(|call| matches!(call, AuthCall::SetPassword { .. }))
        );
        short = names(&there);
        assert_eq!(short, names(&first));
    }
    // What the process before may have set just before it ended does not stay.
    let emptied = enabled(clear(""));
    let there = plan(&emptied, &given, &model, Access::Password);
    let random = AuthCall::SetPassword {
        name: "u".into(),
        password: NewPassword::Random,
    };
    assert!(there.calls.contains(&random));
    // A database brings the hashes again.
    bring(&wanted, &mut model, &mut given);
}

#[test]
fn a_user_that_somebody_deleted_on_the_standby_is_made_again_and_named() {
    let (mut model, mut given) = (Model::new(true), Given::default());
    let wanted = enabled(hash("a"));
    bring(&wanted, &mut model, &mut given);
    model.users.remove("u");
    bring(&wanted, &mut model, &mut given);
    model.users.remove("u");
    let (known, mut given) = (
        digests(&wanted),
        Given::restored(&digests(&wanted), &Default::default()),
    );
    let there = plan(&known, &given, &model, Access::Password);
    run(&there, usize::MAX, &mut model, &mut given);
    assert_eq!(there.shortfall.passwords[0].0, "u");
    assert_eq!(model.users["u"].word, Some(Word::Random));
}

#[test]
fn without_a_password_of_our_own_auth_stays_disabled() {
    let (mut model, mut given) = (Model::new(true), Given::default());
    let wanted = enabled(hash("a"));
    let there = plan(&wanted, &given, &model, Access::NoPassword);
    run(&there, usize::MAX, &mut model, &mut given);
    assert!(there.shortfall.enable.is_some());
    assert_eq!(model.differences(&wanted), ["enabled: false"]);
    assert!(!model.users.contains_key(OURS));
    bring(&wanted, &mut model, &mut given);
}

#[test]
fn our_own_name_on_the_primary_is_reported_and_left_alone() {
    let (mut model, mut given) = (Model::new(true), Given::default());
    let mut wanted = enabled(hash("a"));
    wanted.insert_user(OURS.into(), user(hash("theirs"), &[]));
    let there = plan(&wanted, &given, &model, Access::Password);
    run(&there, usize::MAX, &mut model, &mut given);
    assert!(there.shortfall.is_ours_taken);
    assert!(model.lets_us_in() && model.enabled);
    let none = AuthState::new(true, 3);
    let there = plan(&none, &given, &model, Access::Password);
    run(&there, usize::MAX, &mut model, &mut given);
    assert!(there.shortfall.enable.is_some(), "without root nobody can");
    assert_eq!(model.users.keys().collect::<Vec<_>>(), [OURS]);
}

#[test]
fn a_standby_with_users_of_its_own_gets_those_of_the_primary() {
    let mut model = Model::new(true);
    for name in ["root", "u", OURS] {
        let first = FirstPassword::Ours;
        model
            .change(&AuthCall::AddUser {
                name: name.into(),
                first,
            })
            .unwrap();
        let (user, role) = (name.into(), "root".into());
        model.change(&AuthCall::GrantRole { user, role }).unwrap();
    }
    model.change(&AuthCall::Enable).unwrap();
    bring(&enabled(hash("a")), &mut model, &mut Given::default());
}

#[test]
fn a_permission_that_later_releases_refuse_is_named() {
    let (mut model, mut given) = (Model::new(true), Given::default());
    let odd = [permission(0, "", "z"), permission(1, "b", "a")];
    let mut wanted = AuthState::new(false, 2);
    let mut list = odd.to_vec();
    list.push(permission(2, "k", ""));
    wanted.insert_role("r".into(), Role::new(list));
    let there = plan(&wanted, &given, &model, Access::Password);
    run(&there, usize::MAX, &mut model, &mut given);
    let named: Vec<_> = there
        .shortfall
        .permissions
        .into_iter()
        .map(|(_, p)| p)
        .collect();
    assert_eq!(named, odd);
    assert_eq!(model.roles["r"], [permission(2, "k", "")]);
}

#[test]
fn root_may_be_our_own() {
    let (mut model, mut given) = (Model::new(true), Given::default());
    model.ours = "root";
    let wanted = enabled(hash("a"));
    let mut off = AuthState::new(false, 9);
    off.insert_role("root".into(), Role::default());
    for state in [&wanted, &off, &AuthState::new(false, 9), &wanted] {
        let there = plan(state, &given, &model, Access::Password);
        run(&there, usize::MAX, &mut model, &mut given);
        assert_eq!(there.shortfall.is_ours_taken, state == &wanted);
        assert_eq!(model.differences(state), [""; 0]);
        assert_eq!(model.users["root"].word, Some(Word::Ours));
    }
}

/// An empty password cannot be given to a standby, and every process says so.
#[test]
fn an_empty_password_is_named_before_and_after_a_restart() {
    for takes_hashes in [true, false] {
        let mut wanted = AuthState::new(false, 2);
        wanted.insert_user("a".into(), user(clear(""), &[]));
        wanted.insert_user("b".into(), user(clear("b"), &[]));
        let (mut model, mut given) = (Model::new(takes_hashes), Given::default());
        let first = plan(&wanted, &given, &model, Access::Password);
        run(&first, usize::MAX, &mut model, &mut given);
        let known = digests(&wanted);
        let again = plan(
            &known,
            &Given::restored(&known, &names(&first)),
            &model,
            Access::Password,
        );
        assert_eq!(again.calls, []);
        for there in [first, again] {
            let short: Vec<&String> = there
                .shortfall
                .passwords
                .iter()
                .map(|(name, _)| name)
                .collect();
            assert_eq!(short, ["a"], "{:?}", there.shortfall);
        }
    }
}
