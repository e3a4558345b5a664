//! Entries that no client can propose, or not at will, given to real members: those of the
//! catalogue, those on which members crash, and those that etcd 3.5 takes as the clock has it.

use anyhow::{Context, Result, bail, ensure};
use etcd_syncer::pb::etcdpb::compare::TargetUnion;
use etcd_syncer::pb::etcdpb::{self, InternalRaftRequest as Request, RequestHeader};
use etcd_syncer::resolve::Outcome::Effect;
use etcd_syncer::resolve::{Cause, Problem};

use crate::harness::Version;
use crate::inject::{Bench, LEASE_TTL_MIN, Outcome};
use crate::judge::{Fed, Judge, View};
use crate::raw;
use crate::requests::*;

/// Auth revision of a header.
#[derive(Clone, Copy)]
enum At {
    Now,
    /// So many changes ago.
    Before(u64),
    Never,
}

/// An entry, and whether it has an effect.
struct Entry {
    name: &'static str,
    user: &'static str,
    at: At,
    request: Request,
    effect: bool,
}

fn entry(name: &'static str, user: &'static str, at: At, request: Request, effect: bool) -> Entry {
    Entry {
        name,
        user,
        at,
        request,
        effect,
    }
}

fn nobody(name: &'static str, request: Request, effect: bool) -> Entry {
    entry(name, "", At::Never, request, effect)
}

fn root(name: &'static str, request: Request, effect: bool) -> Entry {
    entry(name, "root", At::Now, request, effect)
}

/// Root, and u who may do anything with k to l.
fn begin() -> Vec<Entry> {
    [
        user_add("root", "p"),
        give_role("root", "root"),
        user_add("u", "p"),
        role_add("r"),
        permit("r", 2, "k", "l"),
        give_role("u", "r"),
        grant(1, 3000),
        leased("k1", 1).ask(),
        enable(),
    ]
    .map(|request| nobody("a beginning", request, true))
    .into()
}

/// Rows of the catalogue, by number, with the reason why no client makes them.
fn rows(version: Version) -> Vec<Entry> {
    let is_3_4 = version == Version::V3_4;
    let is_3_7 = version == Version::V3_7;
    let old = At::Before(1);
    let both = etcdpb::PutRequest {
        value: "other".into(),
        ..same_value("k1")
    };
    let twice = all(vec![put("k5", "1").op(), put("k5", "2").op()]).ask();
    let reput = all(vec![delete("k5", "").op(), put("k5", "3").op()]).ask();
    let future = all(vec![put("k7", "").op(), range("k", 100_000).op()]).ask();
    let unreadable = all(vec![put("k8", "").op(), range("secret", 0).op()]).ask();
    let mut rows = begin();
    rows.extend([
        // 13 and 38: it takes a member that did not propose.
        root("13 top-level range in the future", future, !is_3_7),
        entry(
            "38 range that may not be read",
            "u",
            At::Now,
            unreadable,
            !is_3_7,
        ),
        // 21: it takes seconds until the leader repeats itself.
        nobody("corrupt", alarm(1, 1, 2), true),
    ]);
    // Up to 3.5 an alarm takes the checks away.
    rows.extend([
        root("21 expiry", revoke(1), false),
        root("21 expiry again", revoke(1), false),
        root("clear", alarm(2, 1, 2), true),
        root("21 expiry at last", revoke(1), true),
        root("21 a late one", revoke(1), false),
        // 22 and 43: chance, when many change users and put at the same time.
        root("a lease", grant(2, 3000), true),
        root("a key", leased("k2", 2).ask(), true),
        root("a change", role_add("x"), true),
        entry(
            "22 expiry, auth revision old",
            "root",
            old,
            revoke(2),
            !is_3_4,
        ),
        entry(
            "43 put, auth revision old",
            "root",
            old,
            put("k2", "").ask(),
            false,
        ),
        entry(
            "43 delete, auth revision old",
            "root",
            old,
            delete("k1", "").ask(),
            false,
        ),
        // 23: checkpoints come every five minutes, if they are switched on.
        root("a lease", grant(3, 3000), true),
        root("23 checkpoint", checkpoint(3, 1000), false),
        root("23 checkpoint of no lease", checkpoint(4, 1000), false),
        // 41: certificates without a name, or with that of no user.
        entry(
            "41 put without a name",
            "",
            At::Now,
            put("k1", "").ask(),
            false,
        ),
        entry(
            "41 put by no user",
            "nobody",
            At::Now,
            put("k1", "").ask(),
            false,
        ),
        entry(
            "41 admin request without a name",
            "",
            At::Now,
            role_add("y"),
            false,
        ),
        // 28 and 27: the API takes them, but 3.4 not all.
        root("28 none for a member", alarm(1, 5, 0), is_3_4),
        root("unknown action", alarm(7, 5, 1), false),
        // What the API refuses, and members do.
        root("lease 0", grant(0, 3000), false),
        root("value and keeping the value", both.ask(), false),
        root("a key to keep the value of", put("k1", "kept").ask(), true),
        root("two puts of a key", twice, true),
        root("delete and put of a key", reput, true),
        root("a range alone", range("k", 0).ask(), false),
        // As other releases than this one propose them.
        root("clear password", password("u", "q", ""), true),
        root(
            "clear password and hash",
            password("u", "q", "JDJhJDA0JGFiYw=="),
            true,
        ),
    ]);
    rows
}

/// What is compared and what is not defined.
fn compares() -> Vec<Entry> {
    let compare = |result, target, operand| etcdpb::Compare {
        result,
        target,
        key: "k1".into(),
        target_union: operand,
        range_end: bytes::Bytes::new(),
    };
    let with = |key: &str, compare| {
        txn(
            vec![compare],
            vec![put(key, "yes").op()],
            vec![put(key, "no").op()],
        )
        .ask()
    };
    let value = |text: &'static str| Some(TargetUnion::Value(text.into()));
    let mut entries = vec![nobody("a key", put("k1", "b").ask(), true)];
    let all = [
        compare(1, 3, value("a")),
        compare(2, 3, value("c")),
        compare(1, 3, value("c")),
        compare(0, 3, None),
        compare(1, 3, None),
        compare(0, 0, None),
        compare(3, 0, value("a")),
        compare(9, 0, None),
        compare(0, 9, None),
        compare(3, 9, None),
        compare(1, 9, None),
        compare(9, 9, None),
        compare(2, 4, Some(TargetUnion::Lease(1))),
        compare(2, 1, Some(TargetUnion::CreateRevision(3))),
    ];
    for compare in all {
        for key in ["k1", "none"] {
            let compare = etcdpb::Compare {
                key: key.into(),
                ..compare.clone()
            };
            entries.push(nobody("a compare", with("out", compare), true));
        }
    }
    entries
}

fn requests(judge: &mut Judge, entries: &[Entry]) -> Result<Vec<Request>> {
    let mut requests = Vec::new();
    for (id, entry) in (1..).zip(entries) {
        let revision = judge.state().auth().revision();
        let auth_revision = match entry.at {
            At::Now => revision,
            At::Before(changes) => revision - changes,
            At::Never => 0,
        };
        let header = RequestHeader {
            id,
            username: entry.user.to_owned(),
            auth_revision,
        };
        let request = Request {
            header: Some(header),
            ..entry.request.clone()
        };
        let Fed::Taken(resolved) = judge.feed(&raw::committed(judge, &request))? else {
            anyhow::bail!("{} is not resolved", entry.name);
        };
        let has_effect = resolved.outcome == Effect;
        ensure!(
            has_effect == entry.effect,
            "{}: {:?}",
            entry.name,
            resolved.outcome
        );
        requests.push(request);
    }
    Ok(requests)
}

async fn applied_alike(version: Version, entries: &[Entry]) -> Result<()> {
    let mut bench = Bench::start(version).await?;
    let mut judge = Judge::new(bench.release()?, View::Voters(3), LEASE_TTL_MIN)?;
    judge.feed_all(bench.head())?;
    let requests = requests(&mut judge, entries)?;
    let (found, tally) = raw::check(&mut bench, &requests).await?;
    ensure!(found.is_empty(), "etcd {version}: {}", found.join("\n"));
    ensure!(tally.halts.is_empty(), "{:?}", tally.halts);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_no_client_makes() -> Result<()> {
    for version in Version::ALL {
        applied_alike(version, &rows(version)).await?;
        applied_alike(version, &compares()).await?;
    }
    Ok(())
}

/// An entry on which members of some releases crash.
struct Poison {
    name: &'static str,
    first: Vec<Request>,
    last: Request,
    crashing: &'static [Version],
    /// Releases that understand it do nothing on it, so it does no harm to pass over it: who
    /// crashes must be upgraded.
    is_empty: bool,
}

const ALL: &[Version] = &Version::ALL;
const NOT_3_7: &[Version] = &[Version::V3_4, Version::V3_5, Version::V3_6];
const ONLY_3_4: &[Version] = &[Version::V3_4];

fn poison() -> Vec<Poison> {
    let harmful = |name, first, last, crashing| Poison {
        name,
        first,
        last,
        crashing,
        is_empty: false,
    };
    let with_key = || vec![put("k", "").ask()];
    let gone = |put| all(vec![delete("a", OPEN).op(), etcdpb::PutRequest::op(put)]).ask();
    let unsorted = |sort_order| {
        let range = etcdpb::RangeRequest {
            sort_order,
            sort_target: 9,
            ..range("k", 0)
        };
        all(vec![put("k", "").op(), all(vec![range.op()]).op()]).ask()
    };
    let unset = etcdpb::RequestOp { request: None };
    let no_permission = Request {
        auth_role_grant_permission: Some(etcdpb::AuthRoleGrantPermissionRequest {
            name: "r".to_owned(),
            perm: None,
        }),
        ..Request::default()
    };
    let none: &[Version] = &[];
    let only_3_5: &[Version] = &[Version::V3_5];
    vec![
        harmful(
            "value of a deleted key kept",
            with_key(),
            gone(same_value("k")),
            ALL,
        ),
        harmful(
            "lease of a deleted key kept",
            with_key(),
            gone(same_lease("k")),
            ALL,
        ),
        harmful("undefined sort target", with_key(), unsorted(1), NOT_3_7),
        harmful(
            "undefined sort target, no order",
            with_key(),
            unsorted(0),
            NOT_3_7,
        ),
        harmful("request not set", vec![], all(vec![unset]).ask(), ALL),
        harmful("undefined alarm", vec![], alarm(1, 1, 5), only_3_5),
        harmful("undefined action", vec![], alarm(7, 1, 1), none),
        harmful("alarm none of nobody", vec![], alarm(1, 0, 0), ONLY_3_4),
        harmful(
            "no permission",
            vec![role_add("r")],
            no_permission,
            ONLY_3_4,
        ),
    ]
}

/// What a release came with that older ones do not know.
fn later() -> Vec<Poison> {
    let empty = |name, last, crashing| Poison {
        name,
        first: vec![],
        last,
        crashing,
        is_empty: true,
    };
    let downgrade = Request {
        downgrade_info_set: Some(etcdpb::DowngradeInfoSetRequest::default()),
        ..Request::default()
    };
    let version_test = Request {
        downgrade_version_test: Some(etcdpb::DowngradeVersionTestRequest::default()),
        ..Request::default()
    };
    vec![
        empty("status", auth_status(), ONLY_3_4),
        empty("downgrade", downgrade, ONLY_3_4),
        empty(
            "version test",
            version_test,
            &[Version::V3_4, Version::V3_5],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_crash_where_we_say_so() -> Result<()> {
    let mut wrong = Vec::new();
    for version in Version::ALL {
        let mut bench = Bench::start(version).await?;
        for poison in poison().into_iter().chain(later()) {
            let mut judge = Judge::new(bench.release()?, View::Voters(3), LEASE_TTL_MIN)?;
            judge.feed_all(bench.head())?;
            let entries: Vec<Request> = (1..)
                .zip(poison.first.into_iter().chain([poison.last]))
                .map(|(id, request)| raw::with_id(&request, id))
                .collect();
            let mut halted = false;
            for request in &entries {
                halted = matches!(
                    judge.feed(&raw::committed(&judge, request))?,
                    Fed::Halted(_)
                );
            }
            let crashed = matches!(bench.apply(&entries).await?, Outcome::Crashed(_));
            let expected = poison.crashing.contains(&version);
            if (crashed, halted) != (expected, expected && !poison.is_empty) {
                let name = poison.name;
                wrong.push(format!(
                    "{name} on {version}: crashed {crashed}, halted {halted}"
                ));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// From 3.5.3 to 3.5.33 a member may see a record of the requester that is older than the last
/// change. With all entries in one batch, and what ends batches among them, it always does.
fn former_records() -> [(&'static str, Vec<Entry>, Request); 2] {
    let setup = |requests: Vec<Request>| -> Vec<Entry> {
        let requests = requests.into_iter();
        requests
            .map(|request| nobody("a beginning", request, true))
            .collect()
    };
    let mut deleted = setup(vec![
        user_add("root", "p"),
        user_add("u", "p"),
        give_role("root", "root"),
        role_add("r"),
        enable(),
    ]);
    deleted.push(root("u gets role root", give_role("u", "root"), true));
    deleted.push(root("u is deleted", user_delete("u"), true));
    // Deleting a role or enabling auth ends a batch; each batch must have a user in it.
    let mut behind = setup(vec![
        role_add("r"),
        role_add("x"),
        user_add("a", "p"),
        user_add("root", "p"),
        role_delete("x"),
        give_role("root", "root"),
        enable(),
    ]);
    behind.push(root("a is written", give_role("a", "r"), true));
    [
        ("u", deleted, permit("r", 0, "k", "")),
        ("root", behind, permit("r", 0, "k", "")),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn former_records_are_seen_by_3_5() -> Result<()> {
    for version in Version::ALL {
        let mut bench = Bench::start(version).await?;
        for (user, first, last) in former_records() {
            let mut judge = Judge::new(bench.release()?, View::Voters(3), LEASE_TTL_MIN)?;
            judge.feed_all(bench.head())?;
            let mut all = requests(&mut judge, &first)?;
            let has_root = user == "root";
            let before = judge.state().auth().revision();
            all.push(Request {
                header: Some(RequestHeader {
                    id: 100,
                    username: user.to_owned(),
                    auth_revision: before,
                }),
                ..last
            });
            let last = all.last().context("it was pushed")?;
            let fed = judge.feed(&raw::committed(&judge, last))?;
            let is_told = match &fed {
                Fed::Taken(resolved) => {
                    let cause = resolved.disagreement.as_ref().map(|one| one.cause);
                    ensure!((resolved.outcome == Effect) == has_root, "{fed:?}");
                    cause == Some(Cause::FormerRecord)
                }
                Fed::Halted(problem) => matches!(problem, Problem::MembersDisagree(_)),
            };
            let Outcome::Applied { picture, .. } = bench.apply(&all).await? else {
                bail!("etcd {version} crashed");
            };
            let is_applied = picture.auth_revision > before;
            let is_old = version == Version::V3_5;
            // What the record that is current says, or what the former one says.
            ensure!(
                is_applied == (has_root != is_old),
                "{user} on {version}: {is_applied}"
            );
            ensure!(is_told == is_old, "{user} on {version}: {fed:?}");
        }
    }
    Ok(())
}

/// Etcd issue 22376: of a key that is deleted and put again, a compaction at that revision leaves
/// nothing on disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compactions_lose_keys_that_were_put_again() -> Result<()> {
    for version in Version::ALL {
        let mut bench = Bench::start(version).await?;
        for (name, at, loses) in [
            ("there", 3, true),
            ("before", 2, false),
            ("after", 4, false),
        ] {
            let loses = loses && version != Version::V3_4;
            let reput = all(vec![delete("k", OPEN).op(), put("m", "2").op()]).ask();
            let entries = [
                put("m", "1").ask(),
                reput,
                put("other", "").ask(),
                compact(at),
            ];
            let entries: Vec<Request> = (1..)
                .zip(entries)
                .map(|(id, request)| raw::with_id(&request, id))
                .collect();
            let mut judge = Judge::new(bench.release()?, View::Voters(3), LEASE_TTL_MIN)?;
            judge.feed_all(bench.head())?;
            let mut halted = None;
            for entry in &entries {
                if let Fed::Halted(problem) = judge.feed(&raw::committed(&judge, entry))? {
                    halted = Some(problem);
                }
            }
            let rest = std::time::Duration::from_millis(500);
            let Outcome::Applied { picture, .. } = bench.apply_for(&entries, rest).await? else {
                bail!("{name} on {version}: it crashed");
            };
            let is_there = picture.keys.contains_key("m".as_bytes());
            ensure!(is_there != loses, "{name} on {version}: {:?}", picture.keys);
            let is_told = matches!(halted, Some(Problem::CompactionLosesKeys { .. }));
            ensure!(is_told == loses, "{name} on {version}: {halted:?}");
        }
    }
    Ok(())
}
