//! A vault: opens an archive file into a tree, and writes the tree back. Knows no FUSE and no command line.

mod error;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::crypto::Passphrase;
use crate::format::ReadWarning;
use crate::tree::{Owner, Revision, Tree};

pub use error::VaultError;

/// How a vault is opened.
#[derive(Clone, Debug)]
pub struct VaultOptions {
    /// Owner of all entries.
    pub owner: Owner,
    /// `vault.size`, bytes (default 256 MiB).
    pub size_limit: u64,
    /// How long a change may wait for a commit (default 1 s).
    pub commit_delay: Duration,
}

/// An open vault, with the lock on `<archive>.lock` held.
pub struct Vault;

/// What was noticed on opening.
#[derive(Clone, Debug, Default)]
pub struct OpenReport {
    /// Things the user is told.
    pub warnings: Vec<ReadWarning>,
    /// The medium is read-only: no commit will ever work, so the mount is read-only.
    pub read_only: bool,
}

/// How the archive stands to the tree.
#[derive(Clone, Debug)]
pub struct CommitStatus {
    /// Changes not yet in the archive.
    pub dirty: bool,
    /// End of the last good commit of this session.
    pub last_commit: Option<SystemTime>,
    /// Error of the last try, `None` when it worked.
    pub last_error: Option<Arc<VaultError>>,
    /// Commits of this session.
    pub commits: u64,
    /// Size of the archive in bytes.
    pub archive_bytes: u64,
}

/// Called once with the outcome of a commit.
pub type CommitWaiter = Box<dyn FnOnce(Result<(), Arc<VaultError>>) + Send>;

impl Vault {
    /// Makes a new, empty archive (0600, never over an existing file).
    pub fn create(archive: &Path, passphrase: &Passphrase) -> Result<(), VaultError> {
        let _ = (archive, passphrase);
        todo!()
    }
    /// Opens an archive, takes the lock, starts the committer thread.
    pub fn open(
        archive: &Path,
        passphrase: Passphrase,
        options: &VaultOptions,
    ) -> Result<(Vault, OpenReport), VaultError> {
        let _ = (archive, passphrase, options);
        todo!()
    }
    /// The tree.
    pub fn tree(&self) -> &Arc<Tree> {
        todo!()
    }
    /// The committer; cheap to clone.
    pub fn committer(&self) -> Committer {
        todo!()
    }
    /// Canonical path of the archive.
    pub fn archive(&self) -> &PathBuf {
        todo!()
    }
    /// Writes the archive anew under another passphrase. `old` must be the present one.
    pub fn change_passphrase(&self, old: &Passphrase, new: Passphrase) -> Result<(), VaultError> {
        let _ = (old, new);
        todo!()
    }
    /// Commits all, stops the committer, releases the lock. On an error the vault stays open and is given back.
    pub fn close(self) -> Result<(), (Box<Vault>, Arc<VaultError>)> {
        todo!()
    }
    /// Stops without committing (after `lock --force` and a failed commit).
    pub fn discard(self) {
        todo!()
    }
    /// Writes all as a plain tar.
    pub fn export(&self, output: &mut dyn std::io::Write) -> Result<(), VaultError> {
        let _ = output;
        todo!()
    }
    /// Adds the entries of a tar below `into` (a folder, made when missing): nothing is changed when anything is wrong with it or a file
    /// of its exists already (unless `replace`).
    pub fn import(
        &self,
        input: &mut dyn std::io::Read,
        into: &crate::entry::EntryPath,
        existing: OnExisting,
    ) -> Result<u64, VaultError> {
        let _ = (input, into, existing);
        todo!()
    }
}

/// What `import` does with a file that exists already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExisting {
    /// Refuses the whole import.
    Refuse,
    /// Replaces the file.
    Replace,
}

/// Hands work to the one thread that writes the archive.
#[derive(Clone)]
pub struct Committer;

impl Committer {
    /// Asks that everything up to the present revision be durable; `waiter` is called from the committer's thread, or at once when it is already.
    pub fn commit_then(&self, waiter: CommitWaiter) {
        let _ = waiter;
        todo!()
    }
    /// The same, waiting.
    pub fn commit(&self) -> Result<(), Arc<VaultError>> {
        todo!()
    }
    /// A hint (a file was closed): commit soon, nobody waits.
    pub fn commit_soon(&self) {
        todo!()
    }
    /// How it stands.
    pub fn status(&self) -> CommitStatus {
        todo!()
    }
    /// The newest durable revision.
    pub fn durable(&self) -> Revision {
        todo!()
    }
}
