//! `etcd-syncer dump snapshot`.

use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::Stop;
use super::items::{self, Fields, Opened, Show};
use crate::snapshot::{self, Form};

/// Options of `dump snapshot`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// A saved snapshot, a database file, or the data directory of a stopped member.
    #[arg(value_name = "FILE")]
    path: PathBuf,
    /// Print one JSON object for each line.
    #[arg(long)]
    json: bool,
    /// Read a saved snapshot even if its hash is another one.
    #[arg(long)]
    skip_hash_check: bool,
    #[command(flatten)]
    show: Show,
}

pub(super) fn dump(args: &Args, out: &mut impl Write) -> Result<(), Stop> {
    let opened = Opened::read(&args.path, args.skip_hash_check).map_err(Stop::Input)?;
    let contents = &opened.contents;
    let mut print = |kind: &str, name: &str, shown: Fields| line(out, args.json, kind, name, shown);
    print("file", "", file(&opened, args.skip_hash_check))?;
    for item in items::items(contents) {
        print(item.kind, &item.name, item.shown(args.show))?;
    }
    for key in contents.keys.iter() {
        let mut shown = items::key(&key);
        if args.show.values {
            let value = snapshot::value(&opened.file, key.value);
            let value = value.map_err(|error| Stop::Input(error.to_string()))?;
            shown.insert("value".to_owned(), items::text(&value).into());
        }
        print("key", &items::text(key.key), shown)?;
    }
    Ok(())
}

/// What there is to say about the file itself.
fn file(opened: &Opened, hash_was_skipped: bool) -> Fields {
    let meta = &opened.contents.database;
    let size = snapshot::bbolt::PageSource::size(&opened.file);
    let behind = opened.form.content_bytes(size) - meta.database_bytes();
    let hash = match opened.form {
        Form::Plain => "none",
        Form::Saved if hash_was_skipped => "not checked",
        Form::Saved => "matches",
    };
    items::fields(json!({
        "path": opened.path.display().to_string(),
        "sha256": hash,
        "page_bytes": meta.page_bytes,
        "pages": meta.high_water,
        "transaction": meta.txid,
        "bytes_behind": (behind > 0).then_some(behind),
    }))
}

/// Prints an item: a JSON object, or words.
fn line(
    out: &mut impl Write,
    as_json: bool,
    kind: &str,
    name: &str,
    shown: Fields,
) -> Result<(), Stop> {
    if as_json {
        let mut all = shown;
        all.insert("kind".to_owned(), kind.into());
        if !name.is_empty() {
            // A member has a name of its own beside its id.
            all.entry("id").or_insert_with(|| name.into());
        }
        writeln!(out, "{}", Value::Object(all))?;
        return Ok(());
    }
    write!(out, "{kind:<7}")?;
    if !name.is_empty() {
        write!(out, " {name}")?;
    }
    for (field, value) in shown {
        write!(out, " {field}={value}")?;
    }
    writeln!(out)?;
    Ok(())
}
