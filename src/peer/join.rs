//! Finds out who we are in the primary. IO.
//!
//! A learner cannot predict its ID: the member that added it took the time of day into it. So the
//! members are asked for their list, and we are the one with our advertised URL.
//!
//! # Source
//! etcd 3.7.1 `server/etcdserver/api/membership/member.go` computeMemberID.

use std::fmt;
use std::time::Duration;

use futures_util::future::join_all;

use super::dial::chain;
use super::handshake::Identity;
use super::members::{self, Listing, Member, fetch_members, fetch_version};
use super::net::Security;
use super::version::Versions;
use crate::ids::{ClusterId, MemberId};

/// What the primary says about us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// We are a learner of it.
    Found(Found),
    /// It does not have us, or not yet.
    NotListed {
        /// The cluster.
        cluster: ClusterId,
        /// Who is in it.
        members: Vec<Member>,
    },
}

/// We, as the primary sees us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Cluster and our ID in it.
    pub identity: Identity,
    /// All members, we among them, ascending by ID.
    pub members: Vec<Member>,
    /// What the first member says that answers; none if no one does.
    pub versions: Option<Versions>,
}

/// Why there is no answer to rely on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No URL was given.
    #[error("no peer URL of the primary is given")]
    NoUrls,
    /// None of the URLs answers as a member does.
    #[error("no member of the primary answers: {0}")]
    NoAnswer(Causes),
    /// Not all URLs are of one cluster.
    #[error(
        "{one_url} belongs to cluster {one}, but {other_url} to {other}: name one cluster only"
    )]
    DifferentClusters {
        /// A URL.
        one_url: String,
        /// Its cluster.
        one: ClusterId,
        /// Another URL.
        other_url: String,
        /// Its cluster.
        other: ClusterId,
    },
    /// We were added as an ordinary member.
    #[error(
        "member {us} with URL {url} is a voter: remove it and add it again as a learner \
         (with --learner)"
    )]
    Voter {
        /// Our ID.
        us: MemberId,
        /// Our URL.
        url: String,
    },
    /// Several members have our URL.
    #[error("members {one} and {other} both have the URL {url}: remove the wrong one")]
    Ambiguous {
        /// A member.
        one: MemberId,
        /// Another.
        other: MemberId,
        /// Our URL.
        url: String,
    },
}

/// What went wrong at each URL.
#[derive(Debug)]
pub struct Causes(pub Vec<(String, members::Error)>);

impl fmt::Display for Causes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (url, error)) in self.0.iter().enumerate() {
            let separator = if position == 0 { "" } else { "; " };
            write!(f, "{separator}{url}: {}", chain(error))?;
        }
        Ok(())
    }
}

/// Asks all `primary_peer_urls` at once for the member with `advertised_url`.
///
/// URLs are compared as text, after a slash at the end is taken off. `limit`: for each request.
/// Members that have not applied our addition yet do not list us: ask again.
///
/// # Errors
/// [`Error`].
pub async fn find_self(
    security: Security,
    primary_peer_urls: &[String],
    advertised_url: &str,
    limit: Duration,
) -> Result<Lookup, Error> {
    if primary_peer_urls.is_empty() {
        return Err(Error::NoUrls);
    }
    let asked = primary_peer_urls.iter().map(|url| async move {
        let listing = fetch_members(security, url, limit).await;
        (url.clone(), listing)
    });
    let answers = join_all(asked).await;
    let lookup = match read_answers(answers, advertised_url)? {
        (Lookup::Found(found), url) => {
            let versions = fetch_version(security, &url, limit).await.ok();
            Lookup::Found(Found { versions, ..found })
        }
        (lookup, _) => lookup,
    };
    Ok(lookup)
}

type Answers = Vec<(String, Result<Listing, members::Error>)>;

/// Returns the lookup and the URL it rests on.
fn read_answers(answers: Answers, advertised_url: &str) -> Result<(Lookup, String), Error> {
    let mut listings = Vec::new();
    let mut causes = Vec::new();
    for (url, answer) in answers {
        match answer {
            Ok(listing) => listings.push((url, listing)),
            Err(error) => causes.push((url, error)),
        }
    }
    let Some((first_url, first)) = listings.first() else {
        return Err(Error::NoAnswer(Causes(causes)));
    };
    let cluster = first.cluster;
    if let Some((other_url, other)) = listings.iter().find(|(_, l)| l.cluster != cluster) {
        return Err(Error::DifferentClusters {
            one_url: first_url.clone(),
            one: cluster,
            other_url: other_url.clone(),
            other: other.cluster,
        });
    }
    for (url, listing) in &listings {
        if let Some(us) = find_in(listing, advertised_url)? {
            let found = Found {
                identity: Identity { cluster, us },
                members: listing.members.clone(),
                versions: None,
            };
            return Ok((Lookup::Found(found), url.clone()));
        }
    }
    let members = first.members.clone();
    Ok((Lookup::NotListed { cluster, members }, first_url.clone()))
}

fn find_in(listing: &Listing, advertised_url: &str) -> Result<Option<MemberId>, Error> {
    let url = trimmed(advertised_url);
    let mut ours = listing
        .members
        .iter()
        .filter(|member| member.peer_urls.iter().any(|u| trimmed(u) == url));
    let Some(us) = ours.next() else {
        return Ok(None);
    };
    let url = url.to_owned();
    if let Some(other) = ours.next() {
        return Err(Error::Ambiguous {
            one: us.id,
            other: other.id,
            url,
        });
    }
    if !us.is_learner {
        return Err(Error::Voter { us: us.id, url });
    }
    Ok(Some(us.id))
}

fn trimmed(url: &str) -> &str {
    url.strip_suffix('/').unwrap_or(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, url: &str, is_learner: bool) -> Member {
        Member {
            id: MemberId(id),
            peer_urls: vec![url.into()],
            name: String::new(),
            client_urls: Vec::new(),
            is_learner,
        }
    }

    fn answer(
        url: &str,
        cluster: u64,
        members: &[Member],
    ) -> (String, Result<Listing, members::Error>) {
        let cluster = ClusterId(cluster);
        let members = members.to_vec();
        (url.into(), Ok(Listing { cluster, members }))
    }

    fn silent(url: &str) -> (String, Result<Listing, members::Error>) {
        (url.into(), Err(members::Error::NoCluster))
    }

    #[test]
    fn we_are_the_learner_with_our_url() {
        let listed = [member(1, "http://a", false), member(2, "http://us", true)];
        let answers = vec![
            silent("x"),
            answer("y", 5, &listed[..1]),
            answer("z", 5, &listed),
        ];
        let (lookup, url) = read_answers(answers, "http://us/").unwrap();
        assert_eq!(url, "z");
        let Lookup::Found(found) = lookup else {
            panic!("{lookup:?}");
        };
        let identity = Identity {
            cluster: ClusterId(5),
            us: MemberId(2),
        };
        assert_eq!(found.identity, identity);
        assert_eq!(found.members, listed);
    }

    #[test]
    fn whoever_does_not_list_us_says_so() {
        let listed = [member(1, "http://a", false)];
        let (lookup, _) = read_answers(vec![answer("y", 5, &listed)], "http://us").unwrap();
        let members = listed.to_vec();
        assert_eq!(
            lookup,
            Lookup::NotListed {
                cluster: ClusterId(5),
                members
            }
        );
    }

    #[test]
    fn what_cannot_be_right_is_an_error() {
        let voter = vec![answer("y", 5, &[member(2, "http://us", false)])];
        let twice = vec![answer(
            "y",
            5,
            &[member(2, "http://us", true), member(3, "http://us/", true)],
        )];
        let two_clusters = vec![answer("y", 5, &[]), answer("z", 6, &[])];
        let cases = [
            (
                voter,
                "member 2 with URL http://us is a voter: remove it and add it again as a learner (with --learner)",
            ),
            (
                twice,
                "members 2 and 3 both have the URL http://us: remove the wrong one",
            ),
            (
                two_clusters,
                "y belongs to cluster 5, but z to 6: name one cluster only",
            ),
            (
                vec![silent("y"), silent("z")],
                "no member of the primary answers: y: the answer is none of an etcd member: it names no cluster; z: the answer is none of an etcd member: it names no cluster",
            ),
        ];
        for (answers, wanted) in cases {
            let error = read_answers(answers, "http://us").unwrap_err();
            assert_eq!(error.to_string(), wanted);
        }
    }
}
