//! Rename with all its cases, as rename(2) and renameat2(2) have them.

use super::inode::Node;
use super::names::check_name;
use super::state::State;
use super::{Ino, RenameMode, Tree, TreeError};

impl Tree {
    /// Renames an entry, or exchanges two.
    ///
    /// # Errors
    /// [`TreeError::NotFound`], [`TreeError::Exists`] (with [`RenameMode::NoReplace`]), [`TreeError::NotEmpty`],
    /// [`TreeError::IsFolder`], [`TreeError::NotFolder`], [`TreeError::Invalid`] (a folder into itself),
    /// [`TreeError::NameTooLong`] (also a path below what is moved), [`TreeError::NoSpace`].
    pub fn rename(
        &self,
        parent: Ino,
        name: &[u8],
        new_parent: Ino,
        new_name: &[u8],
        mode: RenameMode,
    ) -> Result<(), TreeError> {
        check_name(new_name)?;
        self.change(|state| {
            let moved = state.child(parent, name)?;
            let target = state.living_folder(new_parent)?.child(new_name).map(|child| child.ino);
            match (mode, target) {
                (RenameMode::NoReplace, Some(_)) => Err(TreeError::Exists),
                (RenameMode::Exchange, None) => Err(TreeError::NotFound),
                (_, Some(target)) if target == moved => Ok(()),
                (RenameMode::Exchange, Some(target)) => {
                    exchange(state, (parent, name, moved), (new_parent, new_name, target))
                }
                (_, target) => replace(state, (parent, name, moved), (new_parent, new_name, target)),
            }
        })
    }
}

fn replace(
    state: &mut State,
    (parent, name, moved): (Ino, &[u8], Ino),
    (new_parent, new_name, target): (Ino, &[u8], Option<Ino>),
) -> Result<(), TreeError> {
    refuse_loop(state, moved, new_parent)?;
    match target {
        Some(target) => check_replaceable(state, moved, target)?,
        None => state.check_growth((new_name.len() as u64).saturating_sub(name.len() as u64), 0)?,
    }
    state.check_moved_path((parent, name), (new_parent, new_name), moved)?;
    let now = state.stamp();
    if let Some(target) = target {
        state.detach(new_parent, new_name)?;
        state.touch_ctime(target, now);
    }
    state.detach(parent, name)?;
    state.attach(new_parent, new_name, moved)?;
    touch_all(state, &[parent, new_parent], &[moved], now);
    if let Some(target) = target {
        state.reap(target);
    }
    Ok(())
}

fn exchange(
    state: &mut State,
    (parent, name, moved): (Ino, &[u8], Ino),
    (new_parent, new_name, target): (Ino, &[u8], Ino),
) -> Result<(), TreeError> {
    refuse_loop(state, moved, new_parent)?;
    refuse_loop(state, target, parent)?;
    state.check_moved_path((parent, name), (new_parent, new_name), moved)?;
    state.check_moved_path((new_parent, new_name), (parent, name), target)?;
    let now = state.stamp();
    state.detach(parent, name)?;
    state.detach(new_parent, new_name)?;
    state.attach(parent, name, target)?;
    state.attach(new_parent, new_name, moved)?;
    touch_all(state, &[parent, new_parent], &[moved, target], now);
    Ok(())
}

fn touch_all(state: &mut State, folders: &[Ino], inodes: &[Ino], now: crate::entry::Timestamp) {
    folders.iter().for_each(|&folder| state.touch_folder(folder, now));
    inodes.iter().for_each(|&ino| state.touch_ctime(ino, now));
}

/// A folder cannot come to lie within itself.
fn refuse_loop(state: &State, moved: Ino, new_parent: Ino) -> Result<(), TreeError> {
    let is_folder = matches!(state.inode(moved)?.node, Node::Folder(_));
    if is_folder && state.is_within(new_parent, moved) { Err(TreeError::Invalid) } else { Ok(()) }
}

fn check_replaceable(state: &State, moved: Ino, target: Ino) -> Result<(), TreeError> {
    match (&state.inode(moved)?.node, &state.inode(target)?.node) {
        (Node::Folder(_), Node::Folder(folder)) if !folder.is_empty() => Err(TreeError::NotEmpty),
        (Node::Folder(_), Node::Folder(_)) => Ok(()),
        (Node::Folder(_), _) => Err(TreeError::NotFolder),
        (_, Node::Folder(_)) => Err(TreeError::IsFolder),
        _ => Ok(()),
    }
}
