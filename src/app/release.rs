//! Which release of etcd the primary runs, followed through upgrades and downgrades.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::watch;

use crate::exit::{Exit, Fatal};
use crate::peer::Transport;
use crate::peer::join::Found;
use crate::resolve::{Rules, UnknownVersion, Version};

/// The lowest release of the primary's members, and how it applies entries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Release {
    version: Version,
    pub(super) rules: Rules,
}

/// Time between two looks at what the primary's members run; they are asked about as often.
const PERIOD: Duration = Duration::from_secs(2);

impl Release {
    /// What was found when we joined.
    pub(super) fn of(found: &Found) -> Result<Self, Fatal> {
        let Some(versions) = found.versions else {
            let message = "no member of the primary says which release of etcd it runs";
            return Err(Fatal::new(Exit::Failed, message));
        };
        let version = versions.server;
        let rules = Rules::of(version).map_err(|error| Fatal::new(Exit::Failed, error))?;
        tracing::info!(%version, "entries are read by the rules of the primary's release");
        warn_if_newer(version);
        Ok(Self { version, rules })
    }

    /// Watches for upgrades and downgrades of the primary, until nobody reads its rules any more.
    /// With members of several releases the lowest of a voter counts.
    pub(super) async fn follow(
        self,
        transport: Transport,
        rules: watch::Sender<Result<Rules, UnknownVersion>>,
    ) {
        let mut known = self.version;
        let mut is_mixed = false;
        while !rules.is_closed() {
            tokio::time::sleep(PERIOD).await;
            let releases = transport.releases();
            if is_mixed != (releases.len() > 1) {
                is_mixed = !is_mixed;
                tell_mixed(is_mixed, &releases);
            }
            let Some(versions) = transport.versions() else {
                continue;
            };
            let version = versions.server;
            if version != known {
                tracing::warn!(from = %known, to = %version, "the primary's lowest release changed");
                warn_if_newer(version);
                known = version;
                let _previous = rules.send_replace(Rules::of(version));
            }
        }
    }
}

fn tell_mixed(is_mixed: bool, releases: &BTreeSet<Version>) {
    let releases: Vec<String> = releases.iter().map(Version::to_string).collect();
    let releases = releases.join(", ");
    if is_mixed {
        tracing::warn!(
            releases,
            "the primary's members run several releases, which may apply an entry differently; \
             entries are read by the rules of the lowest one"
        );
    } else {
        tracing::info!(releases, "the primary's members run one release again");
    }
}

fn warn_if_newer(version: Version) {
    if version.is_beyond_known() {
        tracing::warn!(
            %version,
            "this patch release is newer than the rules known here; those of the last known one of \
             its minor release are used"
        );
    }
}
