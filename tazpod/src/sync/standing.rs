//! How the archive stands to a remote, as far as this machine knows: nothing goes over the network, and it takes no key.

use std::fs::File;
use std::path::Path;
use std::time::SystemTime;

use vaultfs::format::v2::Outline;

use crate::remote::description::Format;
use crate::remote::{Description, Digest, State};

use super::base::Base;

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether the archive is what both sides last agreed on.
    pub pushed: bool,
    /// When that was.
    pub agreed: Option<SystemTime>,
}

impl Standing {
    /// Looks at an archive and at what a state folder remembers of a remote.
    pub fn of(archive: &Path, state: &Path, place: &str) -> Self {
        let base = Base::load(state, place);
        let pushed = base.as_ref().is_some_and(|base| is_state(archive, &base.description));
        Self { pushed, agreed: base.and_then(|base| base.agreed(state)) }
    }
}

/// Whether an archive is in the state that is described.
pub(super) fn is_state(archive: &Path, expected: &Description) -> bool {
    let Ok(file) = File::open(archive) else { return false };
    match expected.state.format {
        Format::V1 => {
            let is_long = file.metadata().is_ok_and(|metadata| metadata.len() == expected.bytes);
            is_long && Description::of(archive).is_ok_and(|found| found.state == expected.state)
        }
        Format::V2 => Outline::read(&file).is_ok_and(|outline| {
            let (vault, head) = (Some(outline.vault_id.0), Digest(outline.head.chain.0));
            expected.state == State { format: Format::V2, vault, sequence: outline.head.sequence.0, head }
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::Version;
    use crate::sync::snapshot;

    #[test]
    fn an_archive_is_compared_with_what_was_agreed_on() {
        let folder = tempfile::tempdir().unwrap();
        let (state, archive) = (folder.path(), folder.path().join("archive"));
        let v2 = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/v2/aes-256-gcm.tar.aes");
        let whole = std::fs::read(v2).unwrap();
        // The first 100 bytes less leave out the last commit.
        let shorter = whole[..whole.len() - 100].to_vec();
        for (bytes, other) in [(b"version 1".to_vec(), b"version l".to_vec()), (whole, shorter)] {
            std::fs::write(&archive, &bytes).unwrap();
            let (copy, description) = snapshot::take(&archive, state).unwrap();
            let place = format!("place {}", bytes.len());
            assert_eq!(Standing::of(&archive, state, &place), Standing { pushed: false, agreed: None });
            Base::record(state, &place, vec![Version("v".to_owned())], description, copy).unwrap();
            let standing = Standing::of(&archive, state, &place);
            assert!(standing.pushed && standing.agreed.is_some());
            std::fs::write(&archive, &other).unwrap();
            assert!(!Standing::of(&archive, state, &place).pushed);
            std::fs::remove_file(&archive).unwrap();
            assert!(!Standing::of(&archive, state, &place).pushed);
        }
    }
}
