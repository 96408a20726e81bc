//! Mounting and detaching through fusermount3, the set-uid program that lets ordinary users do both.

use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{mountinfo, packets, stale};

/// The program.
const FUSERMOUNT: &str = "fusermount3";

/// How a mount is made.
#[derive(Clone, Copy, Debug)]
pub struct MountOptions {
    /// Kernel-side read-only.
    pub read_only: bool,
    /// Other users may come in.
    pub allow_other: bool,
}

/// A fresh mount.
pub struct Mounted {
    /// The FUSE descriptor to be served.
    pub fuse: OwnedFd,
    /// Canonical mount point.
    pub dir: PathBuf,
    /// What the kernel says of it.
    pub entry: mountinfo::MountEntry,
}

/// Mounts on a folder of this user, which is made when missing. An empty one is left unwritable underneath (0500), so that a
/// program that saves after the lock fails instead of leaving plaintext on disk.
///
/// # Errors
/// In words for the user.
pub fn mount(dir: &Path, options: MountOptions) -> Result<Mounted, String> {
    let (dir, folder) = prepare(dir)?;
    let empty = std::fs::read_dir(&dir).map_err(|error| cannot("read", &dir, &error))?.next().is_none();
    if empty {
        // fusermount3 wants a folder that its caller may write.
        folder.set_permissions(Permissions::from_mode(0o700)).map_err(|error| cannot("prepare", &dir, &error))?;
    }
    let fuse = run_mount(&dir, options);
    if empty {
        folder.set_permissions(Permissions::from_mode(0o500)).map_err(|error| cannot("protect", &dir, &error))?;
    }
    Ok(Mounted { fuse: fuse?, entry: entry_at(&dir)?, dir })
}

/// Mounts over a folder or a file as it is.
///
/// # Errors
/// In words for the user.
pub fn mount_over(place: PathBuf, options: MountOptions) -> Result<Mounted, String> {
    let fuse = run_mount(&place, options)?;
    Ok(Mounted { fuse, entry: entry_at(&place)?, dir: place })
}

fn entry_at(dir: &Path) -> Result<mountinfo::MountEntry, String> {
    let entry = mountinfo::at(dir).map_err(|error| format!("the mounts cannot be read: {error}"))?;
    entry.ok_or_else(|| format!("{} was mounted and is gone again", dir.display()))
}

/// Detaches a mount, lazily: whoever holds something of it keeps a dead end.
///
/// # Errors
/// In words for the user.
pub fn unmount(dir: &Path) -> Result<(), String> {
    let output = Command::new(FUSERMOUNT)
        .args(["-u", "-z", "--"])
        .arg(dir)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| missing(&error))?;
    if output.status.success() { Ok(()) } else { Err(words(&output.stderr)) }
}

fn prepare(dir: &Path) -> Result<(PathBuf, File), String> {
    if let Err(error) = std::fs::symlink_metadata(dir) {
        match error.raw_os_error() {
            Some(libc::ENOTCONN) => {
                return Err(format!("{} is a mount whose server is gone; run 'tazpod lock' first", dir.display()));
            }
            _ => DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)
                .map_err(|error| cannot("make", dir, &error))?,
        }
    }
    let dir = dir.canonicalize().map_err(|error| cannot("look at", dir, &error))?;
    let folder = File::open(&dir).map_err(|error| cannot("open", &dir, &error))?;
    let metadata = folder.metadata().map_err(|error| cannot("look at", &dir, &error))?;
    if !metadata.is_dir() {
        return Err(format!("{} is not a folder", dir.display()));
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(format!("{} belongs to another user", dir.display()));
    }
    if let Some(taken) = stale::taken(&dir) {
        return Err(taken.to_string());
    }
    Ok((dir, folder))
}

fn run_mount(dir: &Path, options: MountOptions) -> Result<OwnedFd, String> {
    let source = format!("fsname={}", mountinfo::source_of(std::process::id()));
    let mut words_of_options = vec![&*source, "subtype=vaultfs", "default_permissions", "nosuid", "nodev"];
    words_of_options.extend(options.read_only.then_some("ro"));
    words_of_options.extend(options.allow_other.then_some("allow_other"));
    let (ours, theirs) = UnixStream::pair().map_err(|error| error.to_string())?;
    // The descriptor comes over the socket that _FUSE_COMMFD names: here its standard input.
    let mut child = Command::new(FUSERMOUNT)
        .args(["-o", &words_of_options.join(","), "--"])
        .arg(dir)
        .env("_FUSE_COMMFD", "0")
        .stdin(OwnedFd::from(theirs))
        // The keeper's is the claim on the archive: while this mounts, nobody cleans up after a keeper that was killed meanwhile.
        .stdout(Stdio::inherit())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| missing(&error))?;
    let received = packets::receive_raw(ours.as_fd(), &mut [0; 16]);
    let mut told = Vec::new();
    if let Some(stderr) = &mut child.stderr {
        stderr.take(4096).read_to_end(&mut told).map_err(|error| error.to_string())?;
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    match received {
        Ok((_, Some(fuse))) if status.success() => Ok(fuse),
        _ => Err(format!("{} cannot be mounted: {}", dir.display(), words(&told))),
    }
}

fn cannot(operation: &str, dir: &Path, error: &io::Error) -> String {
    format!("cannot {operation} {}: {error}", dir.display())
}

fn missing(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "fusermount3 is missing; install the package fuse3".to_owned(),
        _ => format!("fusermount3 cannot be run: {error}"),
    }
}

fn words(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let text = text.trim();
    if text.is_empty() { "fusermount3 gave no reason".to_owned() } else { text.replace('\n', "; ") }
}
