//! Makes a kernel drop what it caches. Runs on the thread that asks for it, never within a request: the kernel may wait
//! until the workers have answered what it has under way.

use std::io;

use crate::tree::{Ino, Tree};

use super::mount::Mount;

/// Names of a folder that are copied out of the tree at a time.
const BATCH: usize = 256;

/// Invalidates the inodes that a mount's kernel knows and that `concerned` picks, with the entries of the folders among
/// them. Dirty pages are written back through the workers before this returns.
pub(super) fn invalidate(tree: &Tree, mount: &Mount, concerned: &dyn Fn(Ino) -> bool) {
    let mut known = mount.lookups.known();
    known.push(mount.view.root);
    for ino in known.into_iter().filter(|&ino| concerned(ino)) {
        if let Err(error) = invalidate_one(tree, mount, ino) {
            // ENODEV or ENOTCONN: the mount is gone, and its caches with it.
            tracing::debug!(%error, "a kernel cache could not be told to drop an inode");
        }
    }
}

fn invalidate_one(tree: &Tree, mount: &Mount, ino: Ino) -> io::Result<()> {
    let nodeid = mount.view.nodeid(ino).0;
    mount.notifier.invalidate_inode(nodeid)?;
    let mut cookie = 0;
    loop {
        let names = names_after(tree, ino, &mut cookie);
        for name in &names {
            mount.notifier.expire_entry(nodeid, name)?;
        }
        if names.len() < BATCH {
            return Ok(());
        }
    }
}

/// Copies some names of a folder, none of anything else; moves `cookie` on.
fn names_after(tree: &Tree, ino: Ino, cookie: &mut u64) -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    let start = *cookie;
    // An error says that it is no folder, or gone: no entries to expire.
    let _ = tree.list(ino, start, &mut |entry| {
        names.push(entry.name.to_vec());
        *cookie = entry.cookie;
        names.len() < BATCH
    });
    names
}
