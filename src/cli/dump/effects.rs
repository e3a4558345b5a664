//! A state with which working out effects begins.

use std::path::Path;

use super::items::Opened;
use super::{Entries, Stop};
use crate::ids::RaftIndex;
use crate::offline::{Compared, Effects};
use crate::resolve::{
    DEFAULT_LEASE_TTL_MIN, DigestKey, Position, PrimaryState, Rules, Settings, Version,
};
use crate::snapshot;

/// Begins with the database that the options name, or else with the first entry. None if the log
/// begins with a later one.
pub(super) fn begin(
    options: &Entries,
    first: RaftIndex,
    rules: Rules,
    compared: Compared,
) -> Result<Option<Effects>, Stop> {
    let settings = Settings {
        digest_key: DigestKey::new(&std::array::from_fn(|_| fastrand::u8(..))),
        lease_ttl_min: DEFAULT_LEASE_TTL_MIN,
        rules,
        voters: 1,
    };
    if let Some(path) = &options.state {
        let effects = from_database(path, settings, compared).map_err(Stop::Input)?;
        let held = effects.state().position().index;
        if held.next() < first {
            return Err(Stop::Usage(format!(
                "--state {}: it holds the effects up to entry {held}, and the log begins with {first}",
                path.display()
            )));
        }
        return Ok(Some(effects));
    }
    let state = PrimaryState::new(settings, Position::START);
    Ok((first == RaftIndex(1)).then(|| Effects::new(state, compared)))
}

fn from_database(
    path: &Path,
    mut settings: Settings,
    compared: Compared,
) -> Result<Effects, String> {
    let Opened { file, contents, .. } = Opened::read(path, false)?;
    let failed = |error: snapshot::bbolt::Error| format!("{}: {error}", path.display());
    settings.voters = match &contents.raft.conf_state {
        Some(state) => state.voters.len(),
        None => {
            let members = contents.cluster.members.iter();
            members.filter(|member| !member.is_learner).count().max(1)
        }
    };
    let digests = snapshot::digests(&file, &contents.keys, &settings.digest_key);
    let digests = digests.map_err(failed)?;
    let missing = settings.digest_key.digest(&[]);
    let state = contents.primary_state(settings, |place, _| {
        digests.get(place).copied().unwrap_or(missing)
    });
    let kept = contents.keys.iter();
    let kept: Vec<_> = kept.filter(|key| compared.contains(key.key)).collect();
    let mut effects = Effects::new(state, compared);
    for key in kept {
        let value = snapshot::value(&file, key.value).map_err(failed)?;
        effects.set_value(key.key, value);
    }
    Ok(effects)
}

/// The rules of a release by its name.
pub(super) fn rules(version: &str) -> Result<Rules, String> {
    let version = Version::parse(version)
        .ok_or_else(|| format!("{version:?} is no release of etcd, such as 3.5.33"))?;
    Rules::of(version).map_err(|error| error.to_string())
}
