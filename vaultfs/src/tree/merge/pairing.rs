//! Which inodes of the three states are the same although their ids differ: what was saved by writing a new file and renaming it
//! over the old one, what both sides made alike, and, between archives without common ids, what lies at the same path.

use std::cell::OnceCell;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::entry::InodeId;
use crate::tree::inode::{Inode, Node};
use crate::tree::unchanged::Unchanged;
use crate::tree::{Ino, NodeType, Snapshot, TreeError};

use super::Matching;
use super::sides::{Key, Place, Side, is_same_content};

/// The three states of a merge.
pub(super) struct Sides<'a> {
    pub base: Side<'a>,
    pub local: Side<'a>,
    pub remote: Side<'a>,
    pub matching: Matching,
    /// What is not among the nodes of the three, in the same order: it stays as it is.
    pub unchanged: Unchanged<3>,
    ids: OnceCell<FxHashSet<InodeId>>,
}

impl<'a> Sides<'a> {
    pub fn new(
        matching: Matching,
        base: &'a Snapshot,
        local: &'a Snapshot,
        remote: &'a Snapshot,
    ) -> Result<Self, TreeError> {
        match matching {
            Matching::Ids => Self::by_ids(base, local, remote),
            Matching::Paths => Ok(Self::by_paths(base, local, remote)),
        }
    }

    fn by_paths(base: &'a Snapshot, local: &'a Snapshot, remote: &'a Snapshot) -> Self {
        let all = FxHashSet::default();
        let remote = Side::new(remote, &FxHashMap::default(), &all);
        let local = Side::new(local, &by_path(local, &[&remote]), &all);
        let base = Side::new(base, &by_path(base, &[&remote, &local]), &all);
        let (unchanged, ids) = (Unchanged::nothing(), OnceCell::new());
        Self { base, local, remote, matching: Matching::Paths, unchanged, ids }
    }

    fn by_ids(base: &'a Snapshot, local: &'a Snapshot, remote: &'a Snapshot) -> Result<Self, TreeError> {
        let unchanged = Unchanged::of([base, local, remote]);
        let [of_base, of_local, of_remote] = [0, 1, 2].map(|state| unchanged.inos(state));
        let none = FxHashMap::default();
        let base = Side::new(base, &none, of_base);
        let mut remote = Named { side: Side::new(remote, &none, of_remote), given: none.clone(), without: of_remote };
        let mut local = Named { side: Side::new(local, &none, of_local), given: none, without: of_local };
        let saved_there = successors(&base, &remote.side, &local.side);
        let also_here = also_there(&remote.side, &saved_there, &local.side);
        remote.give(saved_there);
        local.give(also_here);
        let saved_here = successors(&base, &local.side, &remote.side);
        remote.give(also_there(&local.side, &saved_here, &remote.side));
        local.give(saved_here);
        local.give(made_alike(&base, &local.side, &remote.side)?);
        let (local, remote) = (local.side, remote.side);
        Ok(Self { base, local, remote, matching: Matching::Ids, unchanged, ids: OnceCell::new() })
    }

    /// Whether an inode of any of the three has an id, under whatever key.
    pub fn is_used(&self, id: &InodeId) -> bool {
        let ids = || {
            let unchanged = self.unchanged.inos(LOCAL).iter().filter_map(|ino| self.local.snapshot.inodes().get(ino));
            let seen = [&self.base, &self.local, &self.remote].into_iter().flat_map(|side| side.nodes.values());
            unchanged.map(|inode| inode.0.id).chain(seen.map(|seen| seen.inode.id)).collect()
        };
        self.ids.get_or_init(ids).contains(id)
    }

    /// Whether something unchanged has a name.
    pub fn is_kept_by_unchanged(&self, (parent, name): &Place) -> bool {
        match self.local.get(parent).map(|seen| &seen.inode.node) {
            Some(Node::Folder(folder)) => {
                folder.child(name).is_some_and(|child| self.unchanged.holds(LOCAL, child.ino))
            }
            _ => false,
        }
    }
}

/// A state whose inodes come to be known under other keys than their ids.
struct Named<'s, 'a> {
    side: Side<'a>,
    given: FxHashMap<Ino, Key>,
    without: &'s FxHashSet<Ino>,
}

impl Named<'_, '_> {
    fn give(&mut self, keys: FxHashMap<Ino, Key>) {
        if !keys.is_empty() {
            self.given.extend(keys);
            self.side = Side::new(self.side.snapshot, &self.given, self.without);
        }
    }
}

/// The local state's place among the three.
const LOCAL: usize = 1;

/// New inodes of a state that took the only place of one that is gone from it: the same file, saved anew. After a merge that was done
/// before, the other state may have them too.
fn successors(base: &Side<'_>, side: &Side<'_>, other: &Side<'_>) -> FxHashMap<Ino, Key> {
    let mut found = FxHashMap::default();
    let mut gone: Vec<_> = base.nodes.iter().filter(|(key, _)| side.get(key).is_none()).collect();
    gone.sort_by_key(|(key, _)| **key);
    for (key, seen) in gone {
        let [place] = &seen.places[..] else { continue };
        let Some(successor) = side.child(place) else { continue };
        let next = &side.nodes[&successor];
        let is_new = base.get(&successor).is_none() && (other.get(&successor).is_none() || other.get(key).is_none());
        let kind = next.inode.node.node_type();
        if is_new && kind != NodeType::Folder && kind == seen.inode.node.node_type() {
            found.entry(next.ino).or_insert(*key);
        }
    }
    found
}

/// What was given keys in one state, under the same keys in another that has it too.
fn also_there(one: &Side<'_>, given: &FxHashMap<Ino, Key>, other: &Side<'_>) -> FxHashMap<Ino, Key> {
    let there = |ino: &Ino| Some(other.get(&one.snapshot.inodes().get(ino)?.0.id)?.ino);
    given.iter().filter_map(|(ino, key)| Some((there(ino)?, *key))).collect()
}

/// New local inodes at places where the remote state has new ones that are the same: folders, and whatever holds the same.
fn made_alike(base: &Side<'_>, local: &Side<'_>, remote: &Side<'_>) -> Result<FxHashMap<Ino, Key>, TreeError> {
    let (mut found, mut own_keys) = (FxHashMap::default(), FxHashMap::default());
    let is_new = |key: &Key, other: &Side<'_>| base.get(key).is_none() && other.get(key).is_none();
    let mut places: Vec<Place> = local
        .nodes
        .iter()
        .filter(|(key, seen)| seen.places.len() == 1 && is_new(key, remote))
        .map(|(_, seen)| seen.places[0].clone())
        .filter(|(parent, _)| remote.get(parent).is_some())
        .collect();
    while let Some((parent, name)) = places.pop() {
        // The parent is named as the remote state names it.
        let own_parent = own_keys.get(&parent).copied().unwrap_or(parent);
        let Some(own) = local.child(&(own_parent, name.clone())) else { continue };
        let Some(theirs) = remote.child(&(parent, name)) else { continue };
        let (one, other) = (&local.nodes[&own], &remote.nodes[&theirs]);
        if !is_new(&own, remote) || !is_new(&theirs, local) || one.places.len() != 1 || other.places.len() != 1 {
            continue;
        }
        if !is_same_content(Matching::Ids, (local, one), (remote, other))? {
            continue;
        }
        found.insert(one.ino, theirs);
        own_keys.insert(theirs, own);
        if let Node::Folder(folder) = &one.inode.node {
            places.extend(folder.entries().map(|(name, _)| (theirs, name.clone())));
        }
    }
    Ok(found)
}

/// Gives every inode the key that one of its kind has at its path in another state, the first that knows it.
fn by_path(snapshot: &Snapshot, others: &[&Side<'_>]) -> FxHashMap<Ino, Key> {
    let (mut found, mut given) = (FxHashMap::default(), FxHashMap::<Key, Ino>::default());
    let mut waiting = vec![(Ino::ROOT, Key::ROOT)];
    while let Some((at, parent)) = waiting.pop() {
        let Some(Node::Folder(folder)) = snapshot.inodes().get(&at).map(|inode| &inode.0.node) else { continue };
        for (name, child) in folder.entries() {
            let Some(inode) = snapshot.inodes().get(&child).map(|inode| &inode.0) else { continue };
            let place = (parent, name.clone());
            let same = others.iter().find_map(|other| {
                let key = other.child(&place)?;
                is_same_thing(other.get(&key)?.inode, inode).then_some(key)
            });
            let key = same.filter(|key| !given.contains_key(key) && !found.contains_key(&child));
            if let Some(key) = key {
                found.insert(child, key);
                given.insert(key, child);
            }
            if matches!(inode.node, Node::Folder(_)) {
                waiting.push((child, found.get(&child).copied().unwrap_or(inode.id)));
            }
        }
    }
    found
}

/// Whether two inodes at one path can be two states of one.
fn is_same_thing(one: &Inode, other: &Inode) -> bool {
    match (&one.node, &other.node) {
        (Node::Symlink(left), Node::Symlink(right)) => left == right,
        (Node::CharDevice(left), Node::CharDevice(right)) => left == right,
        (Node::BlockDevice(left), Node::BlockDevice(right)) => left == right,
        (left, right) => left.node_type() == right.node_type(),
    }
}
