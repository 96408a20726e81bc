//! Whether there is nothing to do at all: told from what this machine remembers and a look at the archive's headers, without reading it
//! through.

use std::fs::File;
use std::path::Path;

use vaultfs::format::v2::Outline;

use crate::remote::description::Format;
use crate::remote::{Digest, Head, State};

use super::base::Base;

/// Whether a remote holds the version that both sides last agreed on and nothing else, and the archive is in that state. An archive of
/// version 1 has to be read through to know that.
pub fn is_settled(archive: &Path, base: Option<&Base>, heads: &[Head]) -> bool {
    let (Some(base), [head]) = (base, heads) else { return false };
    base.versions == [head.version.clone()] && state_of(archive).as_ref() == Some(base.state())
}

fn state_of(archive: &Path) -> Option<State> {
    let outline = Outline::read(&File::open(archive).ok()?).ok()?;
    let (vault, head) = (Some(outline.vault_id.0), Digest(outline.head.chain.0));
    Some(State { format: Format::V2, vault, sequence: outline.head.sequence.0, head })
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::remote::Version;
    use crate::sync::snapshot;

    #[test]
    fn it_is_settled_when_both_sides_are_as_they_were_agreed_on() {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("archive");
        let v2 = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/v2/aes-256-gcm.tar.aes");
        let whole = std::fs::read(v2).unwrap();
        std::fs::write(&archive, &whole).unwrap();
        let (copy, description) = snapshot::take(&archive, folder.path()).unwrap();
        let head = |version: &str| Head {
            version: Version(version.to_owned()),
            bytes: 1,
            modified: SystemTime::UNIX_EPOCH,
            state: None,
            sha256: None,
        };
        let versions = vec![Version("v".to_owned())];
        let base = Base::record(folder.path(), "place", versions, description, copy).unwrap();
        assert!(is_settled(&archive, Some(&base), &[head("v")]));
        assert!(!is_settled(&archive, None, &[head("v")]));
        for heads in [vec![], vec![head("w")], vec![head("v"), head("w")]] {
            assert!(!is_settled(&archive, Some(&base), &heads), "{heads:?}");
        }
        // One commit less; of version 1; gone.
        std::fs::write(&archive, &whole[..whole.len() - 100]).unwrap();
        assert!(!is_settled(&archive, Some(&base), &[head("v")]));
        std::fs::write(&archive, b"of version 1").unwrap();
        assert!(!is_settled(&archive, Some(&base), &[head("v")]));
        std::fs::remove_file(&archive).unwrap();
        assert!(!is_settled(&archive, Some(&base), &[head("v")]));
    }
}
