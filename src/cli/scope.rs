//! Options that say which keys are replicated, for subcommands that read no file.

use std::sync::Arc;

use crate::config;
use crate::exit::{Exit, Fatal};
use crate::scope::Scope;

/// Prefixes, as `run` takes them.
#[derive(Debug, clap::Args)]
pub(super) struct ScopeArgs {
    /// Replicate keys that begin with P only; may be given several times, or separated by commas.
    /// In P, \xHH is any byte, so \x2c a comma. A stream that exists must be given the same
    /// prefixes as ever. [default: every key]
    #[arg(
        long,
        env = "ETCD_SYNCER_INCLUDE_PREFIX",
        value_delimiter = ',',
        value_name = "P"
    )]
    include_prefix: Vec<String>,
    /// Do not replicate keys that begin with P, whatever is included; may be given several times.
    #[arg(
        long,
        env = "ETCD_SYNCER_EXCLUDE_PREFIX",
        value_delimiter = ',',
        value_name = "P"
    )]
    exclude_prefix: Vec<String>,
    /// Name keys that begin with FROM so that they begin with TO in the standby; may be given
    /// several times, and the longest FROM counts. An empty FROM is every key. Permissions of roles
    /// are not rewritten.
    #[arg(
        long,
        env = "ETCD_SYNCER_REWRITE_PREFIX",
        value_delimiter = ',',
        value_name = "FROM=TO"
    )]
    rewrite_prefix: Vec<String>,
}

impl ScopeArgs {
    /// All of them together, checked.
    pub(super) fn check(&self) -> Result<Arc<Scope>, Fatal> {
        let (include, exclude) = (&self.include_prefix, &self.exclude_prefix);
        let scope = config::scope(include, exclude, &self.rewrite_prefix);
        scope.map_err(|error| Fatal::new(Exit::Usage, error))
    }
}
