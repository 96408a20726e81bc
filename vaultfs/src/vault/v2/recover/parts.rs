//! Files that segments hold which cannot be applied: each is kept only where all of its content is known to be of one state.

use std::collections::BTreeSet;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::entry::{Attributes, Change, EntryPath, InodeId, InodeKind, PATH_MAX};
use crate::format::v2::{Found, Head, Record, SegmentKind};
use crate::tree::{
    AllocateMode, Ino, NewKind, NewNode, RenameMode, SetAttributes, SetTime, Tree, TreeError, WriteOptions, XattrMode,
};
use crate::vault::{VaultError, VaultOptions, tree_error};

use super::Recovered;

const FOLDER: &[u8] = b".tazpod-recovered";
/// Where parts lie until it is known which of them are whole.
const WORKSHOP: &[u8] = b".parts";
const NAMELESS: &[u8] = b"without-name";

/// Collects what can be saved, in the tree that it goes to.
pub(super) struct Parts<'a> {
    tree: &'a Tree,
    options: &'a VaultOptions,
    folder: Ino,
    folder_name: Vec<u8>,
    workshop: Ino,
    /// The newest whole state of each.
    whole: FxHashMap<InodeId, Whole>,
    /// Files that later commits changed in a way that is not wholly known.
    unsure: FxHashSet<InodeId>,
    names: FxHashMap<InodeId, (InodeId, Vec<u8>)>,
    /// Where the folders of the state in place lie.
    places: FxHashMap<InodeId, EntryPath>,
    current: Option<Current>,
    commit: u64,
    is_checkpoint: bool,
    /// Where in the history the last segment ended, if that is known.
    head: Option<Head>,
    made: u64,
    failure: Option<TreeError>,
}

struct Whole {
    /// Its name in the workshop; `None`: a folder, which is made when something is in it.
    part: Option<(Ino, Vec<u8>)>,
    commit: u64,
    /// Something may have happened to it since.
    is_stale: bool,
}

/// The inode that records belong to now.
struct Current {
    id: InodeId,
    kind: InodeKind,
    attributes: Attributes,
    part: Option<(Ino, Vec<u8>)>,
    /// It was whole before, and is being changed.
    is_based: bool,
    /// First bytes that are known, as far as they are without a hole.
    covered: u64,
    has_target: bool,
    xattrs: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl<'a> Parts<'a> {
    pub fn new(tree: &'a mut Tree, options: &'a VaultOptions) -> Result<Self, VaultError> {
        let snapshot = std::sync::Arc::new(tree.snapshot());
        let places = snapshot.entries().filter_map(|(entry, ino)| Some((snapshot.id_of(ino)?, entry.path))).collect();
        let mut parts = Self {
            tree,
            options,
            folder: Ino::ROOT,
            folder_name: Vec::new(),
            workshop: Ino::ROOT,
            whole: FxHashMap::default(),
            unsure: FxHashSet::default(),
            names: FxHashMap::default(),
            places,
            current: None,
            commit: 0,
            is_checkpoint: false,
            head: None,
            made: 0,
            failure: None,
        };
        parts.make_folders().map_err(|error| tree_error(&EntryPath::root(), error))?;
        Ok(parts)
    }

    fn make_folders(&mut self) -> Result<(), TreeError> {
        (self.folder_name, self.folder) = self.make_free(Ino::ROOT, FOLDER, NewKind::Folder)?;
        self.workshop = self.make(self.folder, WORKSHOP, NewKind::Folder)?;
        Ok(())
    }

    /// To be called before the records of a segment.
    pub fn begin(&mut self, found: &Found) {
        let segment = &found.segment;
        self.commit = segment.head.sequence.0;
        self.is_checkpoint = segment.kind == SegmentKind::Checkpoint;
        let follows = self
            .head
            .is_some_and(|head| segment.head.sequence == head.sequence.next() && segment.head.chain == head.chain);
        if !follows {
            self.doubt();
        }
    }

    /// To be called after them. What a broken checkpoint still tells is how it was then; what a broken delta no longer tells may
    /// be about anything.
    pub fn end(&mut self, found: &Found) {
        self.close(false);
        self.head = found.after;
        if self.head.is_none() {
            self.doubt();
        }
    }

    /// What happened to anything from here on is not known.
    fn doubt(&mut self) {
        self.whole.values_mut().for_each(|whole| whole.is_stale = true);
    }

    /// Takes the next record; `None`: some are missing.
    pub fn take(&mut self, record: Option<Record<'_>>) {
        if self.failure.is_some() {
            return;
        }
        let outcome = match record {
            None => {
                self.close(true);
                Ok(())
            }
            Some(Record::Change(change)) => self.change(&change),
            Some(_) => Ok(()),
        };
        self.fail(outcome);
    }

    /// Keeps the first error: what comes after it does not count.
    fn fail(&mut self, outcome: Result<(), TreeError>) {
        if self.failure.is_none() {
            self.failure = outcome.err();
        }
    }

    fn change(&mut self, change: &Change<'_>) -> Result<(), TreeError> {
        match *change {
            Change::Inode { id, kind, attributes } => {
                self.close(false);
                self.open(id, kind, attributes)
            }
            Change::Link { parent, id, name } => {
                self.close(false);
                self.names.insert(id, (parent, name.to_vec()));
                Ok(())
            }
            Change::Unlink { .. } => {
                self.close(false);
                Ok(())
            }
            Change::Drop(id) => {
                self.close(false);
                self.unsure.remove(&id);
                self.whole.remove(&id).and_then(|whole| whole.part).map_or(Ok(()), |part| self.discard(&part))
            }
            Change::Target(target) => self.target(target),
            Change::Hole { offset, length } => self.fill(offset, length, None),
            Change::Data { offset, bytes } => self.fill(offset, bytes.len() as u64, Some(bytes)),
            Change::SetXattr { name, value } => {
                self.note_xattr(name, Some(value));
                Ok(())
            }
            Change::RemoveXattr(name) => {
                self.note_xattr(name, None);
                Ok(())
            }
        }
    }

    fn note_xattr(&mut self, name: &[u8], value: Option<&[u8]>) {
        if let Some(current) = &mut self.current {
            current.xattrs.push((name.to_vec(), value.map(<[u8]>::to_vec)));
        }
    }

    fn open(&mut self, id: InodeId, kind: InodeKind, attributes: Attributes) -> Result<(), TreeError> {
        let base = self.whole.get_mut(&id).filter(|whole| !whole.is_stale).and_then(|whole| whole.part.take());
        let is_based = base.is_some();
        let part = match (base, kind) {
            (Some(part), _) => Some(part),
            (None, InodeKind::File { .. }) => Some(self.make_part(NewKind::File)?),
            (None, _) => None,
        };
        if let (Some((ino, _)), InodeKind::File { size }) = (&part, kind) {
            self.tree.set_attributes(*ino, &SetAttributes { size: Some(size), ..SetAttributes::default() })?;
        }
        let (covered, has_target, xattrs) = (0, false, Vec::new());
        self.current = Some(Current { id, kind, attributes, part, is_based, covered, has_target, xattrs });
        Ok(())
    }

    fn target(&mut self, target: &[u8]) -> Result<(), TreeError> {
        let part = self.make_part(NewKind::Symlink(target.to_vec()))?;
        if let Some(current) = &mut self.current {
            (current.part, current.has_target) = (Some(part), true);
        }
        Ok(())
    }

    /// Takes bytes of the file, or zeros.
    fn fill(&mut self, offset: u64, length: u64, bytes: Option<&[u8]>) -> Result<(), TreeError> {
        let Some(current) = &mut self.current else { return Ok(()) };
        let (Some((ino, _)), InodeKind::File { size }) = (&current.part, current.kind) else { return Ok(()) };
        let Some(end) = offset.checked_add(length).filter(|&end| end <= size) else { return Err(TreeError::Invalid) };
        match bytes {
            Some(bytes) => drop(self.tree.write(*ino, offset, bytes, WriteOptions::default())?),
            None if current.is_based => self.tree.allocate(*ino, offset, length, AllocateMode::PunchHole)?,
            None => {}
        }
        if offset <= current.covered {
            current.covered = current.covered.max(end);
        }
        Ok(())
    }

    /// Ends the inode that records belonged to; `is_cut`: some of them are missing.
    fn close(&mut self, is_cut: bool) {
        let Some(current) = self.current.take() else { return };
        let is_whole = !is_cut
            && match current.kind {
                InodeKind::Folder => true,
                InodeKind::File { size } => current.is_based || self.is_checkpoint || current.covered == size,
                InodeKind::Symlink => current.has_target || current.is_based,
                _ => false,
            };
        let Current { id, part, .. } = &current;
        if !is_whole {
            self.unsure.insert(*id);
            if current.is_based {
                self.whole.remove(id);
            }
            let discarded = part.as_ref().map_or(Ok(()), |part| self.discard(part));
            self.fail(discarded);
            return;
        }
        self.unsure.remove(id);
        let set = part.as_ref().map_or(Ok(()), |(ino, _)| self.set(*ino, &current));
        let whole = Whole { part: current.part, commit: self.commit, is_stale: false };
        let older = self.whole.insert(current.id, whole).and_then(|older| older.part);
        let gone = older.map_or(Ok(()), |older| self.discard(&older));
        self.fail(set.and(gone));
    }

    fn set(&self, ino: Ino, current: &Current) -> Result<(), TreeError> {
        for (name, value) in &current.xattrs {
            match value {
                Some(value) => self.tree.set_xattr(ino, name, value, XattrMode::Set)?,
                None => match self.tree.remove_xattr(ino, name) {
                    Ok(()) | Err(TreeError::NoAttribute) => {}
                    Err(error) => return Err(error),
                },
            }
        }
        let mtime = Some(SetTime::At(current.attributes.mtime));
        let mode = (current.kind != InodeKind::Symlink).then_some(current.attributes.mode);
        self.tree
            .set_attributes(ino, &SetAttributes { mode, mtime, atime: mtime, ..SetAttributes::default() })
            .map(drop)
    }

    fn make(&self, parent: Ino, name: &[u8], kind: NewKind) -> Result<Ino, TreeError> {
        let mode = if matches!(kind, NewKind::Folder) { 0o700 } else { 0o600 };
        Ok(self.tree.make(parent, name, NewNode { kind, mode, owner: self.options.owner })?.ino)
    }

    /// Makes something under a name, or one like it that is free.
    fn make_free(&self, parent: Ino, name: &[u8], kind: NewKind) -> Result<(Vec<u8>, Ino), TreeError> {
        let name = self.free_name(parent, name)?;
        let ino = self.make(parent, &name, kind)?;
        Ok((name, ino))
    }

    fn free_name(&self, parent: Ino, name: &[u8]) -> Result<Vec<u8>, TreeError> {
        for number in 1u64.. {
            let suffix = if number == 1 { String::new() } else { format!("~{number}") };
            let kept = name.len().min(crate::entry::NAME_MAX - suffix.len());
            let free = [&name[..kept], suffix.as_bytes()].concat();
            match self.tree.lookup(parent, &free) {
                Ok(_) => {}
                Err(TreeError::NotFound) => return Ok(free),
                Err(error) => return Err(error),
            }
        }
        unreachable!("a folder holds fewer than 2^64 names")
    }

    fn make_part(&mut self, kind: NewKind) -> Result<(Ino, Vec<u8>), TreeError> {
        self.made += 1;
        let name = self.made.to_string().into_bytes();
        let ino = self.make(self.workshop, &name, kind)?;
        Ok((ino, name))
    }

    fn discard(&self, (_, name): &(Ino, Vec<u8>)) -> Result<(), TreeError> {
        self.tree.unlink(self.workshop, name)
    }

    /// Puts what is whole in its place, and tells of the rest.
    pub fn finish(mut self, recovered: &mut Recovered) -> Result<(), VaultError> {
        let failure = self.failure.take();
        let outcome = failure.map_or_else(|| self.put_in_place(recovered), Err);
        outcome.map_err(|error| tree_error(&EntryPath::root(), error))
    }

    fn put_in_place(&mut self, recovered: &mut Recovered) -> Result<(), TreeError> {
        let mut wholes: Vec<(InodeId, Whole)> = std::mem::take(&mut self.whole).into_iter().collect();
        wholes.sort_by_key(|(id, _)| *id);
        for (id, whole) in wholes {
            let Some((_, part)) = &whole.part else { continue };
            let mut names = self.path(&id);
            let last = names.pop().unwrap_or_else(|| NAMELESS.to_vec());
            let parent = self.folders(&names)?;
            let name = self.free_name(parent, &last)?;
            self.tree.rename(self.workshop, part, parent, &name, RenameMode::NoReplace)?;
            names.push(name);
            recovered.salvaged.push((names.join(&b'/'), whole.commit));
        }
        recovered.salvaged.sort();
        let lost: BTreeSet<Vec<u8>> = self.unsure.iter().map(|id| self.path(id).join(&b'/')).collect();
        recovered.lost = lost.into_iter().collect();
        self.tree.remove_folder(self.folder, WORKSHOP)?;
        if recovered.salvaged.is_empty() {
            return self.tree.remove_folder(Ino::ROOT, &self.folder_name);
        }
        recovered.folder = Some(self.folder_name.clone());
        Ok(())
    }

    /// Names from the root down to an inode, as far as they are known.
    fn path(&self, id: &InodeId) -> Vec<Vec<u8>> {
        let (mut names, mut at, mut len) = (Vec::new(), *id, 0);
        let mut seen = FxHashSet::default();
        while at != InodeId::ROOT {
            if !seen.insert(at) || len > PATH_MAX / 2 {
                break;
            }
            match (self.names.get(&at), self.places.get(&at)) {
                (Some((parent, name)), _) => {
                    len += name.len() + 1;
                    names.push(name.clone());
                    at = *parent;
                }
                (None, Some(place)) => {
                    names.extend(place.components().map(<[u8]>::to_vec).collect::<Vec<_>>().into_iter().rev());
                    at = InodeId::ROOT;
                }
                (None, None) => break,
            }
        }
        if at != InodeId::ROOT {
            names.push(at.0.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes());
            names.push(NAMELESS.to_vec());
        }
        names.reverse();
        names
    }

    /// Makes the folders below the one of what was recovered; returns the last.
    fn folders(&self, names: &[Vec<u8>]) -> Result<Ino, TreeError> {
        let mut at = self.folder;
        for name in names {
            at = match self.tree.lookup(at, name) {
                Ok(stat) if stat.node_type == crate::tree::NodeType::Folder => stat.ino,
                Ok(_) => self.make_free(at, name, NewKind::Folder)?.1,
                Err(TreeError::NotFound) => self.make(at, name, NewKind::Folder)?,
                Err(error) => return Err(error),
            };
        }
        Ok(at)
    }
}
