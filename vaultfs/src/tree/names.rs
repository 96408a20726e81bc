//! Making, linking and unlinking: what changes names, apart from rename.

use crate::entry::NAME_MAX;

use super::inode::{Inode, NAME_COST, Node};
use super::{Ino, NewKind, NewNode, Stat, Tree, TreeError};

/// Set-gid: on a folder, what is made in it gets its group.
pub(super) const S_ISGID: u32 = 0o2000;

/// The longest target of a symbolic link, in bytes (PATH_MAX less the final NUL).
const TARGET_MAX: usize = 4095;

/// Names of one inode; ext4 has 65,000, btrfs 65,535.
pub(super) const LINK_MAX: usize = 65_000;

impl Tree {
    /// Makes an entry. Below a set-gid folder it gets the folder's group, and a folder the bit too.
    ///
    /// # Errors
    /// [`TreeError::Exists`], [`TreeError::NotFound`] (the folder was removed), [`TreeError::NoSpace`],
    /// [`TreeError::NameTooLong`] (the path too), [`TreeError::Invalid`] for a name that no entry can have.
    pub fn make(&self, parent: Ino, name: &[u8], new: NewNode) -> Result<Stat, TreeError> {
        check_name(name)?;
        check_target(&new.kind)?;
        self.change(|state| {
            if state.living_folder(parent)?.child(name).is_some() {
                return Err(TreeError::Exists);
            }
            state.check_new_path(parent, name)?;
            let now = state.stamp();
            let (mut mode, mut owner) = (new.mode & 0o7777, new.owner);
            let above = state.inode(parent)?;
            if above.mode & S_ISGID != 0 {
                owner.gid = above.owner.gid;
                mode |= if matches!(new.kind, NewKind::Folder) { S_ISGID } else { 0 };
            }
            let inode = Inode::new(Node::from(new.kind), mode, owner, now);
            state.check_growth(inode.cost() + NAME_COST + name.len() as u64, 1)?;
            let ino = state.add_inode(inode);
            state.attach(parent, name, ino)?;
            state.touch_folder(parent, now);
            Ok(state.inode(ino)?.stat(ino))
        })
    }

    /// Gives a file (anything but a folder) a further name.
    ///
    /// # Errors
    /// [`TreeError::NotPermitted`] for a folder, [`TreeError::Exists`], [`TreeError::NotFound`], [`TreeError::NoSpace`],
    /// [`TreeError::TooManyLinks`], [`TreeError::NameTooLong`].
    pub fn link(&self, ino: Ino, parent: Ino, name: &[u8]) -> Result<Stat, TreeError> {
        check_name(name)?;
        self.change(|state| {
            let inode = state.inode(ino)?;
            if matches!(inode.node, Node::Folder(_)) {
                return Err(TreeError::NotPermitted);
            }
            if inode.places.is_empty() {
                return Err(TreeError::NotFound);
            }
            if inode.places.len() >= LINK_MAX {
                return Err(TreeError::TooManyLinks);
            }
            if state.living_folder(parent)?.child(name).is_some() {
                return Err(TreeError::Exists);
            }
            state.check_new_path(parent, name)?;
            state.check_growth(NAME_COST + name.len() as u64, 0)?;
            state.check_links()?;
            let now = state.stamp();
            state.attach(parent, name, ino)?;
            state.touch_folder(parent, now);
            state.touch_ctime(ino, now);
            Ok(state.inode(ino)?.stat(ino))
        })
    }

    /// Removes a name of anything but a folder.
    ///
    /// # Errors
    /// [`TreeError::NotFound`], [`TreeError::IsFolder`].
    pub fn unlink(&self, parent: Ino, name: &[u8]) -> Result<(), TreeError> {
        self.change(|state| {
            let ino = state.child(parent, name)?;
            if matches!(state.inode(ino)?.node, Node::Folder(_)) {
                return Err(TreeError::IsFolder);
            }
            let now = state.stamp();
            state.detach(parent, name)?;
            state.touch_folder(parent, now);
            state.touch_ctime(ino, now);
            state.reap(ino);
            Ok(())
        })
    }

    /// Removes an empty folder.
    ///
    /// # Errors
    /// [`TreeError::NotFound`], [`TreeError::NotFolder`], [`TreeError::NotEmpty`].
    pub fn remove_folder(&self, parent: Ino, name: &[u8]) -> Result<(), TreeError> {
        self.change(|state| {
            let ino = state.child(parent, name)?;
            if !state.folder(ino)?.is_empty() {
                return Err(TreeError::NotEmpty);
            }
            let now = state.stamp();
            state.detach(parent, name)?;
            state.touch_folder(parent, now);
            state.touch_ctime(ino, now);
            state.reap(ino);
            Ok(())
        })
    }
}

/// Checks that an entry can have this name.
pub(super) fn check_name(name: &[u8]) -> Result<(), TreeError> {
    match name {
        b"" | b"." | b".." => Err(TreeError::Invalid),
        _ if name.len() > NAME_MAX => Err(TreeError::NameTooLong),
        _ if name.iter().any(|&byte| byte == 0 || byte == b'/') => Err(TreeError::Invalid),
        _ => Ok(()),
    }
}

/// Checks that a symbolic link can have this target.
pub(super) fn check_target(kind: &NewKind) -> Result<(), TreeError> {
    match kind {
        NewKind::Symlink(target) if target.is_empty() => Err(TreeError::NotFound),
        NewKind::Symlink(target) if target.len() > TARGET_MAX => Err(TreeError::NameTooLong),
        NewKind::Symlink(target) if target.contains(&0) => Err(TreeError::Invalid),
        _ => Ok(()),
    }
}
