//! Memory that the kernel neither swaps nor dumps.

use super::CryptoError;

/// Where a piece of secret memory comes from, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecretMemoryKind {
    /// `memfd_secret(2)`: unreachable even for the kernel's own mappings, for ptrace and for core dumps.
    MemfdSecret,
    /// `mlock(2)` with `MADV_DONTDUMP`.
    Locked,
    /// Ordinary memory with `MADV_DONTDUMP`: the caller warns.
    Ordinary,
}

/// A fixed-size region of secret memory, zeroed when dropped.
pub struct SecretMemory;

impl SecretMemory {
    /// Maps at least `len` bytes, zeroed.
    /// # Errors
    /// The system refuses even ordinary memory.
    pub fn new(len: usize) -> Result<Self, CryptoError> {
        let _ = len;
        todo!()
    }
}
