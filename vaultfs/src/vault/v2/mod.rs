//! The archive of version 2 as a file: a commit appends what changed. Rules: docs/FORMAT.md, "Committing and compaction".

mod check;
mod compaction;
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

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::crypto::{KdfCost, MasterKey, Passphrase, Suite, random};
use crate::entry::Timestamp;
use crate::format::v2::{
    Chain, CommitInfo, Head, Header, Outline, RecipientSlot, Sequence, VaultId, WITNESS_SLOT_LEN, Witness, WitnessPhase,
};
use crate::format::{FormatError, ReadReport, ReadWarning};
use crate::tree::{Merged, Snapshot, Tree};

use super::archive::{Archive, Rewrite, RewriteOutcome};
use super::archive_file::ArchiveFile;
use super::copy::{ArchiveCopy, Relation};
use super::keys::{KeyChange, Secret};
use super::lock::Access;
use super::{VaultError, VaultOptions};

use compaction::Compactions;
use history::History;
use store::{Draft, Store, Tail, Within};
use whole::{News, Past, Pen, Told};

pub(super) use check::check_file;
pub use check::{CheckReport, Verdict};
pub(super) use file_store::{FileStore, check_unwitnessed};
pub use log::{Commit, Log, PastEntry};
pub use open::Acceptance;
pub(super) use open::{CopyRead, read_copy, read_header};
pub use recover::Recovered;
pub(super) use recover::recover;
pub(super) use store::Presence;
pub(super) use whole::Difference;
pub use whole::Machine;

/// What is added to the name of an archive of an older version that is kept.
pub const OLD_SUFFIX: &str = ".v1";

/// How long the witness may lie unsynced while commits go on.
const WITNESS_DELAY: Duration = Duration::from_secs(5);

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

/// Makes an archive that does not exist yet.
pub(super) fn create(
    mut file: ArchiveFile,
    passphrase: &Passphrase,
    suite: Suite,
    cost: KdfCost,
    machine: &Machine,
    snapshot: &Snapshot,
) -> Result<(), VaultError> {
    let path = file.path().to_owned();
    let mut draft = file.begin_replacement()?;
    write_new(&mut draft, passphrase, suite, cost, machine, snapshot).map_err(VaultError::writing(&path))?;
    file.replace(draft)
}

/// Puts an archive of version 2 in the place of an older one, which is kept under another name; returns that.
pub(super) fn replace_old<S: Store>(
    mut store: S,
    passphrase: &Passphrase,
    suite: Suite,
    cost: KdfCost,
    machine: &Machine,
    snapshot: &Snapshot,
) -> Result<PathBuf, VaultError> {
    let path = store.path().to_owned();
    let mut draft = store.draft()?;
    write_new(&mut draft, passphrase, suite, cost, machine, snapshot).map_err(VaultError::writing(&path))?;
    draft.sync().map_err(VaultError::io("sync the new file beside", &path))?;
    let kept = store.keep_as(OLD_SUFFIX)?;
    store.replace(draft)?;
    Ok(kept)
}

/// Writes the archive of a vault that begins with a state and opens with a passphrase.
fn write_new<D: Draft>(
    draft: &mut D,
    passphrase: &Passphrase,
    suite: Suite,
    cost: KdfCost,
    machine: &Machine,
    snapshot: &Snapshot,
) -> Result<(), FormatError> {
    let header = |vault_id, master: &MasterKey| {
        Header::with_passphrase(vault_id, suite, master, passphrase, cost).map_err(FormatError::Crypto)
    };
    write_under(draft, &header, machine, snapshot)
}

/// The same with a header that is made for a new vault id and a new master.
fn write_under<D: Draft>(
    draft: &mut D,
    header: &dyn Fn(VaultId, &MasterKey) -> Result<Header, FormatError>,
    machine: &Machine,
    snapshot: &Snapshot,
) -> Result<(), FormatError> {
    let vault_id = VaultId(random().map_err(FormatError::Crypto)?);
    let master = MasterKey::generate().map_err(FormatError::Crypto)?;
    let header = header(vault_id, &master)?;
    let head = Head { sequence: Sequence(0), chain: Chain::genesis(&vault_id) };
    let past = Past { commit: &machine.commit_now(), head, history: &History::default() };
    begin_whole(draft, &Pen { header: &header, master: &master }, &past, snapshot).map(drop)
}

/// Writes header and checkpoint; returns the length of both in bytes.
fn begin_whole<D: Draft>(
    draft: &mut D,
    pen: &Pen<'_>,
    past: &Past<'_>,
    snapshot: &Snapshot,
) -> Result<(u64, u64), FormatError> {
    draft.write_all_at(pen.header.bytes(), 0)?;
    let offset = pen.header.bytes().len() as u64;
    let checkpoint = pen.checkpoint(&mut Within { draft, offset }, past, snapshot)?;
    Ok((offset, checkpoint))
}

impl V2Archive<FileStore> {
    /// Reads the archive into `tree`.
    pub fn load(
        mut file: ArchiveFile,
        reader: File,
        secret: Secret,
        options: &super::VaultOptions,
        tree: &mut Tree,
    ) -> Result<(Self, ReadReport), VaultError> {
        file.finish_reading(&reader)?;
        let store = FileStore::new(file, reader, options.witness.as_ref())?;
        Self::open(store, secret, options.machine.clone(), options.acceptance, tree)
    }
}

impl<S: Store> V2Archive<S> {
    /// Reads the archive of a store into `tree`.
    fn open(
        mut store: S,
        secret: Secret,
        machine: Machine,
        acceptance: Acceptance,
        tree: &mut Tree,
    ) -> Result<(Self, ReadReport), VaultError> {
        let path = store.path().to_owned();
        let opened = open::read(&store, &secret, &machine, acceptance, tree).map_err(VaultError::reading(&path))?;
        let (mut report, trust) = open::clean_up(&mut store, &opened)?;
        let is_first = opened.witness.is_none();
        if is_first && matches!(secret, Secret::Identity(_)) {
            report.warnings.push(ReadWarning::UnprovenMaker);
        }
        let mut archive = Self {
            store,
            header: opened.header,
            master: opened.master,
            machine,
            head: opened.head,
            length: opened.length,
            checkpoint_bytes: opened.checkpoint_bytes,
            deltas: opened.deltas,
            last_commit: opened.last_commit,
            history: opened.history,
            last: Arc::new(tree.snapshot()),
            trust,
            must_commit: opened.rolled_back,
            epoch: 0,
            compactions: Compactions::default(),
            witness_number: opened.witness.map_or(0, |witness| witness.number),
            witness_unsynced: None,
            witness_flaw: None,
        };
        archive.tell_witness();
        if is_first {
            // Over both slots: what is left of another vault or master would be in the way.
            archive.tell_witness();
        }
        archive.sync_witness();
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

    /// The next witness, of a state under some header and master.
    fn witness(&self, header: &Header, master: &MasterKey, head: Head, length: u64, phase: WitnessPhase) -> Witness {
        Witness {
            number: self.witness_number + 1,
            vault_id: *header.vault_id(),
            head,
            length,
            header: header.digest(),
            fingerprint: master.fingerprint(&header.vault_id().0),
            phase,
        }
    }

    /// Notes that the present state was reached.
    fn tell_witness(&mut self) {
        let witness = self.witness(&self.header, &self.master, self.head, self.length, WitnessPhase::Confirmed);
        match self.master.duplicate() {
            Ok(master) => self.write_witness(&witness, &master),
            Err(error) => self.witness_failed(error.to_string()),
        }
    }

    /// The commit counts without it; what is lost is that a rollback is noticed.
    fn write_witness(&mut self, witness: &Witness, master: &MasterKey) {
        let outcome =
            witness.encode(master).map_err(|error| error.to_string()).and_then(|slot: [u8; WITNESS_SLOT_LEN]| {
                self.store.write_witness(&slot, witness.offset()).map_err(|error| error.to_string())
            });
        match outcome {
            Ok(()) => {
                self.witness_number = witness.number;
                self.witness_unsynced.get_or_insert_with(Instant::now);
                self.witness_flaw = None;
            }
            Err(error) => self.witness_failed(error),
        }
    }

    fn sync_witness(&mut self) {
        if self.witness_unsynced.take().is_some()
            && let Err(error) = self.store.sync_witness()
        {
            self.witness_failed(error.to_string());
        }
    }

    /// Told once, not with every commit.
    fn witness_failed(&mut self, reason: String) {
        if self.witness_flaw.is_none() {
            tracing::warn!(reason, "the witness of the archive cannot be written");
        }
        self.witness_flaw = Some(reason);
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
        if self.witness_unsynced.is_some_and(|since| since.elapsed() >= WITNESS_DELAY) {
            self.sync_witness();
        }
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
        self.begin_compaction()
    }

    fn end_rewrite(&mut self, outcome: RewriteOutcome) {
        self.end_compaction(outcome);
    }

    fn compact(&mut self, snapshot: &Arc<Snapshot>) -> Result<(), VaultError> {
        let epoch = self.epoch;
        self.commit(snapshot)?;
        match self.deltas {
            0 if self.epoch != epoch => Ok(()),
            // Also one without deltas: what lies on the disk may not be what was written.
            _ => self.rewrite(snapshot, News::Changes, None),
        }
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

    fn note_shared(&mut self, head: Head) {
        if head == self.head || self.history.holds(&head) {
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
