//! Random logs given to real members, compared with what we resolve of them.

use anyhow::{Context, Result};
use etcd_syncer::entry::Committed;
use etcd_syncer::ids::{RaftIndex, Term};
use etcd_syncer::pb::etcdpb::{InternalRaftRequest as Request, RequestHeader};
use etcd_syncer::resolve::{Cause, Problem, Resolved};
use prost::Message as _;

use crate::compare;
use crate::generate::{Generator, PASSWORDS, Seen, Style};
use crate::inject::{Bench, LEASE_TTL_MIN, Outcome};
use crate::judge::{Fed, Judge, Tally, View};

/// A random log, and what generating it met.
pub(crate) struct Made {
    pub(crate) requests: Vec<Request>,
    /// Left out since members crash on them.
    pub(crate) poison: u64,
    /// Left out since they cannot be decided.
    pub(crate) undecided: Vec<String>,
}

pub(crate) fn style(release: &str, seed: u64) -> Style {
    let minor = release
        .split('.')
        .nth(1)
        .and_then(|minor| minor.parse().ok());
    Style {
        minor: minor.unwrap_or(0),
        is_raw: true,
        top_ranges: true,
        reputs: true,
        alarms: seed.is_multiple_of(2),
        large_values: false,
        odd_permissions: seed.is_multiple_of(3),
        odd_passwords: false,
    }
}

/// Makes a log of `length` entries. They refer to what the ones before them did, so they are
/// resolved as they are made.
pub(crate) fn make(bench: &Bench, seed: u64, length: usize) -> Result<Made> {
    let release = bench.release()?;
    let mut generator = Generator::new(seed, style(release, seed));
    let mut judge = Judge::new(release, View::Voters(3), LEASE_TTL_MIN)?;
    judge.feed_all(bench.head())?;
    let mut made = Made {
        requests: prelude(),
        poison: 0,
        undecided: Vec::new(),
    };
    for (id, request) in (1..).zip(&made.requests) {
        let fed = judge.feed(&committed(&judge, &with_id(request, id)))?;
        anyhow::ensure!(matches!(fed, Fed::Taken(_)), "{request:?}: {fed:?}");
    }
    for (id, request) in (1..).zip(&mut made.requests) {
        *request = with_id(request, id);
    }
    let mut id = u64::try_from(made.requests.len())?;
    while made.requests.len() < length {
        id += 1;
        let position = judge.state().position();
        generator.seen = Seen {
            revision: position.revision.0,
            compact: position.compact_revision.0,
        };
        let mut request = generator.request();
        request.header = Some(header(&mut generator, judge.state().auth().revision(), id));
        let before = judge.clone();
        match judge.feed(&committed(&judge, &request))? {
            // Which way it takes hangs on the clock; the judge goes on without it.
            Fed::Taken(resolved) if is_by_the_clock(&resolved) => {
                made.undecided
                    .push("a former record of the requester".to_owned());
                judge = before;
            }
            Fed::Taken(_) => made.requests.push(request),
            Fed::Halted(Problem::Poison(_)) => made.poison += 1,
            Fed::Halted(problem) => made.undecided.push(problem.to_string()),
        }
    }
    Ok(made)
}

pub(crate) fn committed(judge: &Judge, request: &Request) -> Committed {
    Committed {
        index: RaftIndex(judge.state().position().index.0 + 1),
        term: Term(2),
        kind: 0,
        data: request.encode_to_vec().into(),
    }
}

fn is_by_the_clock(resolved: &Resolved) -> bool {
    let disagreement = resolved.disagreement.as_ref();
    disagreement.is_some_and(|disagreement| disagreement.cause == Cause::FormerRecord)
}

pub(crate) fn with_id(request: &Request, id: u64) -> Request {
    let header = RequestHeader {
        id,
        ..request.header.clone().unwrap_or_default()
    };
    Request {
        header: Some(header),
        ..request.clone()
    }
}

/// Users and roles to begin with; without them most requests would do nothing.
pub(crate) fn prelude() -> Vec<Request> {
    use etcd_syncer::pb::etcdpb::*;
    let mut all = Vec::new();
    let mut add = |set: &dyn Fn(&mut Request)| {
        let mut request = Request::default();
        set(&mut request);
        all.push(request);
    };
    for name in ["root", "u", "v"] {
        add(&|request| {
            request.auth_user_add = Some(AuthUserAddRequest {
                name: name.to_owned(),
                password: PASSWORDS[0].to_owned(),
                options: Some(UserAddOptions { no_password: false }),
                hashed_password: String::new(),
            });
        });
    }
    for name in ["r", "s"] {
        add(&|request| {
            request.auth_role_add = Some(AuthRoleAddRequest {
                name: name.to_owned(),
            });
        });
    }
    for (user, role) in [("root", "root"), ("u", "r"), ("v", "s")] {
        add(&|request| {
            request.auth_user_grant_role = Some(AuthUserGrantRoleRequest {
                user: user.to_owned(),
                role: role.to_owned(),
            });
        });
    }
    for (role, perm_type, key, range_end) in [
        ("r", 2, "a", "d"),
        ("r", 0, "d", "\0"),
        ("s", 2, "c", "\0"),
        ("s", 1, "a", ""),
    ] {
        add(&|request| {
            request.auth_role_grant_permission = Some(AuthRoleGrantPermissionRequest {
                name: role.to_owned(),
                perm: Some(Permission {
                    perm_type,
                    key: key.into(),
                    range_end: range_end.into(),
                }),
            });
        });
    }
    all
}

fn header(generator: &mut Generator, auth_revision: u64, id: u64) -> RequestHeader {
    let username = match generator.rng.u32(0..100) {
        0..42 => "root",
        42..64 => "u",
        64..84 => "v",
        84..90 => "w",
        90..93 => "nobody",
        _ => "",
    };
    let old = generator.rng.u64(1..4);
    let auth_revision = match generator.rng.u32(0..100) {
        _ if username.is_empty() && old > 1 => 0,
        0..82 => auth_revision,
        82..92 => auth_revision.saturating_sub(old),
        92..95 => 0,
        95..97 => 1,
        _ => auth_revision + 2,
    };
    RequestHeader {
        id,
        username: username.to_owned(),
        auth_revision,
    }
}

/// What is wrong with a log; nothing if the member holds what we resolve, or crashes where we say
/// that it does, or if we cannot tell.
pub(crate) async fn check(bench: &mut Bench, requests: &[Request]) -> Result<(Vec<String>, Tally)> {
    let release = bench.release()?.to_owned();
    let mut judge = Judge::new(&release, View::Voters(3), LEASE_TTL_MIN)?;
    let outcome = bench.apply(requests).await?;
    judge
        .feed_all(bench.head())
        .context("the head is not understood")?;
    for (at, request) in requests.iter().enumerate() {
        let problem = match judge.feed(&committed(&judge, request))? {
            Fed::Taken(resolved) if is_by_the_clock(&resolved) => return Ok((vec![], judge.tally)),
            Fed::Taken(_) => continue,
            Fed::Halted(problem) => problem,
        };
        *judge.tally.halts.entry(problem.to_string()).or_default() += 1;
        let is_poison = matches!(problem, Problem::Poison(_));
        let found = match &outcome {
            Outcome::Applied { .. } if is_poison => {
                vec![format!("no crash on {at}: {}", show(request))]
            }
            Outcome::Applied { .. } | Outcome::Crashed(_) => vec![],
        };
        return Ok((found, judge.tally));
    }
    let (log, picture) = match outcome {
        Outcome::Applied { log, picture } => (log, picture),
        Outcome::Crashed(end) => return Ok((vec![format!("it crashed:\n{end}")], judge.tally)),
    };
    let resolved = usize::try_from(judge.state().position().index.0)?;
    let halted = judge.feed_all(&log[resolved..])?;
    anyhow::ensure!(halted.is_none(), "halted at the entries of a start");
    let found = compare::differences(&judge, &picture)?;
    Ok((found, judge.tally))
}

/// A request in one line, without what is not set.
pub(crate) fn show(request: &Request) -> String {
    let whole = format!("{request:?}");
    let parts = whole.split(", ");
    let is_set = |part: &&str| !part.trim_end_matches([' ', '}']).ends_with(": None");
    let set: Vec<&str> = parts.filter(is_set).collect();
    set.join(", ")
        .replace("InternalRaftRequest { header: Some(RequestHeader ", "")
}

/// Prints each entry with what we make of it.
pub(crate) fn trace(bench: &Bench, requests: &[Request]) -> Result<()> {
    let mut judge = Judge::new(bench.release()?, View::Voters(3), LEASE_TTL_MIN)?;
    judge.feed_all(bench.head())?;
    for request in requests {
        let fed = judge.feed(&committed(&judge, request))?;
        let outcome = match &fed {
            Fed::Taken(resolved) => format!("{:?} {:?}", resolved.outcome, resolved.disagreement),
            Fed::Halted(problem) => format!("{problem:?}"),
        };
        println!(
            "{} rev {} auth {}: {} => {outcome}",
            judge.state().position().index,
            judge.state().position().revision,
            judge.state().auth().revision(),
            show(request)
        );
    }
    Ok(())
}
