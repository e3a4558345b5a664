//! What the standby's own keys tell, where no ledger counts. IO.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

use crate::ids::{LeaseId, RaftIndex, Revision};
use crate::resolve::{KeyMeta, Position, PrimaryState, Settings};
use crate::scope::Scope;
use crate::standby::{Error, Failure, KeyValue, Pages, Standby};

const RETRY_WAIT: Duration = Duration::from_secs(1);

/// What the standby itself holds in `scope`, under the primary's names, as a state that knows
/// values, and no revisions.
///
/// # Errors
/// [`Error::Refused`] if the standby refuses to be read; other failures are waited out.
pub async fn content_of<S: Standby>(
    standby: &mut S,
    scope: &Scope,
    settings: Settings,
) -> Result<PrimaryState, Error> {
    let digest_key = settings.digest_key.clone();
    let nowhere = Position {
        index: RaftIndex(0),
        revision: Revision(0),
        compact_revision: Revision(-1),
    };
    let mut state = PrimaryState::new(settings, nowhere);
    each(standby, scope, |key, found| {
        if found.lease != LeaseId(0) && state.lease(found.lease).is_none() {
            // Nobody knows its TTL.
            state.restore_lease(found.lease, -1, 0);
        }
        let meta = KeyMeta {
            created: Revision(0),
            modified: Revision(0),
            version: 0,
            lease: found.lease,
            digest: digest_key.digest(&found.value),
        };
        state.restore_key(&key, meta);
    })
    .await?;
    Ok(state)
}

/// The leases that keys in `scope` are attached to on the standby.
///
/// # Errors
/// As [`content_of`].
pub async fn attached_leases<S: Standby>(
    standby: &mut S,
    scope: &Scope,
) -> Result<BTreeSet<LeaseId>, Error> {
    let mut leases = BTreeSet::new();
    each(standby, scope, |_, found| {
        leases.insert(found.lease);
    })
    .await?;
    leases.remove(&LeaseId(0));
    Ok(leases)
}

/// Shows each key in `scope`, with its name on the primary.
async fn each<S: Standby>(
    standby: &mut S,
    scope: &Scope,
    mut show: impl FnMut(Bytes, &KeyValue),
) -> Result<(), Error> {
    for range in scope.standby_ranges() {
        let mut pages = Pages::new(range.clone());
        loop {
            match pages.next(standby).await {
                Ok(page) if page.is_empty() => break,
                Ok(page) => {
                    for found in page {
                        if let Some(key) = scope.to_primary(&found.key) {
                            show(key, &found);
                        }
                    }
                }
                Err(failure @ Failure::Refused(_)) => return Err(Error::Refused(failure)),
                Err(failure) => {
                    tracing::warn!(standby_says = %failure, "cannot read the standby, retrying");
                    standby.try_another_endpoint();
                    tokio::time::sleep(RETRY_WAIT).await;
                }
            }
        }
    }
    Ok(())
}
