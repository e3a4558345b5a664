//! Every log in `fixtures/entries`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::fixture::Fixture;

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/entries")
}

/// The release is what the name of a file begins with. With `-unlike-` another follows, by whose
/// rules the log must come to something else: so a switch between two patch releases is seen.
#[test]
fn every_kept_log_is_resolved_as_etcd_applied_it() -> Result<()> {
    let mut count = 0;
    let mut wrong = Vec::new();
    for file in std::fs::read_dir(folder())? {
        let path = file?.path();
        if path.extension().is_none_or(|ending| ending != "txt") {
            continue;
        }
        let name = path
            .file_stem()
            .and_then(|name| name.to_str())
            .context("a name")?;
        let release = name.split('-').next().unwrap_or(name);
        let fixture = Fixture::read(&path).with_context(|| name.to_owned())?;
        ensure!(!fixture.log.is_empty(), "{name} has no entries");
        if let Some((_, other)) = name.split_once("-unlike-") {
            let found = fixture.clone().check(other)?;
            ensure!(!found.is_empty(), "{name} is not unlike it");
        }
        let found = fixture.check(release).with_context(|| name.to_owned())?;
        wrong.extend(found.into_iter().map(|line| format!("{name}: {line}")));
        count += 1;
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    ensure!(count >= 4, "only {count} logs in {}", folder().display());
    Ok(())
}
