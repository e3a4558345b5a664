//! Leases through etcd's public client API.
//!
//! # Source
//! etcd `server/etcdserver/api/v3rpc/lease.go` and `v3_server.go`: a keep-alive is answered with
//! TTL 0 for a lease that is not there, and the list of leases is whatever the asked member has
//! applied.

use etcd_client::{
    Error, LeaseClient, LeaseGrantOptions, LeaseKeepAliveStream, LeaseKeeper,
    LeaseTimeToLiveOptions,
};
use futures_util::future::Either;
use futures_util::stream::{self, StreamExt};

use super::Etcd;
use crate::ids::LeaseId;
use crate::standby::{Failure, Granted, LeaseStatus, Leases, Standby};

/// How many grants or revokes are under way at a time: enough to share the standby's commits, and
/// far below the 5,000 at which etcd turns requests away.
const AT_A_TIME: usize = 64;

const STREAM_ENDED: &str = "the end of the stream of keep-alives";

impl Leases for Etcd {
    async fn grant(&mut self, ids: &[LeaseId], ttl: i64) -> Vec<Result<Granted, Failure>> {
        let client = match self.client().await {
            Ok(client) => client,
            Err(failure) => return ids.iter().map(|_| Err(failure.clone())).collect(),
        };
        let grants = ids.iter().copied();
        let grants = grants.map(|id| self.grant_one(client.lease_client(), id, ttl));
        stream::iter(grants).buffered(AT_A_TIME).collect().await
    }

    async fn revoke(&mut self, ids: &[LeaseId]) -> Vec<Result<(), Failure>> {
        let client = match self.client().await {
            Ok(client) => client,
            Err(failure) => return ids.iter().map(|_| Err(failure.clone())).collect(),
        };
        let revokes = ids.iter().copied();
        let revokes = revokes.map(|id| self.revoke_one(client.lease_client(), id));
        stream::iter(revokes).buffered(AT_A_TIME).collect().await
    }

    async fn keep_alive(&mut self, ids: &[LeaseId]) -> Result<Vec<Option<i64>>, Failure> {
        let mut kept = Vec::with_capacity(ids.len());
        while let Some((first, rest)) = ids[kept.len()..].split_first() {
            match self.first_kept(*first).await? {
                None => kept.push(None),
                Some((keeper, answers, ttl)) => {
                    kept.push(Some(ttl));
                    kept.extend(self.rest_kept(keeper, answers, rest).await?);
                }
            }
        }
        Ok(kept)
    }

    async fn leases(&mut self) -> Result<Vec<LeaseId>, Failure> {
        // A member lists what it has applied so far. A linearizable read through it comes back only
        // when it has applied all that was committed before.
        self.about().await?;
        let mut client = self.client().await?;
        let listed = self.ask(client.leases()).await?;
        let ids = listed.leases().iter().map(|status| LeaseId(status.id()));
        Ok(ids.collect())
    }

    async fn time_to_live(&mut self, ids: &[LeaseId]) -> Vec<Result<Option<LeaseStatus>, Failure>> {
        let client = match self.client().await {
            Ok(client) => client,
            Err(failure) => return ids.iter().map(|_| Err(failure.clone())).collect(),
        };
        let questions = ids.iter().copied();
        let questions = questions.map(|id| self.ask_about(client.lease_client(), id));
        stream::iter(questions).buffered(AT_A_TIME).collect().await
    }
}

impl Etcd {
    async fn grant_one(
        &self,
        mut client: LeaseClient,
        id: LeaseId,
        ttl: i64,
    ) -> Result<Granted, Failure> {
        let options = LeaseGrantOptions::new().with_id(id.0);
        match self.ask(client.grant(ttl, Some(options))).await {
            Ok(_) => Ok(Granted::Made),
            Err(Failure::Already(_)) => Ok(Granted::Existed),
            Err(failure) => Err(failure),
        }
    }

    async fn revoke_one(&self, mut client: LeaseClient, id: LeaseId) -> Result<(), Failure> {
        match self.ask(client.revoke(id.0)).await {
            Ok(_) | Err(Failure::LeaseNotFound(_)) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    async fn ask_about(
        &self,
        mut client: LeaseClient,
        id: LeaseId,
    ) -> Result<Option<LeaseStatus>, Failure> {
        let options = LeaseTimeToLiveOptions::new().with_keys();
        let answer = match self.ask(client.time_to_live(id.0, Some(options))).await {
            Ok(answer) => answer,
            Err(Failure::LeaseNotFound(_)) => return Ok(None),
            Err(failure) => return Err(failure),
        };
        if answer.ttl() < 0 {
            return Ok(None);
        }
        let mut keys: Vec<_> = answer.keys().iter().cloned().map(Into::into).collect();
        keys.sort_unstable();
        Ok(Some(LeaseStatus {
            granted_ttl: answer.granted_ttl(),
            remaining: answer.ttl(),
            keys,
        }))
    }

    /// Opens a stream of keep-alives with its first one; none if that lease is not there.
    async fn first_kept(
        &mut self,
        id: LeaseId,
    ) -> Result<Option<(LeaseKeeper, LeaseKeepAliveStream, i64)>, Failure> {
        let mut client = self.client().await?;
        let opened = async {
            match client.lease_keep_alive(id.0).await {
                // The client library reads the first answer itself, and says this of TTL 0.
                Err(Error::LeaseKeepAliveError(what)) if what == "lease not found" => Ok(None),
                Err(error) => Err(error),
                Ok((mut keeper, mut answers)) => {
                    // It keeps the TTL of that answer to itself, so ask once more.
                    keeper.keep_alive().await?;
                    match answers.message().await?.map(|answer| answer.ttl()) {
                        Some(ttl) if ttl > 0 => Ok(Some((keeper, answers, ttl))),
                        Some(_) => Ok(None),
                        None => Err(Error::LeaseKeepAliveError(STREAM_ENDED.to_owned())),
                    }
                }
            }
        };
        self.ask(opened).await
    }

    async fn rest_kept(
        &self,
        mut keeper: LeaseKeeper,
        mut answers: LeaseKeepAliveStream,
        ids: &[LeaseId],
    ) -> Result<Vec<Option<i64>>, Failure> {
        let asking = async {
            for id in ids {
                keeper.id = id.0;
                keeper
                    .keep_alive()
                    .await
                    .map_err(|error| Failure::of(&error))?;
            }
            Ok(())
        };
        let reading = async {
            let mut kept = Vec::with_capacity(ids.len());
            for id in ids {
                let answer = self.ask(answers.message()).await?;
                match answer {
                    Some(answer) if answer.id() == id.0 => {
                        kept.push(Some(answer.ttl()).filter(|ttl| *ttl > 0));
                    }
                    Some(answer) => {
                        let other = LeaseId(answer.id());
                        let what = format!("an answer about lease {other}, asked about {id}");
                        return Err(Failure::Unknown(self.told_by(&what)));
                    }
                    None => {
                        return Err(Failure::Unknown(self.told_by(STREAM_ENDED)));
                    }
                }
            }
            Ok(kept)
        };
        // What cannot be asked has no answer, so the reader has the last word.
        futures_util::pin_mut!(asking, reading);
        match futures_util::future::select(asking, reading).await {
            Either::Left((Ok(()), reading)) => reading.await,
            Either::Left((Err(failure), _)) => Err(failure),
            Either::Right((kept, _)) => kept,
        }
    }
}
