//! What lies under the tree's one lock: the table of inodes and the counters. Nothing here seals, opens or waits.

use std::sync::Arc;

use imbl::OrdMap;

use crate::entry::{EntryPath, LINKS_PER_ENTRY, NAME_MAX, Timestamp};

use super::counts::InodeCounts;
use super::ids::IdSource;
use super::inode::{FileNode, Folder, INODE_COST, Inode, NAME_COST, Node, Place, SharedInode};
use super::{Ino, Revision, TreeError, TreeOptions, Usage};

pub(super) struct State {
    pub inodes: OrdMap<Ino, SharedInode>,
    /// References by kernels and open handles; an inode without a name lives as long as it has some.
    pub pins: InodeCounts,
    pub options: TreeOptions,
    pub revision: Revision,
    last_ino: u64,
    ids: IdSource,
    last_stamp: Timestamp,
    used: u64,
    logical: u64,
    entries: u64,
    /// Names of inodes beyond the first.
    links: u64,
    /// Inodes that went; to be taken and dropped without the lock, since wiping a large file takes its time.
    pub gone: Vec<SharedInode>,
}

impl State {
    pub fn new(options: TreeOptions, ids: IdSource) -> Self {
        let now = Timestamp::now();
        let root = Inode::new(Node::Folder(Arc::default()), 0o700, options.owner, now);
        let mut state = Self {
            inodes: OrdMap::new(),
            pins: InodeCounts::default(),
            options,
            revision: Revision::default(),
            last_ino: Ino::ROOT.0,
            ids,
            last_stamp: now,
            used: INODE_COST,
            logical: 0,
            entries: 0,
            links: 0,
            gone: Vec::new(),
        };
        state.inodes.insert(Ino::ROOT, SharedInode(Arc::new(root)));
        state
    }

    /// The same state under other ids for what is new; nobody has anything open in it.
    pub fn fork(&self, ids: IdSource) -> Self {
        let (inodes, pins, gone) = (self.inodes.clone(), InodeCounts::default(), Vec::new());
        Self { inodes, pins, ids, gone, ..*self }
    }

    /// Returns a time later than all it returned before, whatever the clock does: kernels tell by a changed mtime that
    /// another mount wrote.
    pub fn stamp(&mut self) -> Timestamp {
        self.last_stamp = Timestamp::now().max(self.last_stamp.successor());
        self.last_stamp
    }

    /// Counts a change.
    pub fn bump(&mut self) -> Revision {
        self.revision = Revision(self.revision.0 + 1);
        self.revision
    }

    pub fn usage(&self) -> Usage {
        Usage {
            used: self.used,
            limit: self.options.size_limit,
            entries: self.entries,
            entry_limit: self.options.entry_limit,
        }
    }

    /// Used and logical bytes, entries and further names.
    #[cfg(test)]
    pub fn counters(&self) -> (u64, u64, u64, u64) {
        (self.used, self.logical, self.entries, self.links)
    }

    // --- looking ---

    pub fn inode(&self, ino: Ino) -> Result<&Inode, TreeError> {
        self.inodes.get(&ino).map(|inode| &*inode.0).ok_or(TreeError::NotFound)
    }

    /// The inode for changing it; cloned first when a snapshot shares it.
    pub fn inode_mut(&mut self, ino: Ino) -> Result<&mut Inode, TreeError> {
        self.inodes.get_mut(&ino).map(|inode| Arc::make_mut(&mut inode.0)).ok_or(TreeError::NotFound)
    }

    pub fn folder(&self, ino: Ino) -> Result<&Folder, TreeError> {
        match &self.inode(ino)?.node {
            Node::Folder(folder) => Ok(folder),
            _ => Err(TreeError::NotFolder),
        }
    }

    pub fn folder_mut(&mut self, ino: Ino) -> Result<&mut Folder, TreeError> {
        match &mut self.inode_mut(ino)?.node {
            Node::Folder(folder) => Ok(Arc::make_mut(folder)),
            _ => Err(TreeError::NotFolder),
        }
    }

    pub fn file(&self, ino: Ino) -> Result<&FileNode, TreeError> {
        match &self.inode(ino)?.node {
            Node::File(file) => Ok(file),
            Node::Folder(_) => Err(TreeError::IsFolder),
            _ => Err(TreeError::Invalid),
        }
    }

    /// A folder that can still get entries: not one that was removed while somebody stands in it.
    pub fn living_folder(&self, ino: Ino) -> Result<&Folder, TreeError> {
        let folder = self.folder(ino)?;
        if self.inode(ino)?.is_linked(ino) { Ok(folder) } else { Err(TreeError::NotFound) }
    }

    pub fn child(&self, parent: Ino, name: &[u8]) -> Result<Ino, TreeError> {
        if name.len() > NAME_MAX {
            return Err(TreeError::NameTooLong);
        }
        self.folder(parent)?.child(name).map(|child| child.ino).ok_or(TreeError::NotFound)
    }

    pub fn parent_of(&self, folder: Ino) -> Result<Ino, TreeError> {
        self.folder(folder)?;
        Ok(self.inode(folder)?.places.first().map_or(Ino::ROOT, |place| place.folder))
    }

    /// Whether some name of `ino` lies at or below `root`.
    pub fn is_within(&self, ino: Ino, root: Ino) -> bool {
        if ino == root || root == Ino::ROOT {
            return true;
        }
        let Ok(inode) = self.inode(ino) else { return false };
        inode.places.iter().any(|place| {
            let mut folder = place.folder;
            while folder != root {
                match self.inodes.get(&folder).and_then(|inode| inode.0.places.first()) {
                    Some(up) => folder = up.folder,
                    None => return false,
                }
            }
            true
        })
    }

    pub fn path_of(&self, ino: Ino) -> Option<EntryPath> {
        let mut names = Vec::new();
        let mut at = ino;
        while at != Ino::ROOT {
            let place = self.inodes.get(&at)?.0.places.first()?;
            names.push(self.folder(place.folder).ok()?.name_at(place.cookie)?.clone());
            at = place.folder;
        }
        Some(names.iter().rev().fold(EntryPath::root(), |path, name| path.join(name)))
    }

    pub fn names_of(&self, ino: Ino) -> Vec<(Ino, Vec<u8>)> {
        let places = self.inode(ino).map(|inode| inode.places.as_slice()).unwrap_or_default();
        let name =
            |place: &Place| Some((place.folder, self.folder(place.folder).ok()?.name_at(place.cookie)?.to_vec()));
        places.iter().filter_map(name).collect()
    }

    // --- changing names; counters follow ---

    /// Adds an inode that has no name yet, and gives it an id.
    pub fn add_inode(&mut self, inode: Inode) -> Ino {
        let id = self.ids.next();
        self.add_known_inode(Inode { id, ..inode })
    }

    /// Adds an inode that has no name yet, but an id.
    pub fn add_known_inode(&mut self, inode: Inode) -> Ino {
        self.last_ino += 1;
        let ino = Ino(self.last_ino);
        self.used += inode.cost();
        self.inodes.insert(ino, SharedInode(Arc::new(inode)));
        ino
    }

    /// Gives an inode a name in a folder; the name must be free.
    pub fn attach(&mut self, parent: Ino, name: &[u8], ino: Ino) -> Result<(), TreeError> {
        let is_folder = matches!(self.inode(ino)?.node, Node::Folder(_));
        let folder = self.folder_mut(parent)?;
        let cookie = folder.insert(name, ino);
        folder.subfolders += u32::from(is_folder);
        let inode = self.inode_mut(ino)?;
        let first = inode.places.is_empty();
        inode.places.push(Place { folder: parent, cookie });
        self.entries += u64::from(first);
        self.links += u64::from(!first);
        self.used += NAME_COST + name.len() as u64;
        Ok(())
    }

    /// Takes a name away; the inode stays, perhaps without any. Callers then call [`State::reap`].
    pub fn detach(&mut self, parent: Ino, name: &[u8]) -> Result<Ino, TreeError> {
        let child = self.folder(parent)?.child(name).ok_or(TreeError::NotFound)?;
        let is_folder = matches!(self.inode(child.ino)?.node, Node::Folder(_));
        let folder = self.folder_mut(parent)?;
        folder.remove(name);
        folder.subfolders -= u32::from(is_folder);
        let place = Place { folder: parent, cookie: child.cookie };
        let inode = self.inode_mut(child.ino)?;
        inode.places.retain(|held| *held != place);
        let last = inode.places.is_empty();
        self.entries -= u64::from(last);
        self.links -= u64::from(!last);
        self.used -= NAME_COST + name.len() as u64;
        Ok(child.ino)
    }

    /// Forgets an inode that nobody can reach any more.
    pub fn reap(&mut self, ino: Ino) {
        let unreachable = self.inodes.get(&ino).is_some_and(|inode| !inode.0.is_linked(ino));
        if unreachable
            && !self.pins.contains(ino)
            && let Some(inode) = self.inodes.remove(&ino)
        {
            self.used -= inode.0.cost();
            if let Node::File(file) = &inode.0.node {
                self.logical -= file.content.size();
            }
            self.gone.push(inode);
        }
    }

    /// Marks a folder's content as changed.
    pub fn touch_folder(&mut self, folder: Ino, now: Timestamp) {
        if let Ok(inode) = self.inode_mut(folder) {
            inode.mtime = now;
            inode.ctime = now;
        }
    }

    pub fn touch_ctime(&mut self, ino: Ino, now: Timestamp) {
        if let Ok(inode) = self.inode_mut(ino) {
            inode.ctime = now;
        }
    }

    // --- quota ---

    /// Refuses growth beyond the limits. Never refuses what does not grow, even in a vault that is too full already.
    pub fn check_growth(&self, bytes: u64, entries: u64) -> Result<(), TreeError> {
        let full = bytes > 0 && self.used.saturating_add(bytes) > self.options.size_limit;
        let crowded = entries > 0 && self.entries + entries > self.options.entry_limit;
        if full || crowded { Err(TreeError::NoSpace) } else { Ok(()) }
    }

    /// Refuses more further names than an archive is read with.
    pub fn check_links(&self) -> Result<(), TreeError> {
        let limit = self.options.entry_limit.saturating_mul(LINKS_PER_ENTRY);
        if self.links >= limit { Err(TreeError::NoSpace) } else { Ok(()) }
    }

    /// Refuses logical growth (holes included) that could not be written to an archive and read back.
    pub fn check_logical(&self, old: u64, new: u64) -> Result<(), TreeError> {
        if new > i64::MAX as u64 || (new > old && new > self.options.logical_limit) {
            return Err(TreeError::FileTooLarge);
        }
        let total = (self.logical - old).saturating_add(new);
        if new > old && total > self.options.logical_limit { Err(TreeError::NoSpace) } else { Ok(()) }
    }

    /// Follows a change of what inodes hold.
    pub fn recount(&mut self, used: (u64, u64), logical: (u64, u64)) {
        self.used = self.used - used.0 + used.1;
        self.logical = self.logical - logical.0 + logical.1;
    }
}
