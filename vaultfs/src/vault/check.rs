//! Verifying an archive that lies there, of any version, and saving what can be saved of a damaged one: it is not locked, and
//! never written to.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::format;
use crate::format::v2::{HEADER_MAX, looks_like_v2};
use crate::tree::Tree;

use super::archive::has_magic;
use super::bridge::LoaderSink;
use super::identity::Identity;
use super::keys::Secret;
use super::v2::{self, CheckReport, Recovered, Verdict};
use super::{VaultError, VaultOptions, new_tree};

/// Verifies an archive that no process of this program has open, as far as its version allows.
///
/// # Errors
/// [`VaultError::NoArchive`], [`VaultError::WrongPassphrase`], [`VaultError::WrongIdentity`],
/// [`VaultError::Version1`]; [`VaultError::Locked`]: somebody writes it meanwhile;
/// [`VaultError::Format`]: a header that cannot be read, or an archive of version 1 that does not open;
/// [`VaultError::Io`]: it cannot be read, or `progress` (bytes done, bytes in all) returned that.
pub fn check_file(
    archive: &Path,
    secret: &Secret,
    options: &VaultOptions,
    progress: &mut dyn FnMut(u64, u64) -> io::Result<()>,
) -> Result<CheckReport, VaultError> {
    let mut file = open(archive)?;
    let io = || VaultError::io("read", archive);
    let before = Identity::of(&file).map_err(io())?;
    let report = match has_magic(&file).map_err(io())? {
        true => v2::check_file(&file, archive, secret, options, progress),
        false => check_v1(&mut file, archive, secret, options),
    };
    let is_sound = report.as_ref().is_ok_and(|report| report.verdict == Verdict::Sound);
    if !is_sound && Identity::of(&file).map_err(io())? != before {
        return Err(VaultError::Locked(archive.to_owned()));
    }
    report
}

/// Tells whether an archive is, or was before it was damaged, of version 2.
///
/// # Errors
/// [`VaultError::NoArchive`], [`VaultError::Io`].
pub fn is_version_2(archive: &Path) -> Result<bool, VaultError> {
    let mut start = Vec::new();
    let read = open(archive)?.take(2 * HEADER_MAX as u64).read_to_end(&mut start);
    read.map_err(VaultError::io("read", archive))?;
    Ok(looks_like_v2(&start))
}

/// Writes a new vault of what is authentic in a damaged archive of version 2. It gets an id and a master of its own, and opens
/// with the same passphrase or identity, and with nothing else. When `cancelled` is set meanwhile, that is given up, and nothing is left.
///
/// # Errors
/// [`VaultError::ArchiveExists`]: there is something at `out`. [`VaultError::WrongPassphrase`]: that, or what it opens is
/// damaged, and then nothing can be saved. [`VaultError::WrongIdentity`]; [`VaultError::Format`]: its slot is damaged.
/// [`VaultError::Io`].
pub fn recover_file(
    archive: &Path,
    secret: &Secret,
    out: &Path,
    options: &VaultOptions,
    cancelled: &Arc<AtomicBool>,
) -> Result<Recovered, VaultError> {
    if out.symlink_metadata().is_ok() {
        return Err(VaultError::ArchiveExists(out.to_owned()));
    }
    v2::recover(&open(archive)?, archive, secret, out, options, cancelled)
}

fn open(archive: &Path) -> Result<File, VaultError> {
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
    secret: &Secret,
    options: &VaultOptions,
) -> Result<CheckReport, VaultError> {
    let Secret::Passphrase(passphrase) = secret else { return Err(VaultError::Version1(archive.to_owned())) };
    let mut tree: Tree = new_tree(options)?;
    let mut sink = LoaderSink::new(tree.loader());
    format::v1::read(file, passphrase, &options.read_limits(), &mut sink).map_err(VaultError::reading(archive))?;
    drop(sink);
    let (entries, files) = tree.snapshot().count();
    let bytes = file.metadata().map_err(VaultError::io("read", archive))?.len();
    Ok(CheckReport { entries, files, bytes, ..CheckReport::default() })
}
