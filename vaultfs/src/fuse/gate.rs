//! Counts running requests, so that a lock can wait until the last is answered and turn away what comes later.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How often the end of running requests is looked for.
const STEP: Duration = Duration::from_millis(1);

#[derive(Default)]
pub(super) struct Gate {
    closed: AtomicBool,
    running: AtomicUsize,
}

/// A request that is being served.
pub(super) struct Running<'a>(&'a Gate);

impl Gate {
    /// Lets a request in, unless the gate is closed.
    pub fn enter(&self) -> Option<Running<'_>> {
        // The count goes up before the flag is read, and `close` sets the flag before it reads the count (both
        // sequentially consistent): no request slips through unseen.
        self.running.fetch_add(1, Ordering::SeqCst);
        let running = Running(self);
        (!self.closed.load(Ordering::SeqCst)).then_some(running)
    }

    /// Turns away what comes, and waits until what runs is done; false when it was not within `timeout`.
    pub fn close(&self, timeout: Duration) -> bool {
        self.closed.store(true, Ordering::SeqCst);
        let deadline = Instant::now() + timeout;
        while self.running.load(Ordering::SeqCst) > 0 {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(STEP);
        }
        true
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}
