//! What the adapter does with names: lookups, making, moving and removing, within the borders of the view.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use fuser::{Errno, FileAttr, INodeNo, RenameFlags, Request};

use crate::tree::{Ino, NewKind, NewNode, Owner, RenameMode, Stat};

use super::adapter::Adapter;
use super::attributes::file_attr;
use super::errno::of_tree;
use super::mount::Reach;
use super::view::Access;

/// Entries copied out of the tree for one readdirplus; more than a reply of the usual 32 KiB takes.
const LIST_STEP: usize = 192;

/// An entry as it goes into a listing.
pub(super) struct Listed {
    pub name: Vec<u8>,
    pub cookie: u64,
    pub stat: Stat,
}

impl Adapter {
    pub fn attr_of(&self, stat: &Stat) -> FileAttr {
        file_attr(self.mount.view.number(stat.ino), stat)
    }

    pub fn reach(&self, ino: Ino) -> Reach {
        self.mounts.reach(&self.mount, ino)
    }

    /// Counts that the kernel is told of an inode.
    pub fn remember(&self, stat: &Stat) -> Result<(), Errno> {
        self.mount.lookups.remember(&self.mounts.tree, stat.ino).map_err(of_tree)
    }

    pub fn find(&self, parent: INodeNo, name: &OsStr) -> Result<Stat, Errno> {
        let parent = self.mount.view.ino(parent);
        let stat = self.mounts.tree.lookup(parent, name.as_bytes()).map_err(of_tree)?;
        if self.is_hidden(parent, name.as_bytes(), stat.ino) {
            return Err(Errno::ENOENT);
        }
        self.remember(&stat)?;
        Ok(stat)
    }

    /// Refuses changes through a read-only view.
    pub fn check_writable(&self) -> Result<(), Errno> {
        match self.mount.view.access {
            Access::ReadWrite => Ok(()),
            Access::ReadOnly => Err(Errno::EROFS),
        }
    }

    /// Makes an entry and tells the kernel of it.
    pub fn make(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        kind: NewKind,
        mode: u32,
    ) -> Result<Stat, Errno> {
        let parent = self.check_change(parent, name)?;
        let owner = Owner { uid: request.uid(), gid: request.gid() };
        let node = NewNode { kind, mode: mode & 0o7777, owner };
        let stat = self.mounts.tree.make(parent, name.as_bytes(), node).map_err(of_tree)?;
        self.remember(&stat)?;
        Ok(stat)
    }

    pub fn remove(&self, parent: INodeNo, name: &OsStr, kind: Removed) -> Result<(), Errno> {
        let parent = self.check_change(parent, name)?;
        let tree = &self.mounts.tree;
        match kind {
            Removed::Name => tree.unlink(parent, name.as_bytes()),
            Removed::Folder => {
                self.check_not_mounted(parent, name)?;
                tree.remove_folder(parent, name.as_bytes())
            }
        }
        .map_err(of_tree)
    }

    pub fn rename(
        &self,
        (parent, name): (INodeNo, &OsStr),
        (new_parent, new_name): (INodeNo, &OsStr),
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        let mode = match flags {
            _ if flags.is_empty() => RenameMode::Replace,
            RenameFlags::RENAME_NOREPLACE => RenameMode::NoReplace,
            RenameFlags::RENAME_EXCHANGE => RenameMode::Exchange,
            _ => return Err(Errno::EINVAL),
        };
        let parent = self.check_change(parent, name)?;
        let new_parent = self.check_change(new_parent, new_name)?;
        self.check_not_mounted(parent, name)?;
        self.check_not_mounted(new_parent, new_name)?;
        if parent != new_parent && self.mounts.crosses_border(parent, new_parent) {
            return Err(Errno::EXDEV);
        }
        let tree = &self.mounts.tree;
        tree.rename(parent, name.as_bytes(), new_parent, new_name.as_bytes(), mode).map_err(of_tree)
    }

    pub fn link(&self, ino: INodeNo, new_parent: INodeNo, new_name: &OsStr) -> Result<Stat, Errno> {
        let new_parent = self.check_change(new_parent, new_name)?;
        let ino = self.mount.view.ino(ino);
        if self.mounts.crosses_border(ino, new_parent) {
            return Err(Errno::EXDEV);
        }
        let stat = self.mounts.tree.link(ino, new_parent, new_name.as_bytes()).map_err(of_tree)?;
        self.remember(&stat)?;
        Ok(stat)
    }

    /// Copies the next entries of a folder that the view shows.
    pub fn list(&self, folder: INodeNo, cookie: u64) -> Result<Vec<Listed>, Errno> {
        let folder = self.mount.view.ino(folder);
        let mut listed = Vec::with_capacity(LIST_STEP);
        let visit = &mut |entry: &crate::tree::DirEntry<'_>| {
            listed.push(Listed { name: entry.name.to_vec(), cookie: entry.cookie, stat: entry.stat });
            listed.len() < LIST_STEP
        };
        self.mounts.tree.list(folder, cookie, visit).map_err(of_tree)?;
        let cut_at = listed.len() == LIST_STEP;
        let last = listed.last().map(|entry| entry.cookie);
        if !self.mount.filter.is_empty() {
            listed.retain(|entry| !self.is_hidden(folder, &entry.name, entry.stat.ino));
        }
        // A step of hidden entries only must not look like the end of the folder.
        match last {
            Some(last) if listed.is_empty() && cut_at => self.list(self.mount.view.number(folder), last),
            _ => Ok(listed),
        }
    }

    /// The folder above a folder of the view; the view's root is its own.
    pub fn parent_number(&self, folder: INodeNo) -> INodeNo {
        let view = &self.mount.view;
        let ino = view.ino(folder);
        if ino == view.root {
            return folder;
        }
        self.mounts.tree.parent_of(ino).map_or(INodeNo::ROOT, |parent| view.number(parent))
    }

    fn check_change(&self, parent: INodeNo, name: &OsStr) -> Result<Ino, Errno> {
        self.check_writable()?;
        let parent = self.mount.view.ino(parent);
        if self.mount.filter.hides_name(&self.mounts.tree, parent, name.as_bytes()) {
            return Err(Errno::EACCES);
        }
        Ok(parent)
    }

    fn check_not_mounted(&self, parent: Ino, name: &OsStr) -> Result<(), Errno> {
        match self.mounts.tree.lookup(parent, name.as_bytes()) {
            Ok(stat) if self.mounts.is_mounted(stat.ino) => Err(Errno::EBUSY),
            _ => Ok(()),
        }
    }

    fn is_hidden(&self, parent: Ino, name: &[u8], ino: Ino) -> bool {
        let filter = &self.mount.filter;
        !filter.is_empty() && (filter.hides_inode(ino) || filter.hides_name(&self.mounts.tree, parent, name))
    }
}

/// What `unlink` and `rmdir` remove.
#[derive(Clone, Copy)]
pub(super) enum Removed {
    Name,
    Folder,
}
