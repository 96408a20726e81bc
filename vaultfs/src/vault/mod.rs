//! A vault: opens an archive file into a tree, and writes the tree back. Knows no FUSE and no command line.

mod adopt;
mod archive;
mod archive_file;
mod bridge;
mod check;
mod commit_thread;
mod committer;
mod copy;
mod error;
mod identity;
mod import;
mod keys;
mod lock;
mod past;
mod peek;
mod replacement;
mod upgrade;
mod v1;
mod v2;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::crypto::{KdfCost, Passphrase, Suite};
use crate::entry::EntryPath;
use crate::format::v2::{Head, Outline, RecipientSlot};
use crate::format::{self, ReadLimits, ReadWarning};
use crate::tree::{Merged, Owner, Tree, TreeError, TreeOptions};

use archive::Archive;
use archive_file::ArchiveFile;
use bridge::SnapshotSource;
use committer::Shared;
use lock::Access;
use v1::V1Archive;
use v2::{Kept, Ours, Wanted};

pub use adopt::{adopt_file, goes_on_from};
pub use archive::{ArchiveFormat, Rekey};
pub use copy::{ArchiveCopy, Relation, file_hash};

pub use check::{check_file, is_version_2, recover_file};
pub use committer::{CommitStatus, CommitWaiter, Committer};
pub use error::{HistoryError, VaultError};
pub use import::OnExisting;
pub use keys::{KeyChange, NewRecipient, Secret};
pub use past::Restored;
pub use peek::{prove_identity, read_recipients};
pub use upgrade::TakenUpgrade;
pub use v2::{Acceptance, CheckReport, Commit, Log, Machine, OLD_SUFFIX, PastEntry, Recovered, Verdict};

/// Entries that a vault may hold.
const ENTRY_LIMIT: u64 = 1_000_000;
/// Logical bytes, holes included, that any vault may hold, however small its limit.
const LOGICAL_MIN: u64 = 4 << 30;
/// How often closing commits what came in during the commit before.
const CLOSING_COMMITS: usize = 16;

/// How a vault is opened.
#[derive(Clone, Debug)]
pub struct VaultOptions {
    /// Owner of all entries.
    pub owner: Owner,
    /// `vault.size`, bytes (default 256 MiB).
    pub size_limit: u64,
    /// How long a change may wait for a commit (default 1 s).
    pub commit_delay: Duration,
    /// Who commits (version 2).
    pub machine: Machine,
    /// The file of this machine's witness of the archive (version 2); without one no rollback is noticed, and nothing is taken
    /// for a torn write.
    pub witness: Option<PathBuf>,
    /// What is accepted although it looks like an attack (version 2).
    pub acceptance: Acceptance,
    /// The commit whose state is kept in memory (version 2): a copy that goes on from there is read only from there on, where both files
    /// begin with the same bytes. For who opens a vault to join it with one.
    pub keep: Option<Head>,
}

/// What kind of archive is made.
#[derive(Clone, Copy, Debug)]
pub enum NewArchive {
    /// The old tool's.
    V1,
    /// The append-only one.
    V2 {
        /// What it is sealed with.
        suite: Suite,
        /// What a guess at the passphrase costs.
        cost: KdfCost,
    },
}

impl VaultOptions {
    /// Options without a witness.
    pub fn new(owner: Owner, size_limit: u64, commit_delay: Duration) -> Self {
        let (machine, witness, acceptance) = (Machine::default(), None, Acceptance::default());
        Self { owner, size_limit, commit_delay, machine, witness, acceptance, keep: None }
    }

    fn tree_options(&self) -> TreeOptions {
        let logical_limit = LOGICAL_MIN.max(self.size_limit.saturating_mul(4));
        TreeOptions { owner: self.owner, size_limit: self.size_limit, logical_limit, entry_limit: ENTRY_LIMIT }
    }

    fn read_limits(&self) -> ReadLimits {
        let options = self.tree_options();
        ReadLimits { total_bytes: options.logical_limit, entries: options.entry_limit }
    }
}

/// An open vault, with the lock on `<archive>.lock` held. Dropping it commits what is left, as far as that works; use
/// [`Vault::close`] to hear whether it did.
pub struct Vault {
    tree: Arc<Tree>,
    shared: Arc<Shared>,
    format: ArchiveFormat,
    options: VaultOptions,
    thread: Option<JoinHandle<()>>,
}

/// What was noticed on opening.
#[derive(Clone, Debug, Default)]
pub struct OpenReport {
    /// Things the user is told.
    pub warnings: Vec<ReadWarning>,
    /// The medium is read-only: no commit will ever work, so the mount is read-only.
    pub read_only: bool,
}

impl Vault {
    /// Makes a new, empty archive (0600, never over an existing file).
    ///
    /// # Errors
    /// [`VaultError::ArchiveExists`], [`VaultError::Locked`], [`VaultError::ReadOnly`], [`VaultError::Io`],
    /// [`VaultError::Crypto`].
    pub fn create(
        archive: &Path,
        passphrase: &Passphrase,
        kind: NewArchive,
        machine: &Machine,
    ) -> Result<(), VaultError> {
        let file = ArchiveFile::reserve(archive)?;
        let options = VaultOptions::new(Owner::of_this_process(), 0, Duration::ZERO);
        let snapshot = Arc::new(new_tree(&options)?.snapshot());
        match kind {
            NewArchive::V1 => V1Archive::create(file, passphrase, &snapshot),
            NewArchive::V2 { suite, cost } => v2::create(file, passphrase, suite, cost, machine, &snapshot),
        }
    }

    /// Opens an archive with its passphrase, takes the lock, starts the committer thread.
    ///
    /// # Errors
    /// As for [`Vault::open_with`].
    pub fn open(
        archive: &Path,
        passphrase: Passphrase,
        options: &VaultOptions,
    ) -> Result<(Vault, OpenReport), VaultError> {
        Self::open_with(archive, Secret::Passphrase(passphrase), options)
    }

    /// Opens an archive, takes the lock, starts the committer thread.
    ///
    /// # Errors
    /// [`VaultError::NoArchive`], [`VaultError::Locked`], [`VaultError::Format`] (a v1 archive cannot tell a wrong
    /// passphrase from damage), [`VaultError::ChangedElsewhere`] (while it was read), [`VaultError::Io`].
    pub fn open_with(
        archive: &Path,
        secret: Secret,
        options: &VaultOptions,
    ) -> Result<(Vault, OpenReport), VaultError> {
        Self::open_telling(archive, secret, options, &|_| ())
    }

    /// The same, and `fits` is called once when the secret is known to open the archive, with whether that can only be read: with
    /// version 2 before the content is read, so that what needs no content can be done meanwhile.
    ///
    /// # Errors
    /// As for [`Vault::open_with`]; also after `fits` was called.
    pub fn open_telling(
        archive: &Path,
        secret: Secret,
        options: &VaultOptions,
        fits: &dyn Fn(bool),
    ) -> Result<(Vault, OpenReport), VaultError> {
        let file = ArchiveFile::open(archive)?;
        let (path, access) = (file.path().to_owned(), file.access());
        let mut tree = new_tree(options)?;
        let (archive, format, report) =
            archive::load(file, secret, options, &mut tree, &|| fits(access == Access::ReadOnly))?;
        let tree = Arc::new(tree);
        let shared = Shared::new(tree.clone(), path, archive, tree.revision(), options.commit_delay, access);
        let thread = commit_thread::start(shared.clone())?;
        let is_told_later = |warning: &ReadWarning| {
            matches!(warning, ReadWarning::DroppedPassphraseFile | ReadWarning::RollbackAccepted)
        };
        if access == Access::ReadWrite && report.warnings.iter().any(is_told_later) {
            tree.mark_changed();
        }
        let vault = Vault { tree, shared, format, options: options.clone(), thread: Some(thread) };
        Ok((vault, OpenReport { warnings: report.warnings, read_only: access == Access::ReadOnly }))
    }

    /// Makes an archive of version 1 one of version 2, under the same passphrase. The old file stays, with `.v1` added to its
    /// name; its path is returned.
    ///
    /// # Errors
    /// As for [`Vault::open_with`]; [`VaultError::Format`] with [`format::FormatError::Unsupported`] where it is of version 2
    /// already; [`VaultError::ArchiveExists`]: an old file was kept before. Nothing is changed then.
    pub fn upgrade(
        archive: &Path,
        passphrase: Passphrase,
        suite: Suite,
        cost: KdfCost,
        options: &VaultOptions,
    ) -> Result<PathBuf, VaultError> {
        upgrade::upgrade(ArchiveFile::open(archive)?, passphrase, suite, cost, options)
    }

    /// Puts the upgrade that another machine made of the same vault in the place of an archive of version 1. Where that is not what
    /// both machines last had (`base`, of version 1), what was changed here is merged into it, by the rules of docs/MERGE.md, and is one
    /// commit behind the other's bytes. The old file stays, as after [`Vault::upgrade`]. Whoever calls knows that it is the same vault:
    /// in version 1, that a passphrase opens both, and that `base` is what this machine had.
    ///
    /// # Errors
    /// As for [`Vault::upgrade`]; [`VaultError::Tree`]: no archive could hold the result. Nothing is changed then.
    pub fn take_upgrade(
        archive: &Path,
        passphrase: Passphrase,
        theirs: &ArchiveCopy,
        base: &ArchiveCopy,
        options: &VaultOptions,
    ) -> Result<TakenUpgrade, VaultError> {
        upgrade::take(ArchiveFile::open(archive)?, passphrase, theirs, base, options)
    }

    /// The tree.
    pub fn tree(&self) -> &Arc<Tree> {
        &self.tree
    }

    /// The committer; cheap to clone.
    pub fn committer(&self) -> Committer {
        Committer::new(self.shared.clone())
    }

    /// Canonical path of the archive.
    pub fn archive(&self) -> &PathBuf {
        &self.shared.path
    }

    /// Which version the archive is of.
    pub fn format(&self) -> ArchiveFormat {
        self.format
    }

    /// The number of the last commit, where the format counts them.
    pub fn sequence(&self) -> Option<u64> {
        self.shared.archive.lock().as_ref().and_then(|archive| archive.sequence())
    }

    /// Where the last commit stands, in an archive of version 2.
    pub fn head(&self) -> Option<Head> {
        self.shared.archive.lock().as_ref().and_then(|archive| archive.head())
    }

    /// Opens another copy of this vault's archive with the key that opened this one; with a head, in the state that it had there.
    ///
    /// # Errors
    /// As for [`ArchiveCopy::open`]: [`FormatError::Header`](format::FormatError::Header) also when it is under another key, as after
    /// a change of passphrase elsewhere.
    pub fn open_copy(&self, path: &Path, until: Option<Head>) -> Result<ArchiveCopy, VaultError> {
        let secret = self.with_archive(|archive| archive.secret())??;
        self.open_copy_with(path, secret, until)
    }

    /// The same with something else that opens it.
    ///
    /// # Errors
    /// As for [`ArchiveCopy::open`].
    pub fn open_copy_with(&self, path: &Path, secret: Secret, until: Option<Head>) -> Result<ArchiveCopy, VaultError> {
        ArchiveCopy::open(path, secret, until, &self.options)
    }

    /// Opens another copy to join it: all of it, with the key that opened this one or with something else, and the newest state on
    /// the way that this vault is or descends from, where both have the same header: then a merge needs no third archive.
    ///
    /// # Errors
    /// As for [`Vault::open_copy`].
    pub fn open_other(&self, path: &Path, secret: Option<Secret>) -> Result<ArchiveCopy, VaultError> {
        let secret = secret.map_or_else(|| self.with_archive(|archive| archive.secret())?, Ok)?;
        let copy = ArchiveCopy::open_wanted(path, secret, Wanted::AllFor(self), &self.options)?;
        Ok(copy.under_header(self.with_archive(|archive| archive.header_digest())?))
    }

    /// Tells how another copy of the archive stands to what is committed here.
    ///
    /// # Errors
    /// [`VaultError::Format`]: it is another vault, or of another version.
    pub fn relation(&self, theirs: &ArchiveCopy) -> Result<Relation, VaultError> {
        self.with_archive(|archive| archive.relation(theirs))?
    }

    /// The same without opening it: only whether it is the same, or an earlier state.
    pub fn relation_to_outline(&self, theirs: &Outline) -> Option<Relation> {
        self.with_archive(|archive| archive.relation_to_outline(theirs)).ok().flatten()
    }

    /// Takes over what another copy of the archive has: goes forward to it where nothing was committed here since, else merges, by
    /// the rules of docs/MERGE.md. The living tree changes in one step, what is not committed yet included; the archive becomes the
    /// copy's bytes, with one commit behind them where anything of this side is left. `base` is the state that both began with, needed
    /// where both went on; one of version 1, which two machines upgraded apart, makes one vault of two: the copy's. `fuse::Mounts` is told before and after.
    ///
    /// # Errors
    /// Those of a commit; [`VaultError::NoCommonState`]; [`VaultError::Tree`]: no archive could hold the result. The archive holds what
    /// it held before; the tree may hold the result already, which the next commit writes.
    pub fn join(&self, theirs: &ArchiveCopy, base: Option<&ArchiveCopy>) -> Result<Merged, VaultError> {
        commit_thread::commit_with(&self.shared, |archive, snapshot| archive.commit(snapshot))?;
        let mut merged = Merged::default();
        commit_thread::join(&self.shared, |archive| {
            let (done, snapshot) = archive.join(&self.tree, theirs, base)?;
            merged = done;
            Ok(snapshot)
        })?;
        Ok(merged)
    }

    fn with_archive<T>(&self, work: impl FnOnce(&dyn Archive) -> T) -> Result<T, VaultError> {
        let archive = self.shared.archive.lock();
        archive
            .as_ref()
            .map(|archive| work(archive.as_ref()))
            .ok_or_else(|| VaultError::Closed(self.shared.path.clone()))
    }

    /// Notes that other machines may know a head (it was pushed, or pulled): the next commit writes it down, and it stays known
    /// as an ancestor for a year. To be told again of the last one after the vault was opened; that costs nothing. One that this vault
    /// does not descend from is left out.
    pub fn note_shared(&self, head: Head) {
        if let Some(archive) = self.shared.archive.lock().as_mut() {
            archive.note_shared(head);
        }
    }

    /// Commits and writes the whole archive anew, so that nothing that was deleted is left in it. Other commits go on meanwhile.
    ///
    /// # Errors
    /// Those of a commit.
    pub fn compact(&self) -> Result<(), VaultError> {
        commit_thread::compact(&self.shared)
    }

    /// Writes the archive anew under another passphrase. `old` must be the present one.
    ///
    /// # Errors
    /// [`VaultError::WrongPassphrase`], and those of a commit: the present passphrase stays then.
    pub fn change_passphrase(&self, old: &Passphrase, new: Passphrase, rekey: Rekey) -> Result<(), VaultError> {
        self.change_keys(&Secret::Passphrase(old.duplicate()?), KeyChange::Passphrase { new, rekey })
    }

    /// Changes who can open the vault, for whoever proves that they can. A new passphrase and the removal of a recipient mean a
    /// new master, wrapped for everybody who stays.
    ///
    /// # Errors
    /// [`VaultError::WrongPassphrase`], [`VaultError::WrongIdentity`], [`VaultError::Version1`],
    /// [`VaultError::RecipientExists`], [`VaultError::TooManyRecipients`], [`VaultError::NoRecipient`], [`VaultError::PassphraseNeeded`],
    /// [`VaultError::LastWay`], and those of a commit: all stays as it is then.
    pub fn change_keys(&self, proof: &Secret, change: KeyChange) -> Result<(), VaultError> {
        let outcome =
            commit_thread::commit_with(&self.shared, |archive, snapshot| archive.change_keys(proof, change, snapshot));
        if let Err(VaultError::Io { .. } | VaultError::Internal { .. } | VaultError::ChangedElsewhere(_)) = &outcome {
            // The file may be in place already, only not durably: write it again as it was.
            self.tree.mark_changed();
        }
        outcome
    }

    /// The recipients, who can open the vault with an age identity.
    ///
    /// # Errors
    /// [`VaultError::Version1`], [`VaultError::Closed`].
    pub fn recipients(&self) -> Result<Vec<RecipientSlot>, VaultError> {
        let archive = self.shared.archive.lock();
        let archive = archive.as_ref().ok_or_else(|| VaultError::Closed(self.shared.path.clone()))?;
        archive.recipients().ok_or_else(|| VaultError::Version1(self.shared.path.clone()))
    }

    /// Commits all, stops the committer, releases the lock. On an error the vault stays open and is given back. Nobody
    /// should write any more: what comes after the last commit is lost.
    ///
    /// # Errors
    /// Why the last commit failed, or that it does not come to an end.
    pub fn close(mut self) -> Result<(), (Box<Vault>, Arc<VaultError>)> {
        for _ in 0..CLOSING_COMMITS {
            if let Err(error) = self.committer().commit() {
                return Err((Box::new(self), error));
            }
            if !self.committer().status().dirty {
                self.stop();
                return Ok(());
            }
        }
        let message = "something goes on writing while the vault is closed".to_owned();
        let error = VaultError::Internal { path: self.shared.path.clone(), message };
        Err((Box::new(self), Arc::new(error)))
    }

    /// Stops without committing (after `lock --force` and a failed commit).
    pub fn discard(mut self) {
        self.stop();
    }

    /// Writes all as a plain tar.
    ///
    /// # Errors
    /// [`VaultError::Export`].
    pub fn export(&self, output: &mut dyn std::io::Write) -> Result<(), VaultError> {
        let mut source = SnapshotSource::new(&Arc::new(self.tree.snapshot()));
        format::tar::write(output, &mut source).map_err(VaultError::Export)
    }

    /// Adds the entries of a tar below `into` (a folder, made when missing): nothing is changed when anything is wrong with it or a file
    /// of its exists already (unless `replace`). Returns the number of entries.
    ///
    /// # Errors
    /// [`VaultError::Import`] (the tar), [`VaultError::Tree`] (an entry that exists already, no room).
    pub fn import(
        &self,
        input: &mut dyn std::io::Read,
        into: &EntryPath,
        existing: OnExisting,
    ) -> Result<u64, VaultError> {
        import::import(&self.tree, &self.options, input, into, existing)
    }

    /// Ends the thread and releases the lock; a commit that runs is waited for.
    fn stop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.shared.stop();
        if thread.join().is_err() {
            tracing::error!("the thread that writes the archive had stopped at a bug");
        }
        *self.shared.archive.lock() = None;
        let rewriter = self.shared.rewriter.lock().take();
        if rewriter.is_some_and(|rewriter| rewriter.join().is_err()) {
            tracing::error!("the thread that compacts the archive had stopped at a bug");
        }
    }
}

impl Ours for Vault {
    fn knows(&self, head: &Head) -> bool {
        self.with_archive(|archive| archive.knows(head)).unwrap_or(false)
    }

    fn kept(&self, theirs: &File) -> Option<Kept> {
        self.with_archive(|archive| archive.kept(theirs)).ok().flatten()
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        if self.thread.is_none() {
            return;
        }
        if let Err(error) = self.committer().commit() {
            tracing::error!(%error, "a vault was dropped with changes that could not be written");
        }
        self.stop();
    }
}

fn new_tree(options: &VaultOptions) -> Result<Tree, VaultError> {
    Tree::new(options.tree_options()).map_err(|source| tree_error(&EntryPath::root(), source))
}

fn tree_error(path: &EntryPath, source: TreeError) -> VaultError {
    VaultError::Tree { path: format!("/{path}"), source }
}
