//! The meta pages: the first two pages of a file, of which the newer valid one counts.

use super::{Error, PageSource, u32_at, u64_at};

/// What a meta page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Bytes in a page, a power of two.
    pub page_bytes: u64,
    /// The root page of the bucket of buckets.
    pub root: u64,
    /// The first page that was never in use: pages from here on mean nothing.
    pub high_water: u64,
    /// The transaction that wrote it.
    pub txid: u64,
}

impl Meta {
    /// How many bytes the database has; a file may go on behind it.
    #[must_use]
    pub fn database_bytes(&self) -> u64 {
        // `choose` found it to be no more than the file has.
        self.page_bytes.saturating_mul(self.high_water)
    }

    /// The meta page that counts, checked.
    ///
    /// Which of the two pages it stands on means nothing: saved snapshots have the newer one on
    /// page 0.
    ///
    /// # Errors
    /// If there is none, or what it says cannot be.
    ///
    /// # Source
    /// bbolt `db.go`, `getPageSize`, `mmap`, `meta`.
    pub(super) fn choose<S: PageSource + ?Sized>(source: &S) -> Result<Self, Error> {
        let size = source.size();
        let first = head(source, 0)?.ok_or(Error::TooShort(size))?;
        if first.get(16..20) == Some(&BIG_ENDIAN_MAGIC) {
            return Err(Error::BigEndian);
        }
        let first = Self::parse(&first);
        let second = match first {
            Some(meta) => Self::read(source, meta.page_bytes)?,
            None => Self::search(source)?,
        };
        let second =
            second.filter(|second| first.is_none_or(|m| m.page_bytes == second.page_bytes));
        let chosen = first.into_iter().chain(second).max_by_key(|meta| meta.txid);
        chosen.ok_or(Error::NoMeta)?.checked(size)
    }

    /// A valid second meta page in a file whose first one is not.
    fn search<S: PageSource + ?Sized>(source: &S) -> Result<Option<Self>, Error> {
        for shift in 0..=PAGE_SHIFT_MAX {
            let offset = PAGE_BYTES_MIN << shift;
            let found = Self::read(source, offset)?;
            if found.is_some_and(|meta| meta.page_bytes == offset) {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn read<S: PageSource + ?Sized>(source: &S, offset: u64) -> Result<Option<Self>, Error> {
        Ok(head(source, offset)?.and_then(|page| Self::parse(&page)))
    }

    /// The meta page in these bytes; None if it is not a valid one.
    fn parse(page: &[u8; HEAD_BYTES]) -> Option<Self> {
        let is_valid = u32_at(page, 16)? == MAGIC
            && u32_at(page, 20)? == VERSION
            && u64_at(page, 72)? == fnv_1a(page.get(16..72)?);
        let meta = Self {
            page_bytes: u32_at(page, 24)?.into(),
            root: u64_at(page, 32)?,
            high_water: u64_at(page, 56)?,
            txid: u64_at(page, 64)?,
        };
        let sizes = PAGE_BYTES_MIN..=PAGE_BYTES_MIN << PAGE_SHIFT_MAX;
        let is_size = meta.page_bytes.is_power_of_two() && sizes.contains(&meta.page_bytes);
        (is_valid && is_size).then_some(meta)
    }

    fn checked(self, size: u64) -> Result<Self, Error> {
        if self.high_water < PAGES_MIN {
            return Err(Error::Meta("fewer pages than any database has"));
        }
        if !(2..self.high_water).contains(&self.root) {
            return Err(Error::Meta("a root page that there is not"));
        }
        let need = self.page_bytes.checked_mul(self.high_water);
        let need = need.ok_or(Error::Meta("more pages than any file has"))?;
        if need > size {
            return Err(Error::Truncated { need, have: size });
        }
        Ok(self)
    }
}

/// The begin of the page at `offset`, as far as a meta page uses it; None behind the file's end.
fn head<S: PageSource + ?Sized>(
    source: &S,
    offset: u64,
) -> Result<Option<[u8; HEAD_BYTES]>, Error> {
    let mut page = [0; HEAD_BYTES];
    let end = offset.saturating_add(HEAD_BYTES_U64);
    if end > source.size() {
        return Ok(None);
    }
    let read = source.read_exact_at(&mut page, offset);
    read.map_err(|source| Error::Read {
        offset,
        bytes: HEAD_BYTES,
        source,
    })?;
    Ok(Some(page))
}

fn fnv_1a(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

const HEAD_BYTES: usize = 80;
const HEAD_BYTES_U64: u64 = 80;
const MAGIC: u32 = 0xed0c_daed;
const BIG_ENDIAN_MAGIC: [u8; 4] = [0xed, 0x0c, 0xda, 0xed];
const VERSION: u32 = 2;
const PAGE_BYTES_MIN: u64 = 1024;
/// Pages have up to 16 MiB.
const PAGE_SHIFT_MAX: u32 = 14;
/// Two meta pages, a freelist and a root, in the emptiest database.
const PAGES_MIN: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a snapshot that etcd 3.5.1 saved.
    fn vector() -> Vec<u8> {
        let hex = "00000000000000000400000000000000edda0ced020000000010000000000000\
                   02000000000000000000000000000000ffffffffffffffff2a00000000000000\
                   5c00000000000000b7dff8676cd382fa";
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(byte).collect()
    }

    /// Sets the transaction of a meta page, and its checksum.
    fn signed(mut page: Vec<u8>, txid: u64) -> Vec<u8> {
        page[64..72].copy_from_slice(&txid.to_le_bytes());
        let sum = fnv_1a(&page[16..72]);
        page[72..80].copy_from_slice(&sum.to_le_bytes());
        page
    }

    fn file(first: &[u8], second: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 42 * 4096];
        file[..80].copy_from_slice(first);
        file[4096..4176].copy_from_slice(second);
        file
    }

    fn chosen(file: &[u8]) -> Result<u64, String> {
        let meta = Meta::choose(file).map_err(|error| error.to_string())?;
        assert_eq!((meta.page_bytes, meta.root, meta.high_water), (4096, 2, 42));
        assert_eq!(meta.database_bytes(), 172_032);
        Ok(meta.txid)
    }

    #[test]
    fn checksums_are_fnv_1a() {
        assert_eq!(fnv_1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv_1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv_1a(&vector()[16..72]), 0xfa82_d36c_67f8_dfb7);
    }

    #[test]
    fn the_newer_valid_page_counts_wherever_it_stands() {
        let (old, new, junk) = (signed(vector(), 91), vector(), vec![7; 80]);
        assert_eq!(chosen(&file(&old, &new)), Ok(92));
        assert_eq!(chosen(&file(&new, &old)), Ok(92));
        assert_eq!(chosen(&file(&new, &junk)), Ok(92));
        assert_eq!(chosen(&file(&junk, &old)), Ok(91));
        let mut other = new.clone();
        other[25] = 0x20;
        assert_eq!(chosen(&file(&old, &signed(other, 99))), Ok(91));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let whole = file(&vector(), &vector());
        let cut = chosen(&whole[..172_031]).unwrap_err();
        assert!(cut.contains("cut short: it has 172031 bytes and the database 172032"));
        assert!(chosen(&whole[..79]).unwrap_err().contains("79 bytes"));
        assert!(chosen(&[]).unwrap_err().contains("0 bytes"));
        let none = chosen(&file(&[0; 80], &[0; 80])).unwrap_err();
        assert!(none.contains("no valid meta page"), "{none}");

        let with = |at: usize, number: u64| {
            let mut page = vector();
            page[at..at + 8].copy_from_slice(&number.to_le_bytes());
            let page = signed(page, 92);
            chosen(&file(&page, &page)).unwrap_err()
        };
        for root in [0, 1, 42, u64::MAX] {
            assert!(with(32, root).contains("a root page"), "{root}");
        }
        assert!(with(56, 3).contains("fewer pages"));
        assert!(with(56, u64::MAX).contains("more pages"));
        assert!(with(56, 43).contains("cut short"));

        let mut big = vector();
        big[16..20].reverse();
        let error = chosen(&file(&big, &big)).unwrap_err();
        assert!(error.contains("big-endian"), "{error}");
        for page_bytes in [0_u32, 512, 4097, 1 << 25] {
            let mut page = vector();
            page[24..28].copy_from_slice(&page_bytes.to_le_bytes());
            let page = signed(page, 92);
            assert!(chosen(&file(&page, &page)).is_err(), "{page_bytes}");
        }
    }
}
