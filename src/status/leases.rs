//! What is shown of leases on the standby, and of its history.

use prometheus::{CounterVec, GaugeVec, Registry};
use serde::{Deserialize, Serialize};

use super::metrics::{opts, registered, size, total};
use crate::apply;
use crate::standby::keeper;

/// Leases on the standby, and its history.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LeasesPage {
    /// Leases that are kept alive.
    pub held: usize,
    /// Empty leases that are still to be ended.
    pub ending: usize,
    /// Leases whose keys have not been compared yet since the start.
    pub unseen: usize,
    /// Leases made.
    pub granted: u64,
    /// Leases ended.
    pub revoked: u64,
    /// Keep-alives that were answered.
    pub renewed: u64,
    /// Leases that the standby had lost.
    pub lost: u64,
    /// Those of them that were made again with all their keys.
    pub restored: u64,
    /// The standby's revision at which its history was given up last, 0 for none.
    pub compacted: i64,
    /// Why leases have to wait, if they do.
    pub trouble: Option<String>,
}

impl LeasesPage {
    pub(super) fn of(keeper: &keeper::View, apply: &apply::View) -> Self {
        Self {
            held: keeper.held,
            ending: keeper.ending,
            unseen: keeper.unseen,
            granted: keeper.granted,
            revoked: keeper.revoked,
            renewed: keeper.renewed,
            lost: keeper.lost,
            restored: apply.leases_restored,
            compacted: keeper.compacted,
            trouble: keeper.trouble.clone(),
        }
    }
}

/// The same for Prometheus.
#[derive(Debug)]
pub(super) struct LeaseMetrics {
    leases: GaugeVec,
    events: CounterVec,
}

impl LeaseMetrics {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let leases = opts("standby_leases", "Leases on the standby.");
        let events = opts(
            "standby_lease_events_total",
            "What became of leases on the standby.",
        );
        Ok(Self {
            leases: registered(registry, GaugeVec::new(leases, &["state"])?)?,
            events: registered(registry, CounterVec::new(events, &["event"])?)?,
        })
    }

    pub(super) fn set(&self, page: &LeasesPage) {
        for (state, count) in [
            ("held", page.held),
            ("ending", page.ending),
            ("unseen", page.unseen),
        ] {
            self.leases.with_label_values(&[state]).set(size(count));
        }
        for (event, count) in [
            ("granted", page.granted),
            ("revoked", page.revoked),
            ("renewed", page.renewed),
            ("lost", page.lost),
            ("restored", page.restored),
        ] {
            total(&self.events.with_label_values(&[event]), count);
        }
    }
}
