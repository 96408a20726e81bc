//! Gives memory that was freed back to the system: what a vault no longer holds should not stay with the agent. The allocator
//! wipes what is freed and keeps it, and returns by itself only what lies at the end of a heap; pages
//! of content stay for those to come.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use vaultfs::tree::Tree;
use vaultfs::vault::Committer;

use super::sys;

/// How often is looked whether anything changed.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Starts the thread that does it. It waits until all is committed: before that, a snapshot holds what was deleted.
///
/// # Errors
/// No further thread can be started.
pub fn watch(tree: Arc<Tree>, committer: Committer) -> io::Result<()> {
    std::thread::Builder::new().name("memory".into()).spawn(move || {
        // Reading the archive left something, too.
        let mut seen = None;
        loop {
            std::thread::sleep(LOOK_EVERY);
            let revision = tree.revision();
            if seen != Some(revision) && !committer.status().dirty {
                vaultfs::crypto::give_back_free_pages();
                sys::give_back_freed_memory();
                seen = Some(revision);
            }
        }
    })?;
    Ok(())
}
