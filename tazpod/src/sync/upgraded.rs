//! Which vault of version 2 was made here of the archive of version 1 that the base is: where another machine upgraded it too, both
//! are one vault, and nothing else tells that.

use std::fs::File;
use std::io;
use std::path::Path;

use vaultfs::format::v2::Outline;

use crate::remote::description::Format;
use crate::remote::{Description, Head};

use super::base::Base;
use super::snapshot;

const NOTE: &str = "upgraded.json";

/// Notes in a state folder that its archive was just upgraded.
///
/// # Errors
/// The archive cannot be read, the folder cannot be written.
pub fn note(state: &Path, archive: &Path) -> io::Result<()> {
    let outline = Outline::read(&File::open(archive)?).map_err(io::Error::other)?;
    let mut written = tempfile::Builder::new().prefix(snapshot::START).tempfile_in(state)?;
    serde_json::to_writer(&mut written, &outline.vault_id.0)?;
    written.as_file().sync_all()?;
    written.persist(state.join(NOTE)).map_err(|error| error.error)?;
    File::open(state)?.sync_all()
}

/// Whether an archive is what was made here, by an upgrade, of what both sides last agreed on, or went on from that.
pub fn is_of_base(state: &Path, archive: &Path, base: &Base) -> bool {
    let outline = File::open(archive).ok().and_then(|file| Outline::read(&file).ok());
    outline.is_some_and(|outline| is_noted(state, outline.vault_id.0, base))
}

/// Whether a remote holds nothing but another upgrade of what both sides last agreed on.
pub fn is_apart(state: &Path, own: &Description, base: Option<&Base>, heads: &[Head]) -> bool {
    let (Some(base), Some(own), [head]) = (base, own.state.vault, heads) else { return false };
    let there = head.state.and_then(|state| state.vault);
    there.is_some_and(|there| there != own) && is_noted(state, own, base)
}

fn is_noted(state: &Path, vault: [u8; 16], base: &Base) -> bool {
    let noted = std::fs::read(state.join(NOTE)).ok().and_then(|note| serde_json::from_slice::<[u8; 16]>(&note).ok());
    base.state().format == Format::V1 && noted == Some(vault)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::remote::{State, Version};

    #[test]
    fn only_what_was_upgraded_here_since_the_base_is_apart() {
        let folder = tempfile::tempdir().unwrap();
        let (state, archive) = (folder.path(), folder.path().join("archive"));
        let base_of = |bytes: &[u8]| {
            std::fs::write(&archive, bytes).unwrap();
            let (copy, description) = snapshot::take(&archive, state).unwrap();
            Base::record(state, "place", vec![Version("v".to_owned())], description, copy).unwrap()
        };
        let base = base_of(b"of version 1");
        let v2 =
            std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/v2/aes-256-gcm.tar.aes")).unwrap();
        std::fs::write(&archive, &v2).unwrap();
        let (_, own) = snapshot::take(&archive, state).unwrap();
        let head = |vault: Option<[u8; 16]>| Head {
            version: Version("w".to_owned()),
            bytes: 1,
            modified: SystemTime::UNIX_EPOCH,
            state: Some(State { vault, ..own.state }),
            sha256: None,
        };
        let other = [head(Some([9; 16]))];
        assert!(!is_apart(state, &own, Some(&base), &other) && !is_of_base(state, &archive, &base), "nothing is noted");
        note(state, &archive).unwrap();
        assert!(is_of_base(state, &archive, &base) && !is_of_base(state, &base.path(state), &base));
        assert!(is_apart(state, &own, Some(&base), &other));
        for heads in [vec![], vec![head(None)], vec![head(own.state.vault)], vec![other[0].clone(), other[0].clone()]] {
            assert!(!is_apart(state, &own, Some(&base), &heads), "{heads:?}");
        }
        assert!(!is_apart(state, &own, None, &other));
        let strange = Description { state: State { vault: Some([7; 16]), ..own.state }, ..own };
        assert!(!is_apart(state, &strange, Some(&base), &other));
        assert!(!is_apart(state, &own, Some(&base_of(&v2)), &other));
    }
}
