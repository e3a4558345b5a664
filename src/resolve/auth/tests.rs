//! Permissions against the answers of the primary's own tree, and the order of permissions.

use bytes::Bytes;
use proptest::prelude::*;

use super::interval::{Interval, cover};
use super::order::{grant, revoke};
use super::tree::{Ties, Tree};
use super::*;
use crate::resolve::error::Problem;

fn interval((key, end): (&'static str, &'static str)) -> Interval {
    Interval::of(&key.into(), &end.into())
}

fn search(tree: &Tree, wanted: &Interval, is_point: bool) -> bool {
    if is_point {
        tree.intersects(wanted)
    } else {
        tree.contains(wanted)
    }
}

/// Permissions, a request, and what etcd's tree says up to 3.6 and from 3.7 on.
type Answered = (
    &'static [(&'static str, &'static str)],
    (&'static str, &'static str),
    [bool; 2],
);

/// Asked of the trees of etcd 3.6.14 and 3.7.1. Either the request or a permission is inverted or
/// begins at the empty key.
const ANSWERED: &[Answered] = &[
    (&[], ("a", "a"), [false, false]),
    (&[("a", "")], ("a", "a"), [true, true]),
    (&[("a", ""), ("a", "d")], ("b", "a"), [false, false]),
    (&[("a", ""), ("a", "g")], ("f", "a"), [false, false]),
    (&[("", "")], ("a", ""), [false, false]),
    (&[("", "\0")], ("a", "f"), [false, false]),
    (&[("", "\0")], ("c", "c"), [false, false]),
    (&[("", ""), ("b", "\0")], ("b", "g"), [true, true]),
    (&[("", ""), ("b", "f")], ("d", "b"), [true, true]),
    (
        &[("a", "\0"), ("a", "c"), ("h", "")],
        ("f", "a"),
        [false, true],
    ),
    (
        &[("a", "\0"), ("b", ""), ("a", "b")],
        ("c", "a"),
        [false, true],
    ),
    (
        &[("a", "h"), ("f", "a"), ("a", "")],
        ("e", "a"),
        [false, true],
    ),
    (
        &[("a", "d"), ("a", "\0"), ("a", "d")],
        ("h", "a"),
        [true, false],
    ),
    (
        &[("b", "d"), ("d", "\0"), ("d", "")],
        ("h", "b"),
        [true, false],
    ),
    (
        &[("a", ""), ("f", "h"), ("f", "d"), ("c", "")],
        ("g", "f"),
        [true, false],
    ),
];

#[test]
fn inverted_ranges_are_judged_as_etcd_does() {
    for (permissions, request, answers) in ANSWERED {
        for (ties, answer) in [Ties::Right, Ties::ByEnd].into_iter().zip(answers) {
            let tree = Tree::build(permissions.iter().copied().map(interval), ties);
            let found = search(&tree, &interval(*request), request.1.is_empty());
            assert_eq!(found, *answer, "{permissions:?} {request:?} {ties:?}");
        }
    }
}

fn any_regular() -> impl Strategy<Value = (Interval, bool)> {
    let key = || prop::sample::select(vec!["a", "b", "c", "cc", "d", "e", "f"]);
    let end = prop_oneof![Just(""), Just("\0"), key(), key()];
    (key(), end)
        .prop_map(|pair| (interval(pair), pair.1.is_empty()))
        .prop_filter("is regular", |(interval, _)| interval.is_regular())
}

proptest! {
    /// So the tree is needed for nothing else.
    #[test]
    fn for_ordinary_ranges_the_shape_of_the_tree_does_not_matter(
        permissions in prop::collection::vec(any_regular(), 0..20),
        (wanted, is_point) in any_regular(),
    ) {
        let permissions: Vec<_> = permissions.into_iter().map(|(one, _)| one).collect();
        for ties in [Ties::Right, Ties::ByEnd] {
            let tree = Tree::build(permissions.clone(), ties);
            prop_assert_eq!(
                search(&tree, &wanted, is_point),
                cover(&permissions, &wanted)
            );
        }
    }
}

fn permission(kind: i32, key: &'static str, range_end: &'static str) -> Permission {
    Permission {
        kind,
        key: key.into(),
        range_end: range_end.into(),
    }
}

fn granted(permissions: &[Permission]) -> Role {
    let mut role = Role::default();
    for permission in permissions {
        grant(&mut role, permission.clone()).expect("is decided");
    }
    role
}

#[test]
fn a_grant_replaces_only_the_first_of_its_key() {
    let role = granted(&[
        permission(2, "k", ""),
        permission(2, "k", "z"),
        permission(0, "a", ""),
        // Not the first of k, so it is added, and the stronger one stays.
        permission(1, "k", "z"),
        // The first of k, so it is replaced.
        permission(0, "k", ""),
    ]);
    assert_eq!(
        role,
        Role::new(vec![
            permission(0, "a", ""),
            permission(0, "k", ""),
            permission(2, "k", "z"),
            permission(1, "k", "z"),
        ])
    );
}

#[test]
fn a_revoke_takes_all_of_its_range() {
    let mut role = granted(&[
        permission(2, "k", ""),
        permission(2, "k", "z"),
        permission(1, "k", "z"),
    ]);
    assert!(!revoke(&mut role, &"k".into(), &"y".into()));
    assert!(revoke(&mut role, &"k".into(), &"z".into()));
    assert_eq!(role, Role::new(vec![permission(2, "k", "")]));
}

/// Two permissions of k and four of others; one more of any key is the seventh.
fn six() -> Vec<Permission> {
    let mut all = vec![permission(0, "k", ""), permission(0, "k", "z")];
    all.extend(["l", "m", "n", "o"].map(|key| permission(0, key, "")));
    all
}

#[test]
fn the_order_of_seven_depends_on_the_build_of_etcd() {
    let unordered = |new: &'static str| {
        let mut all = six();
        all.push(permission(0, new, ""));
        granted(&all).unordered
    };
    // The seventh is compared with the first, which is the first of k, and changes places with it
    // only if it is less.
    assert_eq!(unordered("a"), [Bytes::from("k")].into());
    assert_eq!(unordered("p"), [].into());

    let mut all = six();
    all.push(permission(0, "a", ""));
    let mut role = granted(&all);
    let problem = grant(&mut role, permission(1, "k", "z"));
    assert!(matches!(problem, Err(Problem::Undecided(_))), "{problem:?}");
    // Neither of the two can be replaced by this one.
    assert_eq!(grant(&mut role, permission(1, "k", "y")), Ok(()));
    assert_eq!(role.permissions().len(), 8);
    assert!(revoke(&mut role, &"k".into(), &"y".into()));
    assert!(revoke(&mut role, &"k".into(), &"".into()));
    assert!(role.unordered().is_empty(), "only one is left");
    assert_eq!(grant(&mut role, permission(1, "k", "z")), Ok(()));
}

#[test]
fn the_order_of_more_than_twelve_is_not_predicted() {
    let keys = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "l"];
    let mut all = vec![permission(0, "x", ""), permission(0, "x", "z")];
    all.extend(keys.map(|key| permission(0, key, "")));
    // In ascending order nothing is ever out of order before.
    all.sort_by(|a, b| a.key.cmp(&b.key));
    let role = granted(&all);
    assert_eq!(role.permissions().len(), 13);
    assert_eq!(role.unordered, [Bytes::from("x")].into());
}
