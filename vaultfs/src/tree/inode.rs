//! Inodes and folders as they lie in memory, in persistent maps: a snapshot shares them, and two snapshots are compared in
//! the time of what differs.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use parking_lot::Mutex;

use crate::entry::{EntryKind, InodeId, InodeKind, Timestamp};

use super::content::Content;
use super::{Ino, NewKind, NodeType, Owner, Stat};

/// What an inode costs in quota besides names, content, targets and attributes, in bytes.
pub(super) const INODE_COST: u64 = 256;
/// What a name costs in quota besides its own bytes.
pub(super) const NAME_COST: u64 = 64;

/// A shared name of an entry.
pub(super) type Name = Arc<[u8]>;

/// Gets a name, where it led, and where it leads.
pub(super) type RenameVisitor<'a> = dyn FnMut(&Name, Option<Ino>, Option<Ino>) + 'a;

/// Extended attributes by name.
pub(super) type Xattrs = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// Where an inode hangs: a folder and the cookie of the entry in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub folder: Ino,
    pub cookie: u64,
}

/// An inode in the table; equal only to itself, which makes comparing two tables cheap.
#[derive(Clone)]
pub(super) struct SharedInode(pub Arc<Inode>);

impl PartialEq for SharedInode {
    fn eq(&self, other: &Self) -> bool {
        #[cfg(test)]
        COMPARED.set(COMPARED.get() + 1);
        Arc::ptr_eq(&self.0, &other.0)
    }
}

#[cfg(test)]
thread_local! {
    /// How many inodes were compared.
    pub static COMPARED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

#[derive(Clone)]
pub(super) struct Inode {
    /// What archives call it. The table gives each new inode one.
    pub id: InodeId,
    pub owner: Owner,
    pub mode: u32,
    pub atime: Timestamp,
    pub mtime: Timestamp,
    pub ctime: Timestamp,
    /// All names of it: one for folders, any number for the rest, none when unlinked. The root has none.
    pub places: Vec<Place>,
    pub xattrs: Arc<Xattrs>,
    pub node: Node,
}

#[derive(Clone)]
pub(super) enum Node {
    Folder(Arc<Folder>),
    File(FileNode),
    Symlink(Arc<[u8]>),
    Fifo,
    Socket,
    CharDevice(u64),
    BlockDevice(u64),
}

#[derive(Clone)]
pub(super) struct FileNode {
    pub content: Arc<Content>,
    /// Held by whoever changes the content, while pages are sealed outside the tree's lock.
    pub write_gate: Arc<Mutex<()>>,
}

#[derive(Clone, Default)]
pub(super) struct Folder {
    by_name: OrdMap<Name, Child>,
    by_cookie: OrdMap<u64, (Name, Ino)>,
    last_cookie: u64,
    pub subfolders: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Child {
    pub ino: Ino,
    pub cookie: u64,
}

/// Cookies of `.` and `..` belong to the adapter; the first entry comes after them.
const FIRST_COOKIE: u64 = 3;

impl Folder {
    pub fn child(&self, name: &[u8]) -> Option<Child> {
        self.by_name.get(name).copied()
    }

    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    pub fn name_at(&self, cookie: u64) -> Option<&Name> {
        self.by_cookie.get(&cookie).map(|(name, _)| name)
    }

    /// Adds a name that is not there yet and returns its cookie.
    pub fn insert(&mut self, name: &[u8], ino: Ino) -> u64 {
        self.last_cookie = (self.last_cookie + 1).max(FIRST_COOKIE);
        let name: Name = name.into();
        self.by_cookie.insert(self.last_cookie, (name.clone(), ino));
        let previous = self.by_name.insert(name, Child { ino, cookie: self.last_cookie });
        debug_assert!(previous.is_none(), "a name was added twice");
        self.last_cookie
    }

    pub fn remove(&mut self, name: &[u8]) -> Option<Child> {
        let child = self.by_name.remove(name)?;
        self.by_cookie.remove(&child.cookie);
        Some(child)
    }

    /// All entries, names sorted by bytes.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = (&Name, Ino)> {
        self.by_name.iter().map(|(name, child)| (name, child.ino))
    }

    /// The names that lead elsewhere in a later state of the folder: where they led, and where they lead. A name that is
    /// missing leads nowhere.
    pub fn renamed(&self, later: &Self, visit: &mut RenameVisitor<'_>) {
        for item in self.by_name.diff(&later.by_name) {
            match item {
                DiffItem::Add(name, child) => visit(name, None, Some(child.ino)),
                DiffItem::Remove(name, child) => visit(name, Some(child.ino), None),
                DiffItem::Update { old: (name, old), new: (_, new) } if old.ino != new.ino => {
                    visit(name, Some(old.ino), Some(new.ino));
                }
                DiffItem::Update { .. } => {}
            }
        }
    }

    /// Entries after a cookie, in the order of cookies.
    pub fn entries_after(&self, cookie: u64) -> impl Iterator<Item = (u64, &Name, Ino)> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.by_cookie.range((Excluded(cookie), Unbounded)).map(|(&cookie, (name, ino))| (cookie, name, *ino))
    }
}

impl Inode {
    pub fn new(node: Node, mode: u32, owner: Owner, now: Timestamp) -> Self {
        let (places, xattrs) = (Vec::new(), Arc::default());
        Self { id: InodeId::ROOT, owner, mode, atime: now, mtime: now, ctime: now, places, xattrs, node }
    }

    pub fn stat(&self, ino: Ino) -> Stat {
        let (size, allocated) = match &self.node {
            Node::Folder(folder) => (folder.by_name.len() as u64, 0),
            Node::File(file) => (file.content.size(), file.content.allocated()),
            Node::Symlink(target) => (target.len() as u64, 0),
            _ => (0, 0),
        };
        Stat {
            ino,
            node_type: self.node.node_type(),
            mode: self.mode,
            nlink: self.nlink(ino),
            owner: self.owner,
            size,
            allocated,
            rdev: self.node.rdev(),
            atime: self.atime,
            mtime: self.mtime,
            ctime: self.ctime,
        }
    }

    /// Whether it can be reached by some path; the root always can.
    pub fn is_linked(&self, ino: Ino) -> bool {
        ino == Ino::ROOT || !self.places.is_empty()
    }

    /// Quota of the inode without its names.
    pub fn cost(&self) -> u64 {
        let xattrs: usize = self.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        let node = match &self.node {
            Node::File(file) => file.content.allocated(),
            Node::Symlink(target) => target.len() as u64,
            _ => 0,
        };
        INODE_COST + xattrs as u64 + node
    }

    fn nlink(&self, ino: Ino) -> u32 {
        match &self.node {
            Node::Folder(folder) if self.is_linked(ino) => 2 + folder.subfolders,
            Node::Folder(_) => 0,
            _ => self.places.len() as u32,
        }
    }
}

impl Node {
    pub fn node_type(&self) -> NodeType {
        match self {
            Node::Folder(_) => NodeType::Folder,
            Node::File(_) => NodeType::File,
            Node::Symlink(_) => NodeType::Symlink,
            Node::Fifo => NodeType::Fifo,
            Node::Socket => NodeType::Socket,
            Node::CharDevice(_) => NodeType::CharDevice,
            Node::BlockDevice(_) => NodeType::BlockDevice,
        }
    }

    pub fn empty_file() -> Self {
        Node::File(FileNode { content: Arc::default(), write_gate: Arc::default() })
    }

    fn rdev(&self) -> u64 {
        match self {
            Node::CharDevice(rdev) | Node::BlockDevice(rdev) => *rdev,
            _ => 0,
        }
    }
}

impl From<NewKind> for Node {
    fn from(kind: NewKind) -> Self {
        match kind {
            NewKind::Folder => Node::Folder(Arc::default()),
            NewKind::File => Node::empty_file(),
            NewKind::Symlink(target) => Node::Symlink(target.into()),
            NewKind::Fifo => Node::Fifo,
            NewKind::Socket => Node::Socket,
            NewKind::CharDevice(rdev) => Node::CharDevice(rdev),
            NewKind::BlockDevice(rdev) => Node::BlockDevice(rdev),
        }
    }
}

/// What a difference between two trees says of it.
impl From<&Node> for InodeKind {
    fn from(node: &Node) -> Self {
        match node {
            Node::Folder(_) => InodeKind::Folder,
            Node::File(file) => InodeKind::File { size: file.content.size() },
            Node::Symlink(_) => InodeKind::Symlink,
            Node::Fifo => InodeKind::Fifo,
            Node::Socket => InodeKind::Socket,
            Node::CharDevice(rdev) => InodeKind::CharDevice { rdev: *rdev },
            Node::BlockDevice(rdev) => InodeKind::BlockDevice { rdev: *rdev },
        }
    }
}

/// What the entry of an inode's first name says it is.
impl From<&Node> for EntryKind {
    fn from(node: &Node) -> Self {
        match node {
            Node::Folder(_) => EntryKind::Folder,
            Node::File(file) => EntryKind::File { size: file.content.size() },
            Node::Symlink(target) => EntryKind::Symlink { target: target.to_vec() },
            Node::Fifo => EntryKind::Fifo,
            Node::Socket => EntryKind::Socket,
            Node::CharDevice(rdev) => EntryKind::CharDevice { rdev: *rdev },
            Node::BlockDevice(rdev) => EntryKind::BlockDevice { rdev: *rdev },
        }
    }
}
