//! The trees of pages that buckets are, walked level by level.

use super::page::{Bounds, HEADER_BYTES, Header, Item, Items, Kind};
use super::reader::Reader;
use super::visited::Visited;
use super::{Error, Flaw, Meta, PageSource, u64_at};

/// More levels than any tree has: a branch page has at least two children wherever bbolt wrote it.
pub(super) const DEPTH_MAX: usize = 32;

/// A bbolt database.
#[derive(Debug)]
pub struct Database<S> {
    source: S,
    meta: Meta,
}

/// A top-level bucket with its name.
#[derive(Debug)]
pub struct NamedBucket {
    /// Its name.
    pub name: Box<[u8]>,
    /// Where its content lies.
    pub bucket: Bucket,
}

/// Where a bucket's content lies. It can be walked once.
#[derive(Debug)]
pub struct Bucket(Place);

#[derive(Debug)]
enum Place {
    /// In a tree with this root.
    Tree(u64),
    /// In these bytes of the file, which lie in this page.
    Inline { page: u64, at: u64, bytes: usize },
}

/// A key and its value in a bucket.
#[derive(Clone, Copy, Debug)]
pub struct Element<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// Where in the file the value begins.
    pub value_at: u64,
}

/// In which order the elements of a bucket are visited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Ascending by key.
    Key,
    /// As they lie in the file, which is the quickest way to read a large bucket. Elements that lie
    /// in one page ascend by key.
    File,
}

impl<S: PageSource> Database<S> {
    /// Reads and checks the meta pages.
    ///
    /// # Errors
    /// If it is no bbolt database, or cut short.
    pub fn open(source: S) -> Result<Self, Error> {
        let meta = Meta::choose(&source)?;
        Ok(Self { source, meta })
    }

    /// What the meta page says.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The top-level buckets, ascending by name, and what walks them.
    ///
    /// # Errors
    /// If a page of the bucket of buckets is damaged.
    pub fn buckets(&self) -> Result<(Walker<'_, S>, Vec<NamedBucket>), Error> {
        let Meta {
            page_bytes,
            high_water,
            root,
            ..
        } = self.meta;
        let mut walker = Walker {
            reader: Reader::new(&self.source, page_bytes, high_water),
            visited: Visited::new(high_water),
            high_water,
        };
        let mut buckets = Vec::new();
        walker.walk_tree(root, Order::Key, |found| {
            if !found.item.is_bucket {
                return Err(Flaw::NotInBucket(found.item.index).of(found.page));
            }
            let place = Place::parse(&found).map_err(|flaw| flaw.of(found.page))?;
            buckets.push(NamedBucket {
                name: found.item.key.into(),
                bucket: Bucket(place),
            });
            Ok(())
        })?;
        Ok((walker, buckets))
    }
}

impl Place {
    /// What the value of a bucket says.
    fn parse(found: &Found<'_>) -> Result<Self, Flaw> {
        let value = found.item.value;
        let bad_length = Flaw::BucketLength(found.item.index, value.len());
        let root = u64_at(value, 0).ok_or(bad_length)?;
        match root {
            0 if value.len() >= BUCKET_BYTES + HEADER_BYTES => Ok(Self::Inline {
                page: found.page,
                at: found.value_at(),
                bytes: value.len(),
            }),
            1.. if value.len() == BUCKET_BYTES => Ok(Self::Tree(root)),
            _ => Err(bad_length),
        }
    }
}

/// Walks buckets of one database; no page is reached twice by one walker.
#[derive(Debug)]
pub struct Walker<'a, S> {
    reader: Reader<'a, S>,
    visited: Visited,
    high_water: u64,
}

/// An element of a leaf, and where it was found.
struct Found<'a> {
    page: u64,
    /// Where in the file the page begins, be it one inside a bucket's value.
    at: u64,
    item: Item<'a>,
}

impl Found<'_> {
    fn value_at(&self) -> u64 {
        self.at.saturating_add(as_offset(self.item.value_at))
    }
}

impl<S: PageSource> Walker<'_, S> {
    /// Hands every element of the bucket to `visit`.
    ///
    /// # Errors
    /// The first error of `visit`, or if a page of the bucket is damaged.
    pub fn walk<E: From<Error>>(
        &mut self,
        bucket: Bucket,
        order: Order,
        mut visit: impl FnMut(Element<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let visit = |found: Found<'_>| {
            if found.item.is_bucket {
                return Err(Flaw::NestedBucket(found.item.index).of(found.page).into());
            }
            visit(Element {
                key: found.item.key,
                value: found.item.value,
                value_at: found.value_at(),
            })
        };
        match bucket.0 {
            Place::Tree(root) => self.walk_tree(root, order, visit),
            Place::Inline { page, at, bytes } => self.walk_inline(page, at, bytes, visit),
        }
    }

    fn walk_tree<E: From<Error>>(
        &mut self,
        root: u64,
        order: Order,
        mut visit: impl FnMut(Found<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.claim(root)?;
        let mut level = Level::of_root(root);
        for _ in 0..DEPTH_MAX {
            if order == Order::File {
                level.pages.sort_unstable_by_key(|page| page.id);
            }
            level = self.walk_level(&level, &mut visit)?;
            if level.pages.is_empty() {
                return Ok(());
            }
        }
        let page = level.pages.first().map_or(root, |page| page.id);
        Err(Flaw::TooDeep.of(page).into())
    }

    /// Visits the elements of a level's leaves, or returns the level below its branches.
    fn walk_level<E: From<Error>>(
        &mut self,
        level: &Level,
        visit: &mut impl FnMut(Found<'_>) -> Result<(), E>,
    ) -> Result<Level, E> {
        let mut below = Level::default();
        let mut kind = None;
        for (place, page) in level.pages.iter().enumerate() {
            let ahead = level.pages.iter().skip(place + 1).map(|page| page.id);
            let header = self.reader.header(page.id, ahead)?;
            for more in 1..=u64::from(header.overflow) {
                self.claim(page.id.saturating_add(more))?;
            }
            // In a B+tree that bbolt wrote all leaves lie at one depth.
            if *kind.get_or_insert(header.kind) != header.kind {
                return Err(Flaw::Uneven.of(page.id).into());
            }
            let flawed = |flaw: Flaw| E::from(flaw.of(page.id));
            let (bytes, at) = self.reader.page(page.id, header)?;
            let mut items = Items::of(bytes, header, level.bounds(page)).map_err(flawed)?;
            match header.kind {
                Kind::Branch => {
                    let children = below.take(&mut items, level.bounds(page)).map_err(flawed)?;
                    for child in below.pages.get(children..).unwrap_or_default() {
                        self.claim(child.id)?;
                    }
                }
                Kind::Leaf => {
                    while let Some(item) = items.next().map_err(flawed)? {
                        let page = page.id;
                        visit(Found { page, at, item })?;
                    }
                }
            }
        }
        Ok(below)
    }

    fn walk_inline<E: From<Error>>(
        &mut self,
        page: u64,
        at: u64,
        bytes: usize,
        mut visit: impl FnMut(Found<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut value = vec![0; bytes];
        let read = self.reader.source().read_exact_at(&mut value, at);
        read.map_err(|source| Error::Read {
            offset: at,
            bytes,
            source,
        })?;
        let flawed = |flaw: Flaw| E::from(flaw.of(page));
        let inner = value.get(BUCKET_BYTES..).unwrap_or_default();
        let at = at.saturating_add(as_offset(BUCKET_BYTES));
        let header = Header::parse(inner, 0).map_err(|_| flawed(Flaw::InlinePage))?;
        if header.kind != Kind::Leaf || header.overflow != 0 {
            return Err(flawed(Flaw::InlinePage));
        }
        let mut items = Items::of(inner, header, Bounds::default()).map_err(flawed)?;
        while let Some(item) = items.next().map_err(flawed)? {
            visit(Found { page, at, item })?;
        }
        match items.rest() {
            0 => Ok(()),
            rest => Err(flawed(Flaw::InlineRest(rest))),
        }
    }

    /// Marks a page as reached.
    fn claim(&mut self, id: u64) -> Result<(), Error> {
        if !(2..self.high_water).contains(&id) {
            return Err(Flaw::NoSuchPage.of(id));
        }
        if !self.visited.claim(id) {
            return Err(Flaw::ReachedTwice.of(id));
        }
        Ok(())
    }
}

/// The pages of one depth of a tree.
#[derive(Debug, Default)]
struct Level {
    pages: Vec<LevelPage>,
    /// The keys that stand between the pages, one after the other, and where each ends.
    keys: Vec<u8>,
    ends: Vec<usize>,
}

/// A page, and the places of its bounds among the keys of its level.
#[derive(Clone, Copy, Debug)]
struct LevelPage {
    id: u64,
    lower: u32,
    upper: u32,
}

impl Level {
    fn of_root(id: u64) -> Self {
        Self {
            pages: vec![LevelPage {
                id,
                lower: UNBOUNDED,
                upper: UNBOUNDED,
            }],
            ..Self::default()
        }
    }

    /// Adds the children of a branch, and returns the place of the first.
    fn take(&mut self, items: &mut Items<'_>, parent: Bounds<'_>) -> Result<usize, Flaw> {
        let children = self.pages.len();
        while let Some(item) = items.next()? {
            let lower = self.add_key(item.key)?;
            if let Some(before) = self.pages.get_mut(children..).and_then(<[_]>::last_mut) {
                before.upper = lower;
            }
            self.pages.push(LevelPage {
                id: item.child,
                lower,
                upper: UNBOUNDED,
            });
        }
        if let Some(upper) = parent.upper {
            let upper = self.add_key(upper)?;
            if let Some(last) = self.pages.last_mut() {
                last.upper = upper;
            }
        }
        Ok(children)
    }

    fn add_key(&mut self, key: &[u8]) -> Result<u32, Flaw> {
        let place = u32::try_from(self.ends.len()).ok();
        let place = place.filter(|place| *place != UNBOUNDED);
        self.keys.extend_from_slice(key);
        self.ends.push(self.keys.len());
        place.ok_or(Flaw::TooWide)
    }

    fn bounds(&self, page: &LevelPage) -> Bounds<'_> {
        Bounds {
            lower: self.key(page.lower),
            upper: self.key(page.upper),
        }
    }

    /// The key at a place; None for a page without that bound.
    fn key(&self, place: u32) -> Option<&[u8]> {
        let place = usize::try_from(place).ok()?;
        let end = *self.ends.get(place)?;
        let start = match place.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        self.keys.get(start..end)
    }
}

fn as_offset(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

/// No place of a key.
const UNBOUNDED: u32 = u32::MAX;
/// What stands before the page in the value of an inline bucket.
const BUCKET_BYTES: usize = 16;
