//! The records of buckets `lease` and `alarm`.

use super::{Flaw, number, open_enum, signed, u64_be};
use crate::ids::{LeaseId, MemberId};
use crate::wire::Fields;

/// A lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its id.
    pub id: LeaseId,
    /// The TTL in seconds that it was granted.
    pub ttl: i64,
    /// What was left of it in seconds at its last checkpoint; 0 without one.
    pub remaining: i64,
}

/// Reads a lease.
///
/// # Errors
/// If it is none.
pub(in crate::snapshot) fn lease(key: &[u8], value: &[u8]) -> Result<Lease, Flaw> {
    let id = u64_be("the key of a lease", key)?.cast_signed();
    let mut found = Lease {
        id: LeaseId(0),
        ttl: 0,
        remaining: 0,
    };
    let mut fields = Fields::of(value);
    while let Some((field, wire)) = fields.next()? {
        match field {
            1 => found.id = LeaseId(signed(field, wire)?),
            2 => found.ttl = signed(field, wire)?,
            3 => found.remaining = signed(field, wire)?,
            _ => {}
        }
    }
    if found.id != LeaseId(id) {
        return Err(Flaw::Mismatch("leases"));
    }
    if id == 0 {
        return Err(Flaw::Range("the id of a lease"));
    }
    Ok(found)
}

/// Reads an alarm, which its key alone names: the member it was raised for, and 1 for no space, 2
/// for corrupt.
///
/// # Errors
/// If it is none.
pub(in crate::snapshot) fn alarm(key: &[u8], value: &[u8]) -> Result<(MemberId, i32), Flaw> {
    let (mut member, mut kind) = (MemberId(0), 0);
    let mut fields = Fields::of(key);
    while let Some((field, wire)) = fields.next()? {
        match field {
            1 => member = MemberId(number(field, wire)?),
            2 => kind = open_enum(field, wire)?,
            _ => {}
        }
    }
    if !value.is_empty() {
        return Err(Flaw::Length {
            what: "the value of an alarm",
            bytes: value.len(),
        });
    }
    Ok((member, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_read() {
        let id = 0x76fd_a1f8_234a_72df_i64;
        let value = b"\x08\xdf\xe5\xa9\x9a\x82\xbf\xe8\xfe\x76\x10\x90\x1c";
        let found = lease(&id.to_be_bytes(), value).unwrap();
        let expected = Lease {
            id: LeaseId(id),
            ttl: 3600,
            remaining: 0,
        };
        assert_eq!(found, expected);
        let found = lease(&11_i64.to_be_bytes(), b"\x08\x0b\x10\xd0\x0f\x18\xa4\x0d").unwrap();
        assert_eq!((found.ttl, found.remaining), (2000, 1700));
    }

    #[test]
    fn an_alarm_is_read_from_its_key() {
        let key = b"\x08\xdb\xa5\xdf\x81\xde\xe8\x84\x97\x9d\x01\x10\x01";
        let member = MemberId(0x9d2e_1345_e037_d2db);
        assert_eq!(alarm(key, b"").unwrap(), (member, 1));
        assert_eq!(alarm(b"\x10\x02", b"").unwrap(), (MemberId(0), 2));
        assert!(alarm(key, b"x").is_err());
        assert!(alarm(b"\x10\xff\xff\xff\xff\x0f", b"").is_err());
    }

    #[test]
    fn a_lease_must_be_the_one_that_its_key_names() {
        assert!(lease(&12_i64.to_be_bytes(), b"\x08\x0b\x10\x3c").is_err());
        assert!(lease(&0_i64.to_be_bytes(), b"\x10\x3c").is_err());
        assert!(lease(b"1234567", b"\x08\x0b\x10\x3c").is_err());
    }
}
