//! A database as the state that the resolver goes on from. Pure.

use super::contents::Contents;
use super::keys::LiveKey;
use crate::resolve::{Digest, KeyMeta, PrimaryState, Settings};

impl Contents {
    /// The primary's state as of the database's log index. `digest` gives the digest of a key's
    /// value under the key in `settings`: from what the values read before gave, or from
    /// [`super::digests`].
    #[must_use]
    pub fn primary_state(
        &self,
        settings: Settings,
        mut digest: impl FnMut(usize, &LiveKey<'_>) -> Digest,
    ) -> PrimaryState {
        let mut state = PrimaryState::new(settings, self.position());
        for lease in &self.leases {
            state.restore_lease(lease.id, lease.ttl, lease.remaining);
        }
        for (place, key) in self.keys.iter().enumerate() {
            let meta = KeyMeta {
                created: key.created,
                modified: key.modified,
                version: key.version,
                lease: key.lease,
                digest: digest(place, &key),
            };
            state.restore_key(key.key, meta);
        }
        for (revision, key) in &self.reputs {
            state.restore_reput(*revision, key);
        }
        state.restore_auth(self.auth.clone());
        for (member, kind) in &self.alarms {
            state.restore_alarm(*member, *kind);
        }
        state
    }
}
