//! Sorts many keys with long common beginnings.
//!
//! Comparing two keys reads both from far apart in memory, and reads what they have in common over
//! and over. So keys are sorted by eight bytes at a time: these are fetched once for each key of a
//! group that agrees on all bytes before, and then the group falls into smaller ones.

/// The places `0..count` by their names, which are all different.
pub(super) fn sorted<'a>(count: u32, name: impl Fn(u32) -> &'a [u8]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count).collect();
    let mut groups = vec![(0, order.len(), 0)];
    let mut words = Vec::new();
    while let Some((start, end, depth)) = groups.pop() {
        let Some(group) = order.get_mut(start..end) else {
            continue;
        };
        let rest = |place: u32| name(place).get(depth..).unwrap_or_default();
        if group.len() <= SMALL {
            group.sort_unstable_by(|a, b| rest(*a).cmp(rest(*b)));
            continue;
        }
        words.clear();
        words.extend(group.iter().map(|place| Word::of(rest(*place), *place)));
        words.sort_unstable();
        let mut run_start = 0;
        for (at, (slot, word)) in group.iter_mut().zip(&words).enumerate() {
            *slot = word.place;
            let follows = words.get(at + 1).is_some_and(|next| next.agrees_with(word));
            if !follows {
                if at > run_start {
                    groups.push((start + run_start, start + at + 1, depth + WORD_BYTES));
                }
                run_start = at + 1;
            }
        }
    }
    order
}

/// Eight bytes of a key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Word {
    bytes: [u8; WORD_BYTES],
    /// How many of them the key has; one more if it goes on behind them.
    length: u32,
    place: u32,
}

impl Word {
    fn of(rest: &[u8], place: u32) -> Self {
        let mut bytes = [0; WORD_BYTES];
        let mut length = 0;
        for (slot, byte) in bytes.iter_mut().zip(rest) {
            *slot = *byte;
            length += 1;
        }
        if rest.len() > WORD_BYTES {
            length += 1;
        }
        Self {
            bytes,
            length,
            place,
        }
    }

    /// True if the keys may differ further on.
    fn agrees_with(&self, other: &Self) -> bool {
        (self.bytes, self.length) == (other.bytes, other.length)
    }
}

const WORD_BYTES: usize = 8;
/// Groups up to this size are sorted by comparing keys.
const SMALL: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(names: &[Vec<u8>]) {
        let count = u32::try_from(names.len()).unwrap();
        let order = sorted(count, |place| &names[place as usize]);
        let found: Vec<&Vec<u8>> = order.iter().map(|place| &names[*place as usize]).collect();
        let mut expected: Vec<&Vec<u8>> = names.iter().collect();
        expected.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn keys_are_sorted_as_bytes() {
        check(&[]);
        check(&[vec![1]]);
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..300 {
            let letters = rng.usize(1..4);
            let mut names: Vec<Vec<u8>> = (0..rng.usize(0..300))
                .map(|_| {
                    let name = (0..rng.usize(0..40)).map(|_| rng.usize(0..letters));
                    name.map(|letter| [0, b'a', 0xff][letter]).collect()
                })
                .collect();
            names.sort();
            names.dedup();
            rng.shuffle(&mut names);
            check(&names);
        }
    }

    #[test]
    fn long_common_beginnings_are_passed_over() {
        let names = (0..1000_u32).map(|i| format!("/registry/{}{}", "x".repeat(2000), i * 7919));
        check(&names.map(String::into_bytes).collect::<Vec<_>>());
        let nested = (0..500).map(|length| vec![0; length]);
        check(&nested.collect::<Vec<_>>());
    }
}
