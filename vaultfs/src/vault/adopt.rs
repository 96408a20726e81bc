//! Putting a copy in the place of an archive that nobody has open, without its key: for copies of one vault that travel between two places
//! of the same user. What is in the copy is believed by nobody until it is opened.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::format::v2::Source;

use super::VaultError;
use super::archive_file::ArchiveFile;

/// Bytes that are compared or copied at a time.
const PIECE: usize = 256 * 1024;

/// Puts a copy in the place of an archive, atomically and durably, if `may_replace` says so of what is there; where there is nothing,
/// always. Tells whether it did.
///
/// # Errors
/// [`VaultError::Locked`]: somebody has it open. [`VaultError::ChangedElsewhere`], [`VaultError::ArchiveExists`],
/// [`VaultError::ReadOnly`], [`VaultError::Io`].
pub fn adopt_file(
    archive: &Path,
    copy: &File,
    may_replace: impl FnOnce(&File) -> io::Result<bool>,
) -> Result<bool, VaultError> {
    let mut place = match archive.try_exists().map_err(VaultError::io("look at", archive))? {
        false => ArchiveFile::reserve(archive)?,
        true => {
            let mut place = ArchiveFile::open(archive)?;
            let present = place.open_for_reading()?;
            let may = may_replace(&present).map_err(VaultError::io("read", archive))?;
            place.finish_reading(&present)?;
            if !may {
                return Ok(false);
            }
            place
        }
    };
    let mut replacement = place.begin_replacement()?;
    let (mut piece, mut at) = (vec![0; PIECE], 0);
    loop {
        match copy.read_at(&mut piece, at).map_err(VaultError::io("read the copy for", archive))? {
            0 => break,
            len => {
                let written = replacement.write_all_at(&piece[..len], at);
                written.map_err(VaultError::io("write a new file beside", archive))?;
                at += len as u64;
            }
        }
    }
    place.replace(replacement)?;
    Ok(true)
}

/// Whether a file goes on from another byte for byte: nothing of the other is missing in it.
///
/// # Errors
/// One of them cannot be read.
pub fn goes_on_from(longer: &File, shorter: &File) -> io::Result<bool> {
    begins_alike(longer, shorter, shorter.length()?)
}

/// Whether two files begin with the same bytes, so many of them; one that is shorter does not.
pub(super) fn begins_alike(one: &impl Source, other: &impl Source, length: u64) -> io::Result<bool> {
    if one.length()?.min(other.length()?) < length {
        return Ok(false);
    }
    let most = length.min(PIECE as u64) as usize;
    let (mut left, mut right, mut at) = (vec![0; most], vec![0; most], 0);
    while at < length {
        let len = most.min((length - at) as usize);
        one.read_exact_at(&mut left[..len], at)?;
        other.read_exact_at(&mut right[..len], at)?;
        if left[..len] != right[..len] {
            return Ok(false);
        }
        at += len as u64;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &Path, name: &str, bytes: &[u8]) -> File {
        std::fs::write(folder.join(name), bytes).unwrap();
        File::open(folder.join(name)).unwrap()
    }

    #[test]
    fn nothing_is_replaced_but_what_may_be() {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("archive");
        let first = file(folder.path(), "first", b"first");
        assert!(adopt_file(&archive, &first, |_| unreachable!()).unwrap(), "there was nothing");
        let second = file(folder.path(), "second", b"first and more");
        assert!(!adopt_file(&archive, &second, |_| Ok(false)).unwrap());
        assert_eq!(std::fs::read(&archive).unwrap(), b"first");
        let changes = |_: &File| std::fs::write(&archive, b"other").map(|()| true);
        assert!(matches!(adopt_file(&archive, &second, changes), Err(VaultError::ChangedElsewhere(_))));
        assert_eq!(std::fs::read(&archive).unwrap(), b"other", "somebody else changed it meanwhile");
        std::fs::write(&archive, b"first").unwrap();
        let held = ArchiveFile::open(&archive).unwrap();
        assert!(matches!(adopt_file(&archive, &second, |_| Ok(true)), Err(VaultError::Locked(_))));
        drop(held);
        assert!(adopt_file(&archive, &second, |present| goes_on_from(&second, present)).unwrap());
        assert_eq!(std::fs::read(&archive).unwrap(), b"first and more");
        let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 4, "nothing is left beside it but the lock: {names:?}");
    }

    #[test]
    fn whatever_differs_does_not_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let long = vec![7; 2 * PIECE + 5];
        let whole = file(folder.path(), "whole", &long);
        for (len, goes_on) in [(0, true), (PIECE, true), (long.len(), true)] {
            let part = file(folder.path(), "part", &long[..len]);
            assert_eq!(goes_on_from(&whole, &part).unwrap(), goes_on, "{len}");
        }
        let longer = file(folder.path(), "longer", &[&long[..], b"x"].concat());
        assert!(!goes_on_from(&whole, &longer).unwrap());
        let mut other = long;
        *other.last_mut().unwrap() = 8;
        assert!(!goes_on_from(&whole, &file(folder.path(), "other", &other)).unwrap());
    }
}
