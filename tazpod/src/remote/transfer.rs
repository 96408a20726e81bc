//! What whoever starts transfers says of them: who is told how far they are, and how much may come in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::RemoteError;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the remote.
    Out,
    /// From it.
    In,
}

/// Is told how far transfers are, on the threads that do them; one at a time.
pub trait Watcher: Send + Sync {
    /// So many bytes are to go.
    fn begin(&self, direction: Direction, bytes: u64);
    /// So many of them went.
    fn reached(&self, bytes: u64);
    /// That is over, however it ended.
    fn end(&self);
}

/// The terms of all transfers of a remote.
#[derive(Clone)]
pub struct Transfers {
    watcher: Option<Arc<dyn Watcher>>,
    position: Arc<AtomicU64>,
    most: u64,
}

/// A transfer that is under way; dropping it ends it.
pub struct Moving {
    watcher: Option<Arc<dyn Watcher>>,
}

impl Default for Transfers {
    /// Nobody is told, and any size may come in.
    fn default() -> Self {
        Self { watcher: None, position: Arc::default(), most: u64::MAX }
    }
}

impl Transfers {
    /// With somebody who is told, and the most bytes that one fetched archive may have.
    pub fn new(watcher: Option<Arc<dyn Watcher>>, most: u64) -> Self {
        Self { watcher, position: Arc::default(), most }
    }

    /// Looks whether so many bytes may come in at once.
    ///
    /// # Errors
    /// [`RemoteError::TooLarge`].
    pub fn require_bound(&self, place: &str, bytes: u64) -> Result<(), RemoteError> {
        match bytes > self.most {
            true => Err(RemoteError::TooLarge { place: place.to_owned(), bytes, most: self.most }),
            false => Ok(()),
        }
    }

    /// Begins a transfer.
    pub fn begin(&self, direction: Direction, bytes: u64) -> Moving {
        self.position.store(0, Ordering::Relaxed);
        if let Some(watcher) = &self.watcher {
            watcher.begin(direction, bytes);
        }
        Moving { watcher: self.watcher.clone() }
    }

    /// So many more bytes went.
    pub fn add(&self, bytes: u64) {
        self.tell(self.position.fetch_add(bytes, Ordering::Relaxed) + bytes);
    }

    /// So many bytes that went have to go again.
    pub fn take_back(&self, bytes: u64) {
        self.tell(self.position.fetch_sub(bytes, Ordering::Relaxed).saturating_sub(bytes));
    }

    fn tell(&self, position: u64) {
        if let Some(watcher) = &self.watcher {
            watcher.reached(position);
        }
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        if let Some(watcher) = &self.watcher {
            watcher.end();
        }
    }
}
