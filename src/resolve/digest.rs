//! Stands in for values that are not kept: equal digests mean equal values. Pure.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use xxhash_rust::xxh3::{xxh3_128_with_secret, xxh3_128_with_seed};

/// 128 bits of a value under one [`DigestKey`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u64; 2]);

impl Digest {
    /// As 16 bytes, for a record that outlives the process.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        let [high, low] = self.0;
        let mut bytes = [0; 16];
        let (first, second) = bytes.split_at_mut(8);
        first.copy_from_slice(&high.to_be_bytes());
        second.copy_from_slice(&low.to_be_bytes());
        bytes
    }

    /// The digest that [`Digest::to_bytes`] wrote.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self::of_number(u128::from_be_bytes(bytes))
    }

    fn of_number(number: u128) -> Self {
        let low = number & u128::from(u64::MAX);
        // Both halves fit by construction.
        Self([number >> 64, low].map(|half| u64::try_from(half).unwrap_or(u64::MAX)))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.0[0], self.0[1])
    }
}

/// Makes digests that nobody can make collide without knowing the secret.
#[derive(Clone)]
pub struct DigestKey {
    random: [u8; 32],
    secret: [u8; SECRET_BYTES],
}

impl DigestKey {
    /// A key from random bytes. Digests are comparable only under the same bytes, so whoever stores
    /// digests stores these beside them.
    #[must_use]
    pub fn new(random: &[u8; 32]) -> Self {
        let mut secret = [0; SECRET_BYTES];
        for (seed, part) in (0_u64..).zip(secret.chunks_mut(16)) {
            part.copy_from_slice(&xxh3_128_with_seed(random, seed).to_le_bytes());
        }
        Self {
            random: *random,
            secret,
        }
    }

    /// The bytes that it was made of.
    #[must_use]
    pub fn random(&self) -> &[u8; 32] {
        &self.random
    }

    /// The digest of `value`.
    #[must_use]
    pub fn digest(&self, value: &[u8]) -> Digest {
        Digest::of_number(xxh3_128_with_secret(value, &self.secret))
    }
}

impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DigestKey").finish_non_exhaustive()
    }
}

const SECRET_BYTES: usize = 192;

/// Values fetched from the standby because an entry compares by order.
#[derive(Clone, Default)]
pub struct Values {
    values: BTreeMap<Bytes, Option<Bytes>>,
}

impl Values {
    /// Notes what the standby holds under `key`; None if it has no such key.
    pub fn insert(&mut self, key: Bytes, value: Option<Bytes>) {
        self.values.insert(key, value);
    }

    /// True if it was noted what the standby holds under `key`.
    #[must_use]
    pub fn knows(&self, key: &[u8]) -> bool {
        self.values.contains_key(key)
    }

    /// The keys noted, ascending.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Bytes> {
        self.values.keys()
    }

    /// What was noted for `key`: None if nothing was.
    pub(super) fn of(&self, key: &[u8]) -> Option<Option<&Bytes>> {
        self.values.get(key).map(Option::as_ref)
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_depend_on_value_and_secret() {
        let one = DigestKey::new(&[1; 32]);
        let two = DigestKey::new(&[2; 32]);
        assert_eq!(one.digest(b"v"), DigestKey::new(&[1; 32]).digest(b"v"));
        assert_ne!(one.digest(b"v"), two.digest(b"v"));
        assert_ne!(one.digest(b"v"), one.digest(b"w"));
        assert_ne!(one.digest(b""), one.digest(b"\0"));
        let digest = one.digest(b"v");
        assert_eq!(Digest::from_bytes(digest.to_bytes()), digest);
    }
}
