//! What lies in several states of one vault as it did, told without looking at contents: mostly nearly all of a tree, so that merges
//! and differences go over the rest only. Folders are never among it: they are few, and everything hangs on them.

use std::cmp::Ordering;
use std::iter::Peekable;

use rustc_hash::FxHashSet;

use crate::entry::InodeKind;

use super::difference::attributes;
use super::inode::{Folder, Inode, Name, Node};
use super::{Ino, Snapshot};

/// Inodes with one name and no children that are the same in all of some states, at the same path.
pub(super) struct Unchanged<const N: usize> {
    /// What they are in each state.
    inos: [FxHashSet<Ino>; N],
    /// Bytes of the files among them.
    logical: u64,
}

impl<const N: usize> Unchanged<N> {
    /// Nothing, where states cannot be compared so.
    pub fn nothing() -> Self {
        Self { inos: std::array::from_fn(|_| FxHashSet::default()), logical: 0 }
    }

    /// Compares states whose inodes are known by their ids. A change of content sets times that were not there before.
    pub fn of(states: [&Snapshot; N]) -> Self {
        let mut found = Self::nothing();
        #[cfg(test)]
        if OFF.get() {
            return found;
        }
        let mut waiting = vec![[Ino::ROOT; N]];
        while let Some(folders) = waiting.pop() {
            found.look_into(&states, folders, &mut waiting);
        }
        found
    }

    /// Whether an inode of a state is among it.
    pub fn holds(&self, state: usize, ino: Ino) -> bool {
        self.inos[state].contains(&ino)
    }

    /// The inodes in a state.
    pub fn inos(&self, state: usize) -> &FxHashSet<Ino> {
        &self.inos[state]
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.inos.first().map_or(0, FxHashSet::len)
    }

    /// Bytes of the files, holes included.
    pub fn logical(&self) -> u64 {
        self.logical
    }

    /// Looks into a folder that is at the same path in all states.
    fn look_into(&mut self, states: &[&Snapshot; N], folders: [Ino; N], waiting: &mut Vec<[Ino; N]>) {
        let found = states.iter().zip(folders).map(|(state, ino)| folder(inode(state, ino)?));
        let Some(found) = found.collect::<Option<Vec<&Folder>>>() else { return };
        let mut others: Vec<_> = found[1..].iter().map(|folder| folder.entries().peekable()).collect();
        for (name, ino) in found[0].entries() {
            let mut inos = [ino; N];
            let is_common = inos[1..].iter_mut().zip(&mut others).all(|(ino, entries)| match find(entries, name) {
                Some(other) => {
                    *ino = other;
                    true
                }
                None => false,
            });
            if is_common {
                self.take(states, inos, waiting);
            }
        }
    }

    /// Takes what one name leads to in all states.
    fn take(&mut self, states: &[&Snapshot; N], inos: [Ino; N], waiting: &mut Vec<[Ino; N]>) {
        let Some(first) = inode(states[0], inos[0]) else { return };
        let mut others = states.iter().zip(inos).skip(1);
        if folder(first).is_some() {
            if others.all(|(state, ino)| inode(state, ino).is_some_and(|other| other.id == first.id)) {
                waiting.push(inos);
            }
        } else if others.all(|(state, ino)| inode(state, ino).is_some_and(|other| is_same(first, other))) {
            for (all, ino) in self.inos.iter_mut().zip(inos) {
                all.insert(ino);
            }
            if let Node::File(file) = &first.node {
                self.logical = self.logical.saturating_add(file.content.size());
            }
        }
    }
}

fn inode(state: &Snapshot, ino: Ino) -> Option<&Inode> {
    state.inodes().get(&ino).map(|inode| &*inode.0)
}

fn folder(inode: &Inode) -> Option<&Folder> {
    match &inode.node {
        Node::Folder(folder) => Some(folder),
        _ => None,
    }
}

/// Goes on to a name in the entries of a folder, which are sorted by name.
fn find<'a>(entries: &mut Peekable<impl Iterator<Item = (&'a Name, Ino)>>, name: &Name) -> Option<Ino> {
    while let Some((next, ino)) = entries.peek() {
        match (**next).cmp(name) {
            Ordering::Less => drop(entries.next()),
            Ordering::Equal => return Some(*ino),
            Ordering::Greater => return None,
        }
    }
    None
}

fn is_same(one: &Inode, other: &Inode) -> bool {
    let is_same_node = match (&one.node, &other.node) {
        (Node::Symlink(left), Node::Symlink(right)) => left == right,
        (left, right) => InodeKind::from(left) == InodeKind::from(right),
    };
    is_same_node
        && one.id == other.id
        && (one.places.len(), other.places.len()) == (1, 1)
        && attributes(one) == attributes(other)
        && one.xattrs == other.xattrs
}

#[cfg(test)]
thread_local! {
    /// Nothing is found: what goes over everything must come to the same.
    pub static OFF: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}
