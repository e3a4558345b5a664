//! The folder of a process, locked while it runs.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::exit::{Exit, Fatal};

/// A locked folder; the lock goes with the value, and with the process however it ends.
#[derive(Debug)]
pub struct DataDir {
    _lock: File,
}

impl DataDir {
    /// Creates the folder if need be and locks it.
    ///
    /// # Errors
    /// With [`Exit::DataDir`] if it cannot be used or another process holds it.
    pub fn lock(path: &Path) -> Result<Self, Fatal> {
        let failed = |what: &str, error: &std::io::Error| {
            Fatal::new(
                Exit::DataDir,
                format!("--data-dir {}: {what}: {error}", path.display()),
            )
        };
        std::fs::create_dir_all(path).map_err(|error| failed("create the folder", &error))?;
        let file = File::create(path.join("lock")).map_err(|error| failed("open lock", &error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _lock: file }),
            Err(TryLockError::WouldBlock) => Err(Fatal::new(
                Exit::DataDir,
                format!(
                    "--data-dir {}: another etcd-syncer uses this folder; stop it or name another \
                     folder",
                    path.display()
                ),
            )),
            Err(TryLockError::Error(error)) => Err(failed("lock", &error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let held = DataDir::lock(&path).unwrap();
        let error = DataDir::lock(&path).unwrap_err();
        assert_eq!(error.exit, Exit::DataDir);
        drop(held);
        assert!(DataDir::lock(&path).is_ok());
        let file = folder.path().join("file");
        File::create(&file).unwrap();
        assert_eq!(DataDir::lock(&file).unwrap_err().exit, Exit::DataDir);
    }
}
