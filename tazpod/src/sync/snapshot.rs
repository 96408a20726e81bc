//! A copy of the archive as it is after some commit, taken while its vault is locked or not.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use tempfile::NamedTempFile;
use vaultfs::format::v2::{MAGIC, Outline};

use crate::remote::{Description, RemoteError};

/// What names of temporary files begin with.
pub(super) const START: &str = ".travelling-";

/// Copies an archive into a folder. Whoever commits meanwhile either replaces the file, and this goes on reading the old one, or
/// appends to it: what is not a whole commit yet is left out.
///
/// # Errors
/// [`RemoteError::File`], [`RemoteError::Damaged`].
pub fn take(archive: &Path, folder: &Path) -> Result<(NamedTempFile, Description), RemoteError> {
    let mut copy = temporary(folder)?;
    let mut source = File::open(archive).map_err(RemoteError::file("read", archive))?;
    io::copy(&mut source, &mut copy).map_err(RemoteError::file("copy", archive))?;
    cut_to_whole_commits(copy.as_file(), archive)?;
    let description = Description::of(copy.path()).map_err(|error| match error {
        RemoteError::Damaged { reason, .. } => RemoteError::Damaged { place: archive.display().to_string(), reason },
        other => other,
    })?;
    Ok((copy, description))
}

/// A file for an archive that is gone with its guard.
///
/// # Errors
/// [`RemoteError::File`].
pub fn temporary(folder: &Path) -> Result<NamedTempFile, RemoteError> {
    let error = RemoteError::file("write into", folder);
    tempfile::Builder::new().prefix(START).tempfile_in(folder).map_err(error)
}

/// Removes what killed processes left, for whoever has the [turn](super::turn::Turn).
///
/// # Errors
/// The folder cannot be read.
pub fn remove_left(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)?.flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(START)) {
            // What does not go now goes the next time.
            let _ = std::fs::remove_file(entry.path());
        }
    }
    Ok(())
}

fn cut_to_whole_commits(copy: &File, archive: &Path) -> Result<(), RemoteError> {
    let mut magic = [0; MAGIC.len()];
    let error = RemoteError::file("read", archive);
    if copy.read_exact_at(&mut magic, 0).is_err() || &magic != MAGIC {
        return Ok(());
    }
    let outline = Outline::read(copy)
        .map_err(|error| RemoteError::Damaged { place: archive.display().to_string(), reason: error.to_string() })?;
    copy.set_len(outline.length).map_err(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_being_written_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("archive");
        let whole =
            std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/v2/aes-256-gcm.tar.aes")).unwrap();
        std::fs::write(&path, &whole).unwrap();
        let (_, all) = take(&path, folder.path()).unwrap();
        assert_eq!(all.bytes, whole.len() as u64);
        for cut in [1, 100, 4000] {
            std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            let (copy, less) = take(&path, folder.path()).unwrap();
            assert_eq!(less.state.sequence + 1, all.state.sequence, "{cut}");
            assert_eq!(std::fs::read(copy.path()).unwrap(), whole[..usize::try_from(less.bytes).unwrap()]);
        }
        std::fs::write(&path, b"of version 1").unwrap();
        assert_eq!(take(&path, folder.path()).unwrap().1.bytes, 12);
        assert!(take(&folder.path().join("missing"), folder.path()).is_err());
    }
}
