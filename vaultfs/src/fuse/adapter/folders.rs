//! Requests that list folders. Positions are the tree's cookies, with 1 after `.` and 2 after `..`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use fuser::{Errno, FileHandle, FileType, FopenFlags, INodeNo, ReplyDirectory, ReplyDirectoryPlus};

use crate::tree::{Ino, NodeType, Stat};

use super::call::{Call, GENERATION, file_type};
use super::files::Opened;
use crate::fuse::{caching, errno};

const AFTER_SELF: u64 = 1;
const AFTER_PARENT: u64 = 2;

/// Entries that are copied out of the tree at a time: a few times over for a reply of 32 KiB, about once for one page.
const BATCH: usize = 64;

/// An entry copied out of the tree.
struct Listed {
    /// Where its name ends in the names of the batch.
    name_end: usize,
    cookie: u64,
    stat: Stat,
}

/// Entries that follow each other, with their names in one piece: an allocation for each costs more than the copy.
struct Batch {
    names: Vec<u8>,
    entries: Vec<Listed>,
}

impl Batch {
    fn iter(&self) -> impl Iterator<Item = (&[u8], &Listed)> {
        let starts = std::iter::once(0).chain(self.entries.iter().map(|entry| entry.name_end));
        self.entries.iter().zip(starts).map(|(entry, start)| (&self.names[start..entry.name_end], entry))
    }
}

impl Call<'_> {
    pub(super) fn opendir(&self, nodeid: INodeNo) -> Result<Opened, Errno> {
        self.check_opens()?;
        let stat = self.tree().stat(self.ino(nodeid)).map_err(errno::of_tree)?;
        if stat.node_type != NodeType::Folder {
            return Err(Errno::ENOTDIR);
        }
        self.mount.count_open();
        let shared = caching::is_shared(self.tree(), &self.serving, self.mount, &stat);
        let cached = FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE;
        let flags = if shared { FopenFlags::empty() } else { cached };
        Ok(Opened { handle: FileHandle(0), flags })
    }

    pub(super) fn readdir(&self, nodeid: INodeNo, offset: u64, reply: &mut ReplyDirectory) -> Result<(), Errno> {
        let folder = self.ino(nodeid);
        for (name, cookie, ino) in self.dots(folder, offset)? {
            if reply.add(self.mount.view.nodeid(ino), cookie, FileType::Directory, name) {
                return Ok(());
            }
        }
        self.each_shown(folder, offset, &mut |name, entry| {
            let nodeid = self.mount.view.nodeid(entry.stat.ino);
            reply.add(nodeid, entry.cookie, file_type(entry.stat.node_type), OsStr::from_bytes(name))
        })
    }

    pub(super) fn readdirplus(
        &self,
        nodeid: INodeNo,
        offset: u64,
        reply: &mut ReplyDirectoryPlus,
    ) -> Result<(), Errno> {
        let folder = self.ino(nodeid);
        for (name, cookie, ino) in self.dots(folder, offset)? {
            let found = self.attributes(&self.tree().stat(ino).map_err(errno::of_tree)?);
            if reply.add(found.attr.ino, cookie, name, &found.lifetime, &found.attr, GENERATION) {
                return Ok(());
            }
        }
        self.each_shown(folder, offset, &mut |name, entry| self.add_counted(name, entry, reply))
    }

    /// Hands out the entries after a position that the view shows, outside the tree's lock, until `add` says that the
    /// reply is full.
    fn each_shown(&self, folder: Ino, offset: u64, add: &mut dyn FnMut(&[u8], &Listed) -> bool) -> Result<(), Errno> {
        let mut cookie = tree_cookie(offset);
        loop {
            let batch = self.batch(folder, cookie)?;
            let Some(last) = batch.entries.last() else { return Ok(()) };
            cookie = last.cookie;
            let mut shown =
                batch.iter().filter(|(name, entry)| !self.mount.view.hides(self.tree(), folder, name, entry.stat.ino));
            if shown.any(|(name, entry)| add(name, entry)) {
                return Ok(());
            }
        }
    }

    /// Adds an entry and counts it as a lookup, but only when it fits; tells whether the reply is full.
    fn add_counted(&self, name: &[u8], entry: &Listed, reply: &mut ReplyDirectoryPlus) -> bool {
        let Ok(found) = self.introduce(&entry.stat) else {
            return false; // removed since it was listed
        };
        let name = OsStr::from_bytes(name);
        let full = reply.add(found.attr.ino, entry.cookie, name, &found.lifetime, &found.attr, GENERATION);
        if full {
            self.mount.lookups.forget(self.tree(), entry.stat.ino, 1);
        }
        full
    }

    fn batch(&self, folder: Ino, cookie: u64) -> Result<Batch, Errno> {
        let mut batch = Batch { names: Vec::with_capacity(16 * BATCH), entries: Vec::with_capacity(BATCH) };
        let listed = self.tree().list(folder, cookie, &mut |entry| {
            batch.names.extend_from_slice(entry.name);
            batch.entries.push(Listed { name_end: batch.names.len(), cookie: entry.cookie, stat: entry.stat });
            batch.entries.len() < BATCH
        });
        listed.map_err(errno::of_tree)?;
        Ok(batch)
    }

    /// `.` and `..`, as far as they come after a position. Nothing lies above a view's root.
    fn dots(&self, folder: Ino, offset: u64) -> Result<Vec<(&'static str, u64, Ino)>, Errno> {
        if offset >= AFTER_PARENT {
            return Ok(Vec::new());
        }
        let parent = if folder == self.mount.view.root {
            folder
        } else {
            self.tree().parent_of(folder).map_err(errno::of_tree)?
        };
        let dots = [(".", AFTER_SELF, folder), ("..", AFTER_PARENT, parent)];
        Ok(dots.into_iter().filter(|&(_, cookie, _)| cookie > offset).collect())
    }
}

fn tree_cookie(offset: u64) -> u64 {
    if offset <= AFTER_PARENT { 0 } else { offset }
}
