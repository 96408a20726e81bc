//! What can go wrong with keys and ciphers.

/// An error of the cryptographic layer; never carries secret bytes.
#[derive(Debug, thiserror::Error)]
pub enum CryptoError {
    /// The authentication tag does not fit: wrong key or changed bytes.
    #[error("authentication failed")]
    Authentication,
    /// The system gives no memory that is neither swapped nor dumped.
    #[error("no secret memory can be had")]
    SecretMemory(#[source] std::io::Error),
    /// The system gives no random bytes.
    #[error("no random bytes can be had")]
    Randomness(#[source] std::io::Error),
    /// An empty passphrase protects nothing.
    #[error("the passphrase is empty")]
    EmptyPassphrase,
    /// Longer than the cap, in bytes.
    #[error("the passphrase is longer than {0} bytes")]
    PassphraseTooLong(usize),
    /// A key derivation that would cost more, or less, than any honest slot.
    #[error("the archive asks for a key derivation of {} KiB, {} passes and {} lanes, which is refused", .0.memory_kib, .0.passes, .0.lanes)]
    KdfCost(super::KdfCost),
    /// The key derivation needs more memory than can be had. Nothing was spent.
    #[error("the key derivation needs {} MiB of memory, and there are {} MiB to be had", needed_kib.div_ceil(1024), available_kib / 1024)]
    KdfMemory {
        /// What the archive asks for.
        needed_kib: u32,
        /// What the system, or a limit on this process, leaves.
        available_kib: u64,
    },
    /// What is to be a recipient is none, or none that is supported.
    #[error("the recipient cannot be used: {0}")]
    Recipient(String),
    /// What is to be an identity is none, or none that is supported.
    #[error("the identity cannot be used: {0}")]
    Identity(String),
    /// An SSH private key is encrypted, with another passphrase.
    #[error("the passphrase of the private key is wrong")]
    IdentityPassphrase,
}
