//! Who can log in with what.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};
use etcd_syncer::pb::etcdpb::{self, InternalRaftRequest as Request};

use crate::generate::{PASSWORDS, USERS};
use crate::rpc::{Answer, Connection};

/// For a user and a password, whether they fit.
pub(crate) type Logins = BTreeMap<(&'static str, &'static str), bool>;

const ATTEMPTS: usize = 20;

/// Tries every password with every user, and what is nobody's; none if auth is off.
pub(crate) async fn of(endpoints: &[String]) -> Result<Option<Logins>> {
    let mut logins = Logins::new();
    for user in USERS {
        for password in PASSWORDS.into_iter().chain(["", "Zx9-nobodys"]) {
            let Some(fits) = fits(endpoints, user, password).await? else {
                return Ok(None);
            };
            logins.insert((user, password), fits);
        }
    }
    Ok(Some(logins))
}

async fn fits(endpoints: &[String], name: &str, password: &str) -> Result<Option<bool>> {
    let request = Request {
        authenticate: Some(etcdpb::AuthenticateRequest {
            name: name.to_owned(),
            password: password.to_owned(),
            simple_token: String::new(),
        }),
        ..Request::default()
    };
    for attempt in 0..ATTEMPTS {
        let member = endpoints[attempt % endpoints.len()].clone();
        match Connection::to(member)?.send(&request, None).await? {
            Answer::Done(_) => return Ok(Some(true)),
            Answer::Refused(why) if why.contains("not enabled") => return Ok(None),
            Answer::Refused(why) if why.contains("authentication failed") => {
                return Ok(Some(false));
            }
            Answer::Refused(why) => bail!("login as {name}: {why}"),
            Answer::Unknown => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
    bail!("no answer to a login as {name}")
}

/// Whoever can log in on the primary can on the standby and the other way round; nobody can whose
/// password was not carried.
pub(crate) fn differences(
    primary: &Logins,
    standby: &Logins,
    not_carried: &BTreeMap<String, String>,
) -> Vec<String> {
    let mut found = Vec::new();
    for (place @ (user, password), expected) in primary {
        let expected = *expected && !not_carried.contains_key(*user);
        let does = standby.get(place);
        if does != Some(&expected) {
            found.push(format!("{user} with {password:?}: {does:?} for {expected}"));
        }
    }
    found
}
