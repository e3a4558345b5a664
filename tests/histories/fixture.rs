//! Logs in `fixtures/entries`, each with what a member held after it, as text.
//!
//! A line is a word and what belongs to it; bytes are hexadecimal, `-` for none. Lines that are not
//! there are not compared: only keys and the revision are in every file.
//!
//! | line | fields |
//! | --- | --- |
//! | `voters` | how many members vote; without it the log is seen as its one member applied it |
//! | `ttl-min` | the smallest TTL of leases in seconds, 2 without it |
//! | `halt` | the entry that must not be resolved |
//! | `revision`, `compact` | of the keyspace |
//! | `key` | key, create revision, mod revision, version, lease, value |
//! | `lease` | id, TTL, remaining TTL |
//! | `auth` | `on` or `off`, auth revision |
//! | `user` | name, 1 if it has no password, what is stored for one, roles |
//! | `role` | name |
//! | `permission` | role, type, key, range end, in the stored order |
//! | `alarm` | member, type |
//! | `entry` | index, term, type, data |

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use etcd_syncer::entry::Committed;
use etcd_syncer::ids::{RaftIndex, Term};

use crate::compare;
use crate::judge::{Judge, View};
use crate::picture::{Kv, Picture, Secret, User};

/// A log with what came of it.
#[derive(Clone, Debug)]
pub(crate) struct Fixture {
    pub(crate) voters: usize,
    pub(crate) ttl_min: i64,
    pub(crate) halt: Option<u64>,
    pub(crate) log: Vec<Committed>,
    pub(crate) picture: Picture,
    /// Users, roles, leases and alarms are there.
    is_whole: bool,
}

impl Fixture {
    pub(crate) fn new(voters: usize, ttl_min: i64, log: &[Committed], picture: &Picture) -> Self {
        Self {
            voters,
            ttl_min,
            halt: None,
            log: log.to_vec(),
            picture: picture.clone(),
            is_whole: true,
        }
    }

    /// Writes the file, with `about` at its top.
    pub(crate) fn write(&self, path: &Path, about: &str) -> Result<()> {
        let mut text = String::new();
        for line in about.lines() {
            writeln!(text, "# {line}")?;
        }
        writeln!(text, "voters {}\nttl-min {}", self.voters, self.ttl_min)?;
        if let Some(index) = self.halt {
            writeln!(text, "halt {index}")?;
        }
        self.write_picture(&mut text)?;
        for entry in &self.log {
            let Committed {
                index,
                term,
                kind,
                data,
            } = entry;
            writeln!(text, "entry {index} {term} {kind} {}", hex(data))?;
        }
        std::fs::create_dir_all(path.parent().context("a file in a folder")?)?;
        std::fs::write(path, text).with_context(|| format!("can't write {}", path.display()))
    }

    fn write_picture(&self, text: &mut String) -> Result<()> {
        let p = &self.picture;
        writeln!(text, "revision {}\ncompact {}", p.revision, p.compact)?;
        for (key, kv) in &p.keys {
            let Kv {
                created,
                modified,
                version,
                lease,
                value,
            } = kv;
            let (key, value) = (hex(key), hex(value));
            writeln!(
                text,
                "key {key} {created} {modified} {version} {lease} {value}"
            )?;
        }
        for (id, (ttl, remaining)) in &p.leases {
            writeln!(text, "lease {id} {ttl} {remaining}")?;
        }
        let on = if p.enabled { "on" } else { "off" };
        writeln!(text, "auth {on} {}", p.auth_revision)?;
        for (name, user) in &p.users {
            let no_password = u8::from(user.no_password);
            let password = match &user.password {
                Secret::Exactly(bytes) => bytes.clone(),
                Secret::SomeHash => Bytes::new(),
            };
            write!(
                text,
                "user {} {no_password} {}",
                hex(name.as_bytes()),
                hex(&password)
            )?;
            for role in &user.roles {
                write!(text, " {}", hex(role.as_bytes()))?;
            }
            writeln!(text)?;
        }
        for (name, permissions) in &p.roles {
            let name = hex(name.as_bytes());
            writeln!(text, "role {name}")?;
            for (kind, key, end) in permissions {
                writeln!(text, "permission {name} {kind} {} {}", hex(key), hex(end))?;
            }
        }
        for (member, kind) in &p.alarms {
            writeln!(text, "alarm {member} {kind}")?;
        }
        Ok(())
    }

    pub(crate) fn read(path: &Path) -> Result<Self> {
        let mut fixture = Self::new(1, 2, &[], &Picture::default());
        fixture.is_whole = false;
        let text = std::fs::read_to_string(path)?;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            fixture.read_line(line).with_context(|| line.to_owned())?;
        }
        Ok(fixture)
    }

    fn read_line(&mut self, line: &str) -> Result<()> {
        let words: Vec<&str> = line.split(' ').collect();
        let word = |at: usize| words.get(at).copied().context("too few words");
        let number = |at: usize| Ok::<i64, anyhow::Error>(word(at)?.parse()?);
        let positive = |at: usize| Ok::<u64, anyhow::Error>(word(at)?.parse()?);
        let bytes = |at: usize| unhex(word(at)?);
        let text = |at: usize| Ok::<_, anyhow::Error>(String::from_utf8(bytes(at)?.to_vec())?);
        let p = &mut self.picture;
        match word(0)? {
            "voters" => self.voters = word(1)?.parse()?,
            "ttl-min" => self.ttl_min = number(1)?,
            "halt" => self.halt = Some(positive(1)?),
            "revision" => p.revision = number(1)?,
            "compact" => p.compact = number(1)?,
            "key" => {
                let kv = Kv {
                    created: number(2)?,
                    modified: number(3)?,
                    version: number(4)?,
                    lease: number(5)?,
                    value: bytes(6)?,
                };
                p.keys.insert(bytes(1)?, kv);
            }
            "lease" => {
                p.leases.insert(number(1)?, (number(2)?, number(3)?));
            }
            "auth" => {
                self.is_whole = true;
                (p.enabled, p.auth_revision) = (word(1)? == "on", positive(2)?);
            }
            "user" => {
                let user = User {
                    no_password: word(2)? == "1",
                    password: Secret::Exactly(bytes(3)?),
                    roles: (4..words.len()).map(text).collect::<Result<_>>()?,
                };
                p.users.insert(text(1)?, user);
            }
            "role" => {
                p.roles.insert(text(1)?, Vec::new());
            }
            "permission" => {
                let permission = (word(2)?.parse()?, bytes(3)?, bytes(4)?);
                p.roles.entry(text(1)?).or_default().push(permission);
            }
            "alarm" => {
                p.alarms.insert((positive(1)?, word(2)?.parse()?));
            }
            "entry" => self.log.push(Committed {
                index: RaftIndex(positive(1)?),
                term: Term(positive(2)?),
                kind: word(3)?.parse()?,
                data: bytes(4)?,
            }),
            other => bail!("{other} is not known"),
        }
        Ok(())
    }

    /// What is wrong with what we resolve of the log.
    pub(crate) fn check(mut self, release: &str) -> Result<Vec<String>> {
        let mut judge = Judge::new(release, View::Voters(self.voters), self.ttl_min)?;
        let halted = judge.feed_all(&self.log)?;
        if halted != self.halt {
            let why = &judge.tally.halts;
            return Ok(vec![format!(
                "halt at {halted:?} for {:?}: {why:?}",
                self.halt
            )]);
        }
        if halted.is_some() {
            return Ok(Vec::new());
        }
        let ours = judge.picture()?;
        if self.is_whole {
            self.picture.attach();
        } else {
            self.picture = Picture {
                revision: self.picture.revision,
                keys: self.picture.keys,
                ..ours.clone()
            };
        }
        // Only what is left of it is in the file.
        self.picture.history.clone_from(&ours.history);
        compare::differences(&judge, &self.picture)
    }
}

fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "-".to_owned();
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Result<Bytes> {
    let digits = if text == "-" { "" } else { text };
    let pairs = (0..digits.len()).step_by(2);
    let bytes = pairs.map(|at| {
        let pair = digits.get(at..at + 2).context("half a byte")?;
        Ok(u8::from_str_radix(pair, 16)?)
    });
    Ok(bytes.collect::<Result<Vec<u8>>>()?.into())
}
