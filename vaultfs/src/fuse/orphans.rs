//! Inodes that lost their last name through one mount while the kernel of another still knows them, and so keeps them and
//! their room. A thread of its own, which lives as long as there are any, has those kernels drop what nobody uses there.
//! It holds no lock while it tells them, and comes after the answer to the request that took the name.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use crate::tree::{Ino, NodeType, Tree};

use super::mount::Mount;
use super::{MountId, Mounts};

/// How long inodes are collected before kernels are told, which lets their own FORGETs come first; and the longest pause
/// between looks at those that are still in use there.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What is not yet forgotten everywhere: no more than the other kernels know.
#[derive(Default)]
pub(super) struct Orphans(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    removed: FxHashMap<Ino, Removed>,
    has_thread: bool,
}

/// The last name of an inode, and who took it.
pub(super) struct Removed {
    pub through: MountId,
    pub parent: Ino,
    pub name: Vec<u8>,
}

/// To be told after the last name of an inode went that is not gone itself.
pub(super) fn add(mounts: &Arc<Mounts>, ino: Ino, removed: Removed) {
    let mut waiting = mounts.orphans.0.lock();
    waiting.removed.insert(ino, removed);
    if waiting.has_thread {
        return;
    }
    let weak = Arc::downgrade(mounts);
    match std::thread::Builder::new().name("orphans".into()).spawn(move || run(&weak)) {
        Ok(_) => waiting.has_thread = true,
        // The next one tries again.
        Err(error) => tracing::warn!(%error, "kernel caches cannot be told of what was removed"),
    }
}

fn run(mounts: &Weak<Mounts>) {
    let mut pause = PAUSE_MIN;
    loop {
        std::thread::sleep(pause);
        let Some(mounts) = mounts.upgrade() else { return };
        let mut removed = std::mem::take(&mut mounts.orphans.0.lock().removed);
        let before = removed.len();
        tell_all(&mounts, &mut removed);
        pause = if removed.len() < before { PAUSE_MIN } else { PAUSE_MAX.min(pause * 2) };
        if pause == PAUSE_MAX {
            // A folder whose missing entries its kernel remembers may stay for long, and takes next to nothing.
            removed.retain(|&ino, _| mounts.tree.stat(ino).is_ok_and(|stat| stat.node_type != NodeType::Folder));
        }
        let mut waiting = mounts.orphans.0.lock();
        waiting.removed.extend(removed);
        if waiting.removed.is_empty() {
            waiting.has_thread = false;
            return;
        }
    }
}

/// Tells the kernels; leaves those to be told again that still know an inode.
fn tell_all(mounts: &Mounts, removed: &mut FxHashMap<Ino, Removed>) {
    let serving = mounts.mounts();
    let is_known = |mount: &Mount, ino: Ino, removed: &Removed| mount.id != removed.through && mount.lookups.knows(ino);
    removed.retain(|&ino, removed| serving.iter().any(|mount| is_known(mount, ino, removed)));
    for mount in &serving {
        let known: Vec<Ino> =
            removed.iter().filter(|(ino, one)| is_known(mount, **ino, one)).map(|(&ino, _)| ino).collect();
        let nodeids: Vec<u64> = known.iter().map(|&ino| mount.view.nodeid(ino).0).collect();
        match mount.notifier.drop_unused(&nodeids) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {
                known.iter().filter_map(|ino| removed.remove(ino)).for_each(|one| drop_name(&mounts.tree, mount, &one));
            }
            // ENODEV or ENOTCONN: the mount is gone, and its caches with it.
            Err(error) => tracing::debug!(%error, "a kernel cache could not be told to drop inodes"),
        }
    }
}

/// For kernels before 6.18, which drop entries by name only; what is in use goes when it is not any more.
fn drop_name(tree: &Tree, mount: &Mount, removed: &Removed) {
    // A folder that the kernel knows under the name by now would lose its path for those who work in it.
    let is_used_again = tree
        .lookup(removed.parent, &removed.name)
        .is_ok_and(|stat| stat.node_type == NodeType::Folder && mount.lookups.knows(stat.ino));
    if is_used_again {
        return;
    }
    if let Err(error) = mount.notifier.drop_entry(mount.view.nodeid(removed.parent).0, &removed.name) {
        tracing::debug!(%error, "a kernel cache could not be told to drop an entry");
    }
}
