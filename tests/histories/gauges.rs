//! What a member says of itself without being asked for a user.

use anyhow::{Context, Result, ensure};

use crate::harness::{Cluster, http_get};

/// Some of a member's metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gauges {
    pub(crate) has_leader: bool,
    pub(crate) is_leader: bool,
    pub(crate) committed: u64,
    pub(crate) applied: u64,
    pub(crate) revision: i64,
    pub(crate) compact: i64,
    pub(crate) auth_revision: u64,
}

impl Gauges {
    pub(crate) async fn of(cluster: &Cluster, member: usize) -> Result<Self> {
        let answer = http_get(&cluster.client_address(member)?, "/metrics").await?;
        ensure!(answer.status == 200, "metrics: {}", answer.status);
        let gauge = |name: &str| -> Result<i64> {
            let mut lines = answer.body.lines();
            let number = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            let number: f64 = number.with_context(|| format!("no {name}"))?.parse()?;
            format!("{number}")
                .parse()
                .with_context(|| format!("{name} is {number}"))
        };
        Ok(Self {
            has_leader: gauge("etcd_server_has_leader")? == 1,
            is_leader: gauge("etcd_server_is_leader")? == 1,
            committed: u64::try_from(gauge("etcd_server_proposals_committed_total")?)?,
            applied: u64::try_from(gauge("etcd_server_proposals_applied_total")?)?,
            revision: gauge("etcd_debugging_mvcc_current_revision")?,
            compact: gauge("etcd_debugging_mvcc_compact_revision")?,
            auth_revision: u64::try_from(gauge("etcd_debugging_auth_revision")?)?,
        })
    }
}
