//! Counts the requests of programs, so that somebody can tell whether files are used. Those of a group of processes that only looks
//! after the vault can be left out.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

/// Whose requests are not counted.
#[derive(Clone, Copy, Debug, Default)]
pub enum Uncounted {
    /// Nobody's are left out.
    #[default]
    Nobody,
    /// Those of a process group.
    Group {
        /// Its number.
        group: i32,
        /// Gives the group of a thread.
        group_of: fn(u32) -> Option<i32>,
    },
    /// Everybody's.
    Everybody,
}

/// The counter.
#[derive(Default)]
pub(super) struct Requests {
    count: AtomicU64,
    uncounted: RwLock<Uncounted>,
}

impl Requests {
    /// Counts a request of the thread with this number; 0: the kernel's own, or one that cannot be seen from here.
    pub fn count(&self, thread: u32) {
        let is_counted = match *self.uncounted.read() {
            Uncounted::Nobody => true,
            Uncounted::Group { group, group_of } => group_of(thread) != Some(group),
            Uncounted::Everybody => false,
        };
        if is_counted {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn so_far(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub fn leave_out(&self, uncounted: Uncounted) {
        *self.uncounted.write() = uncounted;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_left_out_is_not_counted_and_nobody_else() {
        let requests = Requests::default();
        let counted = |uncounted| {
            requests.leave_out(uncounted);
            [0, 1, 41, 42].map(|thread| {
                let before = requests.so_far();
                requests.count(thread);
                requests.so_far() > before
            })
        };
        let group_of = |thread: u32| (thread > 1).then_some(if thread > 40 { 40 } else { 2 });
        assert_eq!(counted(Uncounted::Nobody), [true; 4]);
        assert_eq!(counted(Uncounted::Group { group: 40, group_of }), [true, true, false, false]);
        assert_eq!(counted(Uncounted::Everybody), [false; 4]);
    }
}
