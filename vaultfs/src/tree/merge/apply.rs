//! Carries out a plan on the living tree, under its lock: nothing here seals or opens.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::tree::content::Content;
use crate::tree::inode::{FileNode, Inode, Name, Node};
use crate::tree::state::State;
use crate::tree::{Ino, Snapshot, TreeError};

use super::nodes::{Body, Planned};
use super::sides::Key;
use super::{Merged, Plan};

/// What kernels that know the tree have to be told after a change that came through none of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeChanges {
    /// Inodes whose content, attributes or entries changed.
    pub inodes: Vec<Ino>,
    /// Names that came, went, or lead elsewhere, with the folder.
    pub names: Vec<(Ino, Vec<u8>)>,
    /// Inodes that lost their last name, with that name.
    pub removed: Vec<(Ino, Ino, Vec<u8>)>,
    /// A folder lies elsewhere, and all that is in it.
    pub moved_folders: bool,
}

impl TreeChanges {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.inodes.is_empty() && self.names.is_empty()
    }
}

type Contents = FxHashMap<Ino, Arc<Content>>;

pub(super) fn apply(
    state: &mut State,
    plan: Plan,
    remote: &Snapshot,
    local: &Snapshot,
    contents: &Contents,
) -> Result<Merged, TreeError> {
    let mut work =
        Work { state, plan, remote, local, contents, inos: FxHashMap::default(), changes: TreeChanges::default() };
    let (detached, attached) = work.renamed();
    work.put_inodes()?;
    work.put_names(&detached, &attached)?;
    work.changes.inodes.sort();
    work.changes.inodes.dedup();
    Ok(Merged { conflicts: work.plan.conflicts, changes: work.changes })
}

struct Work<'a> {
    state: &'a mut State,
    plan: Plan,
    remote: &'a Snapshot,
    local: &'a Snapshot,
    contents: &'a Contents,
    /// The living inodes of the result.
    inos: FxHashMap<Key, Ino>,
    changes: TreeChanges,
}

/// Names that go, with what they lead to, and names that come.
type Renamed = (Vec<(Ino, Name, Ino)>, Vec<(Key, Name, Key)>);

impl Work<'_> {
    fn renamed(&self) -> Renamed {
        let (mut detached, mut kept) = (Vec::new(), FxHashMap::default());
        for (ino, inode) in self.state.inodes.iter() {
            let Node::Folder(folder) = &inode.0.node else { continue };
            let key = self.plan.keys.get(ino);
            for (name, child) in folder.entries() {
                if !self.plan.keys.contains_key(&child) {
                    // It is unchanged, and has one name only.
                    continue;
                }
                let place = key.map(|key| (*key, name.clone()));
                let wanted = place.as_ref().and_then(|place| self.plan.names.get(place));
                match wanted.filter(|wanted| self.plan.nodes[*wanted].local == Some(child)) {
                    Some(_) => kept.insert(place, ()),
                    None => {
                        detached.push((*ino, name.clone(), child));
                        None
                    }
                };
            }
        }
        let is_new = |place: &super::Place| !kept.contains_key(&Some(place.clone()));
        let mut attached: Vec<_> = self
            .plan
            .names
            .iter()
            .filter(|(place, _)| is_new(place))
            .map(|((parent, name), key)| (*parent, name.clone(), *key))
            .collect();
        attached.sort();
        (detached, attached)
    }

    /// Makes new inodes, and changes the living ones.
    fn put_inodes(&mut self) -> Result<(), TreeError> {
        let mut nodes: Vec<(Key, Planned)> = self.plan.nodes.drain().collect();
        nodes.sort_by_key(|(key, _)| *key);
        for (key, node) in nodes {
            let ino = match node.local {
                Some(ino) => {
                    self.change(ino, node)?;
                    ino
                }
                None => self.add(node)?,
            };
            self.inos.insert(key, ino);
        }
        Ok(())
    }

    fn add(&mut self, node: Planned) -> Result<Ino, TreeError> {
        let inode = Inode::new(self.body(&node.body)?, node.mode, self.state.options.owner, node.ctime);
        let inode = Inode { id: node.id, atime: node.mtime, mtime: node.mtime, xattrs: node.xattrs, ..inode };
        let size = size(&inode);
        let ino = self.state.add_known_inode(inode);
        self.state.recount((0, 0), (0, size));
        Ok(ino)
    }

    fn body(&self, body: &Body) -> Result<Node, TreeError> {
        let file = |content| Node::File(FileNode { content, write_gate: Arc::default() });
        let (snapshot, ino) = match body {
            Body::Local => return Err(TreeError::NotFound),
            Body::Folder => return Ok(Node::Folder(Arc::default())),
            Body::Note(content) => return Ok(file(content.clone())),
            Body::Remote(ino) => (self.remote, ino),
            Body::Copy(ino) => (self.local, ino),
        };
        let node = match (&snapshot.inodes().get(ino).ok_or(TreeError::NotFound)?.0.node, body) {
            (Node::File(_), Body::Remote(ino)) => file(self.contents.get(ino).cloned().ok_or(TreeError::NotFound)?),
            (Node::File(old), _) => file(old.content.clone()),
            (Node::Folder(_), _) => Node::Folder(Arc::default()),
            (other, _) => other.clone(),
        };
        Ok(node)
    }

    fn change(&mut self, ino: Ino, node: Planned) -> Result<(), TreeError> {
        let new = match node.body {
            Body::Local => None,
            _ => Some(self.body(&node.body)?),
        };
        let inode = self.state.inode(ino)?;
        let is_same = new.is_none()
            && (inode.id, inode.mode, inode.mtime, inode.ctime) == (node.id, node.mode, node.mtime, node.ctime)
            && inode.xattrs == node.xattrs;
        if is_same {
            return Ok(());
        }
        let before = (inode.cost(), size(inode));
        let inode = self.state.inode_mut(ino)?;
        (inode.id, inode.mode, inode.mtime, inode.ctime) = (node.id, node.mode, node.mtime, node.ctime);
        inode.xattrs = node.xattrs;
        match (&mut inode.node, new) {
            (_, None) => {}
            (Node::File(file), Some(Node::File(new))) => file.content = new.content,
            (_, Some(Node::Folder(_))) => {}
            (old, Some(new)) => *old = new,
        }
        let after = (inode.cost(), size(inode));
        self.state.recount((before.0, after.0), (before.1, after.1));
        self.changes.inodes.push(ino);
        Ok(())
    }

    fn put_names(&mut self, detached: &[(Ino, Name, Ino)], attached: &[(Key, Name, Key)]) -> Result<(), TreeError> {
        for (parent, name, _) in detached {
            self.state.detach(*parent, name)?;
            self.changes.inodes.push(*parent);
            self.changes.names.push((*parent, name.to_vec()));
        }
        for (parent, name, key) in attached {
            let (parent, ino) = (self.ino(parent)?, self.ino(key)?);
            self.state.attach(parent, name, ino)?;
            self.changes.inodes.push(parent);
            self.changes.names.push((parent, name.to_vec()));
        }
        for (parent, name, ino) in detached {
            let Ok(inode) = self.state.inode(*ino) else { continue };
            let is_linked = inode.is_linked(*ino);
            self.changes.moved_folders |= is_linked && matches!(inode.node, Node::Folder(_));
            if !is_linked {
                self.changes.removed.push((*ino, *parent, name.to_vec()));
                self.state.reap(*ino);
            }
        }
        Ok(())
    }

    fn ino(&self, key: &Key) -> Result<Ino, TreeError> {
        self.inos.get(key).copied().ok_or(TreeError::NotFound)
    }
}

fn size(inode: &Inode) -> u64 {
    match &inode.node {
        Node::File(file) => file.content.size(),
        _ => 0,
    }
}
