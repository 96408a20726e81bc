//! What becomes of one inode, its names apart from those of others: each part that one side changed is taken from it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::entry::{InodeId, Timestamp};
use crate::tree::content::Content;
use crate::tree::inode::{Inode, Node, Xattrs};
use crate::tree::{Ino, NodeType, TreeError};

use super::pairing::Sides;
use super::sides::{Key, Place, Seen, Side, is_same_content};

/// An inode of the result.
pub(super) struct Planned {
    pub id: InodeId,
    /// The living inode that it goes on as.
    pub local: Option<Ino>,
    pub body: Body,
    pub mode: u32,
    pub mtime: Timestamp,
    pub ctime: Timestamp,
    pub xattrs: Arc<Xattrs>,
    /// Sorted.
    pub places: Vec<Place>,
}

/// Where what an inode holds comes from.
pub(super) enum Body {
    /// The living inode has it already.
    Local,
    /// The remote state's inode.
    Remote(Ino),
    /// A copy of what a living inode held.
    Copy(Ino),
    /// An empty folder that the merge makes.
    Folder,
    /// A file that the merge makes.
    Note(Arc<Content>),
}

/// Something that both sides did to one inode, and the user is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Clash {
    BothEdited,
    EditedAndDeleted,
    BothRenamed,
}

/// What becomes of an inode; `None`: it goes.
pub(super) type Decision = Option<(Planned, Vec<Clash>)>;

pub(super) fn decide(sides: &Sides<'_>, key: &Key) -> Result<Decision, TreeError> {
    let base = sides.base.get(key);
    match (base, sides.local.get(key), sides.remote.get(key)) {
        (base, Some(local), Some(remote)) => both(sides, base, local, remote),
        (None, Some(local), None) => Ok(Some((of_local(local), Vec::new()))),
        (None, None, Some(remote)) => Ok(Some((of_remote(remote), Vec::new()))),
        (Some(base), Some(local), None) if is_edited(sides, base, (&sides.local, local))? => {
            Ok(Some((of_local(local), vec![Clash::EditedAndDeleted])))
        }
        (Some(base), None, Some(remote)) if is_edited(sides, base, (&sides.remote, remote))? => {
            Ok(Some((of_remote(remote), vec![Clash::EditedAndDeleted])))
        }
        _ => Ok(None),
    }
}

pub(super) fn of_local(seen: &Seen<'_>) -> Planned {
    planned(seen, Some(seen.ino), Body::Local)
}

pub(super) fn of_remote(seen: &Seen<'_>) -> Planned {
    planned(seen, None, Body::Remote(seen.ino))
}

pub(super) fn copy_of(seen: &Seen<'_>, id: InodeId) -> Planned {
    Planned { id, places: Vec::new(), ..planned(seen, None, Body::Copy(seen.ino)) }
}

fn planned(seen: &Seen<'_>, local: Option<Ino>, body: Body) -> Planned {
    let inode = seen.inode;
    Planned {
        id: inode.id,
        local,
        body,
        mode: inode.mode,
        mtime: inode.mtime,
        ctime: inode.ctime,
        xattrs: inode.xattrs.clone(),
        places: seen.places.clone(),
    }
}

/// Whether a side did anything to an inode that the other side removed. A folder is worth no more than what is in it.
fn is_edited(sides: &Sides<'_>, base: &Seen<'_>, (side, seen): (&Side<'_>, &Seen<'_>)) -> Result<bool, TreeError> {
    if seen.inode.node.node_type() == NodeType::Folder {
        return Ok(false);
    }
    let (old, new) = (base.inode, seen.inode);
    // One name less is a deletion too.
    Ok(seen.places.iter().any(|place| !base.places.contains(place))
        || (old.mode, old.mtime) != (new.mode, new.mtime)
        || old.xattrs != new.xattrs
        || !is_same_content(sides.matching, (&sides.base, base), (side, seen))?)
}

fn both(
    sides: &Sides<'_>,
    base: Option<&Seen<'_>>,
    local: &Seen<'_>,
    remote: &Seen<'_>,
) -> Result<Decision, TreeError> {
    let mut clashes = Vec::new();
    let source = source(sides, base, local, remote)?;
    if source == Source::Clash {
        clashes.push(Clash::BothEdited);
    }
    let is_folder = local.inode.node.node_type() == NodeType::Folder;
    let none = Vec::new();
    let (mut places, renamed) = merge_places(base.map_or(&none, |base| &base.places), &local.places, &remote.places);
    if renamed || (is_folder && places.len() > 1) {
        clashes.push(Clash::BothRenamed);
    }
    if is_folder && places.len() > 1 {
        places = remote.places.clone();
    }
    if places.is_empty() && local.inode.id != InodeId::ROOT {
        // Each side removed the names that the other left. That both hold the same does not tell that neither edited it: after a
        // merge that was done before, both have the edit.
        let Some(base) = base else { return Ok(None) };
        if !is_edited(sides, base, (&sides.local, local))? && !is_edited(sides, base, (&sides.remote, remote))? {
            return Ok(None);
        }
        clashes.push(Clash::EditedAndDeleted);
        places = remote.places.clone();
    }
    Ok(Some((merged(base, local, remote, source, places), clashes)))
}

/// Whose content counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// Both are the same.
    Same,
    Local,
    Remote,
    /// Both edited it: the remote's.
    Clash,
}

fn source(
    sides: &Sides<'_>,
    base: Option<&Seen<'_>>,
    local: &Seen<'_>,
    remote: &Seen<'_>,
) -> Result<Source, TreeError> {
    let (ours, theirs) = ((&sides.local, local), (&sides.remote, remote));
    if is_same_content(sides.matching, ours, theirs)? {
        return Ok(Source::Same);
    }
    let Some(base) = base else { return Ok(Source::Clash) };
    let before = (&sides.base, base);
    if is_same_content(sides.matching, before, theirs)? {
        return Ok(Source::Local);
    }
    Ok(if is_same_content(sides.matching, before, ours)? { Source::Remote } else { Source::Clash })
}

fn merged(base: Option<&Seen<'_>>, local: &Seen<'_>, remote: &Seen<'_>, source: Source, places: Vec<Place>) -> Planned {
    let (old, ours, theirs) = (base.map(|base| base.inode), local.inode, remote.inode);
    let mode = three_way(old.map(|old| old.mode), ours.mode, theirs.mode);
    let mtime = match source {
        Source::Local => ours.mtime,
        Source::Remote | Source::Clash => theirs.mtime,
        Source::Same if matches!(ours.node, Node::Folder(_)) && old.is_none_or(|old| old.mtime != ours.mtime) => {
            three_way(old.map(|old| old.mtime), ours.mtime, theirs.mtime.max(ours.mtime))
        }
        Source::Same => three_way(old.map(|old| old.mtime), ours.mtime, theirs.mtime),
    };
    let xattrs = merge_xattrs(old.map(|old| &*old.xattrs), &ours.xattrs, &theirs.xattrs);
    let is_like = |inode: &Inode, other: Source| {
        (source == Source::Same || source == other || (source == Source::Clash && other == Source::Remote))
            && (mode, mtime) == (inode.mode, inode.mtime)
            && xattrs == inode.xattrs
    };
    let latest = ours.ctime.max(theirs.ctime);
    let ctime = match (is_like(ours, Source::Local), is_like(theirs, Source::Remote)) {
        (true, true) => latest,
        (false, true) => theirs.ctime,
        (true, false) if ours.ctime > theirs.ctime => ours.ctime,
        _ => latest.successor(),
    };
    let id = id_of(base, local, remote, source);
    let body = if matches!(source, Source::Same | Source::Local) { Body::Local } else { Body::Remote(remote.ino) };
    Planned { id, local: Some(local.ino), body, mode, mtime, ctime, xattrs, places }
}

/// The remote's id, unless that saved anew what this side moved: by the id that it had it is known again. What cannot change in an
/// inode, a link's target, comes with the inode.
fn id_of(base: Option<&Seen<'_>>, local: &Seen<'_>, remote: &Seen<'_>, source: Source) -> InodeId {
    let can_change = matches!(local.inode.node, Node::File(_) | Node::Folder(_));
    let is_moved_here = base.is_some_and(|base| base.inode.id == local.inode.id && base.places != local.places);
    let is_local = if can_change { is_moved_here } else { source == Source::Local };
    if is_local { local.inode.id } else { remote.inode.id }
}

/// What one side changed; the remote's where both did.
fn three_way<T: PartialEq>(base: Option<T>, local: T, remote: T) -> T {
    if base.is_some_and(|base| base == remote) { local } else { remote }
}

fn merge_xattrs(base: Option<&Xattrs>, local: &Arc<Xattrs>, remote: &Arc<Xattrs>) -> Arc<Xattrs> {
    if local == remote || base.is_some_and(|base| *base == **remote) {
        return local.clone();
    }
    let mut merged: Xattrs = BTreeMap::new();
    for name in local.keys().chain(remote.keys()) {
        let of = |xattrs: &Xattrs| xattrs.get(name).cloned();
        let value = match base {
            Some(base) => three_way(Some(of(base)), of(local), of(remote)),
            None => of(remote).or_else(|| of(local)),
        };
        if let Some(value) = value {
            merged.insert(name.clone(), value);
        }
    }
    Arc::new(merged)
}

/// The names that are left of both, and whether both renamed the inode: the remote's new name counts then.
fn merge_places(base: &[Place], local: &[Place], remote: &[Place]) -> (Vec<Place>, bool) {
    if local == remote || local == base {
        return (remote.to_vec(), false);
    }
    if remote == base {
        return (local.to_vec(), false);
    }
    let without = |all: &[Place], others: &[&[Place]]| -> Vec<Place> {
        all.iter().filter(|place| !others.iter().any(|other| other.contains(place))).cloned().collect()
    };
    let gone_from_both = without(base, &[local, remote]).len();
    let mut added_here = without(local, &[base, remote]);
    let added_there = without(remote, &[base, local]).len();
    let renamed = gone_from_both.min(added_here.len()).min(added_there);
    added_here.drain(..renamed);
    let gone_here = without(base, &[local]);
    let mut places = without(remote, &[&gone_here]);
    places.extend(added_here);
    places.sort();
    (places, renamed > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_merged_one_by_one() {
        let places = |names: &str| -> Vec<Place> {
            names.bytes().map(|name| (InodeId::ROOT, [name].as_slice().into())).collect()
        };
        for (base, local, remote, merged, renamed) in [
            ("a", "a", "a", "a", false),
            ("a", "b", "a", "b", false),
            ("a", "a", "b", "b", false),
            ("a", "b", "b", "b", false),
            ("a", "b", "c", "c", true),
            ("ab", "a", "b", "", false),
            ("a", "ab", "ac", "abc", false),
            ("a", "b", "ac", "bc", false),
            ("ab", "cd", "ef", "ef", true),
            ("ab", "acd", "ae", "ade", true),
        ] {
            let outcome = merge_places(&places(base), &places(local), &places(remote));
            assert_eq!(outcome, (places(merged), renamed), "{base} {local} {remote}");
        }
    }
}
