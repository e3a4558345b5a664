//! `etcd-syncer dump diff`.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::Stop;
use super::items::{self, Fields, HIDDEN, Item, Opened, Show};
use crate::resolve::{Digest, DigestKey};
use crate::snapshot::{self, LiveKey};

/// Options of `dump diff`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// A saved snapshot, a database file, or the data directory of a stopped member.
    #[arg(value_name = "FIRST")]
    first: PathBuf,
    /// Another one.
    #[arg(value_name = "SECOND")]
    second: PathBuf,
    /// Print one JSON object for each line.
    #[arg(long)]
    json: bool,
    /// Read saved snapshots even if their hashes are other ones.
    #[arg(long)]
    skip_hash_check: bool,
    #[command(flatten)]
    show: Show,
}

pub(super) fn dump(args: &Args, out: &mut impl Write) -> Result<(), Stop> {
    let read = |path| Opened::read(path, args.skip_hash_check).map_err(Stop::CannotTell);
    let [first, second] = [read(&args.first)?, read(&args.second)?];
    let mut lines = Lines {
        out,
        as_json: args.json,
        totals: BTreeMap::new(),
    };
    compare_items(&first, &second, args.show, &mut lines)?;
    compare_keys(&first, &second, args.show, &mut lines)?;
    lines.finish()
}

/// Compares everything but the keys.
fn compare_items(
    first: &Opened,
    second: &Opened,
    show: Show,
    lines: &mut Lines<'_, impl Write>,
) -> Result<(), Stop> {
    let mut both: BTreeMap<(&str, String), [Option<Item>; 2]> = BTreeMap::new();
    for (side, opened) in [first, second].into_iter().enumerate() {
        for item in items::items(&opened.contents) {
            let sides = both.entry((item.kind, item.name.clone())).or_default();
            if let Some(slot) = sides.get_mut(side) {
                *slot = Some(item);
            }
        }
    }
    for ((kind, name), sides) in both {
        match sides {
            [Some(a), Some(b)] => {
                if a != b {
                    let [mut x, mut y] = [a.shown(show), b.shown(show)];
                    let secrets_differ = a.secret != b.secret;
                    keep_differing(&mut x, &mut y, |field| {
                        field == "password" && secrets_differ
                    });
                    lines.print(kind, &name, [Some(x), Some(y)])?;
                }
            }
            [a, b] => {
                let sides = [a, b].map(|item| item.map(|item| item.shown(show)));
                lines.print(kind, &name, sides)?;
            }
        }
    }
    Ok(())
}

fn compare_keys(
    first: &Opened,
    second: &Opened,
    show: Show,
    lines: &mut Lines<'_, impl Write>,
) -> Result<(), Stop> {
    let key = DigestKey::new(&std::array::from_fn(|_| fastrand::u8(..)));
    let [left, right] = [Side::of(first, &key)?, Side::of(second, &key)?];
    let (mut i, mut j) = (0, 0);
    loop {
        let [a, b] = [
            left.opened.contents.keys.get(i),
            right.opened.contents.keys.get(j),
        ];
        let order = match (&a, &b) {
            (None, None) => return Ok(()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => a.key.cmp(b.key),
        };
        let a = a.filter(|_| order.is_le());
        let b = b.filter(|_| order.is_ge());
        let values_differ = left.digest(i) != right.digest(j);
        (i, j) = (i + usize::from(a.is_some()), j + usize::from(b.is_some()));
        if let (Some(a), Some(b)) = (&a, &b)
            && !values_differ
            && is_same(a, b)
        {
            continue;
        }
        let name = items::text(a.or(b).map_or(b"", |key| key.key));
        let sides = [left.shown(a, show)?, right.shown(b, show)?];
        match sides {
            [Some(mut a), Some(mut b)] => {
                keep_differing(&mut a, &mut b, |field| field == "value" && values_differ);
                lines.print("key", &name, [Some(a), Some(b)])?;
            }
            sides => lines.print("key", &name, sides)?,
        }
    }
}

/// True if all is the same that is known beside the value.
fn is_same(a: &LiveKey<'_>, b: &LiveKey<'_>) -> bool {
    let known = |key: &LiveKey<'_>| (key.created, key.modified, key.version, key.lease);
    known(a) == known(b)
}

/// One of the two databases.
struct Side<'a> {
    opened: &'a Opened,
    digests: Vec<Digest>,
}

impl<'a> Side<'a> {
    fn of(opened: &'a Opened, key: &DigestKey) -> Result<Self, Stop> {
        let digests = snapshot::digests(&opened.file, &opened.contents.keys, key);
        Ok(Self {
            opened,
            digests: digests.map_err(|error| Stop::CannotTell(error.to_string()))?,
        })
    }

    fn digest(&self, place: usize) -> Option<Digest> {
        self.digests.get(place).copied()
    }

    /// The fields of a key, with its value or in its stead a word.
    fn shown(&self, key: Option<LiveKey<'_>>, show: Show) -> Result<Option<Fields>, Stop> {
        let Some(key) = key else {
            return Ok(None);
        };
        let mut shown = items::key(&key);
        let value = if show.values {
            let value = snapshot::value(&self.opened.file, key.value);
            items::text(&value.map_err(|error| Stop::CannotTell(error.to_string()))?)
        } else {
            HIDDEN.to_owned()
        };
        shown.insert("value".to_owned(), value.into());
        Ok(Some(shown))
    }
}

/// Drops the fields that both have and that do not differ. `differs` tells of those that are not
/// shown as they are.
fn keep_differing(a: &mut Fields, b: &mut Fields, differs: impl Fn(&str) -> bool) {
    let is_equal = |field: &String, x: &Value, y: &Value| x == y && !differs(field);
    let equal = a
        .iter()
        .filter(|(field, x)| b.get(*field).is_some_and(|y| is_equal(field, x, y)));
    let equal: Vec<String> = equal.map(|(field, _)| field.clone()).collect();
    for field in equal {
        a.remove(&field);
        b.remove(&field);
    }
}

/// Prints differences and counts them.
struct Lines<'a, W> {
    out: &'a mut W,
    as_json: bool,
    totals: BTreeMap<String, u64>,
}

impl<W: Write> Lines<'_, W> {
    /// Prints what the two databases have; None for nothing of that name.
    fn print(&mut self, kind: &str, name: &str, sides: [Option<Fields>; 2]) -> Result<(), Stop> {
        *self.totals.entry(kind.to_owned()).or_default() += 1;
        let [first, second] = sides;
        if self.as_json {
            let line = json!({"kind": kind, "id": name, "first": first, "second": second});
            writeln!(self.out, "{line}")?;
            return Ok(());
        }
        let mark = match (&first, &second) {
            (_, None) => '-',
            (None, _) => '+',
            (Some(_), Some(_)) => '!',
        };
        write!(self.out, "{mark} {kind}")?;
        if !name.is_empty() {
            write!(self.out, " {name}")?;
        }
        let is_both = mark == '!';
        let [first, second] = [first, second].map(Option::unwrap_or_default);
        let names = first
            .keys()
            .chain(second.keys().filter(|name| !first.contains_key(*name)));
        for field in names {
            match (first.get(field), second.get(field)) {
                (Some(a), Some(b)) => write!(self.out, " {field}={a} -> {b}")?,
                (Some(a), None) if is_both => write!(self.out, " {field}={a} -> none")?,
                (None, Some(b)) if is_both => write!(self.out, " {field}=none -> {b}")?,
                (Some(one), None) | (None, Some(one)) => write!(self.out, " {field}={one}")?,
                (None, None) => {}
            }
        }
        writeln!(self.out)?;
        Ok(())
    }

    /// Prints how many differences there were.
    fn finish(self) -> Result<(), Stop> {
        if self.as_json {
            writeln!(self.out, "{}", json!({"differences": self.totals}))?;
        } else if self.totals.is_empty() {
            writeln!(self.out, "no difference")?;
        } else {
            let each = self
                .totals
                .iter()
                .map(|(kind, count)| format!("{kind} {count}"));
            let each: Vec<String> = each.collect();
            writeln!(self.out, "differences: {}", each.join(", "))?;
        }
        if self.totals.is_empty() {
            Ok(())
        } else {
            Err(Stop::Differs)
        }
    }
}
