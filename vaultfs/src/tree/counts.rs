//! Counts by inode, in a table that shrinks again: what thousands of files took once should not stay.

use rustc_hash::FxHashMap;

use super::Ino;

/// Room that a table may keep, in inodes.
const KEPT: usize = 256;

/// How often each inode counts; what counts for nothing takes no room.
#[derive(Default)]
pub struct InodeCounts(FxHashMap<Ino, u64>);

impl InodeCounts {
    /// Counts an inode once more.
    pub fn add(&mut self, ino: Ino) {
        *self.0.entry(ino).or_default() += 1;
    }

    /// Counts it some times less; tells whether that was the last.
    pub fn subtract(&mut self, ino: Ino, times: u64) -> bool {
        let Some(count) = self.0.get_mut(&ino) else { return false };
        *count = count.saturating_sub(times);
        if *count > 0 {
            return false;
        }
        self.0.remove(&ino);
        // Rarely enough that it costs each of those that went next to nothing.
        if self.0.capacity() > KEPT && self.0.len() < self.0.capacity() / 8 {
            self.0.shrink_to(KEPT.max(2 * self.0.len()));
        }
        true
    }

    /// Whether an inode counts.
    pub fn contains(&self, ino: Ino) -> bool {
        self.0.contains_key(&ino)
    }

    /// All that count.
    pub fn inodes(&self) -> Vec<Ino> {
        self.0.keys().copied().collect()
    }

    /// Takes out all that count.
    pub fn clear(&mut self) -> Vec<Ino> {
        std::mem::take(&mut self.0).into_keys().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_thousands_took_does_not_stay() {
        let mut counts = InodeCounts::default();
        (0..10_000).for_each(|number| counts.add(Ino(number)));
        counts.add(Ino(7));
        assert!(!counts.subtract(Ino(7), 1) && counts.contains(Ino(7)));
        let gone = (0..10_000).filter(|&number| counts.subtract(Ino(number), 1)).count();
        assert_eq!((gone, counts.inodes()), (10_000, Vec::new()));
        assert!(counts.0.capacity() <= 4 * KEPT, "{}", counts.0.capacity());
        assert!(!counts.subtract(Ino(7), 1));
    }
}
