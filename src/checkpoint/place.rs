//! Where the primary's state at a checkpoint is kept. Pure.

use super::record::Error;
use crate::pb::checkpointpb;

/// No generation and no journal has a number as high: a thousand a second take a million years.
const NUMBER_MAX: u64 = 1 << 55;

/// Which records of the ledger count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Of the base.
    pub generation: u64,
    /// How many records the base has, numbered from 0.
    pub base_chunks: u32,
    /// The first journal to take in after the base.
    pub first_journal: u64,
    /// One behind the last.
    pub next_journal: u64,
    /// What the key of all digests was made of.
    pub digest_key: [u8; 32],
}

impl Place {
    /// Of an empty ledger.
    #[must_use]
    pub fn empty(digest_key: [u8; 32]) -> Self {
        Self {
            generation: 0,
            base_chunks: 0,
            first_journal: 0,
            next_journal: 0,
            digest_key,
        }
    }

    pub(super) fn encode(&self) -> checkpointpb::Ledger {
        checkpointpb::Ledger {
            generation: self.generation,
            base_chunks: self.base_chunks,
            first_journal: self.first_journal,
            next_journal: self.next_journal,
            digest_key: self.digest_key.to_vec().into(),
        }
    }

    pub(super) fn decode(ledger: &checkpointpb::Ledger) -> Result<Self, Error> {
        let highest = ledger.generation.max(ledger.next_journal);
        if ledger.first_journal > ledger.next_journal || highest > NUMBER_MAX {
            return Err(Error::Bytes);
        }
        Ok(Self {
            generation: ledger.generation,
            base_chunks: ledger.base_chunks,
            first_journal: ledger.first_journal,
            next_journal: ledger.next_journal,
            digest_key: (*ledger.digest_key).try_into().map_err(|_| Error::Bytes)?,
        })
    }
}
