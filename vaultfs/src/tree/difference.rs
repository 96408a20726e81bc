//! What changed between two snapshots, in the time of what changed: the tables are persistent, so that what they share is
//! passed over.

use std::ops::Range;
use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;

use crate::crypto::{PAGE_SIZE, WipedBytes};
use crate::entry::{Attributes, Change, DATA_MAX, InodeId, InodeKind};

use super::content::Content;
use super::inode::{Folder, Inode, Node, RenameVisitor, SharedInode};
use super::{Ino, Snapshot, TreeError};

const PAGE: u64 = PAGE_SIZE as u64;
const PAGES_OF_A_BLOCK: u64 = DATA_MAX as u64 / PAGE;

/// An inode in both states; `None` where it has no name, and so is not part of the archive.
pub(super) struct Pair {
    pub old: Option<Arc<Inode>>,
    pub new: Option<Arc<Inode>>,
}

impl Pair {
    /// An inode that goes on under another id, as after a merge: to an archive that is another one.
    fn has_another_id(&self) -> bool {
        matches!((&self.old, &self.new), (Some(old), Some(new)) if old.id != new.id)
    }
}

impl Snapshot {
    /// Hands out what leads from an earlier snapshot of the same tree to this one, in the order of [`Change`]. Without one:
    /// all there is.
    ///
    /// # Errors
    /// What the function returns; [`TreeError::Sealing`].
    pub fn changes_since<E: From<TreeError>>(
        &self,
        earlier: Option<&Snapshot>,
        take: &mut dyn FnMut(Change<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let nothing = OrdMap::new();
        let before = earlier.map_or(&nothing, |earlier| earlier.inodes());
        let pairs = pairs(before, self.inodes());
        if let Some(earlier) = earlier.filter(|_| pairs.iter().any(Pair::has_another_id)) {
            return self.changes_from(earlier, take);
        }
        for Pair { old, new } in &pairs {
            if let Some(new) = new {
                self.inode_changes(old.as_deref(), new, take)?;
            }
        }
        self.name_changes(&pairs, before, take)?;
        for pair in &pairs {
            if let (Some(old), None) = (&pair.old, &pair.new) {
                take(Change::Drop(old.id))?;
            }
        }
        Ok(())
    }

    fn inode_changes<E: From<TreeError>>(
        &self,
        old: Option<&Inode>,
        new: &Inode,
        take: &mut dyn FnMut(Change<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (kind, attributes) = (InodeKind::from(&new.node), attributes(new));
        if old.is_some_and(|old| is_same(old, new, &kind, &attributes)) {
            return Ok(());
        }
        take(Change::Inode { id: new.id, kind, attributes })?;
        match (&new.node, old.map(|old| &old.node)) {
            (Node::Symlink(target), None) => take(Change::Target(target))?,
            (Node::File(file), Some(Node::File(old))) => self.content_changes(&old.content, &file.content, take)?,
            (Node::File(file), _) => self.content_changes(&Content::default(), &file.content, take)?,
            _ => {}
        }
        xattr_changes(old, new, take)
    }

    fn content_changes<E: From<TreeError>>(
        &self,
        old: &Content,
        new: &Content,
        take: &mut dyn FnMut(Change<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (changed, holes) = new.changed_pages(old);
        self.write_pages(new, &changed, &holes, take)
    }

    /// Tells of some pages of a content.
    pub(super) fn write_pages<E: From<TreeError>>(
        &self,
        new: &Content,
        changed: &[u64],
        holes: &[u64],
        take: &mut dyn FnMut(Change<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let clip = |run: &Range<u64>| (run.start * PAGE, (run.end * PAGE).min(new.size()) - run.start * PAGE);
        for run in runs(holes, u64::MAX) {
            let (offset, length) = clip(&run);
            take(Change::Hole { offset, length })?;
        }
        let runs = runs(changed, PAGES_OF_A_BLOCK);
        let longest = runs.iter().map(|run| run.end - run.start).max().unwrap_or(0);
        let mut buffer = WipedBytes::zeros((longest * PAGE) as usize);
        for run in runs {
            let (offset, length) = clip(&run);
            let bytes = &mut buffer[..length as usize];
            let slice = new.slice(offset, bytes.len());
            self.sealer().with_cipher(|cipher| slice.open(cipher, bytes))?;
            take(Change::Data { offset, bytes })?;
        }
        Ok(())
    }

    fn name_changes<E: From<TreeError>>(
        &self,
        pairs: &[Pair],
        before: &OrdMap<Ino, SharedInode>,
        take: &mut dyn FnMut(Change<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut links = Vec::new();
        let mut outcome = Ok(());
        for pair in pairs {
            let Some(parent) = pair.new.as_ref().or(pair.old.as_ref()).map(|inode| inode.id) else { continue };
            each_renamed(pair, &mut |name, old, new| {
                if old.is_some() && outcome.is_ok() {
                    outcome = take(Change::Unlink { parent, name });
                }
                if let Some(ino) = new {
                    links.push((parent, name.clone(), ino));
                }
            });
        }
        outcome?;
        for (parent, name, ino) in links {
            let id = id_of(self.inodes(), ino).or_else(|| id_of(before, ino)).ok_or(TreeError::NotFound)?;
            take(Change::Link { parent, id, name: &name })?;
        }
        Ok(())
    }
}

fn id_of(inodes: &OrdMap<Ino, SharedInode>, ino: Ino) -> Option<InodeId> {
    inodes.get(&ino).map(|inode| inode.0.id)
}

/// The inodes that differ.
pub(super) fn pairs(before: &OrdMap<Ino, SharedInode>, after: &OrdMap<Ino, SharedInode>) -> Vec<Pair> {
    let linked = |ino: &Ino, inode: &SharedInode| inode.0.is_linked(*ino).then(|| inode.0.clone());
    before
        .diff(after)
        .map(|item| match item {
            DiffItem::Add(ino, new) => Pair { old: None, new: linked(ino, new) },
            DiffItem::Remove(ino, old) => Pair { old: linked(ino, old), new: None },
            DiffItem::Update { old: (ino, old), new: (_, new) } => {
                Pair { old: linked(ino, old), new: linked(ino, new) }
            }
        })
        .filter(|pair| pair.old.is_some() || pair.new.is_some())
        .collect()
}

pub(super) fn attributes(inode: &Inode) -> Attributes {
    Attributes { mode: inode.mode, mtime: inode.mtime, ctime: inode.ctime }
}

/// Whether nothing of an inode changed but, perhaps, its names and what is not kept.
fn is_same(old: &Inode, new: &Inode, kind: &InodeKind, new_attributes: &Attributes) -> bool {
    let same_content = match (&old.node, &new.node) {
        (Node::File(old), Node::File(new)) => Arc::ptr_eq(&old.content, &new.content),
        _ => true,
    };
    same_content
        && attributes(old) == *new_attributes
        && InodeKind::from(&old.node) == *kind
        && (Arc::ptr_eq(&old.xattrs, &new.xattrs) || old.xattrs == new.xattrs)
}

pub(super) fn xattr_changes<E>(
    old: Option<&Inode>,
    new: &Inode,
    take: &mut dyn FnMut(Change<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let before = old.map(|old| &*old.xattrs);
    for name in before.iter().flat_map(|before| before.keys()) {
        if !new.xattrs.contains_key(name) {
            take(Change::RemoveXattr(name))?;
        }
    }
    for (name, value) in new.xattrs.iter() {
        if before.and_then(|before| before.get(name)) != Some(value) {
            take(Change::SetXattr { name, value })?;
        }
    }
    Ok(())
}

fn each_renamed(pair: &Pair, visit: &mut RenameVisitor<'_>) {
    let folder = |inode: &Option<Arc<Inode>>| match inode.as_deref().map(|inode| &inode.node) {
        Some(Node::Folder(folder)) => Some(folder.clone()),
        _ => None,
    };
    match (folder(&pair.old), folder(&pair.new)) {
        (None, None) => {}
        (Some(old), Some(new)) if Arc::ptr_eq(&old, &new) => {}
        (old, new) => {
            let nothing = Arc::new(Folder::default());
            old.unwrap_or_else(|| nothing.clone()).renamed(&new.unwrap_or(nothing), visit);
        }
    }
}

/// Groups rising numbers into runs without gaps that do not cross a multiple of `block`.
fn runs(numbers: &[u64], block: u64) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for &number in numbers {
        match runs.last_mut() {
            Some(run) if run.end == number && !number.is_multiple_of(block) => run.end += 1,
            _ => runs.push(number..number + 1),
        }
    }
    runs
}
