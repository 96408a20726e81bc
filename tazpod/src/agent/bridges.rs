//! Bridges: files and folders of the vault that show up at places outside the mount point, each a mount of its own over what lies
//! there. One that cannot be made keeps nobody from the vault; why is told.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use vaultfs::entry::EntryPath;
use vaultfs::fuse::{Access, MountId, View};
use vaultfs::tree::{NewKind, NewNode, NodeType, Owner, Stat, TreeError};

use super::link::Bridged;
use super::lock::LockState;
use super::protocol::{BridgeKind, Failure};
use super::server::{OwnView, Server, entry_path};

/// Permissions of a folder that is made in the vault to be bridged.
const FOLDER_MODE: u32 = 0o700;

/// What is to show up, and where.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BridgeRequest {
    /// Path within the vault; bytes.
    pub source: Vec<u8>,
    /// Place, absolute.
    pub target: PathBuf,
    /// What happens when the vault has nothing there.
    pub missing: OnMissing,
}

/// What happens to a bridge that the vault has nothing for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnMissing {
    /// A folder is made.
    Make,
    /// There is no bridge then.
    Skip,
}

/// One bridge. The names are those of `tazpod status --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeStatus {
    /// Path within the vault.
    pub source: String,
    /// Its place.
    pub target: PathBuf,
    /// Why it is not there; null: it is.
    pub problem: Option<String>,
    /// The covered folder, which stays reachable there while the bridge is.
    pub underneath: Option<PathBuf>,
}

impl Server {
    /// Makes bridges, each for itself; tells what became of them.
    pub(super) fn make_bridges(&self, requests: &[BridgeRequest]) -> Vec<BridgeStatus> {
        self.noting(requests.iter().map(|request| request.target.clone()).collect(), || {
            let made: Vec<BridgeStatus> = requests.iter().filter_map(|request| self.try_bridge(request)).collect();
            let mut known = self.bridges.lock();
            // One that could not be made before may be tried again.
            known.retain(|old| !made.iter().any(|new| new.target == old.target || is_same_request(new, old)));
            known.extend(made.iter().cloned());
            made
        })
    }

    /// The bridges that were asked for; one whose mount was taken away since is told as one that is not there.
    pub(super) fn bridges(&self) -> Vec<BridgeStatus> {
        let views = self.views.lock();
        let is_there = |target: &Path| views.iter().any(|view| view.dir == target);
        let look = |bridge: &BridgeStatus| match bridge.problem {
            None if !is_there(&bridge.target) => {
                BridgeStatus { problem: Some("it was taken away".to_owned()), underneath: None, ..bridge.clone() }
            }
            _ => bridge.clone(),
        };
        self.bridges.lock().iter().map(look).collect()
    }

    fn try_bridge(&self, request: &BridgeRequest) -> Option<BridgeStatus> {
        let source = String::from_utf8_lossy(&request.source).into_owned();
        let status = |target: PathBuf, problem, underneath| Some(BridgeStatus { source, target, problem, underneath });
        match self.bridge(request) {
            Ok(None) => None,
            Ok(Some((target, underneath))) => status(target, None, Some(underneath)),
            Err(failure) => status(request.target.clone(), Some(failure.to_string()), None),
        }
    }

    fn bridge(&self, request: &BridgeRequest) -> Result<Option<(PathBuf, PathBuf)>, Failure> {
        let path = entry_path(&request.source)?;
        let kind = match (self.vault.tree().resolve(&path), request.missing) {
            (Ok(found), _) => kind(found.node_type)?,
            (Err(TreeError::NotFound), OnMissing::Skip) => return Ok(None),
            (Err(TreeError::NotFound), OnMissing::Make) if self.read_only => {
                return Err(Failure::Mount("the vault has nothing there, and is read-only".to_owned()));
            }
            (Err(TreeError::NotFound), OnMissing::Make) => BridgeKind::Folder,
            (Err(error), _) => return Err(Failure::Mount(error.to_string())),
        };
        let lock_state = self.lock_state.lock();
        if *lock_state == LockState::Locked {
            return Err(Failure::Mount("the vault is being locked".to_owned()));
        }
        let Bridged { dir, fuse, made, underneath } =
            self.keeper.bridge(request.target.clone(), kind, self.read_only).map_err(Failure::Mount)?;
        let id = self.serve_bridge(&path, fuse).or_else(|failure| {
            self.keeper.unmount(dir.clone()).map_err(Failure::Mount)?;
            Err(failure)
        })?;
        let (subtree, read_only) = (request.source.clone(), self.read_only);
        self.views.lock().push(OwnView { id, dir: dir.clone(), subtree, read_only, made });
        Ok(Some((dir, self.in_keeper(underneath))))
    }

    /// Only now that its place is covered, a folder is made that the vault does not have.
    fn serve_bridge(&self, path: &EntryPath, fuse: OwnedFd) -> Result<MountId, Failure> {
        let is_missing = matches!(self.vault.tree().resolve(path), Err(TreeError::NotFound));
        let root = self.make_folder(path).map_err(|error| Failure::Mount(error.to_string()))?;
        if is_missing {
            // The mount point's kernel may remember that there was nothing.
            self.mounts.invalidate_all();
        }
        let access = if self.read_only { Access::ReadOnly } else { Access::ReadWrite };
        let view = View { root: root.ino, access, hidden: Vec::new() };
        self.mounts.serve(fuse, view).map_err(|error| Failure::Mount(error.to_string()))
    }

    /// What is at a path; a folder where there is nothing, with those on the way.
    fn make_folder(&self, path: &EntryPath) -> Result<Stat, TreeError> {
        let tree = self.vault.tree();
        match (tree.resolve(path), path.split_last()) {
            (Err(TreeError::NotFound), Some((parent, name))) => {
                let parent = self.make_folder(&parent)?;
                let new = NewNode { kind: NewKind::Folder, mode: FOLDER_MODE, owner: Owner::of_this_process() };
                tree.make(parent.ino, name, new)
            }
            (outcome, _) => outcome,
        }
    }
}

/// Until it is made, a bridge is known by the target that was asked for.
fn is_same_request(new: &BridgeStatus, old: &BridgeStatus) -> bool {
    old.problem.is_some() && old.source == new.source
}

fn kind(node_type: NodeType) -> Result<BridgeKind, Failure> {
    match node_type {
        NodeType::Folder => Ok(BridgeKind::Folder),
        NodeType::File => Ok(BridgeKind::File),
        _ => Err(Failure::Mount("it is neither a folder nor a file".to_owned())),
    }
}
