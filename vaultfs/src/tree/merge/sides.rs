//! The three states of a merge, each inode under a key that is the same in all of them.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::entry::{EntryPath, InodeId};
use crate::tree::across::Held;
use crate::tree::inode::{Inode, Name, Node};
use crate::tree::{Ino, Snapshot, TreeError};

use super::Matching;

/// Names what is the same in the three states: the id of the first of remote, local and base that has it, unless something was
/// put in its place.
pub(super) type Key = InodeId;

/// A folder and a name in it.
pub(super) type Place = (Key, Name);

/// One state, without what is the same in all of them.
pub(super) struct Side<'a> {
    pub snapshot: &'a Snapshot,
    pub nodes: FxHashMap<Key, Seen<'a>>,
    pub keys: FxHashMap<Ino, Key>,
}

/// An inode of a state that has a name.
pub(super) struct Seen<'a> {
    pub ino: Ino,
    pub inode: &'a Arc<Inode>,
    /// Sorted.
    pub places: Vec<Place>,
}

impl<'a> Side<'a> {
    /// Every inode but some under a key that is given, else its own id.
    pub fn new(snapshot: &'a Snapshot, given: &FxHashMap<Ino, Key>, without: &FxHashSet<Ino>) -> Self {
        let is_seen = |ino: Ino, inode: &Inode| inode.is_linked(ino) && !without.contains(&ino);
        let linked = || snapshot.inodes().iter().filter(|(ino, inode)| is_seen(**ino, &inode.0));
        let key = |ino: &Ino, inode: &Inode| given.get(ino).copied().unwrap_or(inode.id);
        let keys: FxHashMap<Ino, Key> = linked().map(|(ino, inode)| (*ino, key(ino, &inode.0))).collect();
        let mut nodes: FxHashMap<Key, Seen<'a>> =
            linked().map(|(&ino, inode)| (keys[&ino], Seen { ino, inode: &inode.0, places: Vec::new() })).collect();
        for (ino, inode) in linked() {
            let Node::Folder(folder) = &inode.0.node else { continue };
            for (name, child) in folder.entries() {
                if let Some(seen) = keys.get(&child).and_then(|key| nodes.get_mut(key)) {
                    seen.places.push((keys[ino], name.clone()));
                }
            }
        }
        nodes.values_mut().filter(|seen| seen.places.len() > 1).for_each(|seen| seen.places.sort());
        Self { snapshot, nodes, keys }
    }

    pub fn get(&self, key: &Key) -> Option<&Seen<'a>> {
        self.nodes.get(key)
    }

    /// What a place leads to.
    pub fn child(&self, (parent, name): &Place) -> Option<Key> {
        match &self.get(parent)?.inode.node {
            Node::Folder(folder) => self.keys.get(&folder.child(name)?.ino).copied(),
            _ => None,
        }
    }

    pub fn path(&self, place: &Place) -> EntryPath {
        let mut names = vec![place.1.clone()];
        let mut at = place.0;
        while let Some((parent, name)) = self.get(&at).and_then(|seen| seen.places.first()) {
            names.push(name.clone());
            at = *parent;
        }
        names.iter().rev().fold(EntryPath::root(), |path, name| path.join(name))
    }

    pub fn held<'s>(&'s self, seen: &'s Seen<'a>) -> Option<Held<'s>> {
        match &seen.inode.node {
            Node::File(file) => Some(Held { content: &file.content, sealer: self.snapshot.sealer() }),
            _ => None,
        }
    }
}

/// Whether two inodes are of one kind, and hold the same: bytes, target, device.
pub(super) fn is_same_content(
    matching: Matching,
    (one_side, one): (&Side<'_>, &Seen<'_>),
    (other_side, other): (&Side<'_>, &Seen<'_>),
) -> Result<bool, TreeError> {
    match (&one.inode.node, &other.inode.node) {
        (Node::File(left), Node::File(right)) => {
            if left.content.size() != right.content.size() {
                return Ok(false);
            }
            // Every change sets both to a time that was not there before.
            let times = |seen: &Seen<'_>| (seen.inode.id, seen.inode.ctime, seen.inode.mtime);
            if matching == Matching::Ids && times(one) == times(other) {
                return Ok(true);
            }
            match (one_side.held(one), other_side.held(other)) {
                (Some(one), Some(other)) => one.is_same(&other),
                _ => Ok(false),
            }
        }
        (Node::Symlink(left), Node::Symlink(right)) => Ok(left == right),
        (Node::CharDevice(left), Node::CharDevice(right)) => Ok(left == right),
        (Node::BlockDevice(left), Node::BlockDevice(right)) => Ok(left == right),
        (left, right) => Ok(left.node_type() == right.node_type()),
    }
}
