//! Reads the database file of a member that is stopped, independently of the program.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;

/// A bbolt file, as its newest complete transaction left it.
pub(crate) struct Database {
    file: Bytes,
    page_bytes: usize,
    root: usize,
    /// Where the part that means something ends.
    end: usize,
}

type Pairs = Vec<(Bytes, Bytes)>;

const HEADER_BYTES: usize = 16;
const ELEMENT_BYTES: usize = 16;
const MAGIC: u64 = 0xED0C_DAED;
const BRANCH: u64 = 1;
const LEAF: u64 = 2;

impl Database {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let file = std::fs::read(path).with_context(|| format!("can't read {}", path.display()))?;
        let file = Bytes::from(file);
        let page_bytes = usize::try_from(number(&file, 24, 4)?)?;
        let mut newest = None;
        for meta in [0, page_bytes] {
            let is_whole = number(&file, meta + 16, 4)? == MAGIC
                && checksum(&file[meta + 16..meta + 72]) == number(&file, meta + 72, 8)?;
            let transaction = number(&file, meta + 64, 8)?;
            if is_whole && newest.is_none_or(|(other, _)| other < transaction) {
                newest = Some((transaction, meta));
            }
        }
        let (_, meta) = newest.with_context(|| format!("no meta page in {}", path.display()))?;
        let root = usize::try_from(number(&file, meta + 32, 8)?)?;
        let end = page_bytes * usize::try_from(number(&file, meta + 56, 8)?)?;
        Ok(Self {
            file,
            page_bytes,
            root,
            end,
        })
    }

    /// The file without what lies behind its last page.
    pub(crate) fn trimmed(&self) -> Bytes {
        self.file.slice(..self.end)
    }

    /// The pairs of a bucket in ascending order, none if there is no such bucket.
    pub(crate) fn bucket(&self, name: &str) -> Result<Pairs> {
        let mut buckets = Vec::new();
        self.walk(self.root, &mut buckets)?;
        let found = buckets
            .into_iter()
            .find(|(key, _)| key.as_ref() == name.as_bytes());
        let Some((_, bucket)) = found else {
            return Ok(Vec::new());
        };
        let mut pairs = Vec::new();
        match usize::try_from(number(&bucket, 0, 8)?)? {
            0 => leaf(&bucket.slice(HEADER_BYTES..), &mut pairs)?,
            root => self.walk(root, &mut pairs)?,
        }
        Ok(pairs)
    }

    fn walk(&self, page: usize, pairs: &mut Pairs) -> Result<()> {
        let from = page * self.page_bytes;
        let overflow = usize::try_from(number(&self.file, from + 12, 4)?)?;
        let bytes = self
            .file
            .slice(from..from + (1 + overflow) * self.page_bytes);
        match number(&bytes, 8, 2)? {
            LEAF => leaf(&bytes, pairs),
            BRANCH => {
                for i in 0..usize::try_from(number(&bytes, 10, 2)?)? {
                    let child = number(&bytes, HEADER_BYTES + i * ELEMENT_BYTES + 8, 8)?;
                    self.walk(usize::try_from(child)?, pairs)?;
                }
                Ok(())
            }
            flags => bail!("page {page} has the flags {flags:x}"),
        }
    }
}

fn leaf(page: &Bytes, pairs: &mut Pairs) -> Result<()> {
    for i in 0..usize::try_from(number(page, 10, 2)?)? {
        let element = HEADER_BYTES + i * ELEMENT_BYTES;
        let field = |at| Ok::<_, anyhow::Error>(usize::try_from(number(page, element + at, 4)?)?);
        let key = element + field(4)?;
        let value = key + field(8)?;
        pairs.push((
            page.slice(key..value),
            page.slice(value..value + field(12)?),
        ));
    }
    Ok(())
}

fn number(bytes: &[u8], at: usize, length: usize) -> Result<u64> {
    let part = bytes.get(at..at + length);
    let part = part.with_context(|| format!("the file ends before byte {at}"))?;
    ensure!(length <= 8);
    let sum = part
        .iter()
        .rev()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    Ok(sum)
}

/// FNV-1a.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
