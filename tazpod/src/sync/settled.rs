//! Whether there is nothing to do at all: told from what this machine remembers and a look at the archive, without a copy of it.

use std::path::Path;

use crate::remote::Head;

use super::base::Base;
use super::standing::is_state;

/// Whether a remote holds the version that both sides last agreed on and nothing else, and the archive is in that state. An archive of
/// version 1 is read through to know that.
pub fn is_settled(archive: &Path, base: &Base, heads: &[Head]) -> bool {
    let [head] = heads else { return false };
    base.versions == [head.version.clone()] && is_state(archive, &base.description)
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
        assert!(is_settled(&archive, &base, &[head("v")]));
        for heads in [vec![], vec![head("w")], vec![head("v"), head("w")]] {
            assert!(!is_settled(&archive, &base, &heads), "{heads:?}");
        }
        // One commit less; of version 1; gone.
        std::fs::write(&archive, &whole[..whole.len() - 100]).unwrap();
        assert!(!is_settled(&archive, &base, &[head("v")]));
        std::fs::write(&archive, b"of version 1").unwrap();
        assert!(!is_settled(&archive, &base, &[head("v")]));
        std::fs::remove_file(&archive).unwrap();
        assert!(!is_settled(&archive, &base, &[head("v")]));
    }
}
