//! Clients that put until their member is gone, and remember what was acknowledged.

use anyhow::{Context, Result};
use etcd_client::Client;
use tokio::task::JoinSet;

/// Keys, each with the revision of its put.
pub(super) type Acknowledged = Vec<(Vec<u8>, i64)>;

/// Clients at work.
#[derive(Debug)]
pub(super) struct Load(JoinSet<Acknowledged>);

const CLIENTS: usize = 4;

impl Load {
    pub(super) fn start(client: &Client) -> Self {
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            clients.spawn(put_until_refused(client.clone(), number));
        }
        Self(clients)
    }

    /// Waits until all have met an error.
    pub(super) async fn ended(mut self) -> Result<Acknowledged> {
        let mut all = Vec::new();
        while let Some(acknowledged) = self.0.join_next().await {
            all.extend(acknowledged.context("a client panicked")?);
        }
        Ok(all)
    }
}

async fn put_until_refused(client: Client, number: usize) -> Acknowledged {
    let mut kv = client.kv_client();
    let mut acknowledged = Vec::new();
    for count in 0.. {
        let key = format!("load/{number}/{count}");
        let Ok(answer) = kv.put(key.clone(), vec![b'v'; 700], None).await else {
            break;
        };
        let revision = answer
            .header()
            .map_or(0, etcd_client::ResponseHeader::revision);
        acknowledged.push((key.into_bytes(), revision));
    }
    acknowledged
}
