//! Short names for what was hashed.

/// The first 8 bytes of a hash, as hexadecimal digits.
pub(super) fn short(hash: &[u8]) -> String {
    hash[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}
