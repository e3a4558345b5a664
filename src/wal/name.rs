//! Names of WAL files. Pure.

use std::fmt;

/// What a file's name says: `<sequence>-<index>.wal`, each in 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentName {
    /// Its place in the order of files.
    pub sequence: u64,
    /// The entry that comes next when the file is begun; 0 in the first one.
    pub index: u64,
}

impl SegmentName {
    /// Reads a name; None for every other file, such as one that etcd prepares (`0.tmp`) or has put
    /// aside (`.wal.broken`).
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (sequence, index) = name.strip_suffix(".wal")?.split_once('-')?;
        Some(Self {
            sequence: digits(sequence)?,
            index: digits(index)?,
        })
    }

    /// The files to read, in order: the last ones without a gap in their numbers. Older ones behind
    /// a gap are not a part of this log any more.
    ///
    /// # Errors
    /// The number that two files have.
    pub(super) fn in_order(mut names: Vec<Self>) -> Result<Vec<Self>, u64> {
        names.sort_unstable();
        let mut from = 0;
        for (at, pair) in (1..).zip(names.windows(2)) {
            let [one, next] = pair else { continue };
            if one.sequence == next.sequence {
                return Err(one.sequence);
            }
            if one.sequence.checked_add(1) != Some(next.sequence) {
                from = at;
            }
        }
        Ok(names.split_off(from))
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:016x}.wal", self.sequence, self.index)
    }
}

fn digits(text: &str) -> Option<u64> {
    if text.len() != 16 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_segments_are_read() {
        let name = SegmentName {
            sequence: 3,
            index: 0x119,
        };
        let text = "0000000000000003-0000000000000119.wal";
        assert_eq!(SegmentName::parse(text), Some(name));
        assert_eq!(name.to_string(), text);
        for other in [
            "0.tmp",
            "0000000000000003-0000000000000119.wal.broken",
            "3-119.wal",
            "+000000000000003-0000000000000119.wal",
            "0000000000000003.wal",
        ] {
            assert_eq!(SegmentName::parse(other), None, "{other}");
        }
    }

    #[test]
    fn files_before_a_gap_are_left_out() {
        let name = |sequence| SegmentName { sequence, index: 7 };
        let order = |numbers: &[u64]| {
            let names = numbers.iter().copied().map(name).collect();
            let order = SegmentName::in_order(names)?;
            Ok::<_, u64>(order.iter().map(|name| name.sequence).collect::<Vec<_>>())
        };
        assert_eq!(order(&[2, 0, 1]), Ok(vec![0, 1, 2]));
        assert_eq!(order(&[6, 0, 1, 4, 5]), Ok(vec![4, 5, 6]));
        assert_eq!(order(&[0, u64::MAX]), Ok(vec![u64::MAX]));
        assert_eq!(order(&[]), Ok(vec![]));
        assert_eq!(order(&[1, 2, 2]), Err(2));
    }
}
