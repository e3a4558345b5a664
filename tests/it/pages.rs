//! Ranges that are read in pages, from a real standby.

use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use etcd_client::{Client, Txn, TxnOp};
use etcd_syncer::range::KeyRange;
use etcd_syncer::standby::{Etcd, Options, Pages};

use crate::harness::{Cluster, Version};

/// Puts this many values of these bytes behind each other, and returns how many there are then.
async fn fill(client: &Client, from: usize, count: usize, bytes: usize) -> Result<usize> {
    let at_once = (1 << 20) / (bytes + 100);
    let numbers: Vec<usize> = (from..from + count).collect();
    for some in numbers.chunks(at_once.clamp(1, 100)) {
        let puts = some
            .iter()
            .map(|number| TxnOp::put(format!("p/{number:08}"), vec![b'v'; bytes], None));
        let puts: Vec<TxnOp> = puts.collect();
        client.kv_client().txn(Txn::new().and_then(puts)).await?;
    }
    Ok(from + count)
}

/// Reads all of it, and counts; no page may fail, as whoever reads begins anew then.
async fn read_all(cluster: &Cluster) -> Result<usize> {
    let mut standby = Etcd::new(Options {
        endpoints: cluster.client_endpoints(),
        request_timeout: Duration::from_secs(5),
    });
    let mut pages = Pages::new(KeyRange::prefix(&Bytes::from_static(b"p/")));
    let mut found = 0;
    loop {
        let page = pages.next(&mut standby).await?;
        if page.is_empty() {
            return Ok(found);
        }
        found += page.len();
    }
}

#[tokio::test]
async fn values_that_grow_are_read_in_smaller_pages() -> Result<()> {
    let cluster = Cluster::builder(Version::V3_6).no_fsync().start().await?;
    let client = cluster.client().await?;
    let mut count = 0;
    for bytes in [10, 60_000, 10, 1_000_000] {
        let few = 12_000_000 / (bytes + 100);
        count = fill(&client, count, few.clamp(20, 5_000), bytes).await?;
    }
    ensure!(read_all(&cluster).await? == count);
    Ok(())
}

#[tokio::test]
async fn a_value_beyond_the_default_limits_is_read() -> Result<()> {
    let cluster = Cluster::builder(Version::V3_5).no_fsync();
    let cluster = cluster.extra_args(["--max-request-bytes=20000000"]);
    let cluster = cluster.start().await?;
    let client = cluster.client().await?;
    let count = fill(&client, 0, 3, 8_000_000).await?;
    ensure!(read_all(&cluster).await? == count);
    Ok(())
}
