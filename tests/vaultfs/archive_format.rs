//! The versions of the archive that a test goes through.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use vaultfs::crypto::{KdfCost, Passphrase, Suite};
use vaultfs::vault::{Machine, NewArchive, Vault};

/// A version of the archive.
#[derive(Clone, Copy, Debug)]
pub enum Format {
    V1,
    V2,
}

/// All of them.
pub const FORMATS: [Format; 2] = [Format::V1, Format::V2];

/// Guesses at the passphrases of tests may be cheap.
const COST: KdfCost = KdfCost { memory_kib: 64, passes: 1, lanes: 1 };

impl Format {
    /// Makes an empty archive.
    pub fn create(self, archive: &Path, passphrase: &Passphrase) {
        let kind = match self {
            Format::V1 => NewArchive::V1,
            Format::V2 => NewArchive::V2 { suite: Suite::of_this_machine(), cost: COST },
        };
        Vault::create(archive, passphrase, kind, &Machine::default()).unwrap();
    }
}
