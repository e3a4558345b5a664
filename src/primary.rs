//! What the primary says of itself on its client URLs, as a check on what reaches us as a learner.
//! IO.
//!
//! A learner that was cut off does not know what it misses. With the primary's client URLs the lag
//! is measured against the primary's own commit index.

use std::time::Duration;

use etcd_client::{Client, ConnectOptions};
use tokio::sync::watch;

use crate::ids::{ClusterId, RaftIndex};

/// The primary's own figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Its commit index.
    pub index: RaftIndex,
    /// Its revision.
    pub revision: i64,
}

/// Time between two questions.
const PERIOD: Duration = Duration::from_secs(1);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The cluster that answers at the first endpoint that does.
///
/// # Errors
/// What the last endpoint said, if none answers.
pub async fn cluster_of(endpoints: &[String]) -> Result<ClusterId, String> {
    let mut last = "no endpoint".to_owned();
    for endpoint in endpoints {
        match ask(endpoint).await {
            Ok((cluster, _)) => return Ok(cluster),
            Err(error) => last = format!("{endpoint}: {error}"),
        }
    }
    Err(last)
}

/// Asks again and again, until dropped. The view is none while nobody answers.
pub async fn watch(endpoints: Vec<String>, expected: ClusterId, view: watch::Sender<Option<View>>) {
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut seen = None;
        for endpoint in &endpoints {
            match ask(endpoint).await {
                Ok((cluster, answer)) if cluster == expected => {
                    seen = Some(answer);
                    break;
                }
                Ok((cluster, _)) => {
                    tracing::warn!(%endpoint, %cluster, "a primary endpoint is another cluster");
                }
                Err(error) => tracing::debug!(%endpoint, %error, "ask the primary"),
            }
        }
        view.send_replace(seen);
    }
}

async fn ask(endpoint: &str) -> Result<(ClusterId, View), String> {
    let asked = async {
        let options = ConnectOptions::new().with_connect_timeout(PATIENCE);
        let mut client = Client::connect([endpoint], Some(options)).await?;
        client.status().await
    };
    let status = tokio::time::timeout(PATIENCE, asked)
        .await
        .map_err(|_| format!("nothing within {PATIENCE:?}"))?
        .map_err(|error| error.to_string())?;
    let header = status.header().ok_or("an answer without a header")?;
    let view = View {
        index: RaftIndex(status.raft_index()),
        revision: header.revision(),
    };
    Ok((ClusterId(header.cluster_id()), view))
}
