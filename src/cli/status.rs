//! `etcd-syncer status`.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::config::default_status_address;
use crate::exit::{Exit, Fatal};
use crate::status::Page;

/// Options of `status`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Status address of the process to ask.
    #[arg(long, env = "ETCD_SYNCER_LISTEN_STATUS", value_name = "ADDR",
          default_value = default_status_address())]
    listen_status: String,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
}

/// How long the process may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer that is read.
const ANSWER_BYTES_MAX: usize = 4 << 20;

pub(super) fn main(args: &Args) -> Result<Exit, Fatal> {
    let address = &args.listen_status;
    let failed = |why: String| {
        let message = format!(
            "no status from {address}: {why}; is etcd-syncer running with --listen-status {address}?"
        );
        Fatal::new(Exit::Failed, message)
    };
    let body = super::runtime()?
        .block_on(async { tokio::time::timeout(PATIENCE, fetch(address)).await })
        .map_err(|_| failed(format!("nothing within {PATIENCE:?}")))?
        .map_err(|error| failed(format!("{error:#}")))?;
    let page: Page =
        serde_json::from_slice(&body).map_err(|error| failed(format!("read it: {error}")))?;
    let text = if args.json {
        String::from_utf8_lossy(&body).into_owned()
    } else {
        shown(&page)
    };
    writeln!(std::io::stdout(), "{text}")
        .map_err(|error| Fatal::new(Exit::Failed, format!("print the status: {error}")))?;
    Ok(Exit::Ok)
}

async fn fetch(address: &str) -> anyhow::Result<Bytes> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get("/status")
        .header("host", address)
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    anyhow::ensure!(
        response.status().is_success(),
        "it answers {}",
        response.status()
    );
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
        .collect()
        .await;
    Ok(body.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes())
}

fn shown(page: &Page) -> String {
    let unknown = || "unknown".to_owned();
    let of = |id: &Option<String>| id.clone().unwrap_or_else(unknown);
    let raft = &page.raft;
    let heard = raft
        .last_heard_seconds
        .map_or_else(|| "never".to_owned(), |s| format!("{s:.1} s ago"));
    let mut lines = vec![
        format!(
            "stream      {} ({}), version {}",
            page.stream, page.phase, page.version
        ),
        format!("scope       {}", page.scope),
        format!("ready       {}", page.not_ready.as_deref().unwrap_or("yes")),
        format!(
            "primary     cluster {}, we are member {}",
            of(&page.primary_cluster_id),
            of(&page.member_id)
        ),
        format!("standby     cluster {}", of(&page.standby_cluster_id)),
        format!(
            "leader      {}, term {}, heard {heard}",
            of(&raft.leader),
            raft.term
        ),
        format!(
            "lag         {} entries, {:.3} s",
            page.lag.entries, page.lag.seconds
        ),
        format!(
            "raft index  received {}, committed {}, applied {}, durable {}, acknowledged {}",
            raft.received, raft.committed, raft.applied, raft.durable, raft.acknowledged
        ),
        format!(
            "revision    primary {}, compacted at {}, standby {}",
            page.revision.primary, page.revision.primary_compact, page.revision.standby
        ),
        format!(
            "batches     {} written, last with {} operations in {:.1} ms",
            page.batches.written,
            page.batches.last.ops,
            page.batches.last.txn_seconds * 1000.0
        ),
    ];
    let leases = &page.leases;
    lines.push(format!(
        "leases      {} kept alive on the standby, {} to be ended, {} lost and {} of them restored",
        leases.held, leases.ending, leases.lost, leases.restored
    ));
    for (kind, tally) in &page.entries {
        lines.push(format!(
            "entries     {kind}: {} with effect, {} without",
            tally.with_effect, tally.without_effect
        ));
    }
    lines.extend(users(page));
    if page.is_voter {
        lines.push(
            "WARNING     this learner was promoted to a voter; remove it and add it again".into(),
        );
    }
    lines.join("\n")
}

/// What there is to say of the standby's users.
fn users(page: &Page) -> Vec<String> {
    let Some(users) = &page.standby_users else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    let auth = if users.auth_enabled {
        "enabled"
    } else {
        "disabled"
    };
    lines.push(format!(
        "users       {} and {} roles on the standby, auth {auth}",
        users.users, users.roles
    ));
    if let Some(why) = &users.enable_pending {
        lines.push(format!(
            "WARNING     auth is not enabled on the standby: {why}"
        ));
    }
    for user in &users.not_carried {
        lines.push(format!(
            "WARNING     no login for {:?}: {}",
            user.user, user.why
        ));
    }
    for lost in &users.permissions_not_carried {
        lines.push(format!(
            "WARNING     role {:?} lacks the permission for {:?} to {:?}",
            lost.role, lost.key, lost.range_end
        ));
    }
    if users.our_name_is_taken {
        lines.push("WARNING     the primary's user with the name of our own is left out".into());
    }
    lines
}
