//! One mount: its view, what its kernel cache knows, its open handles. Knows no requests.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use crate::tree::{Ino, Tree};

use super::MountId;
use super::lookup_table::LookupTable;
use super::notifier::KernelNotifier;
use super::view::{View, ViewFilter};

/// A mount that is served.
pub(super) struct Mount {
    pub id: MountId,
    pub view: ViewFilter,
    pub lookups: LookupTable,
    pub notifier: KernelNotifier,
    handles: AtomicU64,
    /// How often each program is running: the kernel opened it to execute it, and holds it until its end.
    running: Mutex<FxHashMap<Ino, u64>>,
}

impl Mount {
    pub fn new(id: MountId, view: View, tree: &Tree, fuse: &OwnedFd) -> io::Result<Self> {
        Ok(Self {
            id,
            view: ViewFilter::new(view, tree),
            lookups: LookupTable::default(),
            notifier: KernelNotifier::new(fuse.as_fd())?,
            handles: AtomicU64::new(0),
            running: Mutex::default(),
        })
    }

    pub fn open_handles(&self) -> u64 {
        self.handles.load(Ordering::SeqCst)
    }

    pub fn count_open(&self) {
        self.handles.fetch_add(1, Ordering::SeqCst);
    }

    pub fn count_release(&self) {
        self.handles.fetch_sub(1, Ordering::SeqCst);
    }
    pub fn count_start(&self, program: Ino) {
        *self.running.lock().entry(program).or_default() += 1;
    }

    pub fn count_end(&self, program: Ino) {
        let mut running = self.running.lock();
        if let Some(count) = running.get_mut(&program) {
            *count -= 1;
            if *count == 0 {
                running.remove(&program);
            }
        }
    }

    pub fn is_running(&self, program: Ino) -> bool {
        self.running.lock().contains_key(&program)
    }
}
