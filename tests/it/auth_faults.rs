//! The standby's users become the primary's, whatever fails on the way, and however often.

use etcd_syncer::plan::auth::{Access, Given};
use etcd_syncer::resolve::{AuthState, DigestKey, Login, Password, Permission, Role, User};
use etcd_syncer::secret::Secret;
use etcd_syncer::standby::Reconciler;
use tokio::sync::watch;

use crate::auth_model::OURS;
use crate::fake_auth::{FakeAuth, Fault};

fn key() -> DigestKey {
    DigestKey::new(&[7; 32])
}

fn user(password: &'static str, roles: &[&str]) -> User {
    let (password, login) = match password {
        "" => (Password::None, Login::NoPassword),
        some => (Password::Hash(Secret::new(some)), Login::Password),
    };
    let roles = roles.iter().map(|role| (*role).to_owned()).collect();
    User {
        password,
        login,
        roles,
    }
}

/// What a primary goes through: users and auth, another password, auth off and root gone, back.
fn history() -> Vec<AuthState> {
    let full = |enabled, root, u| {
        let mut state = AuthState::new(enabled, 2);
        state.insert_user("root".into(), user(root, &["root"]));
        state.insert_user("u".into(), user(u, &["r"]));
        state.insert_user("cert".into(), user("", &["r"]));
        let permission = Permission {
            kind: 2,
            key: "k".into(),
            range_end: "l".into(),
        };
        state.insert_role("r".into(), Role::new(vec![permission]));
        state.insert_role("root".into(), Role::default());
        state
    };
    let mut bare = AuthState::new(false, 9);
    bare.insert_user("u".into(), user("", &[]));
    vec![
        full(true, "1", "a"),
        full(true, "2", "b"),
        bare,
        full(true, "3", "c"),
    ]
}

fn reconciler(given: Given) -> Reconciler {
    let (view, trouble) = (watch::Sender::new(None), watch::Sender::new(None));
    Reconciler::new(OURS, Access::Password, given, view, trouble)
}

/// Goes through the whole history, and returns how many calls that took.
async fn live(standby: &FakeAuth) -> usize {
    let mut reconciler = reconciler(Given::default());
    for state in history() {
        let done = reconciler.bring(&mut standby.clone(), &state, &key()).await;
        done.unwrap();
        let left = standby.state().model.differences(&state);
        assert!(left.is_empty(), "{left:?}");
        assert!(standby.state().model.lets_us_in());
    }
    standby.state().calls
}

#[tokio::test(start_paused = true)]
async fn every_single_fault_and_every_pair_of_neighbours_is_survived() {
    let count = live(&FakeAuth::new(true)).await;
    println!("{count} calls");
    let faults = [
        Fault::LostRequest,
        Fault::LostAnswer,
        Fault::Late,
        Fault::NotApplied,
    ];
    for at in 0..count {
        for one in faults {
            for two in [None, Some(Fault::LostAnswer), Some(Fault::Late)] {
                let standby = FakeAuth::new(true);
                standby.state().faults.insert(at, one);
                if let Some(two) = two {
                    standby.state().faults.insert(at + 1, two);
                }
                live(&standby).await;
            }
        }
    }
}

/// What somebody else changed is seen when a call runs into it, or the standby is read again.
#[tokio::test(start_paused = true)]
async fn a_user_that_somebody_removed_comes_back() {
    let count = live(&FakeAuth::new(true)).await;
    for at in 0..count {
        let standby = FakeAuth::new(true);
        standby.state().faults.insert(at, Fault::Meddled);
        let mut reconciler = reconciler(Given::default());
        for state in history() {
            let done = reconciler.bring(&mut standby.clone(), &state, &key()).await;
            done.unwrap();
        }
        let last = history().pop().unwrap();
        // Another process reads everything.
        let given = Given::restored(&last, &Default::default());
        let mut again = self::reconciler(given);
        let done = again.bring(&mut standby.clone(), &last, &key()).await;
        done.unwrap();
        let left = standby.state().model.differences(&last);
        assert!(left.is_empty(), "{at}: {left:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_known_is_not_read_again() {
    let standby = FakeAuth::new(true);
    let mut reconciler = reconciler(Given::default());
    let states = history();
    let mut calls = Vec::new();
    for state in [&states[0], &states[1], &states[1]] {
        let before = standby.state().calls;
        let done = reconciler.bring(&mut standby.clone(), state, &key()).await;
        done.unwrap();
        calls.push(standby.state().calls - before);
    }
    // Two passwords are two calls; nothing to do is none.
    assert_eq!(calls[1..], [2, 0]);
}

#[tokio::test(start_paused = true)]
async fn what_is_short_is_shown_and_asked_for_again() {
    let standby = FakeAuth::new(false);
    let view = watch::Sender::new(None);
    let trouble = watch::Sender::new(None);
    let mut reconciler = Reconciler::new(
        OURS,
        Access::NoPassword,
        Given::default(),
        view.clone(),
        trouble,
    );
    let state = &history()[0];
    reconciler
        .bring(&mut standby.clone(), state, &key())
        .await
        .unwrap();
    let shown = view.borrow().clone().unwrap();
    assert!(!shown.enabled && shown.shortfall.enable.is_some());
    let names: Vec<_> = shown
        .shortfall
        .passwords
        .iter()
        .map(|p| p.0.as_str())
        .collect();
    assert_eq!(names, ["root", "u"]);
    assert!(reconciler.recheck_at().is_some(), "it may be upgraded");
    standby.state().model.takes_hashes = true;
    reconciler
        .bring(&mut standby.clone(), state, &key())
        .await
        .unwrap();
    let shown = view.borrow().clone().unwrap();
    assert_eq!(shown.shortfall.passwords, []);
    assert_eq!(reconciler.recheck_at(), None);
    assert_eq!(standby.state().model.differences(state), ["enabled: false"]);
}
