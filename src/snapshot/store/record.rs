//! The values of bucket `key`: what a revision wrote.

use super::{Flaw, bytes, signed};
use crate::ids::{LeaseId, Revision};
use crate::wire::Fields;

/// A stored key with everything but its value. Of a tombstone only the key is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::snapshot) struct Record<'a> {
    /// The key.
    pub(in crate::snapshot) key: &'a [u8],
    /// The revision that created it.
    pub(in crate::snapshot) created: Revision,
    /// The revision that last wrote it.
    pub(in crate::snapshot) modified: Revision,
    /// How often it was written since it was created, from 1.
    pub(in crate::snapshot) version: i64,
    /// Its lease, 0 for none.
    pub(in crate::snapshot) lease: LeaseId,
    /// Where in the record its value begins.
    pub(in crate::snapshot) value_at: usize,
    /// How long its value is.
    pub(in crate::snapshot) value_bytes: usize,
}

impl<'a> Record<'a> {
    /// Reads a record.
    ///
    /// # Errors
    /// If it is none.
    pub(in crate::snapshot) fn decode(record: &'a [u8]) -> Result<Self, Flaw> {
        let mut found = Self::default();
        let mut fields = Fields::of(record);
        while let Some((field, wire)) = fields.next()? {
            match field {
                1 => found.key = bytes(field, wire)?,
                2 => found.created = Revision(signed(field, wire)?),
                3 => found.modified = Revision(signed(field, wire)?),
                4 => found.version = signed(field, wire)?,
                5 => {
                    let value = bytes(field, wire)?;
                    found.value_bytes = value.len();
                    found.value_at = record.len() - fields.rest_bytes() - value.len();
                }
                6 => found.lease = LeaseId(signed(field, wire)?),
                _ => {}
            }
        }
        Ok(found)
    }

    /// Checks a put against the revision that its record stands under.
    ///
    /// # Errors
    /// What no etcd writes.
    pub(in crate::snapshot) fn check_put(&self, main: Revision) -> Result<(), Flaw> {
        if self.key.is_empty() {
            return Err(Flaw::Unknown("it is a put without a key"));
        }
        if self.modified != main {
            return Err(Flaw::Mismatch("revisions"));
        }
        if !(1..=main.0).contains(&self.created.0) {
            return Err(Flaw::Range("its create revision"));
        }
        if self.version < 1 {
            return Err(Flaw::Range("its version"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_put_is_read() {
        let stored = b"\x0a\x05key/2\x10\x03\x18\x03\x20\x01\x2a\x05val-2";
        let record = Record::decode(stored).unwrap();
        let expected = Record {
            key: b"key/2",
            created: Revision(3),
            modified: Revision(3),
            version: 1,
            lease: LeaseId(0),
            value_at: 15,
            value_bytes: 5,
        };
        assert_eq!(record, expected);
        assert!(record.check_put(Revision(3)).is_ok());
        assert!(record.check_put(Revision(4)).is_err());
        let leased = Record::decode(b"\x2a\x00\x30\x07\x0a\x01k\x3d\0\0\0\0").unwrap();
        assert_eq!((leased.key, leased.lease), (&b"k"[..], LeaseId(7)));
        assert_eq!((leased.value_at, leased.value_bytes), (2, 0));
    }

    #[test]
    fn a_tombstone_names_only_the_key() {
        let record = Record::decode(b"\x0a\x07key/145").unwrap();
        let expected = Record {
            key: b"key/145",
            ..Record::default()
        };
        assert_eq!(record, expected);
    }

    #[test]
    fn what_no_etcd_writes_is_refused() {
        assert!(Record::decode(b"\x0a\x07key").is_err());
        assert!(Record::decode(b"\x08\x07").is_err());
        assert!(Record::decode(b"\x12\x00").is_err());
        for (created, version) in [(0, 1), (4, 1), (-1, 1), (3, 0), (3, -1)] {
            let record = Record {
                key: b"k",
                created: Revision(created),
                modified: Revision(3),
                version,
                ..Record::default()
            };
            assert!(
                record.check_put(Revision(3)).is_err(),
                "{created} {version}"
            );
        }
        assert!(Record::default().check_put(Revision(0)).is_err());
    }
}
