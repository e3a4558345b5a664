//! Options that name a standby, for subcommands that read no file.

use std::path::PathBuf;

use crate::config::{self, Login};
use crate::exit::{Exit, Fatal};
use crate::standby::Options;

/// Where the standby is, and who we are to it.
#[derive(Debug, clap::Args)]
pub(super) struct StandbyArgs {
    /// Client URLs of the standby, separated by commas; used one at a time.
    #[arg(
        long,
        env = "ETCD_SYNCER_STANDBY_ENDPOINTS",
        value_delimiter = ',',
        required = true,
        value_name = "URL,.."
    )]
    standby_endpoints: Vec<String>,
    /// Our own user of the standby, with role root. [default: etcd-syncer]
    #[arg(long, env = "ETCD_SYNCER_STANDBY_USER", value_name = "NAME")]
    standby_user: Option<String>,
    /// File with that user's password, which may also be in ETCD_SYNCER_STANDBY_PASSWORD. Needed if
    /// the standby has auth enabled, or shall have.
    #[arg(long, env = "ETCD_SYNCER_STANDBY_PASSWORD_FILE", value_name = "FILE")]
    standby_password_file: Option<PathBuf>,
    /// How long one request to the standby may take. [default: 5s]
    #[arg(long, env = "ETCD_SYNCER_STANDBY_TIMEOUT", value_name = "TIME")]
    standby_timeout: Option<String>,
}

/// A variable that is set to nothing is as good as not set, as for `run`.
pub(super) fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.trim().is_empty())
}

impl StandbyArgs {
    /// Both, checked.
    pub(super) fn check(self) -> Result<(Options, Login), Fatal> {
        let usage = |error: config::Error| Fatal::new(Exit::Usage, error);
        let file = self.standby_password_file.as_deref();
        let login = config::standby_login(self.standby_user.as_deref(), file).map_err(usage)?;
        let options = Options {
            endpoints: config::endpoints("standby-endpoints", self.standby_endpoints)
                .map_err(usage)?,
            request_timeout: config::standby_timeout(given(self.standby_timeout)).map_err(usage)?,
        };
        Ok((options, login))
    }
}
