//! One bit for each page of a database, so that no page is used twice.

/// The pages that were reached in this pass over the file.
#[derive(Clone, Debug)]
pub(super) struct Visited {
    words: Vec<u64>,
}

impl Visited {
    /// For a database of `pages` pages, which a file of that length was found to have.
    pub(super) fn new(pages: u64) -> Self {
        let words = usize::try_from(pages.div_ceil(64)).unwrap_or(usize::MAX);
        Self {
            words: vec![0; words],
        }
    }

    /// Marks a page; false if it was marked before or does not exist.
    pub(super) fn claim(&mut self, page: u64) -> bool {
        let word = usize::try_from(page / 64).unwrap_or(usize::MAX);
        let bit = 1_u64 << (page % 64);
        match self.words.get_mut(word) {
            Some(word) if *word & bit == 0 => {
                *word |= bit;
                true
            }
            Some(_) | None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_claimed_once() {
        let mut visited = Visited::new(65);
        for page in [0, 1, 63, 64] {
            assert!(visited.claim(page), "{page}");
            assert!(!visited.claim(page), "{page}");
        }
        assert!(visited.claim(2) && !visited.claim(u64::MAX));
    }
}
