//! The versions of the archive that a test goes through.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use vaultfs::crypto::Passphrase;
use vaultfs::vault::Vault;

/// A version of the archive.
#[derive(Clone, Copy, Debug)]
pub enum Format {
    V1,
}

/// All of them.
pub const FORMATS: [Format; 1] = [Format::V1];

impl Format {
    /// Makes an empty archive.
    pub fn create(self, archive: &Path, passphrase: &Passphrase) {
        match self {
            Format::V1 => Vault::create(archive, passphrase).unwrap(),
        }
    }
}
