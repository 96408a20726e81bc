//! The names of all inodes together: folders that are still needed, circles, and names that two inodes claim.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::tree::inode::Node;
use crate::tree::names::LINK_MAX;
use crate::tree::{NodeType, TreeError};

use super::conflicts::CONFLICTS;
use super::nodes::{Body, Planned, of_local, of_remote};
use super::pairing::Sides;
use super::sides::{Key, Place, Seen, Side, is_same_content};

/// A name that an inode had to leave to another.
pub(super) type Lost = (Place, Key);

/// The inodes of the result.
pub(super) type Nodes = FxHashMap<Key, Planned>;

/// Brings back folders that something which stays lies in, and takes circles apart; returns the folders that were put back to
/// where the remote state has them.
pub(super) fn connect(sides: &Sides<'_>, nodes: &mut Nodes) -> Vec<Key> {
    let (mut put_back, mut before) = (Vec::new(), lay_before(sides));
    loop {
        revive(sides, nodes);
        let none = FxHashMap::default();
        let Some(circle) = find_circle(nodes, &before).or_else(|| find_circle(nodes, &none)) else { break };
        let found = put_back.len();
        // The remote state has no circle, and what only the local one has makes none either: this comes to an end.
        for key in &circle {
            if let (Some(seen), Some(node)) = (sides.remote.get(key), nodes.get_mut(key))
                && node.places != seen.places
            {
                node.places = seen.places.clone();
                put_back.push(*key);
            }
        }
        if put_back.len() == found {
            before.retain(|key, _| !circle.contains(key));
        }
    }
    put_back.sort();
    put_back
}

/// Where folders lay that are in the conflict folder now: in a merge that was done before they were part of circles from there, and
/// what was put back then must not follow them.
fn lay_before(sides: &Sides<'_>) -> FxHashMap<Key, Key> {
    let mut before = FxHashMap::default();
    for (key, local) in &sides.local.nodes {
        let (Some(remote), [(parent, _)]) = (sides.remote.get(key), &local.places[..]) else { continue };
        let is_moved = local.inode.node.node_type() == NodeType::Folder && remote.places != local.places;
        if is_moved && lies_in_conflicts(&sides.remote, remote) {
            before.insert(*key, *parent);
        }
    }
    before
}

/// Whether something has a name in the conflict folder.
fn lies_in_conflicts(side: &Side<'_>, seen: &Seen<'_>) -> bool {
    seen.places.iter().any(|place| side.path(place).components().next() == Some(CONFLICTS))
}

fn revive(sides: &Sides<'_>, nodes: &mut Nodes) {
    let mut missing: Vec<Key> = Vec::new();
    let parents = |node: &Planned, nodes: &Nodes| -> Vec<Key> {
        node.places.iter().map(|(parent, _)| *parent).filter(|parent| !nodes.contains_key(parent)).collect()
    };
    nodes.values().for_each(|node| missing.extend(parents(node, nodes)));
    while let Some(key) = missing.pop() {
        if nodes.contains_key(&key) {
            continue;
        }
        let folder = sides.local.get(&key).map(of_local).or_else(|| sides.remote.get(&key).map(of_remote));
        let Some(folder) = folder else { continue };
        missing.extend(parents(&folder, nodes));
        nodes.insert(key, folder);
    }
}

/// Folders that lie in each other; some are looked at where they lay before.
fn find_circle(nodes: &Nodes, before: &FxHashMap<Key, Key>) -> Option<Vec<Key>> {
    let mut reachable = FxHashSet::from_iter([Key::ROOT]);
    let parent_of = |key: &Key| match before.get(key) {
        Some(parent) => Some(*parent),
        None => nodes.get(key)?.places.first().map(|(parent, _)| *parent),
    };
    let parents: FxHashSet<Key> = nodes.values().flat_map(|node| &node.places).map(|(parent, _)| *parent).collect();
    for folder in parents {
        let mut way = Vec::new();
        let mut at = folder;
        while !reachable.contains(&at) {
            if let Some(start) = way.iter().position(|key| *key == at) {
                return Some(way.split_off(start));
            }
            way.push(at);
            match parent_of(&at) {
                Some(parent) => at = parent,
                None => break,
            }
        }
        reachable.extend(way);
    }
    None
}

/// Gives each name to one inode: the remote state's, where two claim it. Returns the names, and those that were lost, with what had
/// them; what has no name now and holds the same as the winner goes.
pub(super) fn settle(sides: &Sides<'_>, nodes: &mut Nodes) -> Result<(FxHashMap<Place, Key>, Vec<Lost>), TreeError> {
    let mut names: FxHashMap<Place, Key> = FxHashMap::default();
    let mut claims = Vec::new();
    for (&key, node) in &*nodes {
        for place in &node.places {
            if let Some(other) = names.insert(place.clone(), key) {
                claims.push((place.clone(), key, other));
            }
        }
    }
    claims.sort();
    let mut lost = Vec::new();
    for (place, one, other) in claims {
        let is_remote = sides.remote.child(&place) == Some(one);
        let (winner, loser) = if is_remote { (one, other) } else { (other, one) };
        names.insert(place.clone(), winner);
        let node = nodes.get_mut(&loser).expect("only inodes of the result claim names");
        node.places.retain(|held| *held != place);
        if node.places.is_empty() && holds_the_same(sides, nodes, &winner, &loser)? {
            nodes.remove(&loser);
        } else {
            lost.push((place, loser));
        }
    }
    lost.retain(|(_, loser)| nodes.contains_key(loser));
    Ok((names, lost))
}

fn holds_the_same(sides: &Sides<'_>, nodes: &Nodes, one: &Key, other: &Key) -> Result<bool, TreeError> {
    let (Some(one), Some(other)) = (source(sides, nodes, one), source(sides, nodes, other)) else { return Ok(false) };
    if matches!(one.1.inode.node, Node::Folder(_)) {
        return Ok(false);
    }
    is_same_content(sides.matching, one, other)
}

/// The inode that a body comes from.
fn source<'s, 'a>(sides: &'s Sides<'a>, nodes: &Nodes, key: &Key) -> Option<(&'s Side<'a>, &'s Seen<'a>)> {
    match nodes.get(key)?.body {
        Body::Local => sides.local.get(key).map(|seen| (&sides.local, seen)),
        Body::Remote(_) => sides.remote.get(key).map(|seen| (&sides.remote, seen)),
        _ => None,
    }
}

/// Bounds of what an archive may hold.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub entries: u64,
    pub logical: u64,
}

/// Refuses a result that no archive could be read with.
pub(super) fn check(sides: &Sides<'_>, nodes: &Nodes, bounds: Bounds) -> Result<(), TreeError> {
    let unchanged = &sides.unchanged;
    if (nodes.len() + unchanged.count()) as u64 > bounds.entries.saturating_add(1) {
        return Err(TreeError::NoSpace);
    }
    let size = |key: &Key| match source(sides, nodes, key).map(|(_, seen)| &seen.inode.node) {
        Some(Node::File(file)) => file.content.size(),
        _ => 0,
    };
    if nodes.keys().map(size).fold(unchanged.logical(), u64::saturating_add) > bounds.logical {
        return Err(TreeError::NoSpace);
    }
    if nodes.values().any(|node| node.places.len() > LINK_MAX) {
        return Err(TreeError::TooManyLinks);
    }
    check_paths(nodes)
}

fn check_paths(nodes: &Nodes) -> Result<(), TreeError> {
    let mut lengths = FxHashMap::from_iter([(Key::ROOT, 0)]);
    for (key, node) in nodes {
        if *key != Key::ROOT && node.places.is_empty() {
            return Err(TreeError::Invalid);
        }
        for (parent, name) in &node.places {
            let above = path_len(nodes, &mut lengths, parent).ok_or(TreeError::Invalid)?;
            if above + usize::from(above > 0) + name.len() > crate::entry::PATH_MAX {
                return Err(TreeError::NameTooLong);
            }
        }
    }
    Ok(())
}

/// The length of a folder's path in bytes.
fn path_len(nodes: &Nodes, lengths: &mut FxHashMap<Key, usize>, folder: &Key) -> Option<usize> {
    let (mut way, mut at) = (Vec::new(), *folder);
    while !lengths.contains_key(&at) {
        let (parent, name) = nodes.get(&at)?.places.first()?;
        way.push((at, name.len()));
        if way.len() > crate::entry::PATH_MAX {
            return None;
        }
        at = *parent;
    }
    let mut len = lengths[&at];
    for (key, name) in way.into_iter().rev() {
        len += usize::from(len > 0) + name;
        lengths.insert(key, len);
    }
    Some(len)
}

/// Whether an inode of the result is a folder.
pub(super) fn is_folder(sides: &Sides<'_>, nodes: &Nodes, key: &Key) -> bool {
    match nodes.get(key).map(|node| &node.body) {
        Some(Body::Folder) => true,
        Some(Body::Copy(_) | Body::Note(_)) | None => false,
        Some(Body::Local | Body::Remote(_)) => {
            let seen = sides.local.get(key).or_else(|| sides.remote.get(key));
            seen.is_some_and(|seen| seen.inode.node.node_type() == NodeType::Folder)
        }
    }
}
