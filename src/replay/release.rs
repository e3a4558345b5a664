//! By the rules of which release entries are read. IO.

use super::source::Source;
use crate::exit::{Exit, Fatal};
use crate::resolve::Rules;
use crate::version::Version;

/// The rules of the release that was `given`, or else that the files tell.
pub(super) fn rules(source: &Source, given: Option<Version>) -> Result<Rules, Fatal> {
    let version = match (given, source) {
        (Some(given), _) => given,
        (None, Source::Log(log)) => log.release()?,
        (None, Source::Members(members)) => likely(members.cluster_version()?.as_deref())?,
    };
    if version.is_beyond_known() {
        tracing::warn!(
            %version,
            "this patch release is newer than the rules known here; those of the last known one of \
             its minor release are used"
        );
    }
    tracing::info!(%version, "entries are read by the rules of this release");
    Rules::of(version).map_err(|error| Fatal::new(Exit::Usage, error))
}

/// The release of a cluster of which its own files tell the minor release only.
fn likely(cluster: Option<&str>) -> Result<Version, Fatal> {
    let known = cluster
        .and_then(Version::parse)
        .and_then(Version::last_known);
    let Some(version) = known else {
        let message = format!(
            "which release of etcd the primary ran is not known from its files (they say {}): give \
             it with --primary-version, such as 3.5.33",
            cluster.unwrap_or("nothing")
        );
        return Err(Fatal::new(Exit::Usage, message));
    };
    let (major, minor) = (version.major, version.minor);
    tracing::warn!(
        "the primary was of etcd {major}.{minor}, and its files do not tell the patch release: taking \
         {version}. If its members ran another one, give that with --primary-version: some patch \
         releases change what an entry does"
    );
    Ok(version)
}
