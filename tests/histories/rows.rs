//! The rows of the catalogue: what is sent, by whom, and how far that moves a member.

use etcd_syncer::pb::etcdpb::InternalRaftRequest as Request;

use crate::harness::Version;
use crate::requests::*;

/// Whose token a request gets.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Who {
    Nobody,
    /// This user's, who logs in for it.
    Fresh(&'static str),
    /// The one that this user got last, whatever happened since.
    Stale(&'static str),
}

pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// Sent before, and done.
    pub(crate) first: Vec<(Who, Request)>,
    pub(crate) who: Who,
    pub(crate) request: Request,
    /// Entries made, revisions of the keyspace, auth revisions.
    pub(crate) moves: (u64, i64, u64),
    /// Whether the answer is that it was done.
    pub(crate) is_done: bool,
    /// Sent afterwards, and done.
    pub(crate) then: Vec<(Who, Request)>,
}

/// Rows that follow each other on one cluster.
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) members: usize,
    pub(crate) jwt: bool,
    pub(crate) rows: Vec<Row>,
}

/// A row that is done, and makes an entry without effect.
fn idle(name: &'static str, request: Request) -> Row {
    Row {
        name,
        first: Vec::new(),
        who: Who::Nobody,
        request,
        moves: (1, 0, 0),
        is_done: true,
        then: Vec::new(),
    }
}

/// A row that is refused when it is applied.
fn refused(name: &'static str, request: Request) -> Row {
    Row {
        is_done: false,
        ..idle(name, request)
    }
}

/// A row that is refused before it gets into the log.
fn kept_out(name: &'static str, request: Request) -> Row {
    Row {
        moves: (0, 0, 0),
        ..refused(name, request)
    }
}

/// A row that writes keys.
fn writes(name: &'static str, request: Request) -> Row {
    Row {
        moves: (1, 1, 0),
        ..idle(name, request)
    }
}

/// A row that changes users or roles.
fn governs(name: &'static str, request: Request) -> Row {
    Row {
        moves: (1, 0, 1),
        ..idle(name, request)
    }
}

impl Row {
    fn by(self, who: Who) -> Self {
        Self { who, ..self }
    }

    fn after(mut self, who: Who, requests: impl IntoIterator<Item = Request>) -> Self {
        self.first
            .extend(requests.into_iter().map(|request| (who, request)));
        self
    }

    fn then(mut self, who: Who, requests: impl IntoIterator<Item = Request>) -> Self {
        self.then
            .extend(requests.into_iter().map(|request| (who, request)));
        self
    }
}

const ROOT: Who = Who::Fresh("root");
const U: Who = Who::Fresh("u");
const LONG: i64 = 3000;

pub(crate) fn parts(version: Version) -> Vec<Part> {
    let part = |name, members, jwt, rows| Part {
        name,
        members,
        jwt,
        rows,
    };
    let mut users = users(version);
    users.extend(permissions(version));
    vec![
        part(
            "keys and leases",
            1,
            false,
            [keys(), leases(), compactions()].concat_rows(),
        ),
        part("alarms", 1, false, alarms(version)),
        part("users and permissions", 1, false, users),
        part("stale tokens", 1, true, stale(version)),
        part("three members", 3, false, three()),
    ]
}

trait Concat {
    fn concat_rows(self) -> Vec<Row>;
}

impl<const N: usize> Concat for [Vec<Row>; N] {
    fn concat_rows(self) -> Vec<Row> {
        self.into_iter().flatten().collect()
    }
}

fn keys() -> Vec<Row> {
    let nested = |ops| all(ops).op();
    vec![
        refused("1 put with an unknown lease", leased("b", 3039).ask())
            .after(Who::Nobody, [put("a", "1").ask()]),
        refused(
            "2 put keeping the value of no key",
            same_value("nope").ask(),
        ),
        refused(
            "3 put keeping the lease of no key",
            same_lease("nope").ask(),
        ),
        idle("4 delete of no key", delete("zzz", "").ask()),
        idle("5 delete of an inverted range", delete("z", "a").ask()),
        idle("5 delete of an empty range", delete("a", "a").ask()),
        idle(
            "6 compare fails, nothing else",
            txn(vec![value_is("a", "no")], vec![put("x", "").op()], vec![]).ask(),
        ),
        idle(
            "7 compare holds, puts otherwise",
            txn(vec![value_is("a", "1")], vec![], vec![put("x", "").op()]).ask(),
        ),
        idle(
            "8 nested read",
            all(vec![nested(vec![range("a", 0).op()])]).ask(),
        ),
        idle("8 nested nothing", all(vec![nested(vec![])]).ask()),
        idle(
            "9 txn that deletes no key",
            all(vec![delete("zzz", "").op()]).ask(),
        ),
        refused(
            "10 txn with one unknown lease",
            all(vec![put("g1", "").op(), leased("g2", 777).op()]).ask(),
        ),
        refused(
            "11 txn keeping the value of no key",
            all(vec![put("g1", "").op(), same_value("g2").op()]).ask(),
        ),
        refused(
            "12 nested range in the future",
            all(vec![
                put("g4", "").op(),
                nested(vec![range("a", 100_000).op()]),
            ])
            .ask(),
        ),
        refused(
            "13 top-level range in the future",
            all(vec![put("g5", "").op(), range("a", 100_000).op()]).ask(),
        ),
        writes(
            "unknown lease in the branch not taken",
            txn(
                vec![value_is("a", "1")],
                vec![put("a", "1").op()],
                vec![leased("b", 9).op()],
            )
            .ask(),
        ),
        writes("the same put again", put("a", "1").ask()),
        writes(
            "put and delete of an absent key",
            all(vec![
                nested(vec![put("pd", "").op()]),
                nested(vec![delete("pd", "").op()]),
            ])
            .ask(),
        ),
        writes(
            "nested compares see the state before",
            all(vec![
                put("k1", "").op(),
                txn(
                    vec![is_absent("k1")],
                    vec![put("k2", "no").op()],
                    vec![put("k2", "").op()],
                )
                .op(),
            ])
            .ask(),
        ),
        writes(
            "delete from a key on, and put",
            all(vec![delete("k1", OPEN).op(), put("k1", "new").op()]).ask(),
        ),
    ]
}

fn leases() -> Vec<Row> {
    vec![
        refused("17 revoke of an unknown lease", revoke(1092)),
        idle("18 revoke of a lease without keys", revoke(18)).after(Who::Nobody, [grant(18, LONG)]),
        refused("19 grant of an existing id", grant(4242, LONG))
            .after(Who::Nobody, [grant(4242, LONG)]),
        refused("20 grant of a TTL too long", grant(20, 9_000_000_001)),
        idle("20 grant of the longest TTL", grant(20, 9_000_000_000)),
        idle("grant of a negative id", grant(-20, LONG)),
        writes("revoke of a lease with keys", revoke(5)).after(
            Who::Nobody,
            [grant(5, LONG), leased("l2", 5).ask(), leased("l1", 5).ask()],
        ),
        writes("a put detaches", put("l3", "").ask())
            .after(Who::Nobody, [grant(6, LONG), leased("l3", 6).ask()]),
        idle("18 revoke of a lease that lost its key", revoke(6)),
    ]
}

fn compactions() -> Vec<Row> {
    let nested = |revision| all(vec![range("a", revision).op()]).op();
    let with = |revision| all(vec![put("c", "").op(), nested(revision)]).ask();
    vec![
        writes("15a range at -1 before any compaction", with(-1)),
        idle("24 the first compaction at 0", compact(0)),
        refused("24 compaction at 0 again", compact(0)),
        refused("25 compaction in the future", compact(100_000)),
        idle("a compaction", compact(5)),
        refused("24 compaction again", compact(5)),
        refused("24 compaction further back", compact(3)),
        refused("14 range before the compaction", with(3)),
        refused(
            "14 top-level",
            all(vec![put("c", "").op(), range("a", 3).op()]).ask(),
        ),
        writes("range at the compaction", with(5)),
        refused("15 range at -1", with(-1)),
    ]
}

fn alarms(version: Version) -> Vec<Row> {
    let nested_put = || all(vec![all(vec![put("n", "").op()]).op()]).ask();
    let (s8, none) = if version == Version::V3_4 {
        (
            writes("29 nested put", nested_put()),
            idle("28 none for a member", alarm(1, 5, 0)),
        )
    } else {
        (
            refused("29 nested put", nested_put()),
            idle("28 none", alarm(1, 0, 0)),
        )
    };
    vec![
        idle("26 get", alarm(0, 0, 0)).after(Who::Nobody, [put("a", "1").ask(), grant(7, LONG)]),
        idle("27 clear what is not raised", alarm(2, 1, 1)),
        idle("27 clear nothing", alarm(2, 0, 0)),
        none,
        idle("raise", alarm(1, 1, 1)),
        idle("raise again", alarm(1, 1, 1)),
        refused("29 put", put("n", "").ask()),
        refused("29 grant", grant(29, LONG)),
        refused("29 txn", all(vec![put("n", "").op()]).ask()),
        refused(
            "29 put in the branch not taken",
            txn(
                vec![value_is("a", "1")],
                vec![delete("a", "").op()],
                vec![put("n", "").op()],
            )
            .ask(),
        ),
        s8,
        writes("29 delete passes", delete("a", "").ask()),
        idle("clear", alarm(2, 1, 1)),
        writes("put passes again", put("a", "1").ask()),
        refused("30 put", put("a", "").ask()).after(Who::Nobody, [alarm(1, 3, 2)]),
        refused("30 delete", delete("a", "").ask()),
        refused("30 txn", all(vec![delete("a", "").op()]).ask()),
        refused("30 compaction", compact(3)),
        refused("30 grant", grant(30, LONG)),
        refused("30 revoke", revoke(7)),
        governs("30 user add passes", user_add("x", "p")).then(Who::Nobody, [alarm(2, 3, 2)]),
        idle("revoke passes again", revoke(7)),
    ]
}

fn users(version: Version) -> Vec<Row> {
    let odd_range = |name, request| match version {
        Version::V3_4 => governs(name, request),
        Version::V3_5 | Version::V3_6 | Version::V3_7 => refused(name, request),
    };
    let no_base64 = password("odd", "", "no base64");
    let no_base64 = match version {
        Version::V3_4 => governs("58 hash that is no base64", no_base64),
        Version::V3_5 | Version::V3_6 | Version::V3_7 => {
            refused("58 hash that is no base64", no_base64)
        }
    };
    let status = match version {
        Version::V3_4 => kept_out("48 status", auth_status()),
        Version::V3_5 | Version::V3_6 | Version::V3_7 => idle("48 status", auth_status()),
    };
    vec![
        refused("49 enable without root", enable()),
        kept_out("47 log in while auth is off", login("root", "p"))
            .after(Who::Nobody, [user_add("root", "p")]),
        refused("49 enable while root lacks role root", enable()),
        idle("50 disable while disabled", disable()),
        refused("51 user exists", user_add("root", "q")),
        refused("51 user without a name", user_add("", "q")),
        refused("51 role exists", role_add("r")).after(Who::Nobody, [role_add("r")]),
        refused("51 role without a name", role_add("")),
        governs("a user gets a role", give_role("u", "r"))
            .after(Who::Nobody, [user_add("u", "p"), permit("r", 2, "k", "l")]),
        idle("52 a user has the role", give_role("u", "r")),
        refused("53 unknown role", give_role("u", "nope")),
        refused("53 unknown user", give_role("nope", "r")),
        refused("53 role not held", take_role("u", "nope")),
        refused("53 user is nobody", user_delete("nope")),
        refused("53 role is none", role_delete("nope")),
        refused("53 password of nobody", password("nope", "p", "")),
        refused("54 permission not granted", forbid("r", "k", "")),
        governs("the same permission again", permit("r", 2, "k", "l")),
        governs("the same password again", password("u", "p", "")),
        odd_range(
            "57 permission for an inverted range",
            permit("odd", 2, "z", "a"),
        )
        .after(Who::Nobody, [role_add("odd"), user_add("odd", "p")]),
        odd_range("57 permission without a key", permit("odd", 2, "", "a")),
        governs("a permission without an end", permit("odd", 2, "q", OPEN)),
        no_base64,
        idle("48 users", user_list()),
        idle("48 roles", role_list()),
        idle("48 a user", user_get("u")),
        idle("48 a role", role_get("r")),
        status,
        idle("auth on", enable()).after(
            Who::Nobody,
            [
                give_role("root", "root"),
                user_add("wo", "p"),
                role_add("w"),
                permit("w", 1, "w", "x"),
                give_role("wo", "w"),
                user_add("none", ""),
            ],
        ),
        idle("49 enable again", enable()).by(ROOT),
        idle("46 log in", login("u", "p")),
        kept_out("47 log in with a wrong password", login("u", "q")),
        kept_out("47 log in without a password", login("none", "")),
        refused("55 delete root", user_delete("root")).by(ROOT),
        refused("55 delete role root", role_delete("root")).by(ROOT),
        refused("55 take role root from root", take_role("root", "root")).by(ROOT),
        refused("56 admin request by a user", role_add("more")).by(U),
        refused("56 admin request by nobody", role_add("more")),
    ]
}

fn permissions(version: Version) -> Vec<Row> {
    let is_old = version == Version::V3_4;
    let nested = all(vec![all(vec![put("z", "").op()]).op()]).ask();
    let nested = if is_old {
        writes("37 nested put outside", nested)
    } else {
        refused("37 nested put outside", nested)
    };
    let lease_in_txn = all(vec![leased("k3", 5).op()]).ask();
    let lease_in_txn = if is_old {
        writes("39 in a txn", lease_in_txn)
    } else {
        refused("39 in a txn", lease_in_txn)
    };
    let open = |name, request| {
        if is_old {
            idle(name, request)
        } else {
            kept_out(name, request)
        }
    };
    let wo = Who::Fresh("wo");
    vec![
        refused("31 put by nobody", put("k1", "").ask()),
        writes("put by a user", put("k1", "").ask()).by(U),
        refused("32 put outside", put("z1", "").ask()).by(U),
        refused("33 delete beyond", delete("k", "m").ask()).by(U),
        writes("34 put with the right to write", put("w1", "").ask()).by(wo),
        refused("34 put that reads", with_prev(put("w1", "")).ask()).by(wo),
        writes("34 put keeping the value", same_value("w1").ask()).by(wo),
        refused(
            "35 compare that may not be read",
            txn(vec![is_absent("z")], vec![put("k1", "").op()], vec![]).ask(),
        )
        .by(U),
        refused(
            "36 put outside in the branch not taken",
            txn(vec![], vec![put("k1", "").op()], vec![put("z", "").op()]).ask(),
        )
        .by(U),
        nested.by(U),
        refused("39 lease that holds a key outside", leased("k2", 5).ask())
            .after(ROOT, [grant(5, LONG), leased("z2", 5).ask()])
            .by(U),
        lease_in_txn.by(U),
        refused("40 revoke of that lease", revoke(5)).by(U),
        open("compaction by nobody", compact(3)),
        open("grant by nobody", grant(99, LONG)),
        open("alarms by nobody", alarm(0, 0, 0)),
        refused("44 put after the role is gone", put("w2", "").ask())
            .after(ROOT, [role_delete("w")])
            .by(wo),
        kept_out(
            "45 put with the token of a deleted user",
            put("k1", "").ask(),
        )
        .after(U, [put("k1", "").ask()])
        .after(ROOT, [user_delete("u")])
        .by(Who::Stale("u")),
        governs("auth off", disable()).by(ROOT),
    ]
}

fn stale(version: Version) -> Vec<Row> {
    let root = Who::Stale("root");
    let only_nested = all(vec![all(vec![put("kk", "").op()]).op()]).ask();
    let (revoke_keys, only_nested) = match version {
        Version::V3_4 => (
            refused("42 revoke of a lease with keys", revoke(2)),
            writes("42 txn of nothing but a nested txn", only_nested),
        ),
        Version::V3_5 | Version::V3_6 | Version::V3_7 => (
            writes("42 revoke of a lease with keys", revoke(2)),
            refused("42 txn of nothing but a nested txn", only_nested),
        ),
    };
    vec![
        idle("auth on", enable()).after(
            Who::Nobody,
            [
                user_add("root", "p"),
                give_role("root", "root"),
                grant(1, LONG),
                grant(2, LONG),
            ],
        ),
        refused("42 put", put("k", "").ask())
            .after(ROOT, [leased("k", 2).ask(), role_add("x")])
            .by(root),
        refused("42 delete", delete("k", "").ask()).by(root),
        refused("42 delete of no key", delete("zz", "").ask()).by(root),
        refused("42 txn", all(vec![put("k", "").op()]).ask()).by(root),
        only_nested.by(root),
        idle("42 grant", grant(3, LONG)).by(root),
        idle("42 revoke of a lease without keys", revoke(1)).by(root),
        revoke_keys.by(root),
        idle("42 compaction", compact(2)).by(root),
        governs("42 role add", role_add("y")).by(root),
        idle("42 txn of nothing", all(vec![all(vec![]).op()]).ask()).by(root),
    ]
}

fn three() -> Vec<Row> {
    vec![
        refused(
            "13 range in the future",
            all(vec![put("d1", "").op(), range("a", 100_000).op()]).ask(),
        ),
        writes("put", put("k1", "").ask()),
        idle("auth on", enable()).after(
            Who::Nobody,
            [
                user_add("root", "p"),
                give_role("root", "root"),
                user_add("u", "p"),
                role_add("r"),
                permit("r", 2, "k", "l"),
                give_role("u", "r"),
            ],
        ),
        refused(
            "38 range that may not be read",
            all(vec![put("k5", "").op(), range("secret", 0).op()]).ask(),
        )
        .by(U),
        refused(
            "38 in the branch not taken",
            txn(
                vec![],
                vec![put("k6", "").op()],
                vec![range("secret", 0).op()],
            )
            .ask(),
        )
        .by(U),
        writes("put by the user", put("k1", "").ask()).by(U),
    ]
}
