//! Extended attributes of the `user.` namespace, the only one that a mount of an ordinary user can offer.

use std::sync::Arc;

use super::inode::Xattrs;
use super::{Ino, Tree, TreeError, XattrMode};

/// The longest name with its namespace, in bytes (XATTR_NAME_MAX).
const NAME_MAX: usize = 255;
/// The largest value, in bytes (XATTR_SIZE_MAX).
const VALUE_MAX: usize = 64 * 1024;
/// Names and values of one inode, in bytes; the list of names (XATTR_LIST_MAX) then always fits too.
const TOTAL_MAX: usize = 1024 * 1024;
/// All names of one inode with a NUL each, in bytes (XATTR_LIST_MAX).
const LIST_MAX: usize = 64 * 1024;

impl Tree {
    /// Returns the value of an attribute.
    ///
    /// # Errors
    /// [`TreeError::NoAttribute`], [`TreeError::NotFound`].
    pub fn xattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>, TreeError> {
        let state = self.state.read();
        state.inode(ino)?.xattrs.get(name).map(|value| value.to_vec()).ok_or(TreeError::NoAttribute)
    }

    /// Returns the names, sorted by bytes.
    ///
    /// # Errors
    /// [`TreeError::NotFound`].
    pub fn xattr_names(&self, ino: Ino) -> Result<Vec<Vec<u8>>, TreeError> {
        Ok(self.state.read().inode(ino)?.xattrs.keys().map(|name| name.to_vec()).collect())
    }

    /// Sets an attribute.
    ///
    /// # Errors
    /// [`TreeError::NotSupported`] outside `user.`, [`TreeError::Exists`], [`TreeError::NoAttribute`],
    /// [`TreeError::AttributesTooLarge`], [`TreeError::NoSpace`].
    pub fn set_xattr(&self, ino: Ino, name: &[u8], value: &[u8], mode: XattrMode) -> Result<(), TreeError> {
        check_xattr(name, value)?;
        self.change(|state| {
            let xattrs = &state.inode(ino)?.xattrs;
            let old = xattrs.get(name).map(|value| name.len() + value.len());
            match (mode, old) {
                (XattrMode::Create, Some(_)) => return Err(TreeError::Exists),
                (XattrMode::Replace, None) => return Err(TreeError::NoAttribute),
                _ => {}
            }
            let new = name.len() + value.len();
            let total: usize = xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
            let names: usize = xattrs.keys().map(|name| name.len() + 1).sum();
            if total - old.unwrap_or(0) + new > TOTAL_MAX || (old.is_none() && names + name.len() + 1 > LIST_MAX) {
                return Err(TreeError::NoSpace);
            }
            let old = old.unwrap_or(0) as u64;
            state.check_growth((new as u64).saturating_sub(old), 0)?;
            state.recount((old, new as u64), (0, 0));
            let now = state.stamp();
            let inode = state.inode_mut(ino)?;
            Arc::make_mut(&mut inode.xattrs).insert(name.into(), value.into());
            inode.ctime = now;
            Ok(())
        })
    }

    /// Removes an attribute.
    ///
    /// # Errors
    /// [`TreeError::NoAttribute`], [`TreeError::NotFound`].
    pub fn remove_xattr(&self, ino: Ino, name: &[u8]) -> Result<(), TreeError> {
        self.change(|state| {
            if !state.inode(ino)?.xattrs.contains_key(name) {
                return Err(TreeError::NoAttribute);
            }
            let now = state.stamp();
            let inode = state.inode_mut(ino)?;
            let value = Arc::make_mut(&mut inode.xattrs).remove(name);
            inode.ctime = now;
            state.recount((name.len() as u64 + value.map_or(0, |value| value.len() as u64), 0), (0, 0));
            Ok(())
        })
    }
}

/// Checks what all attributes of an inode may be together.
pub(super) fn check_total(xattrs: &Xattrs) -> Result<(), TreeError> {
    let total: usize = xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
    let names: usize = xattrs.keys().map(|name| name.len() + 1).sum();
    if total > TOTAL_MAX || names > LIST_MAX { Err(TreeError::AttributesTooLarge) } else { Ok(()) }
}

/// Checks what an attribute may be, on its own.
pub(super) fn check_xattr(name: &[u8], value: &[u8]) -> Result<(), TreeError> {
    match name.strip_prefix(b"user.") {
        None => Err(TreeError::NotSupported),
        Some(b"") => Err(TreeError::Invalid),
        Some(_) if name.len() > NAME_MAX || name.contains(&0) => Err(TreeError::Invalid),
        Some(_) if value.len() > VALUE_MAX => Err(TreeError::AttributesTooLarge),
        Some(_) => Ok(()),
    }
}
