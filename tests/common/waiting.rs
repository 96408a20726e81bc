//! Waiting for what another process or the kernel does in its own time.

use std::time::{Duration, Instant};

/// Looks every ten milliseconds until something is true; fails after `limit`.
pub fn within(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < limit, "not so after {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
