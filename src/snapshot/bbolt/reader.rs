//! Reads pages from a source, several at once where they lie together.

use super::page::{HEADER_BYTES, Header};
use super::{Error, Flaw, PageSource};

/// The longest logical page that is read: a page with the overflow pages that belong to it. It must
/// hold four values of the largest request that the primary's etcd takes, 1.5 MiB by default.
pub const PAGE_BYTES_MAX: u64 = 512 << 20;

/// Reads pages through one buffer.
#[derive(Debug)]
pub(super) struct Reader<'a, S: ?Sized> {
    source: &'a S,
    page_bytes: u64,
    high_water: u64,
    buffer: Vec<u8>,
    /// The page that the buffer begins with, and how many it holds.
    first: u64,
    count: u64,
}

impl<'a, S: PageSource + ?Sized> Reader<'a, S> {
    pub(super) fn new(source: &'a S, page_bytes: u64, high_water: u64) -> Self {
        Self {
            source,
            page_bytes,
            high_water,
            buffer: Vec::new(),
            first: 0,
            count: 0,
        }
    }

    pub(super) fn source(&self) -> &'a S {
        self.source
    }

    /// The header of page `id`, which is one of the database. `ahead`: the pages that will be read
    /// next.
    pub(super) fn header(
        &mut self,
        id: u64,
        ahead: impl Iterator<Item = u64>,
    ) -> Result<Header, Error> {
        if !self.holds(id, 1) {
            let count = self.run(id, ahead);
            self.load(id, count)?;
        }
        let header = Header::parse(self.held(id, HEADER_BYTES), id).map_err(|flaw| flaw.of(id))?;
        let end = id.checked_add(u64::from(header.overflow));
        if end.is_none_or(|end| end >= self.high_water) {
            return Err(Flaw::OverflowOutOfFile(header.overflow).of(id));
        }
        let bytes = self.bytes_of(header);
        if bytes > PAGE_BYTES_MAX {
            return Err(Flaw::TooLong(bytes).of(id));
        }
        Ok(header)
    }

    /// All of page `id`, whose header was read before, and where in the file it begins.
    pub(super) fn page(&mut self, id: u64, header: Header) -> Result<(&[u8], u64), Error> {
        let count = u64::from(header.overflow) + 1;
        if !self.holds(id, count) {
            self.load(id, count)?;
        }
        let bytes = usize::try_from(self.bytes_of(header)).unwrap_or(usize::MAX);
        Ok((self.held(id, bytes), id.saturating_mul(self.page_bytes)))
    }

    /// How many bytes a page with this header has.
    fn bytes_of(&self, header: Header) -> u64 {
        (u64::from(header.overflow) + 1).saturating_mul(self.page_bytes)
    }

    fn holds(&self, id: u64, count: u64) -> bool {
        id >= self.first && id.saturating_add(count) <= self.first.saturating_add(self.count)
    }

    /// The bytes of a page that the buffer holds.
    fn held(&self, id: u64, bytes: usize) -> &[u8] {
        let start = id.saturating_sub(self.first) * self.page_bytes;
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        let page = self.buffer.get(start..).unwrap_or_default();
        page.get(..bytes).unwrap_or(page)
    }

    /// How many pages from `id` on are worth reading at once.
    fn run(&self, id: u64, ahead: impl Iterator<Item = u64>) -> u64 {
        let max = (RUN_BYTES_MAX / self.page_bytes).max(1);
        let gap_max = GAP_BYTES_MAX / self.page_bytes;
        let mut last = id;
        for next in ahead {
            let is_near = next > last && next - last <= gap_max + 1 && next - id < max;
            if !is_near {
                break;
            }
            last = next;
        }
        // A page that goes on behind the last one is read again as a whole.
        (last - id + 1).min(self.high_water.saturating_sub(id))
    }

    fn load(&mut self, id: u64, count: u64) -> Result<(), Error> {
        let bytes = usize::try_from(count.saturating_mul(self.page_bytes)).unwrap_or(usize::MAX);
        if self.buffer.capacity() > BUFFER_BYTES_KEPT && bytes <= BUFFER_BYTES_KEPT {
            self.buffer = Vec::new();
        }
        self.count = 0;
        self.buffer.resize(bytes, 0);
        let offset = id.saturating_mul(self.page_bytes);
        let read = self.source.read_exact_at(&mut self.buffer, offset);
        read.map_err(|source| Error::Read {
            offset,
            bytes,
            source,
        })?;
        self.first = id;
        self.count = count;
        Ok(())
    }
}

const RUN_BYTES_MAX: u64 = 1 << 20;
/// Reading on costs less than a second read.
const GAP_BYTES_MAX: u64 = 64 << 10;
/// A buffer that grew beyond this for one long page is let go after it.
const BUFFER_BYTES_KEPT: usize = 16 << 20;
