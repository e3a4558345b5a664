//! What makes a configuration unusable.

use std::path::PathBuf;

use crate::scope;

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option that has no default was not given.
    #[error("--{0} is missing: give it as a flag, as {1} in the environment, or in --config")]
    Missing(&'static str, String),
    /// An option has a value that cannot be used.
    #[error("--{option} {value:?}: {why}")]
    Value {
        /// The option.
        option: &'static str,
        /// What was written.
        value: String,
        /// What is wrong with it, and what would be right.
        why: String,
    },
    /// Prefixes do not make sense together.
    #[error(transparent)]
    Scope(#[from] scope::Error),
    /// The file cannot be read.
    #[error("read the configuration {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A password cannot be used.
    #[error("the password in {place}: {why}")]
    Password {
        /// The file or the variable.
        place: String,
        /// What is wrong with it.
        why: String,
    },
    /// The file is not what it should be.
    #[error("read the configuration {}: {why}", path.display())]
    Parse {
        /// Which.
        path: PathBuf,
        /// Where and what.
        why: String,
    },
}
