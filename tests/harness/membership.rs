//! Members that come, go and lead.

use std::time::Duration;

use anyhow::{Context, Result};
use etcd_client::{Error, MemberAddOptions};
use tonic::Code;

use super::cluster::Cluster;
use super::member::{Member, READY_WITHIN};
use super::poll::{Fatal, eventually};

/// etcd refuses changes until all members have been connected for 5 seconds.
const CHANGE_WITHIN: Duration = Duration::from_secs(20);

impl Cluster {
    /// The raft member id of member `i`.
    ///
    /// # Errors
    /// If there is no such member.
    pub fn member_id(&self, i: usize) -> Result<u64> {
        let id = self.member(i)?.id;
        id.with_context(|| format!("the id of member {i} is not known"))
    }

    /// The members as the cluster lists them, learners and those not started included.
    ///
    /// # Errors
    /// If no member answers.
    pub async fn member_list(&self) -> Result<Vec<etcd_client::Member>> {
        let list = self.client().await?.member_list().await;
        Ok(list.context("can't list the members")?.members().to_vec())
    }

    /// Adds a learner at `peer_url`, without starting anything there, and returns its member id.
    ///
    /// # Errors
    /// If the cluster still refuses after 20 seconds. For the 5 seconds after a start or an outage
    /// a cluster of several members does so, unless started with `--strict-reconfig-check=false`.
    pub async fn add_learner(&self, peer_url: &str) -> Result<u64> {
        self.add(peer_url, MemberAddOptions::new().with_is_learner())
            .await
            .with_context(|| format!("can't add the learner {peer_url}"))
    }

    /// Adds a voting member of the version of member 0, starts it, waits until it answers, and
    /// returns its index.
    ///
    /// # Errors
    /// If the cluster still refuses after 20 seconds or the member does not come up within 30.
    pub async fn add_member(&mut self) -> Result<usize> {
        let first = self.member(0)?;
        let index = self.size();
        let name = format!("m{index}");
        let mut member = Member::new(&name, first.version, &first.binaries, self.folder.path())?;
        let id = self
            .add(&member.peer_url(), MemberAddOptions::new())
            .await
            .with_context(|| format!("can't add member {name}"))?;
        let mut initial = vec![member.initial()];
        for other in self.member_list().await? {
            // One that has not been started has no name yet.
            if other.id() != id && !other.name().is_empty() {
                let urls = other.peer_urls().iter();
                initial.extend(urls.map(|url| format!("{}={url}", other.name())));
            } else if other.id() != id {
                let urls = other.peer_urls().iter();
                initial.extend(urls.map(|url| format!("other-{:x}={url}", other.id())));
            }
        }
        member.spawn(&self.flags, &initial.join(","), "existing")?;
        let ready = member.wait_ready(READY_WITHIN).await;
        self.members.push(member);
        ready?;
        Ok(index)
    }

    async fn add(&self, peer_url: &str, options: MemberAddOptions) -> Result<u64> {
        let mut client = self.client().await?;
        eventually("the cluster takes a member", CHANGE_WITHIN, async || {
            let answer = client.member_add([peer_url], Some(options.clone())).await?;
            let member = answer.member().context("the answer names no member")?;
            Ok(member.id())
        })
        .await
    }

    /// Takes the member with this raft id, a learner or a voter, out of the cluster. If it is one
    /// of the harness's own, its process is killed.
    ///
    /// # Errors
    /// If there is no such member, or the cluster still refuses after 20 seconds.
    pub async fn remove_member(&mut self, id: u64) -> Result<()> {
        let mut client = self.client().await?;
        eventually(
            "the cluster lets a member go",
            CHANGE_WITHIN,
            async || match client.member_remove(id).await {
                Err(Error::GRpcStatus(status)) if status.code() == Code::NotFound => {
                    Err(Fatal::because(&status.into()))
                }
                answer => Ok(answer.map(drop)?),
            },
        )
        .await
        .with_context(|| format!("can't remove member {id:x}"))?;
        for member in &mut self.members {
            if member.id == Some(id) {
                member.removed = true;
                member.kill()?;
            }
        }
        Ok(())
    }

    /// Makes the learner with this raft id a voter.
    ///
    /// # Errors
    /// If it is still not in sync with the leader after 20 seconds.
    pub async fn promote(&self, id: u64) -> Result<()> {
        let mut client = self.client().await?;
        eventually("the learner is promoted", CHANGE_WITHIN, async || {
            client.member_promote(id).await?;
            Ok(())
        })
        .await
        .with_context(|| format!("can't promote member {id:x}"))
    }

    /// Makes member `i` the leader and waits until it is.
    ///
    /// # Errors
    /// If it is not after 20 seconds.
    pub async fn move_leader(&mut self, i: usize) -> Result<()> {
        let id = self.member_id(i)?;
        eventually("the leadership moves", CHANGE_WITHIN, async || {
            let leader = self.leader().await?;
            if leader == i {
                return Ok(());
            }
            // Only the leader takes this request.
            self.client_of(leader).await?.move_leader(id).await?;
            let now = self.leader().await?;
            anyhow::ensure!(now == i, "the leader is member {now}");
            Ok(())
        })
        .await
        .with_context(|| format!("can't make member {i} the leader"))
    }
}
