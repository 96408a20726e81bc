//! Sequence numbers and chain values: where in the history of a vault a segment stands.

use std::fmt;

use crate::crypto::Hasher;

use super::VaultId;

/// Counts the commits of a vault from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

impl Sequence {
    /// The number of the next commit.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The chain value of a segment: a hash over it and all before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Chain(pub [u8; 32]);

impl Chain {
    /// What the chain of a vault begins with.
    pub fn genesis(vault_id: &VaultId) -> Self {
        Self(Hasher::hash(&[b"tazpod/v2/genesis", &vault_id.0]))
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(8).try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// A segment's place: its number and its chain value. The last segment's is the head of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Head {
    /// Number.
    pub sequence: Sequence,
    /// Chain value.
    pub chain: Chain,
}

/// A head that other machines may know: it was pushed, pulled or merged. It stays an ancestor for a year.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedHead {
    /// When that was, in seconds since the Unix epoch.
    pub time_secs: i64,
    /// The head.
    pub head: Head,
}
