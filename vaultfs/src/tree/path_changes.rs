//! What changed between two snapshots as people see it: paths that came, went, moved, or hold something else.

use std::collections::BTreeMap;

use rustc_hash::FxHashSet;

use crate::entry::{EntryPath, InodeId};

use super::difference::{Pair, pairs};
use super::inode::{Inode, Name, Node, Place};
use super::{Ino, Snapshot};

/// What happened to one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathChange {
    /// Something is there that was not.
    Created(EntryPath),
    /// It holds something else, or its attributes are others. Of a folder: its attributes.
    Changed(EntryPath),
    /// It was moved, with all that is below it.
    Renamed {
        /// Where it was.
        from: EntryPath,
        /// Where it is.
        to: EntryPath,
    },
    /// It is gone.
    Deleted(EntryPath),
}

impl PathChange {
    /// The path; after a move, the later one.
    pub fn path(&self) -> &EntryPath {
        match self {
            Self::Created(path) | Self::Changed(path) | Self::Deleted(path) | Self::Renamed { to: path, .. } => path,
        }
    }

    /// Whether a path, or anything below it, is another one because of this.
    pub fn touches(&self, path: &EntryPath) -> bool {
        match self {
            // All that lies below a folder moves with it.
            Self::Renamed { from, to } => {
                [from, to].iter().any(|end| is_at_or_below(end, path) || is_at_or_below(path, end))
            }
            other => is_at_or_below(other.path(), path),
        }
    }
}

impl Snapshot {
    /// Tells what leads from an earlier snapshot of the same tree to this one, sorted by path. Content that is not kept cannot
    /// be compared: `written` names the files whose content changed.
    pub fn path_changes_since(&self, earlier: &Snapshot, written: &FxHashSet<InodeId>) -> Vec<PathChange> {
        let mut changes = Vec::new();
        for Pair { old, new } in &pairs(earlier.inodes(), self.inodes()) {
            let (before, after) = (earlier.names(old.as_deref()), self.names(new.as_deref()));
            let mut gone = before.iter().filter(|name| !after.contains(name)).map(|name| earlier.path(name));
            let (kept, come): (Vec<_>, Vec<_>) = after.iter().partition(|name| before.contains(name));
            let mut there: Vec<EntryPath> = kept.into_iter().map(|name| self.path(name)).collect();
            for to in come.into_iter().map(|name| self.path(name)) {
                changes.push(match gone.next() {
                    Some(from) => {
                        there.push(to.clone());
                        PathChange::Renamed { from, to }
                    }
                    None => PathChange::Created(to),
                });
            }
            changes.extend(gone.map(PathChange::Deleted));
            if let (Some(old), Some(new)) = (old, new)
                && (is_changed(old, new) || written.contains(&new.id))
            {
                there.extend((new.id == InodeId::ROOT).then(EntryPath::root));
                changes.extend(there.into_iter().map(PathChange::Changed));
            }
        }
        joined(changes)
    }

    fn names(&self, inode: Option<&Inode>) -> Vec<(Ino, Name)> {
        let name = |place: &Place| Some((place.folder, self.folder_name(place)?));
        inode.map_or(&[][..], |inode| &inode.places).iter().filter_map(name).collect()
    }

    fn folder_name(&self, place: &Place) -> Option<Name> {
        match &self.inodes().get(&place.folder)?.0.node {
            Node::Folder(folder) => folder.name_at(place.cookie).cloned(),
            _ => None,
        }
    }

    /// The path of a name in a folder.
    fn path(&self, (folder, name): &(Ino, Name)) -> EntryPath {
        let (mut names, mut at) = (vec![name.clone()], *folder);
        while let Some(place) = self.inodes().get(&at).and_then(|inode| inode.0.places.first()) {
            names.extend(self.folder_name(place));
            at = place.folder;
        }
        names.iter().rev().fold(EntryPath::root(), |path, name| path.join(name))
    }
}

/// Whether an inode holds or is something else, as far as is told without its content. The times of a folder tell of its
/// entries, and the time of the last change of attributes tells of names too.
fn is_changed(old: &Inode, new: &Inode) -> bool {
    let is_file_changed = match (&old.node, &new.node) {
        (Node::File(old), Node::File(new)) => old.content.size() != new.content.size(),
        _ => false,
    };
    let is_folder = matches!(new.node, Node::Folder(_));
    is_file_changed || old.mode != new.mode || old.xattrs != new.xattrs || (!is_folder && old.mtime != new.mtime)
}

/// Makes one change of what happened to a path in two steps: an editor's save is a new file that is moved over the old one.
fn joined(changes: Vec<PathChange>) -> Vec<PathChange> {
    let mut joined: BTreeMap<(EntryPath, bool), PathChange> = BTreeMap::new();
    for change in changes {
        let path = change.path().clone();
        let is_rename = matches!(change, PathChange::Renamed { .. });
        match joined.get(&(path.clone(), is_rename)) {
            // Deleted and created, in any order: another one is there.
            Some(other) if *other != change => {
                joined.insert((path.clone(), false), PathChange::Changed(path));
            }
            _ => drop(joined.insert((path, is_rename), change)),
        }
    }
    let moved: Vec<EntryPath> =
        joined.keys().filter(|(_, is_rename)| *is_rename).map(|(path, _)| path.clone()).collect();
    for path in moved {
        let key = (path, false);
        // What lay where it was moved to.
        if matches!(joined.get(&key), Some(PathChange::Deleted(_))) {
            joined.remove(&key);
        }
    }
    joined.into_values().collect()
}

fn is_at_or_below(path: &EntryPath, folder: &EntryPath) -> bool {
    let rest = path.as_bytes().strip_prefix(folder.as_bytes());
    rest.is_some_and(|rest| folder.is_root() || rest.is_empty() || rest[0] == b'/')
}
