//! What a process is told to do: from flags, the environment and a file, in that order of weight.
//!
//! [`Typed`] is what was written, [`Config`] what was checked. Nothing behind `Config` checks
//! again. The keys of the file are the flags' names, as in etcd's own configuration file.

mod error;
mod login;
mod values;

pub use error::Error;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::pipeline::HistoryPolicy;
use crate::plan::CompactionPolicy;
use crate::scope::Scope;
use crate::secret::{Credentials, Secret};
use values::{
    choice, list, number, peer_address, peer_url, required, required_list, socket_address,
};

pub use login::{Login, standby_login};
pub use values::{
    compaction, endpoints, history, scope, standby_lease_ttl, standby_timeout, stream,
};

/// Options of `run`, as written by somebody. All are optional here: what one source leaves out
/// another may give.
#[derive(Clone, Debug, Default, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Typed {
    /// Peer URLs of the primary's members, separated by commas; one that answers is enough.
    #[arg(
        long,
        env = "ETCD_SYNCER_PRIMARY_PEER_URLS",
        value_delimiter = ',',
        value_name = "URL,.."
    )]
    #[serde(deserialize_with = "list")]
    pub primary_peer_urls: Vec<String>,

    /// URL to serve the primary's members on, such as http://0.0.0.0:2390.
    #[arg(long, env = "ETCD_SYNCER_LISTEN_PEER_URL", value_name = "URL")]
    pub listen_peer_url: Option<String>,

    /// URL under which the primary's members reach us; the one given to `etcdctl member add`.
    #[arg(long, env = "ETCD_SYNCER_ADVERTISE_PEER_URL", value_name = "URL")]
    pub advertise_peer_url: Option<String>,

    /// Client URLs of the standby, separated by commas; used one at a time.
    #[arg(
        long,
        env = "ETCD_SYNCER_STANDBY_ENDPOINTS",
        value_delimiter = ',',
        value_name = "URL,.."
    )]
    #[serde(deserialize_with = "list")]
    pub standby_endpoints: Vec<String>,

    /// Client URLs of the primary, separated by commas. Optional: with them the lag is also
    /// measured against what the primary says of itself.
    #[arg(
        long,
        env = "ETCD_SYNCER_PRIMARY_ENDPOINTS",
        value_delimiter = ',',
        value_name = "URL,.."
    )]
    #[serde(deserialize_with = "list")]
    pub primary_endpoints: Vec<String>,

    /// Our own user of the standby, with role root. It is made if the standby has auth disabled,
    /// and no user of the primary by this name is replicated. [default: etcd-syncer]
    #[arg(long, env = "ETCD_SYNCER_STANDBY_USER", value_name = "NAME")]
    pub standby_user: Option<String>,

    /// File with that user's password, which may also be in ETCD_SYNCER_STANDBY_PASSWORD. Needed if
    /// the standby has auth enabled, or shall have as soon as the primary has.
    #[arg(long, env = "ETCD_SYNCER_STANDBY_PASSWORD_FILE", value_name = "FILE")]
    pub standby_password_file: Option<PathBuf>,

    /// User of the primary for --primary-endpoints, if those ask for one. [default: etcd-syncer]
    #[arg(long, env = "ETCD_SYNCER_PRIMARY_USER", value_name = "NAME")]
    pub primary_user: Option<String>,

    /// File with that user's password, which may also be in ETCD_SYNCER_PRIMARY_PASSWORD.
    #[arg(long, env = "ETCD_SYNCER_PRIMARY_PASSWORD_FILE", value_name = "FILE")]
    pub primary_password_file: Option<PathBuf>,

    /// Passwords from the environment: of our user on the standby, and on the primary.
    #[arg(skip)]
    #[serde(skip)]
    pub passwords: Passwords,

    /// Name of this replication; part of the checkpoint's key in the standby. [default: default]
    #[arg(long, env = "ETCD_SYNCER_STREAM", value_name = "NAME")]
    pub stream: Option<String>,

    /// Replicate keys that begin with P only; may be given several times, or separated by commas.
    /// In P, \xHH is any byte, so \x2c a comma. What a stream replicates cannot be changed later.
    /// [default: every key]
    #[arg(
        long,
        env = "ETCD_SYNCER_INCLUDE_PREFIX",
        value_delimiter = ',',
        value_name = "P"
    )]
    #[serde(deserialize_with = "list")]
    pub include_prefix: Vec<String>,

    /// Do not replicate keys that begin with P, whatever is included; may be given several times.
    #[arg(
        long,
        env = "ETCD_SYNCER_EXCLUDE_PREFIX",
        value_delimiter = ',',
        value_name = "P"
    )]
    #[serde(deserialize_with = "list")]
    pub exclude_prefix: Vec<String>,

    /// Name keys that begin with FROM so that they begin with TO in the standby; may be given
    /// several times, and the longest FROM counts. An empty FROM is every key. Permissions of roles
    /// are not rewritten.
    #[arg(
        long,
        env = "ETCD_SYNCER_REWRITE_PREFIX",
        value_delimiter = ',',
        value_name = "FROM=TO"
    )]
    #[serde(deserialize_with = "list")]
    pub rewrite_prefix: Vec<String>,

    /// Folder of this process; it is locked, so that one process uses it at a time.
    /// [default: STREAM.etcd-syncer]
    #[arg(long, env = "ETCD_SYNCER_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Address for status and metrics. [default: 127.0.0.1:2391]
    #[arg(long, env = "ETCD_SYNCER_LISTEN_STATUS", value_name = "ADDR")]
    pub listen_status: Option<String>,

    /// How the log is written. [default: text]
    #[arg(long, env = "ETCD_SYNCER_LOG_FORMAT", value_name = "text|json")]
    pub log_format: Option<String>,

    /// What to do with a key that changed several times in one batch: write each state (keep), only
    /// the last (last), or each while close behind and the last while catching up (auto).
    /// [default: auto]
    #[arg(long, env = "ETCD_SYNCER_HISTORY", value_name = "auto|keep|last")]
    pub history: Option<String>,

    /// Most operations in one batch. [default: 1000]
    #[arg(long, env = "ETCD_SYNCER_BATCH_OPS_MAX", value_name = "N")]
    pub batch_ops_max: Option<usize>,

    /// Most bytes of keys and values in one batch; below the standby's --max-request-bytes.
    /// [default: 1048576]
    #[arg(long, env = "ETCD_SYNCER_BATCH_BYTES_MAX", value_name = "BYTES")]
    pub batch_bytes_max: Option<usize>,

    /// Most memory for what is received and not yet in the standby. [default: 268435456]
    #[arg(long, env = "ETCD_SYNCER_RECEIVE_BYTES_MAX", value_name = "BYTES")]
    pub receive_bytes_max: Option<usize>,

    /// Largest database that is taken as a snapshot of the primary. [default: 68719476736]
    #[arg(long, env = "ETCD_SYNCER_SNAPSHOT_BYTES_MAX", value_name = "BYTES")]
    pub snapshot_bytes_max: Option<u64>,

    /// How long one request to the standby may take. [default: 5s]
    #[arg(long, env = "ETCD_SYNCER_STANDBY_TIMEOUT", value_name = "TIME")]
    pub standby_timeout: Option<String>,

    /// TTL of every lease on the standby. They are kept alive there until the primary's end; this
    /// is how long they outlive this process. [default: 24h]
    #[arg(long, env = "ETCD_SYNCER_STANDBY_LEASE_TTL", value_name = "TIME")]
    pub standby_lease_ttl: Option<String>,

    /// Whether the standby's history is compacted when the primary's is. [default: follow]
    #[arg(long, env = "ETCD_SYNCER_COMPACTION", value_name = "follow|none")]
    pub compaction: Option<String>,

    /// Write what is known of the primary's keys and leases, without values, to this file when the
    /// stream ends, to be compared with the primary.
    #[arg(long, env = "ETCD_SYNCER_DUMP_STATE", value_name = "FILE")]
    pub dump_state: Option<PathBuf>,

    /// Record the primary's log, values and passwords included, in this file, for `etcd-syncer
    /// replay --log`. It grows without limit. If it cannot be written, the stream goes on without.
    #[arg(long, env = "ETCD_SYNCER_CAPTURE", value_name = "FILE")]
    pub capture: Option<PathBuf>,
}

/// Passwords that came in a variable.
#[derive(Clone, Debug, Default)]
pub struct Passwords {
    /// Of our user on the standby.
    pub standby: Option<Secret>,
    /// Of our user on the primary.
    pub primary: Option<Secret>,
}

/// Options of `run`, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Peer URLs of the primary, at least one.
    pub primary_peer_urls: Vec<String>,
    /// Where to serve the primary's members.
    pub listen_peer: SocketAddr,
    /// The peer URL by which we are found in the primary's membership, as it was written.
    pub advertise_peer_url: String,
    /// Client URLs of the standby, at least one.
    pub standby_endpoints: Vec<String>,
    /// Client URLs of the primary, possibly none.
    pub primary_endpoints: Vec<String>,
    /// The name of our own user of the standby.
    pub standby_user: String,
    /// How to log in there, if there is a password.
    pub standby_login: Option<Credentials>,
    /// How to log in on the primary, if there is a password.
    pub primary_login: Option<Credentials>,
    /// Name of the stream.
    pub stream: String,
    /// Which keys are replicated, and under which names.
    pub scope: Arc<Scope>,
    /// Folder of this process.
    pub data_dir: PathBuf,
    /// Where to serve status and metrics.
    pub listen_status: SocketAddr,
    /// How the log is written.
    pub log_format: LogFormat,
    /// What to do with a key that changed several times.
    pub history: HistoryPolicy,
    /// Most operations in a batch.
    pub batch_ops_max: usize,
    /// Most bytes in a batch.
    pub batch_bytes_max: usize,
    /// Most memory for what is received and not yet durable.
    pub receive_bytes_max: usize,
    /// Largest database that is taken as a snapshot.
    pub snapshot_bytes_max: u64,
    /// How long one request to the standby may take.
    pub standby_timeout: Duration,
    /// TTL of leases on the standby, whole seconds.
    pub standby_lease_ttl: Duration,
    /// Whether compactions are carried over.
    pub compaction: CompactionPolicy,
    /// Where to write the primary's state when the stream ends.
    pub dump_state: Option<PathBuf>,
    /// Where to record the primary's log.
    pub capture: Option<PathBuf>,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Most operations in a batch if nothing else is said.
pub const BATCH_OPS_MAX: usize = 1_000;
/// Most bytes in a batch if nothing else is said.
pub const BATCH_BYTES_MAX: usize = 1 << 20;

/// What is used where nobody says otherwise.
struct Defaults {
    stream: &'static str,
    listen_status: &'static str,
    batch_ops_max: usize,
    batch_bytes_max: usize,
    receive_bytes_max: usize,
    snapshot_bytes_max: u64,
}

const DEFAULTS: Defaults = Defaults {
    stream: "default",
    listen_status: "127.0.0.1:2391",
    batch_ops_max: BATCH_OPS_MAX,
    batch_bytes_max: BATCH_BYTES_MAX,
    receive_bytes_max: 256 << 20,
    snapshot_bytes_max: 64 << 30,
};

const LOG_FORMAT: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];

/// The least memory that can follow a leader: a few of its largest messages.
const RECEIVE_BYTES_MIN: usize = 16 << 20;

/// Where status and metrics are served if nothing else is said.
#[must_use]
pub fn default_status_address() -> &'static str {
    DEFAULTS.listen_status
}

impl Typed {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Read`] and [`Error::Parse`], for a key that no option has too.
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })?;
        serde_saphyr::from_str(&text).map_err(|error| Error::Parse {
            path: path.to_owned(),
            why: error.to_string(),
        })
    }

    /// With the passwords that stand in the environment.
    ///
    /// # Errors
    /// [`Error::Password`].
    pub fn with_passwords(mut self) -> Result<Self, Error> {
        self.passwords = Passwords {
            standby: login::from_environment(login::STANDBY_PASSWORD)?,
            primary: login::from_environment("ETCD_SYNCER_PRIMARY_PASSWORD")?,
        };
        Ok(self)
    }

    /// What `self` leaves out is taken from `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let (this, other) = (self.without_empty(), other.without_empty());
        let list = |mine: Vec<String>, theirs| if mine.is_empty() { theirs } else { mine };
        Self {
            primary_peer_urls: list(this.primary_peer_urls, other.primary_peer_urls),
            listen_peer_url: this.listen_peer_url.or(other.listen_peer_url),
            advertise_peer_url: this.advertise_peer_url.or(other.advertise_peer_url),
            standby_endpoints: list(this.standby_endpoints, other.standby_endpoints),
            primary_endpoints: list(this.primary_endpoints, other.primary_endpoints),
            standby_user: this.standby_user.or(other.standby_user),
            standby_password_file: this.standby_password_file.or(other.standby_password_file),
            primary_user: this.primary_user.or(other.primary_user),
            primary_password_file: this.primary_password_file.or(other.primary_password_file),
            passwords: Passwords {
                standby: this.passwords.standby.or(other.passwords.standby),
                primary: this.passwords.primary.or(other.passwords.primary),
            },
            stream: this.stream.or(other.stream),
            include_prefix: list(this.include_prefix, other.include_prefix),
            exclude_prefix: list(this.exclude_prefix, other.exclude_prefix),
            rewrite_prefix: list(this.rewrite_prefix, other.rewrite_prefix),
            data_dir: this.data_dir.or(other.data_dir),
            listen_status: this.listen_status.or(other.listen_status),
            log_format: this.log_format.or(other.log_format),
            history: this.history.or(other.history),
            batch_ops_max: this.batch_ops_max.or(other.batch_ops_max),
            batch_bytes_max: this.batch_bytes_max.or(other.batch_bytes_max),
            receive_bytes_max: this.receive_bytes_max.or(other.receive_bytes_max),
            snapshot_bytes_max: this.snapshot_bytes_max.or(other.snapshot_bytes_max),
            standby_timeout: this.standby_timeout.or(other.standby_timeout),
            standby_lease_ttl: this.standby_lease_ttl.or(other.standby_lease_ttl),
            compaction: this.compaction.or(other.compaction),
            dump_state: this.dump_state.or(other.dump_state),
            capture: this.capture.or(other.capture),
        }
    }

    /// A variable that is set to nothing is as good as not set. Only of prefixes it is not: an
    /// empty one may be what is left of another variable, and is refused later.
    fn without_empty(self) -> Self {
        let text = |given: Option<String>| given.filter(|text| !text.trim().is_empty());
        let list = |mut given: Vec<String>| {
            given.retain(|text| !text.trim().is_empty());
            given
        };
        let path = |given: Option<PathBuf>| given.filter(|path| !path.as_os_str().is_empty());
        Self {
            primary_peer_urls: list(self.primary_peer_urls),
            listen_peer_url: text(self.listen_peer_url),
            advertise_peer_url: text(self.advertise_peer_url),
            standby_endpoints: list(self.standby_endpoints),
            primary_endpoints: list(self.primary_endpoints),
            standby_user: text(self.standby_user),
            standby_password_file: path(self.standby_password_file),
            primary_user: text(self.primary_user),
            primary_password_file: path(self.primary_password_file),
            stream: text(self.stream),
            data_dir: path(self.data_dir),
            listen_status: text(self.listen_status),
            log_format: text(self.log_format),
            history: text(self.history),
            standby_timeout: text(self.standby_timeout),
            standby_lease_ttl: text(self.standby_lease_ttl),
            compaction: text(self.compaction),
            dump_state: path(self.dump_state),
            capture: path(self.capture),
            ..self
        }
    }

    /// Checks everything.
    ///
    /// # Errors
    /// [`Error::Missing`] and [`Error::Value`], for the first option that is wrong.
    pub fn check(self) -> Result<Config, Error> {
        let logins = login::Logins::of(&self)?;
        let scope = scope(
            &self.include_prefix,
            &self.exclude_prefix,
            &self.rewrite_prefix,
        )?;
        let stream = stream(self.stream.unwrap_or_else(|| DEFAULTS.stream.to_owned()))?;
        let status = self
            .listen_status
            .unwrap_or_else(|| DEFAULTS.listen_status.to_owned());
        let listen = required("listen-peer-url", self.listen_peer_url)?;
        let advertise = required("advertise-peer-url", self.advertise_peer_url)?;
        Ok(Config {
            primary_peer_urls: required_list("primary-peer-urls", self.primary_peer_urls)?
                .into_iter()
                .map(|url| peer_url("primary-peer-urls", url))
                .collect::<Result<_, _>>()?,
            listen_peer: peer_address(&listen)?,
            advertise_peer_url: peer_url("advertise-peer-url", advertise)?,
            standby_endpoints: endpoints(
                "standby-endpoints",
                required_list("standby-endpoints", self.standby_endpoints)?,
            )?,
            primary_endpoints: endpoints("primary-endpoints", self.primary_endpoints)?,
            standby_login: logins.standby,
            primary_login: logins.primary,
            standby_user: logins.standby_user,
            data_dir: self
                .data_dir
                .unwrap_or_else(|| format!("{stream}.etcd-syncer").into()),
            stream,
            scope,
            listen_status: socket_address("listen-status", &status)?,
            log_format: choice("log-format", self.log_format, &LOG_FORMAT)?,
            history: history(self.history)?,
            batch_ops_max: number(
                "batch-ops-max",
                self.batch_ops_max,
                DEFAULTS.batch_ops_max,
                1,
            )?,
            batch_bytes_max: number(
                "batch-bytes-max",
                self.batch_bytes_max,
                DEFAULTS.batch_bytes_max,
                1,
            )?,
            receive_bytes_max: number(
                "receive-bytes-max",
                self.receive_bytes_max,
                DEFAULTS.receive_bytes_max,
                RECEIVE_BYTES_MIN,
            )?,
            snapshot_bytes_max: number(
                "snapshot-bytes-max",
                self.snapshot_bytes_max,
                DEFAULTS.snapshot_bytes_max,
                1,
            )?,
            standby_timeout: standby_timeout(self.standby_timeout)?,
            standby_lease_ttl: standby_lease_ttl(self.standby_lease_ttl)?,
            compaction: compaction(self.compaction)?,
            dump_state: self.dump_state,
            capture: self.capture,
        })
    }
}

#[cfg(test)]
mod tests;
