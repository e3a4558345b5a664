//! Writes down what is known of the primary, without values: one JSON object per line.
//!
//! | line | fields |
//! | --- | --- |
//! | first | `index`, `revision`, `compact_revision` |
//! | a key | `key` (hexadecimal), `create_revision`, `mod_revision`, `version`, `lease` (decimal) |
//! | a lease | `lease`, `ttl` (seconds), `keys` (hexadecimal) |
//!
//! Keys come in ascending order, then leases.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::json;

use crate::exit::{Exit, Fatal};
use crate::resolve::PrimaryState;

/// Writes the file, under another name until it is whole.
///
/// # Errors
/// If the file cannot be written.
pub fn write(path: &Path, state: &PrimaryState) -> Result<(), Fatal> {
    let partial = path.with_extension("partial");
    let written = File::create(&partial)
        .and_then(|file| {
            let mut out = BufWriter::new(file);
            lines(&mut out, state)?;
            out.flush()
        })
        .and_then(|()| std::fs::rename(&partial, path));
    written.map_err(|error| {
        Fatal::new(
            Exit::Failed,
            format!("--dump-state {}: {error}", path.display()),
        )
    })
}

fn lines(out: &mut impl Write, state: &PrimaryState) -> std::io::Result<()> {
    let position = state.position();
    let first = json!({
        "index": position.index,
        "revision": position.revision,
        "compact_revision": position.compact_revision,
    });
    writeln!(out, "{first}")?;
    for (key, meta) in state.keys() {
        let line = json!({
            "key": hex(key),
            "create_revision": meta.created,
            "mod_revision": meta.modified,
            "version": meta.version,
            "lease": meta.lease,
        });
        writeln!(out, "{line}")?;
    }
    for (id, lease) in state.leases() {
        let keys: Vec<_> = lease.keys().map(hex).collect();
        writeln!(
            out,
            "{}",
            json!({ "lease": id, "ttl": lease.ttl(), "keys": keys })
        )?;
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}
