//! One page: its header, and its elements, each checked before it is handed out.

use super::{Flaw, u32_at, u64_at};

/// What a page of a tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Branch,
    Leaf,
}

/// The first 16 bytes of a page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) count: u16,
    /// How many pages follow that belong to it.
    pub(super) overflow: u32,
}

impl Header {
    /// The header of page `id`, which begins with these bytes.
    pub(super) fn parse(page: &[u8], id: u64) -> Result<Self, Flaw> {
        // No page is shorter than its header, so the numbers are there.
        let own = u64_at(page, 0).ok_or(Flaw::NoSuchPage)?;
        let flags_and_count = u32_at(page, 8).ok_or(Flaw::NoSuchPage)?.to_le_bytes();
        let overflow = u32_at(page, 12).ok_or(Flaw::NoSuchPage)?;
        if own != id {
            return Err(Flaw::WrongId(own));
        }
        let [flag_low, flag_high, count_low, count_high] = flags_and_count;
        let count = u16::from_le_bytes([count_low, count_high]);
        let kind = match u16::from_le_bytes([flag_low, flag_high]) {
            BRANCH => Kind::Branch,
            LEAF => Kind::Leaf,
            other => return Err(Flaw::WrongKind(other)),
        };
        if kind == Kind::Branch && count == 0 {
            return Err(Flaw::NoChildren);
        }
        Ok(Self {
            kind,
            count,
            overflow,
        })
    }
}

/// The keys that a page may hold: those from the first on, below the second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bounds<'a> {
    pub(super) lower: Option<&'a [u8]>,
    pub(super) upper: Option<&'a [u8]>,
}

/// An element of a page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item<'a> {
    pub(super) index: u16,
    pub(super) key: &'a [u8],
    /// Empty in a branch.
    pub(super) value: &'a [u8],
    /// Where in the page the value begins.
    pub(super) value_at: usize,
    /// The value describes a bucket.
    pub(super) is_bucket: bool,
    /// In a branch: the number of a page.
    pub(super) child: u64,
}

/// The elements of a page, in order.
#[derive(Debug)]
pub(super) struct Items<'a> {
    page: &'a [u8],
    kind: Kind,
    count: u16,
    next: u16,
    /// Where the next element's key must begin: elements lie without gaps, so that no byte of a
    /// page is handed out twice.
    data: usize,
    last_key: Option<&'a [u8]>,
    bounds: Bounds<'a>,
}

impl<'a> Items<'a> {
    /// The elements of a page with this header. `page`: all of it, with the pages that follow.
    pub(super) fn of(page: &'a [u8], header: Header, bounds: Bounds<'a>) -> Result<Self, Flaw> {
        let data = HEADER_BYTES + ELEMENT_BYTES * usize::from(header.count);
        if data > page.len() || header.count > COUNT_MAX {
            return Err(Flaw::TooManyElements(header.count));
        }
        Ok(Self {
            page,
            kind: header.kind,
            count: header.count,
            next: 0,
            data,
            last_key: None,
            bounds,
        })
    }

    /// The next element; None behind the last.
    pub(super) fn next(&mut self) -> Result<Option<Item<'a>>, Flaw> {
        let index = self.next;
        if index == self.count {
            return Ok(None);
        }
        self.next += 1;
        let at = HEADER_BYTES + ELEMENT_BYTES * usize::from(index);
        let number = |offset| u32_at(self.page, at + offset).unwrap_or(0);
        let [flags, pos, key_bytes, value_bytes] = match self.kind {
            Kind::Branch => [0, number(0), number(4), 0],
            Kind::Leaf => [number(0), number(4), number(8), number(12)],
        };
        if flags & !BUCKET != 0 {
            return Err(Flaw::ElementFlags(index, flags));
        }
        if !(1..=KEY_BYTES_MAX).contains(&key_bytes) {
            return Err(Flaw::KeyLength(index, key_bytes));
        }
        if at.checked_add(size(pos)) != Some(self.data) {
            return Err(Flaw::ElementMisplaced(index));
        }
        let rest = self.page.get(self.data..).unwrap_or_default();
        let parts = rest.split_at_checked(size(key_bytes));
        let parts = parts.and_then(|(key, rest)| Some((key, rest.get(..size(value_bytes))?)));
        let (key, value) = parts.ok_or(Flaw::ElementOutOfPage(index))?;
        self.check_order(index, key)?;
        let value_at = self.data + key.len();
        self.data = value_at + value.len();
        Ok(Some(Item {
            index,
            key,
            value,
            value_at,
            is_bucket: flags == BUCKET,
            child: match self.kind {
                Kind::Branch => u64_at(self.page, at + 8).unwrap_or(0),
                Kind::Leaf => 0,
            },
        }))
    }

    /// How many bytes follow the last element that was handed out.
    pub(super) fn rest(&self) -> usize {
        self.page.len() - self.data
    }

    fn check_order(&mut self, index: u16, key: &'a [u8]) -> Result<(), Flaw> {
        match self.last_key.replace(key) {
            Some(last) if last >= key => return Err(Flaw::KeyOrder(index)),
            None if self.bounds.lower.is_some_and(|lower| key < lower) => {
                return Err(Flaw::KeyOutOfRange(index));
            }
            Some(_) | None => {}
        }
        if self.bounds.upper.is_some_and(|upper| key >= upper) {
            return Err(Flaw::KeyOutOfRange(index));
        }
        Ok(())
    }
}

/// Where there are more bits in a number than in a size, no page has so many bytes.
fn size(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

pub(super) const HEADER_BYTES: usize = 16;
const ELEMENT_BYTES: usize = 16;
const BRANCH: u16 = 1;
const LEAF: u16 = 2;
const BUCKET: u32 = 1;
const KEY_BYTES_MAX: u32 = 32_768;
/// bbolt refuses to write more.
const COUNT_MAX: u16 = u16::MAX - 1;
