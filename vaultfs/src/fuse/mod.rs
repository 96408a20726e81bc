//! The only folder that imports fuser: serves views of a tree on FUSE descriptors that somebody else mounted, keeps the
//! mounts coherent with each other, and revokes them together. Knows no archive but through the committer.

mod adapter;
mod attributes;
mod errno;
mod gate;
mod lookups;
mod mount;
mod names;
mod view;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use fuser::{Session, SessionACL};
use parking_lot::RwLock;

use crate::tree::{Ino, Tree};
use crate::vault::Committer;

use adapter::Adapter;
use gate::Gate;
use mount::{Mount, Reach};

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

/// Names a mount within the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MountId(pub u64);

/// All mounts of one tree.
pub struct Mounts {
    tree: Arc<Tree>,
    committer: Committer,
    options: ServeOptions,
    mounts: RwLock<Vec<Arc<Mount>>>,
    /// Length of `mounts`, for the common question whether there is more than one.
    count: AtomicUsize,
    last_id: AtomicU64,
    gate: Gate,
    opens_refused: AtomicBool,
}

impl Mounts {
    /// Starts with no mount.
    pub fn new(tree: Arc<Tree>, committer: Committer, options: ServeOptions) -> Arc<Self> {
        Arc::new(Self {
            tree,
            committer,
            options,
            mounts: RwLock::default(),
            count: AtomicUsize::new(0),
            last_id: AtomicU64::new(0),
            gate: Gate::default(),
            opens_refused: AtomicBool::new(false),
        })
    }

    /// Serves a view on a mounted FUSE descriptor until it is unmounted; returns after the kernel's INIT was answered.
    /// What other mounts know of the same inodes is invalidated first, so that nobody sees an old state.
    ///
    /// # Errors
    /// The view's root is gone, or the descriptor is not that of a fresh mount.
    pub fn serve(self: &Arc<Self>, fuse: OwnedFd, view: View) -> std::io::Result<MountId> {
        let id = MountId(self.last_id.fetch_add(1, Ordering::Relaxed) + 1);
        let root = view.root;
        self.tree.pin(root).map_err(std::io::Error::other)?;
        let mount = Arc::new(Mount::new(id, view, &self.tree));
        {
            let mut mounts = self.mounts.write();
            mounts.push(mount.clone());
            self.count.store(mounts.len(), Ordering::SeqCst);
        }
        self.invalidate_overlap(&mount);
        let session = self.start_session(fuse, &mount).inspect_err(|_| self.end(&mount, root))?;
        let mounts = self.clone();
        std::thread::Builder::new().name(format!("mount-{}", id.0)).spawn(move || {
            if let Err(error) = session.run() {
                tracing::warn!(%error, mount = id.0, "the kernel's connection ended with an error");
            }
            mounts.end(&mount, root);
        })?;
        Ok(id)
    }

    /// Refuses opens with EBUSY from here on (the first step of a lock), or allows them again.
    pub fn refuse_opens(&self, refusal: OpenPolicy) {
        self.opens_refused.store(refusal == OpenPolicy::Refuse, Ordering::SeqCst);
    }

    /// Returns the number of open files and folders.
    pub fn open_handles(&self) -> u64 {
        self.mounts.read().iter().map(|mount| mount.open_handles.load(Ordering::Relaxed)).sum()
    }

    /// Invalidates every inode that any kernel knows, while still serving: dirty mapped pages come home before it returns,
    /// and held mappings fault again. Must not be called from a request.
    pub fn invalidate_all(&self) {
        let mounts: Vec<Arc<Mount>> = self.mounts.read().clone();
        mounts.iter().for_each(|mount| Self::invalidate_mount(mount));
    }

    /// The same for one mount, before it is taken away.
    pub fn invalidate(&self, id: MountId) {
        let mount = self.mounts.read().iter().find(|mount| mount.id == id).cloned();
        mount.iter().for_each(|mount| Self::invalidate_mount(mount));
    }

    /// Answers every request with EIO from here on, and waits until the running ones are done; false when they were not
    /// within `timeout`.
    pub fn stop_answering(&self, timeout: Duration) -> bool {
        self.gate.close(timeout)
    }

    /// Returns the mounts that are still served: one that the kernel ended drops out by itself.
    pub fn served(&self) -> Vec<MountId> {
        self.mounts.read().iter().map(|mount| mount.id).collect()
    }

    fn start_session(self: &Arc<Self>, fuse: OwnedFd, mount: &Arc<Mount>) -> std::io::Result<Session<Adapter>> {
        let acl = match self.options.visitors {
            Visitors::Owner => SessionACL::Owner,
            Visitors::Everybody => SessionACL::All,
        };
        let mut config = fuser::Config::default();
        config.acl = acl;
        config.n_threads = Some(self.options.threads.max(2));
        let adapter = Adapter { mounts: self.clone(), mount: mount.clone() };
        let session = Session::from_fd(adapter, fuse, acl, config)?;
        if mount.notifier.set(session.notifier()).is_err() {
            unreachable!("a mount gets one session");
        }
        Ok(session)
    }

    fn end(&self, mount: &Arc<Mount>, root: Ino) {
        {
            let mut mounts = self.mounts.write();
            mounts.retain(|held| held.id != mount.id);
            self.count.store(mounts.len(), Ordering::SeqCst);
        }
        mount.lookups.forget_all(&self.tree);
        self.tree.unpin(root, 1);
    }

    fn invalidate_mount(mount: &Mount) {
        mount.lookups.known().into_iter().for_each(|ino| mount.invalidate_inode(ino));
        mount.invalidate_inode(mount.view.root);
    }

    /// Makes the other mounts forget what the new one reaches too; from here on they are told to ask each time.
    fn invalidate_overlap(&self, new: &Mount) {
        let others: Vec<Arc<Mount>> = self.mounts.read().iter().filter(|mount| mount.id != new.id).cloned().collect();
        for other in others {
            for ino in other.lookups.known().into_iter().chain([other.view.root]) {
                if self.tree.is_within(ino, new.view.root) {
                    other.invalidate_names(&self.tree, ino);
                    other.invalidate_inode(ino);
                }
            }
        }
    }

    /// Whether another mount than `mount` reaches an inode.
    fn reach(&self, mount: &Mount, ino: Ino) -> Reach {
        if self.count.load(Ordering::SeqCst) < 2 {
            return Reach::Alone;
        }
        let mounts = self.mounts.read();
        let shared = mounts.iter().any(|other| other.id != mount.id && self.tree.is_within(ino, other.view.root));
        if shared { Reach::Shared } else { Reach::Alone }
    }

    /// Whether an entry moving from one folder to another would enter or leave what some mount shows.
    fn crosses_border(&self, from: Ino, to: Ino) -> bool {
        self.count.load(Ordering::SeqCst) > 1
            && self
                .mounts
                .read()
                .iter()
                .any(|mount| self.tree.is_within(from, mount.view.root) != self.tree.is_within(to, mount.view.root))
    }

    /// Whether an inode is the root of a mount, and so cannot be moved or removed.
    fn is_mounted(&self, ino: Ino) -> bool {
        self.mounts.read().iter().any(|mount| mount.view.root == ino)
    }
}

/// Whether files may be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenPolicy {
    /// They may.
    Allow,
    /// EBUSY: a lock is under way.
    Refuse,
}
