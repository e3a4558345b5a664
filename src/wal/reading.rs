//! Where the bytes of a log come from. Pure: a trait, and files that lie in memory.

use std::io::{self, Read};

use super::error::Error;
use super::name::SegmentName;

/// One file, from its beginning.
#[derive(Debug)]
pub struct Segment<R> {
    /// Its bytes.
    pub reader: R,
    /// How many there are.
    pub length: u64,
}

/// The files of a log. They are read twice, each from its beginning.
pub trait Segments {
    /// Reads one of them.
    type Reader: Read;

    /// Their names, in any order.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NoFiles`].
    fn names(&self) -> Result<Vec<SegmentName>, Error>;

    /// Opens one of them.
    ///
    /// # Errors
    /// Those of the system.
    fn open(&self, name: SegmentName) -> io::Result<Segment<Self::Reader>>;

    /// Where they are, for messages.
    fn place(&self) -> String;
}

/// Files that lie in memory.
#[derive(Clone, Debug, Default)]
pub struct MemorySegments(pub Vec<(SegmentName, bytes::Bytes)>);

impl Segments for MemorySegments {
    type Reader = io::Cursor<bytes::Bytes>;

    fn names(&self) -> Result<Vec<SegmentName>, Error> {
        Ok(self.0.iter().map(|(name, _)| *name).collect())
    }

    fn open(&self, name: SegmentName) -> io::Result<Segment<Self::Reader>> {
        let found = self.0.iter().find(|(other, _)| *other == name);
        let (_, bytes) = found.ok_or(io::ErrorKind::NotFound)?;
        Ok(Segment {
            length: u64::try_from(bytes.len()).map_err(io::Error::other)?,
            reader: io::Cursor::new(bytes.clone()),
        })
    }

    fn place(&self) -> String {
        "memory".to_owned()
    }
}

/// What is set aside before bytes are there.
const FIRST_BYTES: u64 = 1 << 16;

/// Reads this many bytes, or what there is. The buffer grows with what has come, so that a number
/// in a file alone takes no memory.
pub(crate) fn read_up_to(reader: &mut impl Read, bytes: u64) -> io::Result<Vec<u8>> {
    let first = usize::try_from(bytes.min(FIRST_BYTES)).unwrap_or(0);
    let mut read = Vec::with_capacity(first);
    reader.by_ref().take(bytes).read_to_end(&mut read)?;
    Ok(read)
}
