//! Fills a new tree from an archive: no quota, no revision, times as they were.

use std::sync::Arc;

use zeroize::Zeroizing;

use crate::crypto::{PAGE_SIZE, SessionSealer};
use crate::entry::{Entry, EntryKind, EntryPath};

use super::inode::{Inode, Node};
use super::names::{check_name, check_target};
use super::state::State;
use super::xattrs::check_xattr;
use super::{Ino, NewKind, TreeError};

/// Fills a new tree from an archive. Duplicate paths, missing parents and parents that are no folders are refused; a folder
/// may come twice (the later attributes count).
pub struct Loader<'a> {
    state: &'a mut State,
    sealer: &'a SessionSealer,
    /// The file that gets content now.
    file: Option<Ino>,
    /// The bytes of it that do not fill a page yet.
    tail: Zeroizing<Vec<u8>>,
    /// The page that the tail will become.
    page: u64,
}

impl<'a> Loader<'a> {
    pub(super) fn new(state: &'a mut State, sealer: &'a SessionSealer) -> Self {
        Self { state, sealer, file: None, tail: Zeroizing::new(Vec::with_capacity(PAGE_SIZE)), page: 0 }
    }

    /// Adds an entry and returns its inode; the empty path sets the root's attributes.
    ///
    /// # Errors
    /// [`TreeError::Exists`] (a second entry of that path, or a folder in place of a file), [`TreeError::NotFound`] and
    /// [`TreeError::NotFolder`] (the parent, or a hard link's target), [`TreeError::NotPermitted`] (a hard link to a
    /// folder), [`TreeError::Invalid`], [`TreeError::NotSupported`] and [`TreeError::AttributesTooLarge`] (attributes).
    pub fn add(&mut self, entry: Entry) -> Result<Ino, TreeError> {
        self.end_file();
        entry.xattrs.iter().try_for_each(|(name, value)| check_xattr(name, value))?;
        let ino = self.place(&entry)?;
        if let EntryKind::HardLink { .. } = entry.kind {
            return Ok(ino);
        }
        let inode = self.state.inode_mut(ino)?;
        let before = inode.cost();
        inode.mode = entry.attributes.mode & 0o7777;
        inode.mtime = entry.attributes.mtime;
        inode.atime = entry.attributes.mtime;
        inode.ctime = entry.attributes.ctime;
        inode.xattrs = Arc::new(entry.xattrs.into_iter().map(|(name, value)| (name.into(), value.into())).collect());
        let after = inode.cost();
        self.state.recount((before, after), (0, 0));
        if let EntryKind::File { size } = entry.kind {
            self.begin_file(ino, size);
        }
        Ok(ino)
    }

    /// Appends content to the file that was added last. Pages of zeros become holes.
    ///
    /// # Errors
    /// [`TreeError::Invalid`]: `ino` was not added last, is no file, or would get more than its size.
    pub fn append(&mut self, ino: Ino, mut bytes: &[u8]) -> Result<(), TreeError> {
        if self.file != Some(ino) {
            return Err(TreeError::Invalid);
        }
        let held = self.page * PAGE_SIZE as u64 + self.tail.len() as u64;
        if held + bytes.len() as u64 > self.state.file(ino)?.content.size() {
            return Err(TreeError::Invalid);
        }
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at(bytes.len().min(PAGE_SIZE - self.tail.len()));
            self.tail.extend_from_slice(piece);
            bytes = rest;
            if self.tail.len() == PAGE_SIZE {
                self.seal_tail(ino)?;
            }
        }
        Ok(())
    }

    fn place(&mut self, entry: &Entry) -> Result<Ino, TreeError> {
        let Some((parent, name)) = entry.path.split_last() else {
            return if entry.kind == EntryKind::Folder { Ok(Ino::ROOT) } else { Err(TreeError::Exists) };
        };
        check_name(name)?;
        let parent = self.find(&parent)?;
        if let Some(child) = self.state.folder(parent)?.child(name) {
            let again = entry.kind == EntryKind::Folder && self.state.folder(child.ino).is_ok();
            return if again { Ok(child.ino) } else { Err(TreeError::Exists) };
        }
        let ino = match &entry.kind {
            EntryKind::HardLink { target } => {
                let target = self.find(target)?;
                if self.state.folder(target).is_ok() {
                    return Err(TreeError::NotPermitted);
                }
                target
            }
            kind => {
                let node = new_node(kind)?;
                let inode = Inode::new(node, 0, self.state.options.owner, entry.attributes.ctime);
                self.state.add_inode(inode)
            }
        };
        self.state.attach(parent, name, ino)?;
        Ok(ino)
    }

    fn find(&self, path: &EntryPath) -> Result<Ino, TreeError> {
        path.components().try_fold(Ino::ROOT, |folder, name| self.state.child(folder, name))
    }

    fn begin_file(&mut self, ino: Ino, size: u64) {
        self.change_content(ino, |content| content.set_size(size));
        (self.file, self.page) = (Some(ino), 0);
    }

    fn seal_tail(&mut self, ino: Ino) -> Result<(), TreeError> {
        // What a page does not hold reads as zeros; so nothing counts for more than it did when it was written.
        if let Some(last) = self.tail.iter().rposition(|&byte| byte != 0) {
            let (index, page) = (self.page, self.sealer.seal(&self.tail[..=last]));
            self.change_content(ino, |content| content.insert(index, page));
        }
        zeroize::Zeroize::zeroize(&mut *self.tail);
        self.page += 1;
        Ok(())
    }

    fn end_file(&mut self) {
        if let Some(ino) = self.file.take()
            && !self.tail.is_empty()
        {
            self.seal_tail(ino).expect("a file that was begun takes its last page");
        }
    }

    fn change_content(&mut self, ino: Ino, change: impl FnOnce(&mut super::content::Content)) {
        let inode = self.state.inode_mut(ino).expect("the file was added by this loader");
        let Node::File(file) = &mut inode.node else { unreachable!("only files are begun") };
        let old = (file.content.size(), file.content.allocated());
        let content = Arc::make_mut(&mut file.content);
        change(content);
        let new = (content.size(), content.allocated());
        self.state.recount((old.1, new.1), (old.0, new.0));
    }
}

impl Drop for Loader<'_> {
    fn drop(&mut self) {
        self.end_file();
    }
}

fn new_node(kind: &EntryKind) -> Result<Node, TreeError> {
    let kind = match kind {
        EntryKind::Folder => NewKind::Folder,
        EntryKind::File { .. } => NewKind::File,
        EntryKind::Symlink { target } => NewKind::Symlink(target.clone()),
        EntryKind::Fifo => NewKind::Fifo,
        EntryKind::Socket => NewKind::Socket,
        EntryKind::CharDevice { rdev } => NewKind::CharDevice(*rdev),
        EntryKind::BlockDevice { rdev } => NewKind::BlockDevice(*rdev),
        EntryKind::HardLink { .. } => return Err(TreeError::Invalid),
    };
    check_target(&kind)?;
    Ok(Node::from(kind))
}
