//! Counts the requests of programs, so that somebody can tell whether files are used. Those of a group of processes that only looks
//! after the vault can be left out.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use rustix::process::{Pid, getpgid};

/// Whose requests are not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uncounted {
    /// Nobody's are left out.
    Nobody,
    /// Those of a process group, by its number.
    Group(Pid),
    /// Everybody's.
    Everybody,
}

/// No group has these numbers.
const NOBODY: i32 = 0;
const EVERYBODY: i32 = -1;

/// The counter.
#[derive(Default)]
pub(super) struct Requests {
    count: AtomicU64,
    uncounted: AtomicI32,
}

impl Requests {
    /// Counts a request of the thread with this number; 0: the kernel's own, or one that cannot be seen from here.
    pub fn count(&self, thread: u32) {
        let is_counted = match self.uncounted.load(Ordering::Relaxed) {
            NOBODY => true,
            EVERYBODY => false,
            group => group_of(thread) != Some(group),
        };
        if is_counted {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn so_far(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub fn leave_out(&self, uncounted: Uncounted) {
        let group = match uncounted {
            Uncounted::Nobody => NOBODY,
            Uncounted::Group(group) => group.as_raw_nonzero().get(),
            Uncounted::Everybody => EVERYBODY,
        };
        self.uncounted.store(group, Ordering::Relaxed);
    }
}

fn group_of(thread: u32) -> Option<i32> {
    let thread = Pid::from_raw(thread.try_into().ok()?)?;
    Some(getpgid(Some(thread)).ok()?.as_raw_nonzero().get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_left_out_with_all_its_threads_and_nobody_else() {
        let requests = Requests::default();
        let this_thread = || rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
        let counts = |thread: u32| {
            let before = requests.so_far();
            requests.count(thread);
            requests.so_far() > before
        };
        let own = std::process::id();
        assert!(counts(own) && counts(0));
        requests.leave_out(Uncounted::Group(rustix::process::getpgrp()));
        std::thread::scope(|scope| {
            let other = scope.spawn(|| counts(this_thread()));
            assert!(!other.join().unwrap());
        });
        assert!(!counts(own) && counts(1) && counts(0));
        requests.leave_out(Uncounted::Everybody);
        assert!(!counts(1) && !counts(0));
        requests.leave_out(Uncounted::Nobody);
        assert!(counts(own));
    }
}
