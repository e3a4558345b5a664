//! Reads the text of single options.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use serde::de::{Deserializer, SeqAccess, Visitor};

use super::Error;
use crate::peer::net::Target;
use crate::pipeline::HistoryPolicy;
use crate::plan::CompactionPolicy;
use crate::scope::{self, Scope};

/// TTLs of leases that can be kept alive over a slow request, and that etcd takes.
const LEASE_TTL: RangeInclusive<Duration> =
    Duration::from_secs(30)..=Duration::from_secs(9_000_000_000);
const STANDBY_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
const LEASE_TTL_DEFAULT: Duration = Duration::from_secs(24 * 3600);
const HISTORY: [(&str, HistoryPolicy); 3] = [
    ("auto", HistoryPolicy::Auto),
    ("keep", HistoryPolicy::Keep),
    ("last", HistoryPolicy::Last),
];
const COMPACTION: [(&str, CompactionPolicy); 2] = [
    ("follow", CompactionPolicy::Follow),
    ("none", CompactionPolicy::None),
];

pub(super) fn required(option: &'static str, given: Option<String>) -> Result<String, Error> {
    given.ok_or_else(|| missing(option))
}

pub(super) fn required_list(
    option: &'static str,
    given: Vec<String>,
) -> Result<Vec<String>, Error> {
    if given.is_empty() {
        Err(missing(option))
    } else {
        Ok(given)
    }
}

fn missing(option: &'static str) -> Error {
    let variable = option.replace('-', "_").to_uppercase();
    Error::Missing(option, format!("ETCD_SYNCER_{variable}"))
}

fn wrong(option: &'static str, value: &str, why: impl ToString) -> Error {
    Error::Value {
        option,
        value: value.to_owned(),
        why: why.to_string(),
    }
}

pub(super) fn peer_url(option: &'static str, url: String) -> Result<String, Error> {
    match Target::parse(&url) {
        Ok(_) => Ok(url.trim().trim_end_matches('/').to_owned()),
        Err(why) => Err(wrong(option, &url, why)),
    }
}

/// The address of a URL to listen on, whose host must be an IP address as in etcd.
pub(super) fn peer_address(url: &str) -> Result<SocketAddr, Error> {
    let checked = peer_url("listen-peer-url", url.to_owned())?;
    let address = checked
        .trim_start_matches("http://")
        .replace("localhost:", "127.0.0.1:");
    socket_address("listen-peer-url", &address).map_err(|_| {
        let why = "the host must be an IP address and the port a number: http://0.0.0.0:2390";
        wrong("listen-peer-url", url, why)
    })
}

pub(super) fn socket_address(option: &'static str, text: &str) -> Result<SocketAddr, Error> {
    text.parse()
        .map_err(|_| wrong(option, text, "write it as IP:PORT, such as 127.0.0.1:2391"))
}

/// Client URLs; a bare HOST:PORT is http, as for etcdctl.
///
/// # Errors
/// [`Error::Value`] for the first that is none.
pub fn endpoints(option: &'static str, given: Vec<String>) -> Result<Vec<String>, Error> {
    given
        .into_iter()
        .map(|text| {
            let url = if text.contains("://") {
                text.clone()
            } else {
                format!("http://{text}")
            };
            if url.starts_with("https://") {
                return Err(wrong(
                    option,
                    &text,
                    "TLS to clients is not supported by this version",
                ));
            }
            peer_url(option, url)
        })
        .collect()
}

/// A stream's name is part of a key, and of the name of a folder.
///
/// # Errors
/// [`Error::Value`] for one that cannot be.
pub fn stream(name: String) -> Result<String, Error> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&c);
    if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.chars().all(is_plain) {
        let why = "use 1 to 64 letters, digits, dots, dashes and underscores, no dot in front";
        return Err(wrong("stream", &name, why));
    }
    Ok(name)
}

/// Prefixes that make sense together.
///
/// # Errors
/// [`Error::Value`] for a prefix that is none, [`Error::Scope`] for several that contradict each
/// other.
pub fn scope(
    include: &[String],
    exclude: &[String],
    rewrite: &[String],
) -> Result<Arc<Scope>, Error> {
    let prefixes = scope::parse(include, exclude, rewrite);
    let prefixes = prefixes.map_err(|(option, text, why)| wrong(option, &text, why))?;
    Ok(Arc::new(Scope::new(prefixes)?))
}

/// What to do with a key that changed several times, by its name.
///
/// # Errors
/// [`Error::Value`] for an unknown name.
pub fn history(given: Option<String>) -> Result<HistoryPolicy, Error> {
    choice("history", given, &HISTORY)
}

/// Whether compactions are carried over, by its name.
///
/// # Errors
/// [`Error::Value`] for an unknown name.
pub fn compaction(given: Option<String>) -> Result<CompactionPolicy, Error> {
    choice("compaction", given, &COMPACTION)
}

/// How long a request to the standby may take.
///
/// # Errors
/// [`Error::Value`] for one that is no time.
pub fn standby_timeout(given: Option<String>) -> Result<Duration, Error> {
    duration("standby-timeout", given, STANDBY_TIMEOUT_DEFAULT)
}

/// TTL of leases on the standby.
///
/// # Errors
/// [`Error::Value`] for one that etcd does not take, or that cannot be kept up.
pub fn standby_lease_ttl(given: Option<String>) -> Result<Duration, Error> {
    whole_seconds("standby-lease-ttl", given, LEASE_TTL_DEFAULT, LEASE_TTL)
}

/// One of several words; the first is the default.
pub(super) fn choice<T: Copy>(
    option: &'static str,
    given: Option<String>,
    words: &[(&str, T)],
) -> Result<T, Error> {
    let given = given
        .as_deref()
        .or(words.first().map(|(word, _)| *word))
        .unwrap_or_default();
    let found = words
        .iter()
        .find(|(word, _)| *word == given)
        .map(|(_, value)| *value);
    found.ok_or_else(|| {
        let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        wrong(option, given, format!("use one of {}", known.join(", ")))
    })
}

pub(super) fn number<N: PartialOrd + ToString>(
    option: &'static str,
    given: Option<N>,
    default: N,
    least: N,
) -> Result<N, Error> {
    let value = given.unwrap_or(default);
    if value < least {
        return Err(wrong(
            option,
            &value.to_string(),
            format!("it must be at least {}", least.to_string()),
        ));
    }
    Ok(value)
}

fn duration(
    option: &'static str,
    given: Option<String>,
    default: Duration,
) -> Result<Duration, Error> {
    let Some(text) = given else {
        return Ok(default);
    };
    let parsed = humantime::parse_duration(&text).map_err(|why| wrong(option, &text, why))?;
    if parsed.is_zero() {
        return Err(wrong(option, &text, "it must be longer than nothing"));
    }
    Ok(parsed)
}

/// A time in a range, in whole seconds.
fn whole_seconds(
    option: &'static str,
    given: Option<String>,
    default: Duration,
    range: RangeInclusive<Duration>,
) -> Result<Duration, Error> {
    let written = given.clone().unwrap_or_default();
    let parsed = duration(option, given, default)?;
    if !range.contains(&parsed) || parsed.subsec_nanos() > 0 {
        let shown = |time: &Duration| humantime::format_duration(*time).to_string();
        let (least, most) = (shown(range.start()), shown(range.end()));
        let why = format!("it must be whole seconds from {least} to {most}");
        return Err(wrong(option, &written, why));
    }
    Ok(parsed)
}

/// A list in the file: one text with commas, as etcd writes it, or a YAML list.
pub(super) fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Either;

    impl<'de> Visitor<'de> for Either {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a text with commas, or a list of texts")
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            Ok(text.split(',').map(|part| part.trim().to_owned()).collect())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut parts = Vec::new();
            while let Some(part) = seq.next_element::<String>()? {
                parts.push(part);
            }
            Ok(parts)
        }
    }

    deserializer.deserialize_any(Either)
}
