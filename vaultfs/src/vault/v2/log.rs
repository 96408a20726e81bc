//! What an archive holds of the past: its commits, and every state since its checkpoint. Reads a file that others may append
//! to, up to what was acknowledged when it was asked for; never writes.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use rustc_hash::FxHashSet;
use zeroize::Zeroizing;

use crate::crypto::MasterKey;
use crate::entry::{Change, EntryKind, EntryPath, InodeId};
use crate::format::FormatError;
use crate::format::v2::{Archive as Segments, CommitInfo, Head, Header, Record, Segment, SegmentKind, Source};
use crate::tree::{Applier, Ino, KeptContent, PathChange, Snapshot, SnapshotEntries, Tree};
use crate::vault::{HistoryError, VaultError, VaultOptions, new_tree};

use super::check::{self, CheckReport};
use super::open::refused;
use super::store::Store;

/// Bytes of content that are handed out at a time.
const STEP: usize = 64 * 1024;

/// The commits of an archive.
pub struct Log {
    path: PathBuf,
    source: Acknowledged,
    header: Header,
    master: MasterKey,
    options: VaultOptions,
    /// What this machine knew of the archive.
    witness: Vec<u8>,
}

/// One commit.
pub struct Commit {
    /// Its number.
    pub number: u64,
    /// When, where and with what it was made.
    pub info: CommitInfo,
    /// It is the oldest that the archive holds, and stands for all before it: what it changed is not known.
    pub is_oldest: bool,
    /// The passphrase or the recipients were changed.
    pub is_new_header: bool,
    /// Entries after it, the root left out.
    pub entries: u64,
    /// What it changed, sorted by path.
    pub changes: Vec<PathChange>,
}

/// An entry as it was after a commit, with all that was below it.
pub struct PastEntry {
    snapshot: Arc<Snapshot>,
    ino: Ino,
    path: EntryPath,
}

/// The first bytes of a file.
struct Acknowledged {
    file: Box<dyn Source + Send>,
    length: u64,
}

impl Source for Acknowledged {
    fn length(&self) -> io::Result<u64> {
        Ok(self.length)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }
}

impl Log {
    /// A way to the first `length` bytes of an archive's file.
    pub(super) fn new<S: Store>(
        store: &S,
        length: u64,
        header: &Header,
        master: &MasterKey,
        options: &VaultOptions,
    ) -> Result<Self, VaultError> {
        let path = store.path().to_owned();
        let file = store.reader().map_err(VaultError::io("read", &path))?;
        let witness = store.read_witness().map_err(VaultError::io("read what this machine knows of", &path))?;
        let source = Acknowledged { file, length };
        Ok(Self {
            path,
            source,
            header: header.clone(),
            master: master.duplicate()?,
            options: options.clone(),
            witness,
        })
    }

    /// Tells of all commits, the oldest first; of those that touched a path, when one is given.
    ///
    /// # Errors
    /// [`VaultError::Format`]: the archive is damaged. [`VaultError::Io`]: it cannot be read, or the function returned that.
    pub fn commits(
        &self,
        touching: Option<&EntryPath>,
        take: &mut dyn FnMut(&Commit) -> io::Result<()>,
    ) -> Result<(), VaultError> {
        let mut tree = new_tree(&self.options)?;
        self.tell(&mut tree, touching, take).map_err(VaultError::reading(&self.path))
    }

    fn tell(
        &self,
        tree: &mut Tree,
        touching: Option<&EntryPath>,
        take: &mut dyn FnMut(&Commit) -> io::Result<()>,
    ) -> Result<(), FormatError> {
        let mut replay = self.replay(tree, KeptContent::none())?;
        let mut before = replay.applier.snapshot();
        loop {
            let mut notes = Notes::default();
            let Some(segment) = replay.next(&mut |record| notes.take(record))? else { return Ok(()) };
            let after = replay.applier.snapshot();
            let is_oldest = segment.kind == SegmentKind::Checkpoint;
            let changes = if is_oldest { Vec::new() } else { after.path_changes_since(&before, &notes.written) };
            let is_wanted = touching.is_none_or(|path| match is_oldest {
                true => after.resolve(path).is_some(),
                false => changes.iter().any(|change| change.touches(path)),
            });
            if let (true, Some(info)) = (is_wanted, notes.info) {
                let is_new_header = notes.is_new_header && !is_oldest;
                let (number, entries) = (segment.head.sequence.0, replay.applier.entries());
                take(&Commit { number, info, is_oldest, is_new_header, entries, changes })?;
            }
            before = after;
        }
    }

    /// Finds an entry as it was after a commit.
    ///
    /// # Errors
    /// [`HistoryError::NoSuchCommit`], [`HistoryError::NotInCommit`]; [`VaultError::Format`]: the archive is damaged.
    pub fn at(&self, number: u64, path: &EntryPath) -> Result<PastEntry, VaultError> {
        let names = self.state(number, KeptContent::none())?;
        let absent = || HistoryError::NotInCommit { path: format!("/{path}"), number };
        let ino = names.resolve(path).ok_or_else(absent)?;
        let ids = names.entries_from(ino, EntryPath::root()).filter_map(|(_, ino)| names.id_of(ino)).collect();
        let snapshot = self.state(number, KeptContent::Of(ids))?;
        let ino = snapshot.resolve(path).ok_or_else(absent)?;
        Ok(PastEntry { snapshot, ino, path: path.clone() })
    }

    /// Verifies all of the archive.
    ///
    /// # Errors
    /// [`VaultError::Io`]: it cannot be read, or the function returned that.
    pub fn check(&self, progress: &mut dyn FnMut(u64, u64) -> io::Result<()>) -> Result<CheckReport, VaultError> {
        let Self { path, source, header, master, options, witness } = self;
        check::check(source, header, master, options, witness, progress).map_err(VaultError::reading(path))
    }

    fn replay<'a>(&'a self, tree: &'a mut Tree, kept: KeptContent) -> Result<Replay<'a>, FormatError> {
        Replay::new(&self.source, &self.header, &self.master, tree, kept)
    }

    /// The state after a commit.
    fn state(&self, number: u64, kept: KeptContent) -> Result<Arc<Snapshot>, VaultError> {
        let mut tree = new_tree(&self.options)?;
        let (mut oldest, mut newest) = (None, 0);
        let reading = || VaultError::reading(&self.path);
        let mut replay = self.replay(&mut tree, kept).map_err(reading())?;
        while newest < number || oldest.is_none() {
            let Some(segment) = replay.next(&mut |_| {}).map_err(reading())? else { break };
            newest = segment.head.sequence.0;
            oldest.get_or_insert(newest);
        }
        match newest == number {
            true => Ok(Arc::new(replay.applier.snapshot())),
            false => {
                while let Some(segment) = replay.next(&mut |_| {}).map_err(reading())? {
                    newest = segment.head.sequence.0;
                }
                Err(HistoryError::NoSuchCommit { number, oldest: oldest.unwrap_or(0), newest }.into())
            }
        }
    }
}

/// What the records of a commit say besides the tree.
#[derive(Default)]
struct Notes {
    info: Option<CommitInfo>,
    is_new_header: bool,
    /// Files whose content it changed.
    written: FxHashSet<InodeId>,
    current: Option<InodeId>,
}

impl Notes {
    fn take(&mut self, record: &Record<'_>) {
        match record {
            Record::Commit(info) => self.info = Some(info.clone()),
            Record::Header(_) => self.is_new_header = true,
            Record::Change(Change::Inode { id, .. }) => self.current = Some(*id),
            Record::Change(Change::Data { .. } | Change::Hole { .. }) => self.written.extend(self.current),
            _ => {}
        }
    }
}

/// Goes through the states of an archive, one commit after the other.
pub(super) struct Replay<'a> {
    pub segments: Segments<'a>,
    pub applier: Applier<'a>,
    pub at: u64,
    pub head: Option<Head>,
}

impl<'a> Replay<'a> {
    pub fn new(
        source: &'a dyn Source,
        header: &Header,
        master: &'a MasterKey,
        tree: &'a mut Tree,
        kept: KeptContent,
    ) -> Result<Self, FormatError> {
        let segments = Segments::new(source, header.suite(), master, header.vault_id())?;
        Ok(Self { segments, applier: tree.applier().keeping(kept), at: header.bytes().len() as u64, head: None })
    }

    /// Applies the next segment; `None` at the end.
    pub fn next(&mut self, observe: &mut dyn FnMut(&Record<'_>)) -> Result<Option<Segment>, FormatError> {
        if self.at == self.segments.length() && self.head.is_some() {
            return Ok(None);
        }
        let (applier, mut refusal) = (&mut self.applier, None);
        let read = self.segments.read_next(self.at, self.head, &mut |record| {
            observe(&record);
            if let (Record::Change(change), None) = (&record, &refusal) {
                refusal = applier.apply(change).err();
            }
            Ok(())
        })?;
        let segment = read?;
        let ended = refusal.map_or_else(|| self.applier.end(), Err);
        ended.map_err(|error| refused(&segment, error))?;
        (self.at, self.head) = (segment.end, Some(segment.head));
        Ok(Some(segment))
    }
}

impl PastEntry {
    /// What it is.
    pub fn kind(&self) -> EntryKind {
        let mut entries = self.entries(EntryPath::root());
        entries.next().map_or(EntryKind::Folder, |(entry, _)| entry.kind)
    }

    /// Hands out the content of a file, or the target of a symbolic link.
    ///
    /// # Errors
    /// [`HistoryError::NoContent`]; [`VaultError::Io`]: the output fails.
    pub fn write_content(&self, output: &mut dyn Write) -> Result<(), VaultError> {
        let failed =
            |error: io::Error| VaultError::Io { operation: "hand out", path: self.shown().into(), source: error };
        match self.kind() {
            EntryKind::File { size } => {
                let entries = self.entries(EntryPath::root());
                let mut buffer = Zeroizing::new(vec![0; STEP]);
                let mut offset = 0;
                while offset < size {
                    let wanted = (size - offset).min(STEP as u64) as usize;
                    let read = entries.read(self.ino, offset, &mut buffer[..wanted]);
                    let len = read.map_err(|source| VaultError::Tree { path: self.shown(), source })?;
                    if len == 0 {
                        return Err(failed(io::ErrorKind::UnexpectedEof.into()));
                    }
                    output.write_all(&buffer[..len]).map_err(failed)?;
                    offset += len as u64;
                }
                Ok(())
            }
            EntryKind::Symlink { target } => output.write_all(&target).map_err(failed),
            _ => Err(HistoryError::NoContent(self.shown()).into()),
        }
    }

    /// The names in a folder, sorted, each with what it is.
    pub fn list(&self) -> Vec<(Vec<u8>, EntryKind)> {
        let below = self.entries(EntryPath::root()).filter(|(entry, _)| entry.path.components().count() == 1);
        below.map(|(entry, _)| (entry.path.as_bytes().to_vec(), entry.kind)).collect()
    }

    /// Walks it and all below it, as if it lay at a path.
    pub(in crate::vault) fn entries(&self, place: EntryPath) -> SnapshotEntries {
        self.snapshot.entries_from(self.ino, place)
    }

    fn shown(&self) -> String {
        format!("/{}", self.path)
    }
}
