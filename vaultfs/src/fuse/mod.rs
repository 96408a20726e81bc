//! The only folder that imports fuser: serves views of a tree on FUSE descriptors that somebody else mounted.
//!
//! Lock order: the list of mounts (read by each request for as long as it runs), then a mount's lookup table, then the
//! tree. The kernel is notified with none of them held: it may wait for requests that still have to be answered.

mod adapter;
mod borders;
mod caching;
mod capabilities;
mod counting;
mod errno;
mod invalidation;
mod lookup_table;
mod mount;
mod notifier;
mod orphans;
mod outside;
mod session;
mod view;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;

use crate::tree::{NodeType, Tree};
use crate::vault::Committer;

use mount::Mount;

pub use counting::Uncounted;
pub use view::{Access, View};

/// How all mounts are served.
#[derive(Clone, Copy, Debug)]
pub struct ServeOptions {
    /// Worker threads a mount.
    pub threads: usize,
    /// When a `close` returns.
    pub close: CloseMode,
    /// Who may come in.
    pub visitors: Visitors,
}

/// When `close(2)` of a changed file returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseMode {
    /// At once; a commit follows.
    Relaxed,
    /// When the change is in the archive (`commit: strict`).
    Strict,
}

/// Whose requests are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visitors {
    /// The mounting user's.
    Owner,
    /// Everybody's, as far as modes allow (mounted with `allow_other`).
    Everybody,
}

/// Whether files may be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenPolicy {
    /// They may.
    Allow,
    /// EBUSY: a lock is under way.
    Refuse,
}

/// Names a mount within the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MountId(pub u64);

/// All mounts of one tree. Keeps them coherent with each other, and revokes them together.
pub struct Mounts {
    tree: Arc<Tree>,
    committer: Committer,
    options: ServeOptions,
    /// Held for reading while a request is answered: who takes it for writing knows that no answer is under way that was
    /// decided by the list before.
    serving: RwLock<Vec<Arc<Mount>>>,
    orphans: orphans::Orphans,
    refusing_opens: AtomicBool,
    stopped: AtomicBool,
    next_id: AtomicU64,
    requests: counting::Requests,
}

impl Mounts {
    /// Starts with no mount.
    pub fn new(tree: Arc<Tree>, committer: Committer, options: ServeOptions) -> Arc<Self> {
        Arc::new(Self {
            tree,
            committer,
            options,
            serving: RwLock::new(Vec::new()),
            orphans: orphans::Orphans::default(),
            refusing_opens: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            next_id: AtomicU64::new(1),
            requests: counting::Requests::default(),
        })
    }

    /// Serves a view on a mounted FUSE descriptor until it is unmounted or stopped; returns after the kernel's INIT was
    /// answered. The kernel caches of the other mounts are told first. Never call it from a request handler.
    ///
    /// # Errors
    /// `NotADirectory`: the view's root is neither a folder nor a file (the mount point has to be the same kind). Else what the descriptor or the start of a thread returned.
    pub fn serve(self: &Arc<Self>, fuse: OwnedFd, view: View) -> io::Result<MountId> {
        match self.tree.stat(view.root) {
            Ok(stat) if matches!(stat.node_type, NodeType::Folder | NodeType::File) => {}
            _ => return Err(io::ErrorKind::NotADirectory.into()),
        }
        let id = MountId(self.next_id.fetch_add(1, Ordering::Relaxed));
        let mount = Arc::new(Mount::new(id, view, &self.tree, &fuse)?);
        self.add(&mount);
        if let Err(error) = session::start(self, &mount, fuse) {
            self.remove(&mount);
            return Err(error);
        }
        Ok(id)
    }

    /// Refuses opens with EBUSY from here on (the first step of a lock), or allows them again.
    pub fn refuse_opens(&self, policy: OpenPolicy) {
        self.refusing_opens.store(policy == OpenPolicy::Refuse, Ordering::SeqCst);
    }

    /// Number of open files and folders of all mounts.
    pub fn open_handles(&self) -> u64 {
        self.serving.read().iter().map(|mount| mount.open_handles()).sum()
    }

    /// Number of requests so far that programs made, through whichever mount. What a kernel answers from its cache is not seen.
    pub fn requests(&self) -> u64 {
        self.requests.so_far()
    }

    /// Leaves some out of that from here on.
    pub fn count_without(&self, uncounted: Uncounted) {
        self.requests.leave_out(uncounted);
    }

    /// Invalidates every inode and entry that any kernel knows, while still serving: dirty mapped pages come home before
    /// it returns. To be called too after the tree was changed by anything but a mount.
    /// Never call it from a request handler.
    pub fn invalidate_all(&self) {
        for mount in self.mounts() {
            invalidation::invalidate(&self.tree, &mount, &|_| true);
        }
    }

    /// The same for one mount, before it is taken away.
    pub fn invalidate(&self, mount: MountId) {
        if let Some(mount) = self.mounts().into_iter().find(|known| known.id == mount) {
            invalidation::invalidate(&self.tree, &mount, &|_| true);
        }
    }

    /// Answers every request with EIO from here on, and waits until the running ones are done (at most `timeout`); tells
    /// whether they are. Calls that wait for a commit are not waited for.
    pub fn stop_answering(&self, timeout: Duration) -> bool {
        self.stopped.store(true, Ordering::SeqCst);
        self.serving.try_write_for(timeout).is_some()
    }

    /// Takes [`Mounts::stop_answering`] back: what could not be committed must stay within reach.
    pub fn go_on_answering(&self) {
        self.stopped.store(false, Ordering::SeqCst);
    }

    /// Mounts that are still served (one that the kernel ended drops out by itself).
    pub fn served(&self) -> Vec<MountId> {
        self.serving.read().iter().map(|mount| mount.id).collect()
    }

    fn mounts(&self) -> Vec<Arc<Mount>> {
        self.serving.read().clone()
    }

    /// Marks a mount as coming, so that no new answer lets the others cache what it can reach, then makes them drop what
    /// they cache already.
    fn add(&self, mount: &Arc<Mount>) {
        let others = {
            let mut serving = self.serving.write();
            let others = serving.clone();
            serving.push(mount.clone());
            others
        };
        for other in others {
            invalidation::invalidate(&self.tree, &other, &|ino| caching::reaches(&self.tree, mount, ino));
        }
    }

    /// Takes a mount that ended off the list and gives back what its kernel cache held.
    fn remove(&self, mount: &Arc<Mount>) {
        self.serving.write().retain(|known| known.id != mount.id);
        mount.lookups.release_all(&self.tree);
    }
}
