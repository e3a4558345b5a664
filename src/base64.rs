//! Base64 as etcd reads and writes it. Pure.
//!
//! It is read exactly as the primary does, since what it cannot read is refused there.

/// The bytes that `text` stands for; None if it is no base64.
///
/// Takes the standard alphabet with padding. Line ends are passed over wherever they stand, and the
/// unused bits of the last letter may have any value.
///
/// # Source
/// Go `encoding/base64`, `StdEncoding.DecodeString`.
#[must_use]
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let mut letters = text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n'));
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    loop {
        let Some(first) = letters.next() else {
            return Some(bytes);
        };
        let quantum = [first, letters.next()?, letters.next()?, letters.next()?];
        let used = match quantum {
            [_, _, b'=', b'='] => 2,
            [_, _, _, b'='] => 3,
            [_, _, _, _] => 4,
        };
        let mut bits = 0_u32;
        for letter in quantum.iter().take(used) {
            bits = bits << 6 | u32::from(value(*letter)?);
        }
        bits <<= 6 * (4 - used);
        let [_, one, two, three] = bits.to_be_bytes();
        bytes.extend([one, two, three].iter().take(used - 1));
        if used < 4 {
            return letters.next().is_none().then_some(bytes);
        }
    }
}

/// `bytes` in the standard alphabet with padding.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for letter in 0..4 {
            let is_used = letter <= group.len();
            text.push(if is_used {
                self::letter(bits >> (18 - 6 * letter))
            } else {
                '='
            });
        }
    }
    text
}

/// The letter for the lowest six bits.
fn letter(bits: u32) -> char {
    let place = usize::try_from(bits & 63).unwrap_or_default();
    ALPHABET.get(place).copied().map_or('=', char::from)
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn value(letter: u8) -> Option<u8> {
    match letter {
        b'A'..=b'Z' => Some(letter - b'A'),
        b'a'..=b'z' => Some(letter - b'a' + 26),
        b'0'..=b'9' => Some(letter - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_base64_is_read() {
        let rows: [(&str, &[u8]); 8] = [
            ("", b""),
            ("aA==", b"h"),
            ("aGk=", b"hi"),
            ("aGkh", b"hi!"),
            ("aGkhaGk=", b"hi!hi"),
            ("\na\r\nG\nk=\n\n", b"hi"),
            ("aB==", b"h"),
            ("+/+/", &[0xfb, 0xff, 0xbf]),
        ];
        for (text, expected) in rows {
            assert_eq!(decode(text).as_deref(), Some(expected), "{text:?}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for (bytes, expected) in [
            (&b""[..], ""),
            (b"h", "aA=="),
            (b"hi", "aGk="),
            (b"hi!", "aGkh"),
            (b"\xfb\xff\xbf\0", "+/+/AA=="),
        ] {
            assert_eq!(encode(bytes), expected);
            assert_eq!(decode(expected).as_deref(), Some(bytes));
        }
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(&all)), Some(all));
    }

    #[test]
    fn what_is_not_is_refused() {
        for text in [
            "a",
            "aA",
            "aA=",
            "aGk",
            "=",
            "====",
            "a===",
            "aA==aA==",
            "aA==a",
            "aGk=a",
            "a-_a",
            "aG k",
            "aA=a",
            "aGkh=",
            "\u{e9}aaa",
        ] {
            assert_eq!(decode(text), None, "{text:?}");
        }
    }
}
