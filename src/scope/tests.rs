//! Scopes against a rule that looks at one key at a time.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn key(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn prefixes(include: &[&str], exclude: &[&str], rewrite: &[&str]) -> Prefixes {
    let texts = |texts: &[&str]| {
        texts
            .iter()
            .map(|text| (*text).to_owned())
            .collect::<Vec<_>>()
    };
    parse(&texts(include), &texts(exclude), &texts(rewrite)).unwrap()
}

fn scope(include: &[&str], exclude: &[&str], rewrite: &[&str]) -> Scope {
    Scope::new(prefixes(include, exclude, rewrite)).unwrap()
}

fn refused(include: &[&str], exclude: &[&str], rewrite: &[&str]) -> String {
    let error = Scope::new(prefixes(include, exclude, rewrite)).expect_err("it is wrong");
    error.to_string()
}

fn range(start: &str, end: &str) -> KeyRange {
    KeyRange::between(key(start), key(end)).unwrap()
}

/// The rule, for one key.
fn model(prefixes: &Prefixes, name: &Bytes) -> Option<Bytes> {
    let begins = |prefix: &&Bytes| name.starts_with(prefix);
    let is_included = prefixes.include.is_empty() || prefixes.include.iter().any(|p| begins(&p));
    let is_excluded = prefixes.exclude.iter().any(|p| begins(&p));
    let is_ours = name.starts_with(reserved::PREFIX.as_bytes());
    if !is_included || is_excluded || is_ours {
        return None;
    }
    let fitting = prefixes.rewrite.iter().filter(|r| begins(&&r.from));
    Some(match fitting.max_by_key(|rewrite| rewrite.from.len()) {
        Some(Rewrite { from, to }) => [to, &name[from.len()..]].concat().into(),
        None => name.clone(),
    })
}

#[test]
fn without_prefixes_it_is_everything_but_our_own() {
    let all = Scope::all();
    assert_eq!(all.prefixes(), &Prefixes::default());
    assert_eq!(all.prefixes().to_string(), "every key");
    assert_eq!(
        all.standby_ranges(),
        [
            range("\0", reserved::PREFIX),
            KeyRange::from(key("-etcd-syncer-meta-0"))
        ]
    );
    assert_eq!(all.to_standby(&key("a")), Some(key("a")));
    assert!(!all.contains(b"-etcd-syncer-meta-/s/checkpoint"));
    let same = scope(&[], &[], &[]);
    assert_eq!(same.standby_ranges(), all.standby_ranges());
}

#[test]
fn the_picture_of_the_module_is_true() {
    let scope = scope(&["a/", "c/"], &["a/tmp/"], &["c/=b/"]);
    let everything = KeyRange::from(key("\0"));
    let expected = [
        range("a/", "a/tmp/"),
        range("a/tmp0", "a0"),
        range("b/", "b0"),
    ];
    assert_eq!(scope.ranges_to_standby(&everything), expected);
    assert_eq!(scope.standby_ranges(), expected);
    let cut = scope.ranges_to_standby(&range("a/z", "c/k"));
    assert_eq!(cut, [range("a/z", "a0"), range("b/", "b/k")]);
    assert_eq!(scope.ranges_to_standby(&range("a/tmp/", "a/tmp/z")), []);
    assert_eq!(scope.to_standby(&key("c/k")), Some(key("b/k")));
    assert_eq!(scope.to_primary(&key("b/k")), Some(key("c/k")));
    assert_eq!(scope.to_primary(&key("c/k")), None);
    let one = scope.ranges_to_standby(&KeyRange::single(&key("c/k")));
    assert_eq!(one, [KeyRange::single(&key("b/k"))]);
}

#[test]
fn of_several_rewrites_the_longest_counts() {
    let scope = scope(&["a/"], &[], &["a/=x/", "a/b/=y/", "a/b/c=a/b/c"]);
    for (name, expected) in [
        ("a/", "x/"),
        ("a/k", "x/k"),
        ("a/b/", "y/"),
        ("a/b/k", "y/k"),
        ("a/b/c/k", "a/b/c/k"),
        ("a/b0", "x/b0"),
    ] {
        assert_eq!(scope.to_standby(&key(name)), Some(key(expected)), "{name}");
    }
    assert_eq!(
        scope.ranges_to_standby(&range("a/", "a0")),
        [
            range("a/b/c", "a/b/d"),
            range("x/", "x/b/"),
            range("x/b0", "x0"),
            range("y/", "y/c"),
            range("y/d", "y0"),
        ],
        "ascending on the standby, whatever the order on the primary"
    );
}

#[test]
fn every_key_can_be_put_under_a_prefix() {
    let scope = scope(&[], &[], &["=copy/"]);
    assert_eq!(scope.to_standby(&key("a")), Some(key("copy/a")));
    assert_eq!(scope.to_primary(&key("copy/")), None, "no key is empty");
    let ours = format!("copy/{}", reserved::PREFIX);
    assert_eq!(
        scope.standby_ranges(),
        [
            range("copy/\0", &ours),
            range("copy/-etcd-syncer-meta-0", "copy0")
        ]
    );
}

#[test]
fn prefixes_at_the_upper_end_have_no_end() {
    let (top, low) = ("\\xff\\xff", "a");
    let up = scope(&[low], &[], &["a=\\xff\\xff"]);
    let end = KeyRange::from(Bytes::from_static(&[0xff, 0xff]));
    assert_eq!(up.standby_ranges(), std::slice::from_ref(&end));
    let down = scope(&[top], &[], &["\\xff\\xff=a"]);
    assert_eq!(down.standby_ranges(), [range("a", "b")]);
    assert_eq!(down.ranges_to_standby(&end), [range("a", "b")]);
    let part = KeyRange::from(Bytes::from_static(&[0xff, 0xff, 0xff]));
    let cut = [KeyRange::between(Bytes::from_static(b"a\xff"), key("b")).unwrap()];
    assert_eq!(down.ranges_to_standby(&part), cut);
}

#[test]
fn what_cannot_be_meant_is_refused_by_name() {
    let long = "x".repeat(4097);
    type Case<'a> = (&'a [&'a str], &'a [&'a str], &'a [&'a str], &'a str);
    let cases: &[Case<'_>] = &[
        (&[""], &[], &[], "--include-prefix: an empty prefix"),
        (&[], &[""], &[], "--exclude-prefix: an empty prefix"),
        (&[&long], &[], &[], "4097 bytes together, and 4096"),
        (
            &["-etcd-syncer-meta-/s"],
            &[],
            &[],
            "--include-prefix -etcd-syncer-meta-/s: these are keys of etcd-syncer itself",
        ),
        (
            &["a/"],
            &["b/"],
            &[],
            "--exclude-prefix b/: no key that is included begins so",
        ),
        (
            &[],
            &["-etcd-syncer-meta-/"],
            &[],
            "no key that is included begins so",
        ),
        (
            &["a/", "b/"],
            &["a"],
            &[],
            "--include-prefix a/: --exclude-prefix takes all of it out",
        ),
        (
            &["a/"],
            &[],
            &["b/=c/"],
            "--rewrite-prefix b/=c/: no key in scope begins with \"b/\"",
        ),
        (&["a/"], &["a/b/"], &["a/b/=c/"], "no key in scope"),
        (
            &["a/b"],
            &[],
            &["a/=c/", "a/b=d"],
            "--rewrite-prefix a/=c/: no key in scope",
        ),
        (
            &[],
            &[],
            &["a="],
            "--rewrite-prefix a=: the key \"a\" itself",
        ),
        (&[], &[], &["="], "would have no name"),
        (
            &["a/"],
            &[],
            &["a/=b/", "a/=c/"],
            "--rewrite-prefix a/=b/ and a/=c/: only one",
        ),
        (
            &["a/"],
            &[],
            &["a/=-etcd-syncer-meta-/x"],
            "the primary's key a/ would be -etcd-syncer-meta-/x on the standby",
        ),
        (
            &["a/"],
            &[],
            &["a/=-etcd-sync"],
            "the primary's key a/er-meta-/ would be -etcd-syncer-meta-/ on the standby",
        ),
        (
            &[],
            &[],
            &["a/=b/"],
            "the primary's keys a/ and b/ would both be b/ on the standby; exclude",
        ),
        (
            &["a/", "b/"],
            &[],
            &["a/=c/", "b/=c/d/"],
            "the primary's keys a/d/ and b/ would both be c/d/",
        ),
        (&["a/", "b/"], &[], &["a/=c", "b/=c"], "would both be c on"),
    ];
    for (include, exclude, rewrite, expected) in cases {
        let message = refused(include, exclude, rewrite);
        assert!(message.contains(expected), "{message:?} lacks {expected:?}");
    }
    let all: Vec<String> = (1..=255).map(|byte| format!("\\x{byte:02x}")).collect();
    let mut all: Vec<&str> = all.iter().map(String::as_str).collect();
    all.push("\\x00");
    assert!(refused(&[], &all, &[]).contains("nothing to replicate"));
}

#[test]
fn names_may_be_exchanged() {
    let swapped = scope(&["a/", "b/"], &[], &["a/=b/", "b/=a/"]);
    assert_eq!(swapped.to_standby(&key("a/1")), Some(key("b/1")));
    assert_eq!(swapped.to_standby(&key("b/1")), Some(key("a/1")));
    assert_eq!(
        swapped.standby_ranges(),
        [range("a/", "a0"), range("b/", "b0")]
    );
}

#[test]
fn one_scope_has_one_form() {
    let one = prefixes(&["b/", "a/", "a/x"], &["a/1/2", "a/1"], &["b/=d/", "a/=c/"]);
    let other = prefixes(&["a/", "b/", "b/"], &["a/1"], &["a/=c/", "b/=d/"]);
    let (one, other) = (Scope::new(one).unwrap(), Scope::new(other).unwrap());
    assert_eq!(one.prefixes(), other.prefixes());
    assert_eq!(
        one.prefixes().to_string(),
        "--include-prefix=a/ --include-prefix=b/ --exclude-prefix=a/1 --rewrite-prefix=a/=c/ \
         --rewrite-prefix=b/=d/"
    );
    let another = scope(&["a/", "b/"], &["a/1"], &["a/=c/"]);
    assert_ne!(one.prefixes(), another.prefixes());
}

#[test]
fn texts_stand_for_bytes() {
    let odd = prefixes(&["\\x00\\xFF\\\\é"], &["a b\\x20"], &["\\x3d\\x2c=b=c"]);
    assert_eq!(odd.include, [Bytes::from_static(b"\0\xff\\\xc3\xa9")]);
    assert_eq!(odd.exclude, [Bytes::from_static(b"a b ")]);
    let rewrite = Rewrite {
        from: key("=,"),
        to: key("b=c"),
    };
    assert_eq!(odd.rewrite, [rewrite]);
    assert_eq!(
        odd.to_string(),
        "--include-prefix='\\x00\\xff\\\\\\xc3\\xa9' --exclude-prefix='a\\x20b\\x20' \
         --rewrite-prefix='\\x3d\\x2c=b\\x3dc'"
    );
    for (text, words) in [
        (" a", "blanks"),
        ("a\t", "blanks"),
        ("\\", "\\xHH"),
        ("\\x1", "\\xHH"),
        ("\\xg0", "\\xHH"),
        ("\\n", "\\xHH"),
    ] {
        let text = [text.to_owned()];
        for (option, (include, exclude)) in [
            ("include-prefix", (&text[..], &[][..])),
            ("exclude-prefix", (&[], &text)),
        ] {
            let (named, value, why) = parse(include, exclude, &[]).unwrap_err();
            assert_eq!((named, &value), (option, &text[0]));
            assert!(why.contains(words), "{why}");
        }
    }
    let (option, _, why) = parse(&[], &[], &["a".to_owned()]).unwrap_err();
    assert_eq!(option, "rewrite-prefix");
    assert!(why.contains("FROM=TO"), "{why}");
}

/// Bytes at which something may go wrong.
const BYTES: [u8; 4] = [0, b'a', b'b', 0xff];

/// Every key of one to `length` of them, and some near our own.
fn keys(length: usize) -> Vec<Bytes> {
    let mut keys: Vec<Vec<u8>> = vec![Vec::new()];
    let mut from = 0;
    for _ in 0..length {
        let longer: Vec<_> = keys[from..]
            .iter()
            .flat_map(|key| BYTES.map(|byte| [key.as_slice(), &[byte]].concat()))
            .collect();
        from = keys.len();
        keys.extend(longer);
    }
    let ours = [
        "-",
        "-etcd",
        "-etcd-syncer-meta-/",
        "-etcd-syncer-meta-/s",
        "-etcd-syncer-meta-0",
    ];
    let mut keys: Vec<Bytes> = keys.into_iter().skip(1).map(Bytes::from).collect();
    keys.extend(ours.map(key));
    keys
}

fn any_prefix(from: usize) -> impl Strategy<Value = Bytes> {
    let short = prop::collection::vec(prop::sample::select(&BYTES[..]), from..=2);
    let near = prop::sample::select(vec![key("-"), key("-etcd-syncer-meta-/"), key("-e")]);
    prop_oneof![12 => short.prop_map(Bytes::from), 1 => near]
}

fn any_prefixes() -> impl Strategy<Value = Prefixes> {
    let rewrite = (any_prefix(0), any_prefix(0)).prop_map(|(from, to)| Rewrite { from, to });
    (
        prop::collection::vec(any_prefix(1), 0..4),
        prop::collection::vec(any_prefix(1), 0..3),
        prop::collection::vec(rewrite, 0..3),
    )
        .prop_map(|(include, exclude, rewrite)| Prefixes {
            include,
            exclude,
            rewrite,
        })
}

fn any_range() -> impl Strategy<Value = Option<KeyRange>> {
    let bound = || prop::sample::select(keys(2));
    let end = prop_oneof![bound(), Just(Bytes::new()), Just(Bytes::from_static(&[0])),];
    (bound(), end).prop_map(|(key, end)| KeyRange::of_request(&key, &end))
}

/// The names of all keys, by the rule.
fn names(prefixes: &Prefixes) -> BTreeMap<Bytes, Bytes> {
    let all = keys(3).into_iter();
    all.filter_map(|key| Some((key.clone(), model(prefixes, &key)?)))
        .collect()
}

fn assert_ascending(ranges: &[KeyRange]) {
    for pair in ranges.windows(2) {
        let end = pair[0].end().expect("only the last has no end");
        assert!(end <= pair[1].start(), "{ranges:?}");
    }
}

fn assert_is_the_rule(prefixes: &Prefixes, scope: &Scope, ranges: &[KeyRange]) {
    let names = names(prefixes);
    for key in keys(3) {
        assert_eq!(scope.to_standby(&key), names.get(&key).cloned(), "{key:?}");
        assert_eq!(scope.contains(&key), names.contains_key(&key));
    }
    let distinct: BTreeSet<&Bytes> = names.values().collect();
    assert_eq!(distinct.len(), names.len(), "two keys have one name");
    for (key, name) in &names {
        assert_eq!(scope.to_primary(name).as_ref(), Some(key), "{name:?}");
        assert!(!reserved::range().contains(name), "{name:?}");
    }
    assert_ascending(scope.standby_ranges());
    let holds = |ranges: &[KeyRange], key: &Bytes| ranges.iter().any(|range| range.contains(key));
    // Longer than all names of the keys above, so with some that no key has.
    for name in keys(4) {
        let origin = scope.to_primary(&name);
        assert_eq!(holds(scope.standby_ranges(), &name), origin.is_some());
        if let Some(origin) = &origin {
            assert_eq!(model(prefixes, origin), Some(name.clone()), "{origin:?}");
        }
        for range in ranges {
            let expected = origin.as_ref().is_some_and(|origin| range.contains(origin));
            let cut = scope.ranges_to_standby(range);
            assert_eq!(holds(&cut, &name), expected, "{range:?}: {cut:?}, {name:?}");
        }
    }
    for range in ranges {
        let cut = scope.ranges_to_standby(range);
        assert_ascending(&cut);
        if let Some(key) = range.as_single() {
            let name = scope.to_standby(key);
            let single: Vec<_> = name.iter().map(KeyRange::single).collect();
            assert_eq!(cut, single);
        }
    }
}

/// A refusal has its reason in the rule.
fn assert_is_wrong(prefixes: &Prefixes, error: &Error) {
    let in_scope = |key: &Bytes| model(prefixes, key).is_some();
    let begins = |prefix: &Bytes| {
        let mut all = keys(3);
        all.retain(|key| key.starts_with(prefix));
        all.into_iter()
    };
    match error.problem() {
        Problem::Collision { one, other, name } => {
            assert_ne!(one, other);
            for key in [one, other] {
                assert_eq!(model(prefixes, key).as_ref(), Some(name), "{key:?}");
            }
        }
        Problem::Reserved { key, name, .. } => {
            assert_eq!(model(prefixes, key).as_ref(), Some(name));
            assert!(reserved::range().contains(name));
        }
        Problem::NothingToRewrite { rewrite } => {
            let mut others = prefixes.rewrite.clone();
            others.retain(|other| other != rewrite);
            let without = Prefixes {
                rewrite: others,
                ..prefixes.clone()
            };
            for key in begins(&rewrite.from) {
                assert_eq!(model(prefixes, &key), model(&without, &key));
            }
        }
        Problem::NothingToExclude(prefix) => {
            let without = Prefixes {
                exclude: Vec::new(),
                ..prefixes.clone()
            };
            assert!(begins(prefix).all(|key| model(&without, &key).is_none()));
        }
        Problem::Excluded(prefix) | Problem::OurOwn(prefix) => {
            assert!(!begins(prefix).any(|key| in_scope(&key)));
        }
        Problem::Nothing => assert!(!keys(3).iter().any(in_scope)),
        Problem::NoName { rewrite } => assert!(rewrite.to.is_empty()),
        Problem::Ambiguous(one, other) => assert_eq!(one.from, other.from),
        Problem::Empty { .. } | Problem::TooLong { .. } => panic!("{error}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_scope_is_its_rule_for_every_key_and_range(
        prefixes in any_prefixes(),
        ranges in prop::collection::vec(any_range(), 1..4),
    ) {
        let ranges: Vec<KeyRange> = ranges.into_iter().flatten().collect();
        match Scope::new(prefixes.clone()) {
            Ok(scope) => {
                assert_is_the_rule(&prefixes, &scope, &ranges);
                // What is kept of it makes the same one.
                let again = Scope::new(scope.prefixes().clone()).unwrap();
                prop_assert_eq!(again.prefixes(), scope.prefixes());
                prop_assert_eq!(again.standby_ranges(), scope.standby_ranges());
            }
            Err(error) => assert_is_wrong(&prefixes, &error),
        }
    }
}

/// Enough of what is made at random is good for something.
#[test]
fn many_scopes_are_good_and_rewrite() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let (mut good, mut rewriting) = (0, 0);
    for _ in 0..500 {
        let prefixes = any_prefixes().new_tree(&mut runner).unwrap().current();
        if let Ok(scope) = Scope::new(prefixes) {
            good += 1;
            rewriting += usize::from(!scope.prefixes().rewrite.is_empty());
        }
    }
    assert!(
        good > 100 && rewriting > 25,
        "{good} good, {rewriting} rewriting"
    );
}
