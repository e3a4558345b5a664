//! The length field in front of each record, and the marks of a torn write. Pure.

/// Bytes of the length field.
pub(super) const LENGTH_BYTES: u64 = 8;
/// Frames begin at multiples of this, so that no length field lies across two sectors.
pub(super) const ALIGNMENT: u64 = 8;
/// The smallest unit that a disk writes as a whole.
pub(crate) const SECTOR_BYTES: usize = 512;

/// What a length field says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// Nothing was written here.
    End,
    /// A record of so many bytes, with so many behind it that count for nothing.
    Frame { record: u64, padding: u64 },
    /// No etcd writes this.
    Invalid,
}

const RECORD_MASK: u64 = (1 << 56) - 1;
const PADDED: u64 = 1 << 63;
const UNUSED: u64 = 0b1111 << 59;

impl Length {
    pub(super) fn of(bytes: [u8; 8]) -> Self {
        let field = u64::from_le_bytes(bytes);
        if field == 0 {
            return Self::End;
        }
        let record = field & RECORD_MASK;
        let padding = (field >> 56) & 0b111;
        let says_padding = field & PADDED != 0;
        let aligned = (record + padding).is_multiple_of(ALIGNMENT);
        if record == 0 || field & UNUSED != 0 || says_padding != (padding != 0) || !aligned {
            return Self::Invalid;
        }
        Self::Frame { record, padding }
    }
}

/// True if one of the sectors that `data` lies on has none of it: `data` begins at `offset` of the
/// file, and a file is zero where nothing was written.
pub(crate) fn lacks_a_sector(data: &[u8], offset: u64) -> bool {
    let mut rest = data;
    let into_sector = offset % (SECTOR_BYTES as u64);
    let mut room = SECTOR_BYTES - usize::try_from(into_sector).unwrap_or(0);
    while !rest.is_empty() {
        let (chunk, behind) = rest.split_at(room.min(rest.len()));
        if chunk.iter().all(|byte| *byte == 0) {
            return true;
        }
        rest = behind;
        room = SECTOR_BYTES;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_names_record_and_padding() {
        let of = |field: u64| Length::of(field.to_le_bytes());
        assert_eq!(of(0), Length::End);
        let frame = |record, padding| Length::Frame { record, padding };
        assert_eq!(of(0x8400_0000_0000_0004), frame(4, 4));
        assert_eq!(of(0x8100_0000_0000_001f), frame(31, 1));
        assert_eq!(of(16), frame(16, 0));
        let most = (1 << 56) - 8;
        assert_eq!(of(most), frame(most, 0));
    }

    #[test]
    fn a_length_that_no_etcd_writes_is_invalid() {
        for field in [
            4,
            0x8000_0000_0000_0008,
            0x8300_0000_0000_0004,
            0x0400_0000_0000_0004,
            0x8800_0000_0000_0008,
            0xc400_0000_0000_0004,
            0x8000_0000_0000_0000,
            u64::MAX,
        ] {
            assert_eq!(
                Length::of(field.to_le_bytes()),
                Length::Invalid,
                "{field:x}"
            );
        }
    }

    #[test]
    fn a_zero_sector_is_found_wherever_it_lies() {
        let mut data = vec![1; 2000];
        assert!(!lacks_a_sector(&data, 8));
        assert!(!lacks_a_sector(&[], 8));
        // Sectors of a frame that begins at 8: 0..504, 504..1016, 1016..1528, 1528..2000.
        data[504..1016].fill(0);
        assert!(lacks_a_sector(&data, 8));
        assert!(lacks_a_sector(&data, 512 * 7 + 8));
        assert!(!lacks_a_sector(&data, 16), "that part is of two sectors");
        data[504] = 1;
        assert!(!lacks_a_sector(&data, 8));
        data[1528..].fill(0);
        assert!(lacks_a_sector(&data, 8), "the last piece is a part of one");
        assert!(!lacks_a_sector(&[0, 0, 1], 8));
        assert!(lacks_a_sector(&[0, 0, 1], 510));
    }
}
