//! Import of a plain tar: read it whole into a private tree first, check it against the vault, then apply it. Putting back what
//! was once in the vault goes the same way.

use std::io::Read;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::entry::{Entry, EntryKind, EntryPath, PATH_MAX};
use crate::format;
use crate::tree::{
    Ino, NewKind, NewNode, NodeType, Owner, RenameMode, SetAttributes, SetTime, Snapshot, SnapshotEntries, Stat, Tree,
    TreeError, WriteOptions, XattrMode,
};

use super::bridge::LoaderSink;
use super::v2::PastEntry;
use super::{VaultError, VaultOptions, new_tree, tree_error};

/// Bytes of plaintext that are copied at a time.
const STEP: usize = 64 * 1024;

/// What `import` does with a file that exists already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExisting {
    /// Refuses the whole import.
    Refuse,
    /// Replaces the file.
    Replace,
}

/// Adds the entries of a tar below `into` and returns how many there were.
pub(super) fn import(
    tree: &Tree,
    options: &VaultOptions,
    input: &mut dyn Read,
    into: &EntryPath,
    existing: OnExisting,
) -> Result<u64, VaultError> {
    let staged = stage(tree, options, input)?;
    let walk = || staged.entries();
    let import = Import { tree, owner: options.owner, into, walk: &walk, folders: OnFolder::Keep };
    import.check(existing)?;
    import.apply()
}

/// Puts back what was at some time, over what is there now; `to` is where its top goes. Returns how many entries there were,
/// and which files that were there it replaced.
pub(super) fn put_back(
    tree: &Tree,
    options: &VaultOptions,
    past: &PastEntry,
    to: &EntryPath,
) -> Result<(u64, Vec<EntryPath>), VaultError> {
    let (into, top) = match to.split_last() {
        Some((parent, name)) => (parent, EntryPath::root().join(name)),
        None => (EntryPath::root(), EntryPath::root()),
    };
    let walk = || past.entries(top.clone());
    let import = Import { tree, owner: options.owner, into: &into, walk: &walk, folders: OnFolder::Set };
    import.check(OnExisting::Replace)?;
    let is_replaced = |place: &EntryPath| tree.resolve(place).is_ok_and(|stat| stat.node_type != NodeType::Folder);
    let replaced = walk().map(|(entry, _)| import.place(&entry.path)).filter(is_replaced).collect();
    Ok((import.apply()?, replaced))
}

/// What happens to the attributes of a folder that exists already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnFolder {
    /// They stay.
    Keep,
    /// They become those of the folder that comes.
    Set,
}

/// Reads the tar into a tree of its own, so that its content lies sealed too, and a broken tar changes nothing.
fn stage(tree: &Tree, options: &VaultOptions, input: &mut dyn Read) -> Result<Arc<Snapshot>, VaultError> {
    let mut staging = new_tree(options)?;
    // A file may replace another of its size; nothing that fits is larger than the whole vault.
    let budget = tree.usage().limit;
    let mut sink = LoaderSink::with_budget(staging.loader(), budget);
    format::tar::read(input, &options.read_limits(), &mut sink).map_err(VaultError::Import)?;
    drop(sink);
    Ok(Arc::new(staging.snapshot()))
}

struct Import<'a> {
    tree: &'a Tree,
    owner: Owner,
    into: &'a EntryPath,
    /// Starts to go through what comes.
    walk: &'a dyn Fn() -> SnapshotEntries,
    folders: OnFolder,
}

impl Import<'_> {
    /// Where an entry of the tar goes.
    fn place(&self, path: &EntryPath) -> EntryPath {
        path.components().fold(self.into.clone(), |place, name| place.join(name))
    }

    /// Looks for conflicts and for room, changing nothing.
    fn check(&self, existing: OnExisting) -> Result<(), VaultError> {
        self.check_folder()?;
        let (mut bytes, mut entries) = (0u64, 0);
        for (entry, _) in (self.walk)() {
            let place = self.place(&entry.path);
            if place.as_bytes().len() > PATH_MAX {
                return Err(tree_error(&place, TreeError::NameTooLong));
            }
            let old = self.find(&place).map_err(|error| tree_error(&place, error))?;
            check_entry(&entry, old.as_ref(), existing).map_err(|error| tree_error(&place, error))?;
            if old.is_none() || entry.kind != EntryKind::Folder {
                bytes = bytes.saturating_add(cost(&entry));
                entries += 1;
            }
        }
        let usage = self.tree.usage();
        if usage.used.saturating_add(bytes) > usage.limit || usage.entries + entries > usage.entry_limit {
            return Err(tree_error(self.into, TreeError::NoSpace));
        }
        Ok(())
    }

    /// Nothing but folders may lie on the way to `into`.
    fn check_folder(&self) -> Result<(), VaultError> {
        match self.find(self.into) {
            Ok(Some(stat)) if stat.node_type != NodeType::Folder => Err(tree_error(self.into, TreeError::NotFolder)),
            Ok(_) => Ok(()),
            Err(error) => Err(tree_error(self.into, error)),
        }
    }

    fn find(&self, place: &EntryPath) -> Result<Option<Stat>, TreeError> {
        match self.tree.resolve(place) {
            Ok(stat) => Ok(Some(stat)),
            Err(TreeError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn apply(&self) -> Result<u64, VaultError> {
        self.make_folders(self.into).map_err(|error| tree_error(self.into, error))?;
        let mut walk = (self.walk)();
        let mut new_folders = Vec::new();
        let mut count = 0;
        while let Some((entry, staged)) = walk.next() {
            if entry.path.is_root() && self.folders == OnFolder::Keep {
                continue;
            }
            let place = self.place(&entry.path);
            let made = match entry.kind {
                EntryKind::Folder => self.add_folder(&place),
                _ => self.add(&place, &entry, &mut |offset, out| walk.read(staged, offset, out)).map(|()| None),
            };
            if let Some(ino) = made.map_err(|error| tree_error(&place, error))? {
                new_folders.push((ino, place, entry));
            }
            count += 1;
        }
        // Last and from within: making entries changes the times of their folder.
        for (ino, place, entry) in new_folders.iter().rev() {
            self.set(*ino, entry).map_err(|error| tree_error(place, error))?;
        }
        Ok(count)
    }

    fn make_folders(&self, path: &EntryPath) -> Result<Ino, TreeError> {
        let mut folder = Ino::ROOT;
        for name in path.components() {
            folder = match self.tree.lookup(folder, name) {
                Ok(stat) => stat.ino,
                Err(TreeError::NotFound) => self.make(folder, name, NewKind::Folder)?,
                Err(error) => return Err(error),
            };
        }
        Ok(folder)
    }

    fn make(&self, parent: Ino, name: &[u8], kind: NewKind) -> Result<Ino, TreeError> {
        let mode = if matches!(kind, NewKind::Folder) { 0o700 } else { 0o600 };
        Ok(self.tree.make(parent, name, NewNode { kind, mode, owner: self.owner })?.ino)
    }

    /// Returns the folder if its attributes are to be set.
    fn add_folder(&self, place: &EntryPath) -> Result<Option<Ino>, TreeError> {
        match self.find(place)? {
            Some(folder) => Ok((self.folders == OnFolder::Set).then_some(folder.ino)),
            None => self.make_folders(place).map(Some),
        }
    }

    /// Adds anything but a folder; it takes the place of an old entry only when it is complete.
    fn add(&self, place: &EntryPath, entry: &Entry, read: Content<'_>) -> Result<(), TreeError> {
        let (parent, name) = place.split_last().expect("an entry below the root has a name");
        let parent = self.tree.resolve(&parent)?.ino;
        let taken = self.find(place)?.is_some();
        let temporary = taken.then(|| self.free_name(parent)).transpose()?;
        let new_name = temporary.as_deref().unwrap_or(name);
        let outcome = self.fill(parent, new_name, entry, read);
        if let Some(temporary) = &temporary {
            let outcome = outcome.and_then(|()| self.tree.rename(parent, temporary, parent, name, RenameMode::Replace));
            // Still there after an error, or when both names were of one inode already.
            let left = self.tree.unlink(parent, temporary);
            return outcome.and(match left {
                Ok(()) | Err(TreeError::NotFound) => Ok(()),
                Err(error) => Err(error),
            });
        }
        outcome
    }

    fn free_name(&self, parent: Ino) -> Result<Vec<u8>, TreeError> {
        for number in 0u64.. {
            let name = format!(".import-{number}").into_bytes();
            match self.tree.lookup(parent, &name) {
                Ok(_) => {}
                Err(TreeError::NotFound) => return Ok(name),
                Err(error) => return Err(error),
            }
        }
        unreachable!("a folder holds fewer than 2^64 names")
    }

    fn fill(&self, parent: Ino, name: &[u8], entry: &Entry, read: Content<'_>) -> Result<(), TreeError> {
        let kind = match &entry.kind {
            EntryKind::HardLink { target } => {
                let target = self.tree.resolve(&self.place(target))?.ino;
                return self.tree.link(target, parent, name).map(drop);
            }
            EntryKind::Folder => NewKind::Folder,
            EntryKind::File { .. } => NewKind::File,
            EntryKind::Symlink { target } => NewKind::Symlink(target.clone()),
            EntryKind::Fifo => NewKind::Fifo,
            EntryKind::Socket => NewKind::Socket,
            EntryKind::CharDevice { rdev } => NewKind::CharDevice(*rdev),
            EntryKind::BlockDevice { rdev } => NewKind::BlockDevice(*rdev),
        };
        let ino = self.make(parent, name, kind)?;
        if let EntryKind::File { size } = entry.kind {
            self.copy(ino, size, read)?;
        }
        self.set(ino, entry)
    }

    /// Copies content; pieces of zeros stay holes.
    fn copy(&self, ino: Ino, size: u64, read: Content<'_>) -> Result<(), TreeError> {
        self.tree.set_attributes(ino, &SetAttributes { size: Some(size), ..SetAttributes::default() })?;
        let mut buffer = Zeroizing::new(vec![0; STEP]);
        let mut offset = 0;
        while offset < size {
            let length = read(offset, &mut buffer)?;
            if length == 0 {
                return Err(TreeError::Sealing);
            }
            if buffer[..length].iter().any(|&byte| byte != 0) {
                self.tree.write(ino, offset, &buffer[..length], WriteOptions::default())?;
            }
            offset += length as u64;
        }
        Ok(())
    }

    fn set(&self, ino: Ino, entry: &Entry) -> Result<(), TreeError> {
        for (name, value) in &entry.xattrs {
            self.tree.set_xattr(ino, name, value, XattrMode::Set)?;
        }
        let mtime = SetTime::At(entry.attributes.mtime);
        let set = SetAttributes {
            mode: Some(entry.attributes.mode),
            mtime: Some(mtime),
            atime: Some(mtime),
            ..SetAttributes::default()
        };
        self.tree.set_attributes(ino, &set).map(drop)
    }
}

/// Reads content of the staged file from an offset on.
type Content<'a> = &'a mut dyn FnMut(u64, &mut [u8]) -> Result<usize, TreeError>;

fn check_entry(entry: &Entry, old: Option<&Stat>, existing: OnExisting) -> Result<(), TreeError> {
    let Some(old) = old else { return Ok(()) };
    match (&entry.kind, old.node_type) {
        (EntryKind::Folder, NodeType::Folder) => Ok(()),
        (EntryKind::Folder, _) => Err(TreeError::NotFolder),
        (_, NodeType::Folder) => Err(TreeError::IsFolder),
        _ if existing == OnExisting::Refuse => Err(TreeError::Exists),
        _ => Ok(()),
    }
}

/// What an entry may take of the limit at most: sparse files are counted full.
fn cost(entry: &Entry) -> u64 {
    const PAGE: u64 = crate::crypto::PAGE_SIZE as u64;
    const FIXED: u64 = 512;
    let content = match &entry.kind {
        EntryKind::File { size } => size.div_ceil(PAGE).saturating_mul(PAGE),
        EntryKind::Symlink { target } => target.len() as u64,
        _ => 0,
    };
    let name = entry.path.split_last().map_or(0, |(_, name)| name.len() as u64);
    let xattrs: usize = entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
    content.saturating_add(FIXED + name + xattrs as u64)
}
