//! What leads from a state of one tree to a state of another, which seals with another key and counts its inodes otherwise: they
//! are matched by their ids, and contents are compared where times do not tell that they are the same.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::entry::{Change, InodeId, InodeKind};

use super::across::Held;
use super::difference::{attributes, xattr_changes};
use super::inode::{Inode, Name, Node};
use super::unchanged::Unchanged;
use super::{Ino, Snapshot, TreeError};

type Take<'t, E> = &'t mut dyn FnMut(Change<'_>) -> Result<(), E>;

impl Snapshot {
    /// Hands out what leads from a state of another tree to this one, in the order of [`Change`].
    ///
    /// # Errors
    /// What the function returns; [`TreeError::Sealing`].
    pub fn changes_from<E: From<TreeError>>(&self, other: &Snapshot, take: Take<'_, E>) -> Result<(), E> {
        let unchanged = Unchanged::of([other, self]);
        let [before, after] = [(0, other), (1, self)].map(|(state, snapshot)| by_id(snapshot, unchanged.inos(state)));
        let mut ids: Vec<InodeId> = after.keys().copied().collect();
        ids.sort();
        for id in &ids {
            let old = before.get(id).map(|old| Old { inode: old, snapshot: other });
            self.inode_from(old, after[id], take)?;
        }
        name_changes((other, &before), (self, &after), &unchanged, take)?;
        let mut gone: Vec<InodeId> = before.keys().filter(|id| !after.contains_key(id)).copied().collect();
        gone.sort();
        gone.into_iter().try_for_each(|id| take(Change::Drop(id)))
    }

    fn inode_from<E: From<TreeError>>(&self, old: Option<Old<'_>>, new: &Inode, take: Take<'_, E>) -> Result<(), E> {
        let (kind, attributes) = (InodeKind::from(&new.node), attributes(new));
        if old.as_ref().is_some_and(|old| old.is_same(new, &kind)) {
            return Ok(());
        }
        take(Change::Inode { id: new.id, kind, attributes })?;
        match (&new.node, old.as_ref().map(|old| &old.inode.node)) {
            (Node::Symlink(target), None) => take(Change::Target(target))?,
            (Node::File(file), before) => {
                let nothing = Default::default();
                let before = match (before, &old) {
                    (Some(Node::File(file)), Some(old)) => {
                        Held { content: &file.content, sealer: old.snapshot.sealer() }
                    }
                    _ => Held { content: &nothing, sealer: self.sealer() },
                };
                let after = Held { content: &file.content, sealer: self.sealer() };
                let (changed, holes) = after.changed_pages(&before)?;
                self.write_pages(&file.content, &changed, &holes, take)?;
            }
            _ => {}
        }
        xattr_changes(old.map(|old| old.inode), new, take)
    }
}

/// An inode of the other state.
struct Old<'a> {
    inode: &'a Inode,
    snapshot: &'a Snapshot,
}

impl Old<'_> {
    /// Whether nothing but its names changed. Every change of content sets times that were not there before.
    fn is_same(&self, new: &Inode, kind: &InodeKind) -> bool {
        attributes(self.inode) == attributes(new)
            && InodeKind::from(&self.inode.node) == *kind
            && self.inode.xattrs == new.xattrs
    }
}

type ById<'a> = FxHashMap<InodeId, &'a Inode>;

fn by_id<'a>(snapshot: &'a Snapshot, without: &FxHashSet<Ino>) -> ById<'a> {
    let is_seen = |ino: Ino, inode: &Inode| inode.is_linked(ino) && !without.contains(&ino);
    let linked = snapshot.inodes().iter().filter(|(ino, inode)| is_seen(**ino, &inode.0));
    linked.map(|(_, inode)| (inode.0.id, &*inode.0)).collect()
}

/// Names that go, of all folders; then names that come.
fn name_changes<E: From<TreeError>>(
    (other, before): (&Snapshot, &ById<'_>),
    (this, after): (&Snapshot, &ById<'_>),
    unchanged: &Unchanged<2>,
    take: Take<'_, E>,
) -> Result<(), E> {
    let mut links: Vec<(InodeId, Name, InodeId)> = Vec::new();
    let mut unlinks: Vec<(InodeId, Name)> = Vec::new();
    for (&parent, inode) in before {
        let now = names(this, after.get(&parent).copied(), unchanged.inos(1));
        for (name, id) in names(other, Some(inode), unchanged.inos(0)) {
            if now.get(&name) != Some(&id) {
                unlinks.push((parent, name));
            }
        }
    }
    for (&parent, inode) in after {
        let then = names(other, before.get(&parent).copied(), unchanged.inos(0));
        for (name, id) in names(this, Some(inode), unchanged.inos(1)) {
            if then.get(&name) != Some(&id) {
                links.push((parent, name, id));
            }
        }
    }
    unlinks.sort();
    links.sort();
    unlinks.iter().try_for_each(|(parent, name)| take(Change::Unlink { parent: *parent, name }))?;
    links.iter().try_for_each(|(parent, name, id)| take(Change::Link { parent: *parent, id: *id, name }))
}

/// The entries of a folder without some; none of anything else.
fn names(snapshot: &Snapshot, inode: Option<&Inode>, without: &FxHashSet<Ino>) -> FxHashMap<Name, InodeId> {
    let Some(Node::Folder(folder)) = inode.map(|inode| &inode.node) else { return FxHashMap::default() };
    let id = |ino: Ino| snapshot.inodes().get(&ino).map(|inode| inode.0.id);
    let entries = folder.entries().filter(|(_, ino)| !without.contains(ino));
    entries.filter_map(|(name, ino)| Some((name.clone(), id(ino)?))).collect()
}
