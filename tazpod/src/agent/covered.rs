//! The place of a bridge: looked at before it is covered, made where there is none, given back as it was. What exists is never
//! changed.

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};

use super::protocol::BridgeKind;
use super::stale;

/// A place that can be covered.
pub struct Covered {
    /// Where it is, links on the way resolved.
    pub place: PathBuf,
    /// What was made for it, outermost first.
    pub made: Vec<PathBuf>,
    /// What lies there, to be reached when it is covered.
    pub underneath: OwnedFd,
}

/// Looks at a place, and makes it when nothing is there.
///
/// # Errors
/// In words for the user; then nothing was made.
pub fn prepare(target: &Path, kind: BridgeKind) -> Result<Covered, String> {
    let mut made = Vec::new();
    let outcome = look_or_make(target, kind, &mut made);
    match outcome {
        Ok((place, underneath)) => Ok(Covered { place, made, underneath }),
        Err(reason) => {
            remove_made(&made);
            Err(reason)
        }
    }
}

/// Removes what was made for bridges and is still empty.
pub fn remove_made(made: &[PathBuf]) {
    for path in made.iter().rev() {
        let is_empty_file = std::fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.len() == 0);
        // Whatever is not empty stays, and so does what cannot be removed.
        let _ = if is_empty_file { std::fs::remove_file(path) } else { std::fs::remove_dir(path) };
    }
}

fn look_or_make(target: &Path, kind: BridgeKind, made: &mut Vec<PathBuf>) -> Result<(PathBuf, OwnedFd), String> {
    let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
        return Err(format!("{} is no place for a bridge", target.display()));
    };
    match std::fs::symlink_metadata(target) {
        Ok(_) => {}
        Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => {
            return Err(format!(
                "{} is a mount whose server is gone; 'fusermount3 -u -z' takes it away",
                target.display()
            ));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(target, kind, made)?,
        Err(error) => return Err(cannot("look at", target, &error)),
    }
    let place = parent.canonicalize().map_err(|error| cannot("look at", parent, &error))?.join(name);
    if let Some(taken) = stale::taken(&place) {
        return Err(taken.to_string());
    }
    let underneath = open(&place)?;
    check(&place, &underneath, kind)?;
    Ok((place, underneath))
}

fn open(place: &Path) -> Result<OwnedFd, String> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(place, flags, Mode::empty()).map_err(|error| cannot("open", place, &error.into()))
}

fn check(place: &Path, underneath: &OwnedFd, kind: BridgeKind) -> Result<(), String> {
    let stat = rustix::fs::fstat(underneath).map_err(|error| cannot("look at", place, &error.into()))?;
    let found = FileType::from_raw_mode(stat.st_mode);
    let place = place.display();
    match (kind, found) {
        (_, FileType::Symlink) => {
            return Err(format!("{place} is a symbolic link; only what is there itself is covered"));
        }
        (BridgeKind::Folder, FileType::Directory) | (BridgeKind::File, FileType::RegularFile) => {}
        (BridgeKind::Folder, FileType::RegularFile) => {
            return Err(format!("{place} is a file, and what is bridged to it is a folder"));
        }
        (BridgeKind::Folder, _) => return Err(format!("{place} is no folder")),
        (BridgeKind::File, FileType::Directory) => {
            return Err(format!("{place} is a folder, and what is bridged to it is a file"));
        }
        (BridgeKind::File, _) => return Err(format!("{place} is no file")),
    }
    match stat.st_uid == rustix::process::geteuid().as_raw() {
        true => Ok(()),
        false => Err(format!("{place} belongs to another user")),
    }
}

/// Makes a place with the folders on the way to it.
fn make(target: &Path, kind: BridgeKind, made: &mut Vec<PathBuf>) -> Result<(), String> {
    if let Some(parent) = target.parent().filter(|parent| std::fs::symlink_metadata(parent).is_err()) {
        make(parent, BridgeKind::Folder, made)?;
    }
    let outcome = match kind {
        BridgeKind::Folder => DirBuilder::new().mode(0o700).create(target),
        BridgeKind::File => OpenOptions::new().write(true).create_new(true).mode(0o600).open(target).map(drop),
    };
    outcome.map_err(|error| cannot("make", target, &error))?;
    made.push(target.to_owned());
    Ok(())
}

fn cannot(operation: &str, path: &Path, error: &io::Error) -> String {
    format!("cannot {operation} {}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_goes_again_and_what_was_there_or_came_stays() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("there")).unwrap();
        let target = root.join("there/a/b");
        let covered = prepare(&target, BridgeKind::Folder).unwrap();
        assert_eq!(
            (covered.place.as_path(), covered.made.as_slice()),
            (target.as_path(), [root.join("there/a"), target.clone()].as_slice())
        );
        remove_made(&covered.made);
        assert!(root.join("there").exists() && !root.join("there/a").exists());
        let covered = prepare(&target, BridgeKind::File).unwrap();
        std::fs::write(root.join("there/a/other"), "").unwrap();
        remove_made(&covered.made);
        assert!(!target.exists() && root.join("there/a/other").exists());
        assert!(prepare(&root.join("there"), BridgeKind::Folder).unwrap().made.is_empty());
    }

    #[test]
    fn what_cannot_be_covered_is_told_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::write(root.join("file"), "x").unwrap();
        std::os::unix::fs::symlink("nowhere", root.join("link")).unwrap();
        std::fs::create_dir(root.join("dir")).unwrap();
        let reason = |name: &str, kind| prepare(&root.join(name), kind).map(|covered| covered.place).unwrap_err();
        assert!(reason("file", BridgeKind::Folder).contains("is a file"));
        assert!(reason("dir", BridgeKind::File).contains("is a folder"));
        assert!(reason("link", BridgeKind::Folder).contains("symbolic link"));
        assert!(reason("file/x/y", BridgeKind::Folder).contains("cannot"));
        assert_eq!(std::fs::read_to_string(root.join("file")).unwrap(), "x");
        assert_eq!(std::fs::read_dir(root).unwrap().count(), 3);
    }
}
