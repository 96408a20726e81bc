//! The way into the one thread that writes the archive: who waits for which revision, and how it stands.
//!
//! Locks: that of who compacts, the archive's, the queue's; the tree's lock is never held when either is taken, and no waiter is called
//! under any of them.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Condvar, Mutex};

use crate::tree::{Revision, Tree};

use super::VaultError;
use super::archive::Archive;
use super::lock::Access;

/// How long after a close no further one may come before a commit starts.
const QUIET: Duration = Duration::from_millis(60);

/// How the archive stands to the tree.
#[derive(Clone, Debug)]
pub struct CommitStatus {
    /// Changes not yet in the archive.
    pub dirty: bool,
    /// End of the last good commit of this session.
    pub last_commit: Option<SystemTime>,
    /// Error of the last try, `None` when it worked.
    pub last_error: Option<Arc<VaultError>>,
    /// Commits of this session.
    pub commits: u64,
    /// Size of the archive in bytes.
    pub archive_bytes: u64,
}

/// Called once with the outcome of a commit.
pub type CommitWaiter = Box<dyn FnOnce(Result<(), Arc<VaultError>>) + Send>;

/// Hands work to the one thread that writes the archive.
#[derive(Clone)]
pub struct Committer {
    shared: Arc<Shared>,
}

/// What the handles and the thread share.
pub(super) struct Shared {
    pub tree: Arc<Tree>,
    pub path: PathBuf,
    /// Taken out when the vault is closed, which releases its lock.
    pub archive: Mutex<Option<Box<dyn Archive>>>,
    pub queue: Mutex<Queue>,
    /// The thread that rewrites the archive while commits go on.
    pub rewriter: Mutex<Option<JoinHandle<()>>>,
    /// Held by who asked for the archive to be written anew, and waits.
    pub compacting: Mutex<()>,
    /// Wakes the thread.
    pub wake: Condvar,
    /// Set by the first change after a snapshot, so that the others need not take the queue's lock.
    pub changed: AtomicBool,
    pub delay: Duration,
    pub access: Access,
}

/// What is asked of the thread, and what came of it.
pub(super) struct Queue {
    pub durable: Revision,
    pub waiters: Vec<(Revision, CommitWaiter)>,
    /// Somebody waits: the next commit starts at once, even after a failure.
    pub asked: bool,
    /// When the oldest change since the last snapshot was noticed.
    pub first_change: Option<Instant>,
    /// When a commit that was hinted at is due.
    pub soon: Option<Instant>,
    /// After a failure: when to try again.
    pub retry: Option<(Instant, Duration)>,
    /// How long the last commit took.
    pub last_duration: Duration,
    pub stopping: bool,
    pub last_commit: Option<SystemTime>,
    pub last_error: Option<Arc<VaultError>>,
    pub commits: u64,
    pub archive_bytes: u64,
}

impl Shared {
    /// Begins with an archive that holds `durable`.
    pub fn new(
        tree: Arc<Tree>,
        path: PathBuf,
        archive: Box<dyn Archive>,
        durable: Revision,
        delay: Duration,
        access: Access,
    ) -> Arc<Self> {
        let queue = Queue {
            durable,
            waiters: Vec::new(),
            asked: false,
            first_change: None,
            soon: None,
            retry: None,
            last_duration: Duration::ZERO,
            stopping: false,
            last_commit: None,
            last_error: None,
            commits: 0,
            archive_bytes: archive.bytes(),
        };
        let shared = Arc::new(Self {
            tree,
            path,
            archive: Mutex::new(Some(archive)),
            queue: Mutex::new(queue),
            rewriter: Mutex::new(None),
            compacting: Mutex::new(()),
            wake: Condvar::new(),
            changed: AtomicBool::new(false),
            delay,
            access,
        });
        shared.watch();
        shared
    }

    /// Has the tree tell of its changes. The tree keeps only a weak reference: neither keeps the other's secrets alive.
    fn watch(self: &Arc<Self>) {
        let weak: Weak<Self> = Arc::downgrade(self);
        self.tree.set_observer(Box::new(move |_| {
            if let Some(shared) = weak.upgrade() {
                shared.note_change();
            }
        }));
    }

    /// Starts the clock of a change, unless it runs already.
    pub fn note_change(&self) {
        if !self.changed.swap(true, Ordering::SeqCst) {
            self.queue.lock().first_change.get_or_insert_with(Instant::now);
            self.wake.notify_all();
        }
    }

    /// Makes the thread end; waiters that are left get an error from it.
    pub fn stop(&self) {
        self.queue.lock().stopping = true;
        self.wake.notify_all();
    }

    pub fn closed(&self) -> Arc<VaultError> {
        Arc::new(VaultError::Closed(self.path.clone()))
    }
}

impl Committer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Asks that everything up to the present revision be durable; `waiter` is called from the committer's thread, or at once when it is already.
    pub fn commit_then(&self, waiter: CommitWaiter) {
        let shared = &self.shared;
        let wanted = shared.tree.revision();
        let outcome = {
            let mut queue = shared.queue.lock();
            if queue.durable >= wanted {
                Ok(())
            } else if queue.stopping {
                Err(shared.closed())
            } else if shared.access == Access::ReadOnly {
                Err(Arc::new(VaultError::ReadOnly(shared.path.clone())))
            } else {
                queue.waiters.push((wanted, waiter));
                queue.asked = true;
                shared.wake.notify_all();
                return;
            }
        };
        waiter(outcome);
    }

    /// The same, waiting.
    ///
    /// # Errors
    /// Why the commit failed; everything is kept in memory and tried again.
    pub fn commit(&self) -> Result<(), Arc<VaultError>> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.commit_then(Box::new(move |outcome| {
            // The receiver waits below until this was called or dropped.
            let _ = sender.send(outcome);
        }));
        receiver.recv().unwrap_or_else(|_| Err(self.shared.closed()))
    }

    /// A hint (a file was closed): commit soon, nobody waits.
    pub fn commit_soon(&self) {
        let revision = self.shared.tree.revision();
        let mut queue = self.shared.queue.lock();
        if queue.durable < revision {
            // A burst of closes is one commit; where commits are slow, wait for more of the burst.
            let at = Instant::now() + QUIET.max(queue.last_duration);
            // Who sleeps until an earlier time looks again then: waking a thread for each close costs more than the close.
            if queue.soon.replace(at).is_none_or(|before| before > at) {
                self.shared.wake.notify_all();
            }
        }
    }

    /// How it stands.
    pub fn status(&self) -> CommitStatus {
        let revision = self.shared.tree.revision();
        let queue = self.shared.queue.lock();
        CommitStatus {
            dirty: queue.durable < revision,
            last_commit: queue.last_commit,
            last_error: queue.last_error.clone(),
            commits: queue.commits,
            archive_bytes: queue.archive_bytes,
        }
    }

    /// The newest durable revision.
    pub fn durable(&self) -> Revision {
        self.shared.queue.lock().durable
    }
}
