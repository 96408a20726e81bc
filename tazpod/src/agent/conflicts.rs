//! What merges put aside: files stay in the conflict folder until somebody who has looked at them removes them.

use vaultfs::entry::EntryPath;
use vaultfs::tree::{CONFLICTS, Ino, NodeType, Tree};

use super::syncing::ConflictStatus;

/// Files that are named.
const NAMED: usize = 20;
/// Files that are counted at the most.
const COUNTED: u64 = 10_000;

/// Looks into the conflict folder.
pub fn status(tree: &Tree) -> ConflictStatus {
    let mut status = ConflictStatus::default();
    let Ok(top) = tree.lookup(Ino::ROOT, CONFLICTS) else { return status };
    let mut folders = vec![top.ino];
    while let Some(folder) = folders.pop() {
        let mut files = Vec::new();
        let listed = tree.list(folder, 0, &mut |entry| {
            match entry.stat.node_type {
                NodeType::Folder => folders.push(entry.stat.ino),
                _ => files.push(entry.name.to_vec()),
            }
            status.count + (files.len() as u64) < COUNTED
        });
        // One that is gone meanwhile holds nothing.
        let (Ok(()), Some(path)) = (listed, tree.path_of(folder)) else { continue };
        status.count += files.len() as u64;
        status.files.extend(files.iter().take(NAMED - status.files.len()).map(|name| name_of(&path, name)));
    }
    status.files.sort_unstable();
    status
}

fn name_of(folder: &EntryPath, name: &[u8]) -> String {
    format!("{folder}/{}", String::from_utf8_lossy(name))
}
