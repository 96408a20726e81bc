//! Verifying an archive that lies there, of any version: nothing is locked, nothing is written.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::crypto::Passphrase;
use crate::format;
use crate::tree::Tree;

use super::archive::has_magic;
use super::bridge::LoaderSink;
use super::identity::Identity;
use super::v2::{self, CheckReport, Verdict};
use super::{VaultError, VaultOptions, new_tree};

/// Verifies an archive that no process of this program has open, as far as its version allows.
///
/// # Errors
/// [`VaultError::NoArchive`], [`VaultError::WrongPassphrase`]; [`VaultError::Locked`]: somebody writes it meanwhile;
/// [`VaultError::Format`]: a header that cannot be read, or an archive of version 1 that does not open;
/// [`VaultError::Io`]: it cannot be read, or `progress` (bytes done, bytes in all) returned that.
pub fn check_file(
    archive: &Path,
    passphrase: &Passphrase,
    options: &VaultOptions,
    progress: &mut dyn FnMut(u64, u64) -> io::Result<()>,
) -> Result<CheckReport, VaultError> {
    let mut file = open(archive)?;
    let io = || VaultError::io("read", archive);
    let before = Identity::of(&file).map_err(io())?;
    let report = match has_magic(&file).map_err(io())? {
        true => v2::check_file(&file, archive, passphrase, options, progress),
        false => check_v1(&mut file, archive, passphrase, options),
    };
    let is_sound = report.as_ref().is_ok_and(|report| report.verdict == Verdict::Sound);
    if !is_sound && Identity::of(&file).map_err(io())? != before {
        return Err(VaultError::Locked(archive.to_owned()));
    }
    report
}

pub(super) fn open(archive: &Path) -> Result<File, VaultError> {
    // A FIFO in its place must not hang us.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(archive);
    file.map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => VaultError::NoArchive(archive.to_owned()),
        _ => VaultError::Io { operation: "open", path: archive.to_owned(), source },
    })
}

fn check_v1(
    file: &mut File,
    archive: &Path,
    passphrase: &Passphrase,
    options: &VaultOptions,
) -> Result<CheckReport, VaultError> {
    let mut tree: Tree = new_tree(options)?;
    let mut sink = LoaderSink::new(tree.loader());
    format::v1::read(file, passphrase, &options.read_limits(), &mut sink).map_err(VaultError::reading(archive))?;
    drop(sink);
    let (entries, files) = tree.snapshot().count();
    let bytes = file.metadata().map_err(VaultError::io("read", archive))?.len();
    Ok(CheckReport { entries, files, bytes, ..CheckReport::default() })
}
