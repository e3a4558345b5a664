//! Reads the fields of a protobuf message one by one, without knowing the message. Pure.
//!
//! Groups are not read: no message of etcd has any.

/// One field's value as it stands in the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire<'a> {
    /// A number, an enumeration or a truth value.
    Varint(u64),
    /// Text, bytes or a message.
    Delimited(&'a [u8]),
    /// Four or eight bytes, which no known field has.
    Fixed,
}

/// Why bytes are not the fields of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// The bytes end inside a field.
    #[error("the bytes end inside a field")]
    Truncated,
    /// A varint of more than 64 bits.
    #[error("a number has more than 64 bits")]
    Overlong,
    /// A wire type that is a group's or that there is not.
    #[error("field {0} has wire type {1}")]
    WireType(u64, u64),
    /// There is no field 0.
    #[error("a field has the number 0")]
    NumberZero,
}

/// The fields of a message, in the order in which they stand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields of the message in `bytes`.
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next field's number and value; None at the end.
    ///
    /// # Errors
    /// Why the next bytes are no field.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Wire<'a>)>, Flaw> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = tag >> 3;
        if number == 0 {
            return Err(Flaw::NumberZero);
        }
        let wire = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => self.take(8).map(|_| Wire::Fixed)?,
            2 => {
                let length = self.varint()?;
                Wire::Delimited(self.take(length)?)
            }
            5 => self.take(4).map(|_| Wire::Fixed)?,
            other => return Err(Flaw::WireType(number, other)),
        };
        Ok(Some((number, wire)))
    }

    /// How many bytes were not read yet.
    pub(crate) fn rest_bytes(&self) -> usize {
        self.rest.len()
    }

    fn varint(&mut self) -> Result<u64, Flaw> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first().ok_or(Flaw::Truncated)?;
            self.rest = rest;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Flaw::Overlong);
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Flaw::Overlong)
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Flaw> {
        let length = usize::try_from(length).map_err(|_| Flaw::Truncated)?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Flaw::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(bytes: &[u8]) -> Result<Vec<(u64, Wire<'_>)>, Flaw> {
        let mut all = Vec::new();
        let mut fields = Fields::of(bytes);
        while let Some(field) = fields.next()? {
            all.push(field);
        }
        Ok(all)
    }

    #[test]
    fn fields_are_read_in_order() {
        assert_eq!(
            fields(&[0x08, 0xac, 0x02, 0x12, 0x02, b'h', b'i']),
            Ok(vec![(1, Wire::Varint(300)), (2, Wire::Delimited(b"hi"))])
        );
        assert_eq!(
            fields(&[0x0d, 1, 2, 3, 4, 0x11, 1, 2, 3, 4, 5, 6, 7, 8, 0x18, 0]),
            Ok(vec![
                (1, Wire::Fixed),
                (2, Wire::Fixed),
                (3, Wire::Varint(0))
            ])
        );
        assert_eq!(fields(&[]), Ok(vec![]));
        let most = [&[0x08], [0xff; 9].as_slice(), &[0x01]].concat();
        assert_eq!(fields(&most), Ok(vec![(1, Wire::Varint(u64::MAX))]));
    }

    #[test]
    fn what_is_no_field_is_named() {
        assert_eq!(fields(&[0x08]), Err(Flaw::Truncated));
        assert_eq!(fields(&[0x08, 0x80]), Err(Flaw::Truncated));
        assert_eq!(fields(&[0x12, 0x03, b'h', b'i']), Err(Flaw::Truncated));
        assert_eq!(fields(&[0x0d, 1, 2, 3]), Err(Flaw::Truncated));
        assert_eq!(fields(&[0x09, 1, 2, 3, 4, 5, 6, 7]), Err(Flaw::Truncated));
        for group in [3, 4, 6, 7] {
            assert_eq!(
                fields(&[0x08 | group]),
                Err(Flaw::WireType(1, group.into()))
            );
        }
        assert_eq!(fields(&[0x00, 0x00]), Err(Flaw::NumberZero));
        let endless = [&[0x08], [0xff; 10].as_slice()].concat();
        assert_eq!(fields(&endless), Err(Flaw::Overlong));
        let wide = [&[0x08], [0xff; 9].as_slice(), &[0x02]].concat();
        assert_eq!(fields(&wide), Err(Flaw::Overlong));
    }
}
