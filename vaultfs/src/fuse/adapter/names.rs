//! Requests about names: finding, making, linking, moving and removing entries.

use fuser::{Errno, INodeNo, RenameFlags};

use crate::tree::{Ino, NewKind, NewNode, RenameMode, Stat, TreeError};

use super::call::{Attributes, Call};
use crate::fuse::borders;
use crate::fuse::errno;
use crate::fuse::orphans::{self, Removed};

impl Call<'_> {
    pub(super) fn lookup(&self, parent: INodeNo, name: &[u8]) -> Result<Attributes, Errno> {
        let parent = self.ino(parent);
        let found = self.tree().lookup(parent, name).map_err(errno::of_tree)?;
        if self.mount.view.hides(self.tree(), parent, name, found.ino) {
            return Err(Errno::ENOENT);
        }
        self.introduce(&found)
    }

    pub(super) fn mknod(&self, parent: INodeNo, name: &[u8], mode: u32, rdev: u32) -> Result<Attributes, Errno> {
        // For the numbers that Linux has, the kernel's 32 bits are those of `st_rdev`.
        let rdev = u64::from(rdev);
        let kind = match mode & libc::S_IFMT {
            libc::S_IFREG | 0 => NewKind::File,
            libc::S_IFIFO => NewKind::Fifo,
            libc::S_IFSOCK => NewKind::Socket,
            libc::S_IFCHR => NewKind::CharDevice(rdev),
            libc::S_IFBLK => NewKind::BlockDevice(rdev),
            _ => return Err(Errno::EINVAL),
        };
        self.introduce(&self.make(parent, name, kind, mode)?)
    }

    pub(super) fn mkdir(&self, parent: INodeNo, name: &[u8], mode: u32) -> Result<Attributes, Errno> {
        self.introduce(&self.make(parent, name, NewKind::Folder, mode)?)
    }

    pub(super) fn symlink(&self, parent: INodeNo, name: &[u8], target: &[u8]) -> Result<Attributes, Errno> {
        self.introduce(&self.make(parent, name, NewKind::Symlink(target.to_vec()), 0o777)?)
    }

    pub(super) fn link(&self, nodeid: INodeNo, parent: INodeNo, name: &[u8]) -> Result<Attributes, Errno> {
        let (ino, parent) = (self.ino(nodeid), self.ino(parent));
        self.check_new_name(parent, name)?;
        borders::check_same_side(self.tree(), &self.serving, ino, parent)?;
        self.introduce(&self.tree().link(ino, parent, name).map_err(errno::of_tree)?)
    }

    pub(super) fn unlink(&self, parent: INodeNo, name: &[u8]) -> Result<(), Errno> {
        let parent = self.ino(parent);
        self.check_old_name(parent, name)?;
        let removed = self.shared_child(parent, name);
        self.tree().unlink(parent, name).map_err(errno::of_tree)?;
        self.tell_others(removed, parent, name);
        Ok(())
    }

    pub(super) fn rmdir(&self, parent: INodeNo, name: &[u8]) -> Result<(), Errno> {
        let parent = self.ino(parent);
        self.check_old_name(parent, name)?;
        borders::check_not_mounted(self.tree(), &self.serving, parent, name)?;
        let removed = self.shared_child(parent, name);
        self.tree().remove_folder(parent, name).map_err(errno::of_tree)?;
        self.tell_others(removed, parent, name);
        Ok(())
    }

    pub(super) fn rename(
        &self,
        (parent, name): (INodeNo, &[u8]),
        (new_parent, new_name): (INodeNo, &[u8]),
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        let (parent, new_parent) = (self.ino(parent), self.ino(new_parent));
        let mode = rename_mode(flags)?;
        self.check_old_name(parent, name)?;
        let (tree, view) = (self.tree(), &self.mount.view);
        if view.guards(tree, parent, name) || view.guards(tree, new_parent, new_name) {
            return Err(Errno::EACCES);
        }
        borders::check_not_mounted(tree, &self.serving, parent, name)?;
        borders::check_not_mounted(tree, &self.serving, new_parent, new_name)?;
        borders::check_same_side(tree, &self.serving, parent, new_parent)?;
        for mount in self.serving.iter() {
            mount.view.before_move(tree, parent, name);
            mount.view.before_move(tree, new_parent, new_name);
        }
        let replaced = self.shared_child(new_parent, new_name);
        tree.rename(parent, name, new_parent, new_name, mode).map_err(errno::of_tree)?;
        self.tell_others(replaced, new_parent, new_name);
        Ok(())
    }

    /// What a name leads to, where there are other mounts.
    fn shared_child(&self, parent: Ino, name: &[u8]) -> Option<Ino> {
        let others = self.serving.len() > 1;
        others.then(|| self.tree().lookup(parent, name).ok().map(|stat| stat.ino)).flatten()
    }

    /// Has the other mounts' kernels forget what a name led to, if that was its last.
    fn tell_others(&self, ino: Option<Ino>, parent: Ino, name: &[u8]) {
        let Some(ino) = ino else { return };
        if self.tree().stat(ino).is_ok_and(|stat| stat.nlink == 0) {
            let removed = Removed { through: self.mount.id, parent, name: name.to_vec() };
            orphans::add(self.mounts, ino, removed);
        }
    }

    /// Makes an entry for the caller; the kernel has applied the umask.
    pub(super) fn make(&self, parent: INodeNo, name: &[u8], kind: NewKind, mode: u32) -> Result<Stat, Errno> {
        let parent = self.ino(parent);
        self.check_new_name(parent, name)?;
        let new = NewNode { kind, mode: mode & 0o7777, owner: self.caller };
        self.tree().make(parent, name, new).map_err(errno::of_tree)
    }

    /// Counts an inode that the answer names, and tells its attributes.
    pub(super) fn introduce(&self, stat: &Stat) -> Result<Attributes, Errno> {
        self.mount.lookups.reference(self.tree(), stat.ino).map_err(errno::of_tree)?;
        Ok(self.attributes(stat))
    }

    fn check_new_name(&self, parent: Ino, name: &[u8]) -> Result<(), Errno> {
        self.check_writable()?;
        if self.mount.view.hides_name(self.tree(), parent, name) { Err(Errno::EACCES) } else { Ok(()) }
    }

    fn check_old_name(&self, parent: Ino, name: &[u8]) -> Result<(), Errno> {
        self.check_writable()?;
        if self.mount.view.hides_name(self.tree(), parent, name) {
            return Err(errno::of_tree(TreeError::NotFound));
        }
        Ok(())
    }
}

fn rename_mode(flags: RenameFlags) -> Result<RenameMode, Errno> {
    if flags.is_empty() {
        Ok(RenameMode::Replace)
    } else if flags == RenameFlags::RENAME_NOREPLACE {
        Ok(RenameMode::NoReplace)
    } else if flags == RenameFlags::RENAME_EXCHANGE {
        Ok(RenameMode::Exchange)
    } else {
        Err(Errno::EINVAL)
    }
}
