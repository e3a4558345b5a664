//! Where the etcd binaries are.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context, Result, anyhow, bail};

/// A minor release of etcd that is tested against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    V3_4,
    V3_5,
    V3_6,
    V3_7,
}

/// The programs of one etcd release.
#[derive(Clone, Debug)]
pub struct Binaries {
    pub etcd: PathBuf,
    pub etcdctl: PathBuf,
    /// From 3.5 on.
    pub etcdutl: Option<PathBuf>,
    /// The full version that `etcd` reports, such as `3.6.14`.
    pub version: String,
}

impl Version {
    /// All of them, oldest first.
    pub const ALL: [Version; 4] = [Self::V3_4, Self::V3_5, Self::V3_6, Self::V3_7];

    /// The release as it is written, such as `3.6`.
    pub fn minor(self) -> &'static str {
        match self {
            Self::V3_4 => "3.4",
            Self::V3_5 => "3.5",
            Self::V3_6 => "3.6",
            Self::V3_7 => "3.7",
        }
    }

    /// The newest release whose programs are there or can be installed, unless `wanted`, such as
    /// `3.6`, says which.
    ///
    /// # Errors
    /// If there is none, or none of that name.
    pub async fn choose(wanted: Option<&str>) -> Result<(Self, Binaries)> {
        let wanted = wanted.map(str::to_owned);
        let look = move || {
            let mut last = anyhow!("use 3.4, 3.5, 3.6 or 3.7").context("no such release of etcd");
            for version in Self::ALL.into_iter().rev() {
                if wanted.as_ref().is_some_and(|name| name != version.minor()) {
                    continue;
                }
                match version.binaries() {
                    Ok(binaries) => return Ok((version, binaries)),
                    Err(error) => last = error,
                }
            }
            Err(last)
        };
        tokio::task::spawn_blocking(look)
            .await
            .context("looking for the etcd binaries panicked")?
    }

    /// The programs of this release, installed first if need be: the first call of all may take a
    /// minute or two and blocks; later ones in the same process answer at once.
    ///
    /// # Errors
    /// If `tests/etcd/install.sh` can't provide them, with what it wrote to stderr.
    pub fn binaries(self) -> Result<Binaries> {
        type Answers = HashMap<Version, Result<Binaries, String>>;
        static ANSWERS: Mutex<Option<Answers>> = Mutex::new(None);
        let mut answers = ANSWERS
            .lock()
            .map_err(|_| anyhow!("looking for etcd {self} panicked before"))?;
        answers
            .get_or_insert_default()
            .entry(self)
            .or_insert_with(|| install(self).map_err(|error| format!("{error:#}")))
            .clone()
            .map_err(|error| anyhow!(error))
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.minor())
    }
}

fn install(version: Version) -> Result<Binaries> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/etcd/install.sh");
    let output = Command::new("bash")
        .arg(script)
        .arg(version.minor())
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("can't run {script}"))?;
    if !output.status.success() {
        bail!(
            "{script} {version} failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let line = String::from_utf8(output.stdout)
        .with_context(|| format!("the answer of {script} {version} is not UTF-8"))?;
    let (full, folder) = line
        .trim_end()
        .split_once(' ')
        .with_context(|| format!("{script} {version} answered {line:?}"))?;
    let folder = PathBuf::from(folder);
    Ok(Binaries {
        etcd: folder.join("etcd"),
        etcdctl: folder.join("etcdctl"),
        etcdutl: (version != Version::V3_4).then(|| folder.join("etcdutl")),
        version: full.to_owned(),
    })
}
