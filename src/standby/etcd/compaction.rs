//! Compaction through etcd's public client API.

use super::Etcd;
use crate::standby::{Compaction, Failure};

impl Compaction for Etcd {
    async fn compact(&mut self, revision: i64) -> Result<(), Failure> {
        let mut client = self.client().await?;
        match self.ask(client.compact(revision, None)).await {
            Ok(_) | Err(Failure::Already(_)) => Ok(()),
            Err(failure) => Err(failure),
        }
    }
}
