//! Shows what the process does: routes for people, scrapers and probes, on a thread of their own,
//! so that they answer when everything else is stuck.
//!
//! | path | answer |
//! | --- | --- |
//! | `/status` | everything, as JSON ([`Page`]) |
//! | `/metrics` | the same figures for Prometheus |
//! | `/healthz` | 200 while the process runs |
//! | `/readyz` | 200 while the stream follows its primary, else 503 and why |

mod board;
mod leases;
mod metrics;
mod page;
mod routes;
mod snapshot;
mod users;

pub use board::{Board, Joined, Phase};
pub use page::Page;
pub use routes::serve;
pub use snapshot::SnapshotPage;
