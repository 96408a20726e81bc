//! What the tests of the vault share: a vault in a scratch folder, and short ways to look into its tree.
#![expect(dead_code, reason = "each test binary uses a part of it")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "archive_format.rs"]
pub mod archive_format;
#[path = "../common/waiting.rs"]
mod waiting;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use archive_format::Format;
use vaultfs::crypto::Passphrase;
use vaultfs::entry::EntryPath;
use vaultfs::tree::{Ino, NewKind, NewNode, Owner, SetAttributes, Tree, TreeError, WriteOptions};
use vaultfs::vault::{OpenReport, Vault, VaultError, VaultOptions};

pub const OWNER: Owner = Owner { uid: 1000, gid: 1000 };

pub fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(zeroize::Zeroizing::new(text.as_bytes().to_vec())).unwrap()
}

pub fn options() -> VaultOptions {
    VaultOptions::new(OWNER, 64 << 20, Duration::from_secs(1))
}

/// A change waits for a commit that is asked for.
pub fn patient() -> VaultOptions {
    VaultOptions { commit_delay: Duration::from_secs(3600), ..options() }
}

pub struct Scratch {
    pub folder: tempfile::TempDir,
    pub archive: PathBuf,
}

/// An empty archive.
pub fn scratch() -> Scratch {
    scratch_of(Format::V1)
}

/// An empty archive of each version.
pub fn scratches() -> impl Iterator<Item = Scratch> {
    archive_format::FORMATS.into_iter().map(scratch_of)
}

/// An empty archive of a given version.
pub fn scratch_of(format: Format) -> Scratch {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("vault.tar.aes");
    format.create(&archive, &passphrase("correct horse"));
    Scratch { folder, archive }
}

pub fn try_open(archive: &Path, options: &VaultOptions) -> Result<(Vault, OpenReport), VaultError> {
    Vault::open(archive, passphrase("correct horse"), options)
}

pub fn open(archive: &Path) -> Vault {
    try_open(archive, &patient()).unwrap().0
}

pub fn path(text: &str) -> EntryPath {
    EntryPath::parse(text.as_bytes()).unwrap()
}

/// Creates or replaces a file below the root or an existing folder.
pub fn put(tree: &Tree, name: &str, content: &[u8]) {
    let path = path(name);
    let (parent, last) = path.split_last().unwrap();
    let parent = tree.resolve(&parent).unwrap().ino;
    let ino = match tree.lookup(parent, last) {
        Ok(stat) => stat.ino,
        Err(TreeError::NotFound) => {
            tree.make(parent, last, NewNode { kind: NewKind::File, mode: 0o600, owner: OWNER }).unwrap().ino
        }
        Err(error) => panic!("{name}: {error}"),
    };
    tree.set_attributes(ino, &SetAttributes { size: Some(0), ..SetAttributes::default() }).unwrap();
    tree.write(ino, 0, content, WriteOptions::default()).unwrap();
}

pub fn make_folder(tree: &Tree, parent: Ino, name: &str) -> Ino {
    let new = NewNode { kind: NewKind::Folder, mode: 0o700, owner: OWNER };
    tree.make(parent, name.as_bytes(), new).unwrap().ino
}

pub fn get(tree: &Tree, name: &str) -> Option<Vec<u8>> {
    let stat = tree.resolve(&path(name)).ok()?;
    let mut content = vec![0; stat.size as usize];
    let mut at = 0;
    while at < content.len() {
        at += tree.read(stat.ino, at as u64, &mut content[at..]).unwrap();
    }
    Some(content)
}

/// Bytes that do not compress.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    })
    .take(length)
    .collect()
}

/// Waits until something holds; fails after ten seconds.
pub fn eventually(what: &str, holds: impl FnMut() -> bool) {
    waiting::within(Duration::from_secs(20), what, holds);
}

/// Names in a folder.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A small file system of its own, taken away at the end. Needs root.
pub struct SmallDisk {
    pub folder: tempfile::TempDir,
}

impl SmallDisk {
    pub fn tmpfs(size: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(folder.path()));
        Self { folder }
    }

    /// An ext4 in a file.
    pub fn ext4(mebibytes: u64, image: &Path) -> Self {
        std::fs::File::create(image).unwrap().set_len(mebibytes << 20).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0", "-O", "^has_journal"]).arg(image));
        let folder = tempfile::tempdir().unwrap();
        run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(folder.path()));
        Self { folder }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn remount_read_only(&self) {
        run(Command::new("mount").args(["-o", "remount,ro"]).arg(self.path()));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

fn run(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status} (these tests run as root)");
}
