//! How fast a standby takes transactions from a client that does nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use etcd_client::{Client, Txn, TxnOp};
use tokio::task::JoinSet;

use crate::figures::Ceiling;
use crate::load::{per_second, value};
use crate::setup::Setup;

/// Operations in a full transaction: 128 by default, without a checkpoint and one to spare.
const OPS: u64 = 126;
/// Operations of each inner transaction of a nested one: it has what the outer list leaves of 128.
const INNER_OPS: u64 = 118;
/// What is tried: inner transactions (0: none) and transactions in flight.
const TRIED: [(u64, usize); 5] = [(0, 1), (0, 4), (0, 16), (8, 1), (8, 2)];

/// Tries transactions of several shapes, one after the other on one standby.
///
/// # Errors
/// If the standby refuses one.
pub(crate) async fn run(setup: &Setup) -> Result<Vec<Ceiling>> {
    let standby = setup.standby().await?;
    let mut ceilings = Vec::new();
    let numbers = Arc::new(AtomicU64::new(0));
    for (inner, in_flight) in TRIED {
        let ceiling = one(
            &standby.client().await?,
            &numbers,
            (inner, in_flight),
            setup.conditions.value_bytes,
            setup.ceiling_for,
        )
        .await?;
        eprintln!(
            "ceiling: transactions of {} puts, {in_flight} in flight: {:.0} keys/s",
            ceiling.ops, ceiling.keys_per_second
        );
        ceilings.push(ceiling);
    }
    Ok(ceilings)
}

async fn one(
    client: &Client,
    numbers: &Arc<AtomicU64>,
    (inner, in_flight): (u64, usize),
    value_bytes: usize,
    time: Duration,
) -> Result<Ceiling> {
    let mut tasks = JoinSet::new();
    let ops = match inner {
        0 => OPS,
        _ => INNER_OPS * inner,
    };
    let started = Instant::now();
    for _ in 0..in_flight {
        let mut kv = client.kv_client();
        let numbers = Arc::clone(numbers);
        tasks.spawn(async move {
            let mut keys = 0;
            while started.elapsed() < time {
                let puts = |ops| {
                    let first = numbers.fetch_add(ops, Ordering::Relaxed);
                    let put = |n| TxnOp::put(format!("load/{n:09}"), value(value_bytes), None);
                    Txn::new().and_then((first..first + ops).map(put).collect::<Vec<_>>())
                };
                let txn = match inner {
                    0 => puts(OPS),
                    _ => {
                        let inner = (0..inner).map(|_| TxnOp::txn(puts(INNER_OPS)));
                        Txn::new().and_then(inner.collect::<Vec<_>>())
                    }
                };
                kv.txn(txn).await.context("a transaction failed")?;
                keys += ops;
            }
            anyhow::Ok(keys)
        });
    }
    let mut keys = 0;
    while let Some(done) = tasks.join_next().await {
        keys += done.context("a client panicked")??;
    }
    Ok(Ceiling {
        ops,
        in_flight,
        keys_per_second: per_second(keys, started.elapsed()),
    })
}
