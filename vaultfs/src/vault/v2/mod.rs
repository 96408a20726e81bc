//! The archive of version 2 as a file: a commit appends what changed. Rules: docs/FORMAT.md, "Committing and compaction".

mod check;
mod compaction;
mod copy_read;
mod creation;
mod file_store;
mod history;
mod joining;
mod log;
mod open;
mod recover;
mod rekey;
mod store;
#[cfg(test)]
mod tests;
mod whole;
mod witnessing;

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::crypto::MasterKey;
use crate::entry::Timestamp;
use crate::format::v2::{CommitInfo, Head, Header, Outline, RecipientSlot, WitnessPhase};
use crate::format::{ReadReport, ReadWarning};
use crate::tree::{Merged, Snapshot, Tree};

use super::adopt::begins_alike;
use super::archive::{Archive, Rewrite, RewriteOutcome};
use super::archive_file::ArchiveFile;
use super::copy::{ArchiveCopy, Relation};
use super::keys::{KeyChange, Secret};
use super::lock::Access;
use super::{VaultError, VaultOptions};

use compaction::Compactions;
use history::History;
use store::{Draft, Store, Tail, Within};
use whole::{News, Past, Pen, Told, begin_whole};

pub(super) use check::check_file;
pub use check::{CheckReport, Verdict};
pub(super) use copy_read::{Kept, Ours, Wanted, read_copy};
pub use creation::OLD_SUFFIX;
pub(super) use creation::{create, replace_old, replace_old_by_copy};
pub(super) use file_store::{FileStore, check_unwitnessed};
pub use log::{Commit, Log, PastEntry};
pub use open::Acceptance;
pub(super) use open::{ArchiveRead, read_header};
pub use recover::Recovered;
pub(super) use recover::recover;
pub(super) use store::Presence;
pub(super) use whole::Difference;
pub use whole::Machine;

/// A version 2 archive.
pub(super) struct V2Archive<S: Store> {
    store: S,
    header: Header,
    master: MasterKey,
    machine: Machine,
    head: Head,
    /// Bytes that are acknowledged: nothing behind them counts.
    length: u64,
    checkpoint_bytes: u64,
    deltas: u64,
    last_commit: CommitInfo,
    /// What the head descends from.
    history: History,
    /// The state that the archive holds.
    last: Arc<Snapshot>,
    /// One that it held before, where it was opened to be joined with a copy that goes on from there.
    kept: Option<Kept>,
    /// What the file can be trusted with.
    trust: Trust,
    /// The next commit is made even if nothing changed.
    must_commit: bool,
    /// Counts how often the file was written whole: a compaction of another file is of no use.
    epoch: u64,
    compactions: Compactions,
    witness_number: u64,
    /// Since when the witness is unsynced.
    witness_unsynced: Option<Instant>,
    /// Why the witness could not be written or synced, when it was last tried.
    witness_flaw: Option<String>,
}

/// How far an archive's file can be trusted after what happened to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// It is what was written.
    Sound,
    /// Something may lie behind the acknowledged bytes.
    CutBack,
    /// A cut-off end lies behind them that could not be kept aside yet.
    Torn,
    /// A sync failed: what the disk holds is not known.
    Rewrite,
}

impl V2Archive<FileStore> {
    /// Reads the archive into `tree`; `fits` is called when the secret is known to open it.
    pub fn load(
        mut file: ArchiveFile,
        reader: File,
        secret: Secret,
        options: &super::VaultOptions,
        tree: &mut Tree,
        fits: &dyn Fn(),
    ) -> Result<(Self, ReadReport), VaultError> {
        file.finish_reading(&reader)?;
        let store = FileStore::new(file, reader, options.witness.as_ref())?;
        let unlocked = open::unlock(&store, &secret).map_err(VaultError::reading(store.path()))?;
        fits();
        Self::read(store, unlocked, options.machine.clone(), options.acceptance, options.keep, tree)
    }
}

impl<S: Store> V2Archive<S> {
    /// Opens the archive of a store, and reads it into `tree`.
    #[cfg(test)]
    fn open(
        store: S,
        secret: Secret,
        machine: Machine,
        acceptance: Acceptance,
        tree: &mut Tree,
    ) -> Result<(Self, ReadReport), VaultError> {
        let unlocked = open::unlock(&store, &secret).map_err(VaultError::reading(store.path()))?;
        Self::read(store, unlocked, machine, acceptance, None, tree)
    }

    /// Reads the archive of a store into `tree`, and keeps the state that it had at a commit.
    fn read(
        mut store: S,
        unlocked: open::Unlocked,
        machine: Machine,
        acceptance: Acceptance,
        keep: Option<Head>,
        tree: &mut Tree,
    ) -> Result<(Self, ReadReport), VaultError> {
        let path = store.path().to_owned();
        let by_identity = unlocked.by_identity;
        let opened =
            open::read(&store, unlocked, &machine, acceptance, keep, tree).map_err(VaultError::reading(&path))?;
        let (mut report, trust) = open::clean_up(&mut store, &opened)?;
        let is_as_witnessed = opened.is_as_witnessed();
        let open::Opened { read, kept, witness, rolled_back } = opened;
        let is_first = witness.is_none();
        if is_first && by_identity {
            report.warnings.push(ReadWarning::UnprovenMaker);
        }
        let mut archive = Self {
            store,
            header: read.header,
            master: read.master,
            machine,
            head: read.head,
            length: read.length,
            checkpoint_bytes: read.checkpoint_bytes,
            deltas: read.deltas,
            last_commit: read.last_commit,
            history: read.history,
            last: Arc::new(tree.snapshot()),
            kept,
            trust,
            must_commit: rolled_back,
            epoch: 0,
            compactions: Compactions::default(),
            witness_number: witness.map_or(0, |witness| witness.number),
            witness_unsynced: None,
            witness_flaw: None,
        };
        // Also where it tells nothing new: whether it can be written is known then.
        archive.tell_witness();
        if is_first {
            // Over both slots: what is left of another vault or master would be in the way.
            archive.tell_witness();
        }
        if !is_as_witnessed {
            archive.sync_witness();
        }
        report.warnings.extend(archive.witness_flaw.clone().map(|reason| ReadWarning::NoWitness { reason }));
        Ok((archive, report))
    }

    fn pen(&self) -> Pen<'_> {
        Pen { header: &self.header, master: &self.master }
    }

    fn past(&self) -> Past<'_> {
        Past { commit: &self.last_commit, head: self.head, history: &self.history }
    }

    /// Appends one segment and makes it durable.
    fn append(&mut self, snapshot: &Arc<Snapshot>, news: News) -> Result<(), VaultError> {
        let info = self.machine.commit_now();
        let pen = Pen { header: &self.header, master: &self.master };
        // Until it is whole, whatever comes in between.
        self.trust = Trust::CutBack;
        let mut tail = Tail { store: &mut self.store, offset: self.length };
        let told = Told { info: &info, news, history: &self.history };
        let written = match pen.delta(&mut tail, self.head, &told, Difference::Since(&self.last, snapshot)) {
            Ok(written) => written,
            Err(error) => {
                // The room that it takes may be what is missing.
                self.compactions.cancel();
                if let Err(error) = self.cut_back() {
                    tracing::warn!(%error, "a failed write cannot be taken back yet");
                }
                return Err(VaultError::writing(self.store.path())(error));
            }
        };
        let Some((bytes, head)) = written else {
            self.trust = Trust::Sound;
            self.last = snapshot.clone();
            return Ok(());
        };
        if let Err(error) = self.store.sync() {
            self.trust = Trust::Rewrite;
            return Err(VaultError::io("sync", self.store.path())(error));
        }
        self.trust = Trust::Sound;
        self.advance(head, info, snapshot);
        self.length += bytes;
        self.deltas += 1;
        self.tell_witness();
        // Written into a file that somebody took away meanwhile, it is not in the archive.
        self.store.settle()
    }

    fn advance(&mut self, head: Head, info: CommitInfo, snapshot: &Arc<Snapshot>) {
        self.history.push(self.head);
        self.history.told();
        self.head = head;
        self.last_commit = info;
        self.last = snapshot.clone();
        self.must_commit = false;
    }

    /// Removes what a failed write left behind the acknowledged bytes.
    fn cut_back(&mut self) -> Result<(), VaultError> {
        self.store.truncate(self.length).map_err(VaultError::io("cut", self.store.path()))?;
        if let Err(error) = self.store.sync() {
            self.trust = Trust::Rewrite;
            return Err(VaultError::io("sync", self.store.path())(error));
        }
        self.trust = Trust::Sound;
        self.store.settle()
    }

    /// Keeps aside what was cut off before the archive was opened, where there was no room for it then.
    fn keep_torn_end(&mut self) -> Result<(), VaultError> {
        let name = self.store.keep_aside(self.length)?;
        tracing::warn!(name, "the cut-off end of the archive is kept aside");
        self.trust = Trust::CutBack;
        Ok(())
    }

    /// Writes the whole file anew, perhaps under another header and master: the state that the archive holds as a checkpoint,
    /// then a commit of what changed since.
    fn rewrite(
        &mut self,
        snapshot: &Arc<Snapshot>,
        news: News,
        other: Option<(Header, MasterKey)>,
    ) -> Result<(), VaultError> {
        let path = self.store.path().to_owned();
        let info = self.machine.commit_now();
        let mut draft = self.store.draft()?;
        let pen = other.as_ref().map_or(self.pen(), |(header, master)| Pen { header, master });
        let (offset, checkpoint) =
            begin_whole(&mut draft, &pen, &self.past(), &self.last).map_err(VaultError::writing(&path))?;
        let mut within = Within { draft: &mut draft, offset: offset + checkpoint };
        let told = Told { info: &info, news, history: &self.history };
        let delta = pen
            .delta(&mut within, self.head, &told, Difference::Since(&self.last, snapshot))
            .map_err(VaultError::writing(&path))?;
        draft.sync().map_err(VaultError::io("sync the new file beside", &path))?;
        if let Some((header, master)) = &other {
            let (head, length) = delta.map_or((self.head, 0), |(bytes, head)| (head, bytes));
            let witness = self.witness(header, master, head, offset + checkpoint + length, WitnessPhase::Pending);
            // One slot after the other, so that a crash tears one at most.
            self.sync_witness();
            self.write_witness(&witness, master);
            self.sync_witness();
        }
        if let Err(error) = self.store.replace(draft) {
            // It may be there already, only not durably.
            self.trust = Trust::Rewrite;
            return Err(error);
        }
        let is_rekeyed = other.is_some();
        if let Some((header, master)) = other {
            (self.header, self.master) = (header, master);
        }
        (self.length, self.checkpoint_bytes, self.deltas) = (offset + checkpoint, checkpoint, 0);
        self.epoch += 1;
        self.trust = Trust::Sound;
        match delta {
            Some((bytes, head)) => {
                self.advance(head, info, snapshot);
                self.length += bytes;
                self.deltas = 1;
            }
            None => self.last = snapshot.clone(),
        }
        self.tell_witness();
        if is_rekeyed {
            // The next write goes over the pending slot: until then the confirmed one must be on the disk.
            self.sync_witness();
        }
        Ok(())
    }
}

impl<S: Store> Archive for V2Archive<S> {
    fn commit(&mut self, snapshot: &Arc<Snapshot>) -> Result<(), VaultError> {
        if self.store.access() == Access::ReadOnly {
            return Err(VaultError::ReadOnly(self.store.path().to_owned()));
        }
        let news = if self.must_commit { News::Event } else { News::Changes };
        match self.store.presence()? {
            Presence::Theirs => Err(VaultError::ChangedElsewhere(self.store.path().to_owned())),
            Presence::Gone | Presence::Copy => self.rewrite(snapshot, news, None),
            Presence::Ours if self.trust == Trust::Rewrite => self.rewrite(snapshot, news, None),
            Presence::Ours => {
                if self.trust == Trust::Torn {
                    self.keep_torn_end()?;
                }
                if self.trust == Trust::CutBack {
                    self.cut_back()?;
                }
                self.append(snapshot, news)
            }
        }
    }

    /// Nobody waits: the witness can be synced.
    fn prepare(&mut self) {
        self.sync_old_witness();
    }

    fn change_keys(&mut self, proof: &Secret, change: KeyChange, snapshot: &Arc<Snapshot>) -> Result<(), VaultError> {
        self.rekey(proof, change, snapshot)
    }

    fn recipients(&self) -> Option<Vec<RecipientSlot>> {
        Some(self.header.recipients().to_vec())
    }

    fn bytes(&self) -> u64 {
        self.length
    }

    fn begin_rewrite(&mut self) -> Option<Rewrite> {
        self.begin_due_compaction()
    }

    fn begin_compaction(&mut self, snapshot: &Arc<Snapshot>) -> Result<Option<Rewrite>, VaultError> {
        self.begin_asked(snapshot)
    }

    fn end_rewrite(&mut self, outcome: RewriteOutcome) -> Result<(), VaultError> {
        self.end_compaction(outcome)
    }

    fn head(&self) -> Option<Head> {
        Some(self.head)
    }

    fn secret(&self) -> Result<Secret, VaultError> {
        Ok(Secret::Master(self.master.duplicate()?))
    }

    fn relation(&self, theirs: &ArchiveCopy) -> Result<Relation, VaultError> {
        self.relation_to(theirs)
    }

    fn relation_to_outline(&self, theirs: &Outline) -> Option<Relation> {
        let head = Some(theirs.head).filter(|_| theirs.vault_id == *self.header.vault_id())?;
        match head == self.head {
            true => (theirs.header == self.header.digest()).then_some(Relation::Same),
            false => self.history.holds(&head).then_some(Relation::OursAhead),
        }
    }

    fn join(
        &mut self,
        tree: &Tree,
        theirs: &ArchiveCopy,
        base: Option<&ArchiveCopy>,
    ) -> Result<(Merged, Arc<Snapshot>), VaultError> {
        self.join_with(tree, theirs, base)
    }

    fn knows(&self, head: &Head) -> bool {
        *head == self.head || self.history.holds(head)
    }

    fn kept(&self, theirs: &File) -> Option<Kept> {
        let Kept { place, tree } = self.kept.as_ref()?;
        let is_same = begins_alike(&self.store, theirs, place.length()).unwrap_or(false);
        is_same.then(|| Some(Kept { place: place.clone(), tree: tree.fork().ok()? }))?
    }

    fn header_digest(&self) -> Option<[u8; 32]> {
        Some(self.header.digest())
    }

    fn note_shared(&mut self, head: Head) {
        if self.knows(&head) {
            self.history.share(head, Timestamp::now().secs);
        }
    }

    fn log(&mut self, options: &VaultOptions) -> Result<Option<Log>, VaultError> {
        if self.store.presence()? == Presence::Theirs {
            return Err(VaultError::ChangedElsewhere(self.store.path().to_owned()));
        }
        Log::new(&self.store, self.length, &self.header, &self.master, options).map(Some)
    }

    fn keep_history(&mut self, time: Duration) {
        self.compactions.put_off(time);
    }
}

impl<S: Store> Drop for V2Archive<S> {
    fn drop(&mut self) {
        self.compactions.cancel();
        self.sync_witness();
    }
}
