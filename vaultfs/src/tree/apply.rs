//! Fills a tree from differences that follow each other, the first from an empty tree. Trusts nothing: what could not have come
//! from a tree is refused.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::crypto::{PageCipher, SessionSealer};
use crate::entry::{Attributes, Change, DATA_MAX, InodeId, InodeKind, Timestamp};

use super::content::{Content, ContentPatch};
use super::inode::{Inode, Node};
use super::names::{LINK_MAX, check_name, check_target};
use super::state::State;
use super::xattrs::{check_total, check_xattr};
use super::{Ino, NewKind, Snapshot, Tree, TreeError};

/// Whose content is kept while differences are applied. All of it is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeptContent {
    /// That of all files.
    All,
    /// That of these files; others consist of zeros.
    Of(FxHashSet<InodeId>),
}

impl KeptContent {
    /// No file's: what is left is names and attributes.
    pub fn none() -> Self {
        Self::Of(FxHashSet::default())
    }

    fn includes(&self, id: &InodeId) -> bool {
        match self {
            Self::All => true,
            Self::Of(ids) => ids.contains(id),
        }
    }
}

/// Applies differences. After an error the tree is to be thrown away.
pub struct Applier<'a> {
    state: &'a mut State,
    sealer: &'a Arc<SessionSealer>,
    kept: KeptContent,
    known: FxHashMap<InodeId, Ino>,
    /// The inode that pieces belong to.
    current: Option<Current>,
    /// Inodes that this difference told of.
    told: FxHashSet<Ino>,
    /// Inodes without a name: none may be left at the end.
    loose: FxHashSet<Ino>,
    /// Folders that got their name in this difference.
    moved: Vec<Ino>,
    /// Names that came with this difference: where, and how long.
    named: Vec<(Ino, usize)>,
}

struct Current {
    ino: Ino,
    /// A new symbolic link still waits for its target.
    needs_target: bool,
    /// Where the last hole, and the last data, ended.
    hole_end: u64,
    data_end: u64,
}

impl<'a> Applier<'a> {
    pub(super) fn new(state: &'a mut State, sealer: &'a Arc<SessionSealer>) -> Self {
        let known = state.inodes.iter().map(|(&ino, inode)| (inode.0.id, ino)).collect();
        Self {
            state,
            sealer,
            kept: KeptContent::All,
            known,
            current: None,
            told: FxHashSet::default(),
            loose: FxHashSet::default(),
            moved: Vec::new(),
            named: Vec::new(),
        }
    }

    /// Keeps the content of some files only.
    #[must_use]
    pub fn keeping(mut self, kept: KeptContent) -> Self {
        self.kept = kept;
        self
    }

    /// Freezes the tree as it is now, between two differences.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.state.revision, self.state.inodes.clone(), self.sealer.clone())
    }

    /// A tree of its own in the state of this one, between two differences.
    ///
    /// # Errors
    /// [`TreeError::Sealing`].
    pub fn fork(&self) -> Result<Tree, TreeError> {
        Tree::forked(self.state, self.sealer)
    }

    /// How many entries the tree has now, the root left out.
    pub fn entries(&self) -> u64 {
        self.state.usage().entries
    }

    /// Applies the next piece.
    ///
    /// # Errors
    /// [`TreeError::Invalid`] and those of the operation that the piece stands for; [`TreeError::NoSpace`] past the limits on
    /// entries and logical bytes (never for `vault.size`).
    pub fn apply(&mut self, change: &Change<'_>) -> Result<(), TreeError> {
        match *change {
            Change::Inode { id, kind, attributes } => self.inode(id, kind, &attributes),
            Change::Target(target) => self.target(target),
            Change::Hole { offset, length } => self.hole(offset, length),
            Change::Data { offset, bytes } => self.data(offset, bytes),
            Change::SetXattr { name, value } => self.set_xattr(name, value),
            Change::RemoveXattr(name) => self.remove_xattr(name),
            Change::Unlink { parent, name } => self.unlink(parent, name),
            Change::Link { parent, id, name } => self.link(parent, id, name),
            Change::Drop(id) => self.drop_inode(id),
        }
    }

    /// Ends a difference: everything must have a name and be within reach of the root.
    ///
    /// # Errors
    /// [`TreeError::Invalid`], [`TreeError::NoSpace`] (too many entries).
    pub fn end(&mut self) -> Result<(), TreeError> {
        self.end_inode()?;
        self.told.clear();
        let usage = self.state.usage();
        if usage.entries > usage.entry_limit {
            return Err(TreeError::NoSpace);
        }
        if !self.loose.is_empty() {
            return Err(TreeError::Invalid);
        }
        self.check_reachable()?;
        // After that: paths of what cannot be reached have no end.
        let (moved, named) = (std::mem::take(&mut self.moved), std::mem::take(&mut self.named));
        self.state.check_new_paths(&moved, named)
    }

    fn inode(&mut self, id: InodeId, kind: InodeKind, attributes: &Attributes) -> Result<(), TreeError> {
        self.end_inode()?;
        let (ino, is_new) = match self.known.get(&id) {
            Some(&ino) => (ino, false),
            None => (self.add(id, kind)?, true),
        };
        if !self.told.insert(ino) {
            return Err(TreeError::Invalid);
        }
        let inode = self.state.inode(ino)?;
        if std::mem::discriminant(&InodeKind::from(&inode.node)) != std::mem::discriminant(&kind) {
            return Err(TreeError::Invalid);
        }
        if let (InodeKind::File { size }, Node::File(file)) = (kind, &inode.node) {
            self.state.check_logical(file.content.size(), size)?;
            self.change_content(ino, |content, cipher| content.prepare_resize(cipher, size))?;
        } else if InodeKind::from(&inode.node) != kind {
            return Err(TreeError::Invalid);
        }
        let inode = self.state.inode_mut(ino)?;
        inode.mode = attributes.mode;
        (inode.mtime, inode.ctime, inode.atime) = (attributes.mtime, attributes.ctime, attributes.mtime);
        let needs_target = is_new && kind == InodeKind::Symlink;
        self.current = Some(Current { ino, needs_target, hole_end: 0, data_end: 0 });
        Ok(())
    }

    fn add(&mut self, id: InodeId, kind: InodeKind) -> Result<Ino, TreeError> {
        if self.known.len() as u64 > self.state.options.entry_limit {
            return Err(TreeError::NoSpace);
        }
        let node = match kind {
            InodeKind::Folder => Node::from(NewKind::Folder),
            InodeKind::File { .. } => Node::from(NewKind::File),
            InodeKind::Symlink => Node::from(NewKind::Symlink(Vec::new())),
            InodeKind::Fifo => Node::from(NewKind::Fifo),
            InodeKind::Socket => Node::from(NewKind::Socket),
            InodeKind::CharDevice { rdev } => Node::from(NewKind::CharDevice(rdev)),
            InodeKind::BlockDevice { rdev } => Node::from(NewKind::BlockDevice(rdev)),
        };
        let inode = Inode::new(node, 0, self.state.options.owner, Timestamp::default());
        let ino = self.state.add_known_inode(Inode { id, ..inode });
        self.known.insert(id, ino);
        self.loose.insert(ino);
        Ok(ino)
    }

    fn end_inode(&mut self) -> Result<(), TreeError> {
        match self.current.take() {
            Some(current) if current.needs_target => Err(TreeError::Invalid),
            _ => Ok(()),
        }
    }

    fn current(&mut self) -> Result<&mut Current, TreeError> {
        self.current.as_mut().ok_or(TreeError::Invalid)
    }

    fn target(&mut self, target: &[u8]) -> Result<(), TreeError> {
        check_target(&NewKind::Symlink(target.to_vec()))?;
        let current = self.current()?;
        if !std::mem::take(&mut current.needs_target) {
            return Err(TreeError::Invalid);
        }
        let ino = current.ino;
        self.recounted(ino, |inode| inode.node = Node::Symlink(target.into()))
    }

    fn hole(&mut self, offset: u64, length: u64) -> Result<(), TreeError> {
        let end = offset.checked_add(length).ok_or(TreeError::Invalid)?;
        let current = self.current()?;
        if length == 0 || offset < current.hole_end {
            return Err(TreeError::Invalid);
        }
        current.hole_end = end;
        let ino = current.ino;
        self.check_within(ino, end)?;
        self.change_content(ino, |content, cipher| content.prepare_hole(cipher, offset..end))
    }

    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<(), TreeError> {
        let end = offset.checked_add(bytes.len() as u64).ok_or(TreeError::Invalid)?;
        let current = self.current()?;
        if bytes.is_empty() || bytes.len() > DATA_MAX || offset < current.data_end {
            return Err(TreeError::Invalid);
        }
        current.data_end = end;
        let ino = current.ino;
        self.check_within(ino, end)?;
        match self.kept.includes(&self.state.inode(ino)?.id) {
            true => self.change_content(ino, |content, cipher| content.prepare_load(cipher, offset, bytes)),
            false => Ok(()),
        }
    }

    fn check_within(&self, ino: Ino, end: u64) -> Result<(), TreeError> {
        if end <= self.state.file(ino)?.content.size() { Ok(()) } else { Err(TreeError::Invalid) }
    }

    fn change_content(
        &mut self,
        ino: Ino,
        prepare: impl FnOnce(&Content, &PageCipher<'_>) -> Result<ContentPatch, TreeError>,
    ) -> Result<(), TreeError> {
        let content = &self.state.file(ino)?.content;
        let mut patch = self.sealer.with_cipher(|cipher| prepare(content, cipher))?;
        let Node::File(file) = &mut self.state.inode_mut(ino)?.node else { return Err(TreeError::Invalid) };
        let content = Arc::make_mut(&mut file.content);
        let old = (content.size(), content.allocated());
        content.apply(&mut patch);
        let new = (content.size(), content.allocated());
        self.state.recount((old.1, new.1), (old.0, new.0));
        Ok(())
    }

    fn set_xattr(&mut self, name: &[u8], value: &[u8]) -> Result<(), TreeError> {
        check_xattr(name, value)?;
        let ino = self.current()?.ino;
        self.recounted(ino, |inode| {
            Arc::make_mut(&mut inode.xattrs).insert(name.into(), value.into());
        })?;
        check_total(&self.state.inode(ino)?.xattrs)
    }

    fn remove_xattr(&mut self, name: &[u8]) -> Result<(), TreeError> {
        let ino = self.current()?.ino;
        if !self.state.inode(ino)?.xattrs.contains_key(name) {
            return Err(TreeError::NoAttribute);
        }
        self.recounted(ino, |inode| {
            Arc::make_mut(&mut inode.xattrs).remove(name);
        })
    }

    /// Changes an inode whose cost in quota follows.
    fn recounted(&mut self, ino: Ino, change: impl FnOnce(&mut Inode)) -> Result<(), TreeError> {
        let inode = self.state.inode_mut(ino)?;
        let before = inode.cost();
        change(inode);
        let after = inode.cost();
        self.state.recount((before, after), (0, 0));
        Ok(())
    }

    fn unlink(&mut self, parent: InodeId, name: &[u8]) -> Result<(), TreeError> {
        self.end_inode()?;
        let parent = self.find(parent)?;
        let ino = self.state.detach(parent, name)?;
        if self.state.inode(ino)?.places.is_empty() {
            self.loose.insert(ino);
        }
        Ok(())
    }

    fn link(&mut self, parent: InodeId, id: InodeId, name: &[u8]) -> Result<(), TreeError> {
        self.end_inode()?;
        check_name(name)?;
        let (parent, ino) = (self.find(parent)?, self.find(id)?);
        if self.state.folder(parent)?.child(name).is_some() {
            return Err(TreeError::Exists);
        }
        let inode = self.state.inode(ino)?;
        let is_folder = matches!(inode.node, Node::Folder(_));
        if ino == Ino::ROOT || (is_folder && !inode.places.is_empty()) || inode.places.len() >= LINK_MAX {
            return Err(TreeError::TooManyLinks);
        }
        self.state.attach(parent, name, ino)?;
        self.loose.remove(&ino);
        match is_folder {
            true => self.moved.push(ino),
            false => self.named.push((parent, name.len())),
        }
        Ok(())
    }

    fn drop_inode(&mut self, id: InodeId) -> Result<(), TreeError> {
        self.end_inode()?;
        let ino = self.find(id)?;
        let inode = self.state.inode(ino)?;
        let is_full = matches!(&inode.node, Node::Folder(folder) if !folder.is_empty());
        if is_full || inode.is_linked(ino) {
            return Err(TreeError::NotEmpty);
        }
        self.state.reap(ino);
        self.state.gone.clear();
        self.loose.remove(&ino);
        self.known.remove(&id);
        Ok(())
    }

    fn find(&self, id: InodeId) -> Result<Ino, TreeError> {
        self.known.get(&id).copied().ok_or(TreeError::NotFound)
    }

    /// Every folder that was moved must still lead up to the root. Folders that are known to are not walked twice.
    fn check_reachable(&self) -> Result<(), TreeError> {
        let mut reachable = FxHashSet::from_iter([Ino::ROOT]);
        for &folder in &self.moved {
            let (mut at, mut way) = (folder, FxHashSet::default());
            while !reachable.contains(&at) {
                if !way.insert(at) {
                    return Err(TreeError::Invalid);
                }
                at = self.state.parent_of(at)?;
            }
            reachable.extend(way);
        }
        Ok(())
    }
}
