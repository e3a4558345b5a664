//! Temporary folders that can be kept for a look.

use std::path::Path;

use anyhow::{Context, Result};
use tempfile::TempDir;

/// A temporary folder, removed on drop unless `ETCD_SYNCER_KEEP=1`; then its path is printed.
#[derive(Debug)]
pub struct Folder(TempDir);

impl Folder {
    /// A new, empty folder whose name begins with `etcd-syncer-<kind>-`.
    ///
    /// # Errors
    /// If it can't be created.
    #[allow(clippy::print_stderr, reason = "whoever keeps it looks for it")]
    pub fn new(kind: &str) -> Result<Self> {
        let mut dir = tempfile::Builder::new()
            .prefix(&format!("etcd-syncer-{kind}-"))
            .tempdir()
            .with_context(|| format!("can't create a temporary folder for {kind}"))?;
        if std::env::var_os("ETCD_SYNCER_KEEP").is_some_and(|value| value == "1") {
            dir.disable_cleanup(true);
            eprintln!("keeping {}", dir.path().display());
        }
        Ok(Self(dir))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}
