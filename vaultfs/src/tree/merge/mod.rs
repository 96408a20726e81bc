//! Three-way merge: what two sides made of one state becomes one tree, in which nothing that either changed is lost. The rules
//! are a table in docs/MERGE.md. Planning is pure; the plan is then carried out on the living tree.

mod apply;
mod conflicts;
mod label;
mod nodes;
mod pairing;
mod places;
mod sides;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use parking_lot::Mutex;
use rustc_hash::{FxHashMap, FxHashSet};

use super::content::Content;
use super::inode::Node;
use super::state::State;
use super::{Ino, Snapshot, Tree, TreeError};

use nodes::{Body, Clash, decide};
use pairing::Sides;
use places::{Bounds, Nodes, check, connect, settle};
use sides::{Key, Place};

pub use apply::TreeChanges;
pub use conflicts::{CONFLICTS, Conflict, ConflictKind};
pub use label::MergeLabel;

/// How often a merge is planned without the tree's lock before a busy tree is held up for it.
const FREE_TRIES: usize = 4;

/// How inodes of different states are known to be the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matching {
    /// By their ids: archives of version 2 of one vault.
    Ids,
    /// By path and content: version 1, which has no ids, and archives that were upgraded apart.
    Paths,
}

/// What a merge did.
#[derive(Debug, Default)]
pub struct Merged {
    /// What the user is told, in a fixed order.
    pub conflicts: Vec<Conflict>,
    /// What kernels are told.
    pub changes: TreeChanges,
}

/// What a merge makes.
struct Plan {
    nodes: Nodes,
    names: FxHashMap<Place, Key>,
    /// Keys of the living inodes, without those that are unchanged.
    keys: FxHashMap<Ino, Key>,
    conflicts: Vec<Conflict>,
}

/// The state that two sides began with, and the side that the living tree is merged into.
#[derive(Clone, Copy)]
pub struct MergeWith<'a> {
    /// How inodes are matched.
    pub matching: Matching,
    /// The state that both began with.
    pub base: &'a Snapshot,
    /// The state that keeps names and contents where both changed them.
    pub remote: &'a Snapshot,
    /// Names the living tree's side.
    pub label: &'a MergeLabel,
}

impl Tree {
    /// Makes the tree what it, another state and the state that both began with come to. Open files stay open: an inode that both
    /// states have stays what it is. May grow beyond `vault.size`, as opening may.
    ///
    /// # Errors
    /// [`TreeError::Sealing`]; [`TreeError::NoSpace`], [`TreeError::NameTooLong`], [`TreeError::TooManyLinks`]: no archive could hold
    /// the result. Nothing is changed then.
    pub fn merge(&self, with: &MergeWith<'_>) -> Result<Merged, TreeError> {
        let mut contents = FxHashMap::default();
        for attempt in 0.. {
            let local = self.snapshot();
            let plan = plan(with, &local, self.bounds())?;
            self.prepare(&plan, with.remote, &mut contents)?;
            let gates = gates(&plan, &local);
            let held: Vec<_> = gates.values().map(|gate| gate.lock()).collect();
            let (merged, revision, gone) = {
                let mut state = self.state.write();
                let (plan, local) = match state.revision == local.revision() {
                    true => (plan, local),
                    false if attempt < FREE_TRIES => continue,
                    // Who writes all the time must not keep the merge from ever coming to an end.
                    false => match self.plan_held(with, &state, &gates, &contents)? {
                        Some(planned) => planned,
                        None => continue,
                    },
                };
                let merged = apply::apply(&mut state, plan, with.remote, &local, &contents)?;
                (merged, state.bump(), std::mem::take(&mut state.gone))
            };
            drop((held, gone));
            self.notify(revision);
            return Ok(merged);
        }
        unreachable!("it is tried until it works")
    }

    fn bounds(&self) -> Bounds {
        let options = self.state.read().options;
        Bounds { entries: options.entry_limit, logical: options.logical_limit }
    }

    /// Plans with the tree's lock held; `None` when contents change that nobody waits for.
    fn plan_held(
        &self,
        with: &MergeWith<'_>,
        state: &State,
        gates: &FxHashMap<Ino, Arc<Mutex<()>>>,
        contents: &FxHashMap<Ino, Arc<Content>>,
    ) -> Result<Option<(Plan, Snapshot)>, TreeError> {
        let now = Snapshot::new(state.revision, state.inodes.clone(), self.sealer.clone());
        let bounds = Bounds { entries: state.options.entry_limit, logical: state.options.logical_limit };
        let plan = plan(with, &now, bounds)?;
        let is_ready = plan.nodes.values().all(|node| match node.body {
            Body::Remote(ino) => {
                contents.contains_key(&ino) && node.local.is_none_or(|local| gates.contains_key(&local))
            }
            _ => true,
        });
        Ok(is_ready.then_some((plan, now)))
    }

    /// Seals what comes from the other state under this tree's key; what was sealed for a plan before is there already.
    fn prepare(
        &self,
        plan: &Plan,
        remote: &Snapshot,
        contents: &mut FxHashMap<Ino, Arc<Content>>,
    ) -> Result<(), TreeError> {
        for node in plan.nodes.values() {
            let Body::Remote(ino) = node.body else { continue };
            if contents.contains_key(&ino) {
                continue;
            }
            let content = match remote.inodes().get(&ino).map(|inode| &inode.0.node) {
                Some(Node::File(file)) => {
                    super::across::Held { content: &file.content, sealer: remote.sealer() }.sealed_for(&self.sealer)?
                }
                _ => Arc::default(),
            };
            contents.insert(ino, content);
        }
        Ok(())
    }
}

/// The write gates of the living files that get another content.
fn gates(plan: &Plan, local: &Snapshot) -> FxHashMap<Ino, Arc<Mutex<()>>> {
    let replaced = plan.nodes.values().filter(|node| matches!(node.body, Body::Remote(_)));
    let gate = |ino: Ino| match &local.inodes().get(&ino)?.0.node {
        Node::File(file) => Some((ino, file.write_gate.clone())),
        _ => Some((ino, Arc::default())),
    };
    replaced.filter_map(|node| gate(node.local?)).collect()
}

fn plan(with: &MergeWith<'_>, local: &Snapshot, bounds: Bounds) -> Result<Plan, TreeError> {
    let sides = Sides::new(with.matching, with.base, local, with.remote)?;
    let (mut nodes, mut clashes) = (Nodes::default(), Vec::new());
    let keys: FxHashSet<Key> = sides.local.nodes.keys().chain(sides.remote.nodes.keys()).copied().collect();
    for key in keys {
        if let Some((node, found)) = decide(&sides, &key)? {
            nodes.insert(key, node);
            clashes.extend(found.into_iter().map(|clash| (key, clash)));
        }
    }
    let put_back = connect(&sides, &mut nodes);
    let (mut names, lost) = settle(&sides, &mut nodes)?;
    clashes.retain(|(key, clash): &(Key, Clash)| nodes.contains_key(key) || *clash == Clash::BothEdited);
    let placer = conflicts::Placer {
        sides: &sides,
        nodes: &mut nodes,
        names: &mut names,
        label: with.label,
        conflicts: Vec::new(),
    };
    let conflicts = placer.place_all(clashes, lost, &put_back)?;
    check(&sides, &nodes, bounds)?;
    Ok(Plan { nodes, names, keys: sides.local.keys, conflicts })
}
