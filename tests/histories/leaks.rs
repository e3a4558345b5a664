//! Whether anything that the program wrote holds what it must not show.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;
use etcd_syncer::base64;
use etcd_syncer::reserved;

use crate::disk::Database;

/// Our own user of the standby.
pub(crate) const OURS: &str = "etcd-syncer";
pub(crate) const OUR_WORD: &str = "Vb7-our-own-word";

/// What passwords, values, hashes and large values begin with.
const BEGINNINGS: [&str; 6] = ["Zx9-", "Kq7-", "Vb7-", "$2a$", "$2b$", "vvvvvvvvvvvv"];
/// All tokens of a kind begin alike.
const TOKEN_CHARS: usize = 18;

/// By place, what is there.
pub(crate) type Shown = BTreeMap<String, Vec<u8>>;

/// Takes in all files of a folder.
pub(crate) fn of_folder(folder: &Path, shown: &mut Shown) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            of_folder(&path, shown)?;
        } else {
            shown.insert(path.display().to_string(), std::fs::read(&path)?);
        }
    }
    Ok(())
}

/// Takes in all that a stopped standby still has of our own keys, also what is history.
pub(crate) fn of_standby(data_dir: &Path, shown: &mut Shown) -> Result<()> {
    let database = Database::read(&data_dir.join("member/snap/db"))?;
    let mut ours = Vec::new();
    for (_, record) in database.bucket("key")? {
        let is_ours = find_bytes(&record, reserved::PREFIX.as_bytes()).is_some();
        if is_ours {
            ours.extend_from_slice(&record);
        }
    }
    anyhow::ensure!(!ours.is_empty(), "the standby has no record of ours");
    shown.insert("our keys".to_owned(), ours);
    Ok(())
}

/// One line for each secret in each place.
pub(crate) fn find(shown: &Shown, tokens: &[String]) -> Vec<String> {
    let mut secrets = BTreeSet::new();
    for word in BEGINNINGS {
        secrets.extend(forms(word));
    }
    for token in tokens {
        secrets.insert(token.chars().take(TOKEN_CHARS).collect());
    }
    let mut found = Vec::new();
    for (place, bytes) in shown {
        for secret in &secrets {
            if let Some(at) = find_bytes(bytes, secret.as_bytes()) {
                let line = &bytes[at.saturating_sub(100)..(at + 60).min(bytes.len())];
                let line = line.escape_ascii();
                found.push(format!("{place} shows {secret}: {line}"));
            }
        }
    }
    found
}

/// As it is, in base64, in hexadecimal and as a list of numbers.
fn forms(word: &str) -> [String; 4] {
    let bytes = word.as_bytes();
    // The last digit depends on what follows.
    let whole = base64::encode(bytes);
    let digits = bytes.len() * 8 / 6;
    let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
    [
        word.to_owned(),
        whole[..digits].to_owned(),
        bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        numbers.join(", "),
    ]
}

fn find_bytes(all: &[u8], part: &[u8]) -> Option<usize> {
    all.windows(part.len()).position(|window| window == part)
}
