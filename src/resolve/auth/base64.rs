//! Reads base64 exactly as the primary does, since what it cannot read is refused there.

/// The bytes that `text` stands for; None if it is no base64.
///
/// Takes the standard alphabet with padding. Line ends are passed over wherever they stand, and the
/// unused bits of the last letter may have any value.
///
/// # Source
/// Go `encoding/base64`, `StdEncoding.DecodeString`.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
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
