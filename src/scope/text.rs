//! Prefixes as text: what is plain stands for itself, `\xHH` for any byte. Pure.
//!
//! Lists of prefixes are parted at commas and rewrites at the first `=`, so in a prefix these are
//! `\x2c` and `\x3d`.

use bytes::Bytes;

use super::prefixes::{Prefixes, Rewrite};

/// Reads the texts of the three options.
///
/// # Errors
/// The option, the text, and what is wrong with it.
pub fn parse(
    include: &[String],
    exclude: &[String],
    rewrite: &[String],
) -> Result<Prefixes, (&'static str, String, &'static str)> {
    let all = |option: &'static str, texts: &[String]| {
        let prefixes = texts.iter().map(|text| {
            let wrong = |why| (option, text.clone(), why);
            prefix(text).map_err(wrong)
        });
        prefixes.collect::<Result<Vec<_>, _>>()
    };
    let rewrites = rewrite.iter().map(|text| {
        let wrong = |why| (super::prefixes::REWRITE, text.clone(), why);
        let (from, to) = text
            .split_once('=')
            .ok_or_else(|| wrong("write it as FROM=TO, such as app/=copy/app/"))?;
        Ok(Rewrite {
            from: prefix(from).map_err(wrong)?,
            to: prefix(to).map_err(wrong)?,
        })
    });
    Ok(Prefixes {
        include: all(super::prefixes::INCLUDE, include)?,
        exclude: all(super::prefixes::EXCLUDE, exclude)?,
        rewrite: rewrites.collect::<Result<_, _>>()?,
    })
}

fn prefix(text: &str) -> Result<Bytes, &'static str> {
    if text.trim() != text {
        return Err("blanks at its ends are most likely not meant; write one that is as \\x20");
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let (byte, behind) = match rest {
            [b'\\', behind @ ..] => (b'\\', behind),
            [b'x', high, low, behind @ ..] => (hex(*high)? << 4 | hex(*low)?, behind),
            _ => return Err(ESCAPES),
        };
        bytes.push(byte);
        rest = behind;
    }
    Ok(bytes.into())
}

const ESCAPES: &str = "a backslash begins \\xHH, which is a byte in hexadecimal, or \\\\";

fn hex(digit: u8) -> Result<u8, &'static str> {
    let value = char::from(digit).to_digit(16).ok_or(ESCAPES)?;
    u8::try_from(value).map_err(|_| ESCAPES)
}

/// The text of a key or prefix, on one line whatever is in it.
pub(super) fn show(key: &[u8]) -> String {
    let shown = key.iter().map(|byte| match byte {
        b'\\' => "\\\\".to_owned(),
        b',' | b'=' | b'\'' => format!("\\x{byte:02x}"),
        byte if byte.is_ascii_graphic() => char::from(*byte).to_string(),
        byte => format!("\\x{byte:02x}"),
    });
    shown.collect()
}

/// As one word for a shell.
pub(super) fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/-_.:@%+=".contains(c);
    if text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{text}'")
    }
}
