//! What an archive's head descends from, as far as anybody has to know it again. Knows no files.

use std::collections::BTreeMap;

use crate::format::v2::{ANCESTORS, Head, SHARED_MAX, SHARED_SECS, SharedHead};

/// Places that a head descends from.
#[derive(Clone, Debug, Default)]
pub(in crate::vault) struct History {
    /// First parents, oldest first.
    line: Vec<Head>,
    /// Heads that other machines may know, with the time when they got them, in seconds since the Unix epoch.
    shared: BTreeMap<Head, i64>,
    /// Of these, the ones that no segment tells of yet.
    untold: BTreeMap<Head, i64>,
}

impl History {
    /// Takes the ancestors that a checkpoint tells of.
    pub fn extend(&mut self, heads: Vec<Head>) {
        self.line.extend(heads);
    }

    /// Takes the shared heads that a segment tells of.
    pub fn extend_shared(&mut self, heads: &[SharedHead]) {
        self.shared.extend(heads.iter().map(|shared| (shared.head, shared.time_secs)));
    }

    /// Takes a head that another one now follows.
    pub fn push(&mut self, head: Head) {
        self.line.push(head);
        if self.line.len() >= 2 * ANCESTORS {
            self.line.drain(..ANCESTORS);
        }
    }

    /// Notes that other machines may know a head.
    pub fn share(&mut self, head: Head, time_secs: i64) {
        if self.shared.insert(head, time_secs).is_none() {
            self.untold.insert(head, time_secs);
        }
    }

    /// Takes over what another history knows of shared heads.
    pub fn share_all(&mut self, other: &Self) {
        for (&head, &time_secs) in &other.shared {
            if !self.shared.contains_key(&head) {
                self.share(head, time_secs);
            }
        }
    }

    /// Tells whether a head is an ancestor.
    pub fn holds(&self, head: &Head) -> bool {
        self.shared.contains_key(head) || self.line.binary_search(head).is_ok()
    }

    /// The newest ancestors that both have.
    pub fn common(&self, other: &Self) -> Option<Head> {
        let line = self.line.iter().rev().find(|head| other.holds(head));
        let shared = self.shared.keys().rev().find(|head| other.holds(head));
        line.max(shared).copied()
    }

    /// What a checkpoint tells of first parents.
    pub fn line(&self) -> &[Head] {
        &self.line[self.line.len().saturating_sub(ANCESTORS)..]
    }

    /// What a checkpoint tells of shared heads: those of the last year, the newest where there are too many.
    pub fn shared(&self, now_secs: i64) -> Vec<SharedHead> {
        newest(&self.shared, now_secs.saturating_sub(SHARED_SECS))
    }

    /// What the next delta tells of them.
    pub fn untold(&self) -> Vec<SharedHead> {
        newest(&self.untold, i64::MIN)
    }

    /// A delta with [`History::untold`] was written.
    pub fn told(&mut self) {
        self.untold.clear();
    }
}

/// The newest [`SHARED_MAX`] that are not older than a time, in the order of heads.
fn newest(heads: &BTreeMap<Head, i64>, oldest_secs: i64) -> Vec<SharedHead> {
    let mut shared: Vec<SharedHead> = heads.iter().map(|(&head, &time_secs)| SharedHead { time_secs, head }).collect();
    shared.retain(|shared| shared.time_secs >= oldest_secs);
    if shared.len() > SHARED_MAX {
        shared.sort_by_key(|shared| (shared.time_secs, shared.head));
        shared.drain(..shared.len() - SHARED_MAX);
        shared.sort_by_key(|shared| shared.head);
    }
    shared
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::v2::{Chain, Sequence};

    fn head(number: u64) -> Head {
        Head { sequence: Sequence(number), chain: Chain([number as u8; 32]) }
    }

    #[test]
    fn shared_heads_outlive_the_line_for_a_year() {
        let mut history = History::default();
        for number in 0..5 * ANCESTORS as u64 {
            history.push(head(number));
            if number == 7 {
                history.share(head(number), 1000);
            }
        }
        assert!(history.holds(&head(7)) && !history.holds(&head(8)) && history.holds(&head(4 * ANCESTORS as u64)));
        assert_eq!(history.line().len(), ANCESTORS);
        assert_eq!(history.shared(1000 + SHARED_SECS), [SharedHead { time_secs: 1000, head: head(7) }]);
        assert_eq!(history.shared(1001 + SHARED_SECS), []);
    }

    #[test]
    fn of_too_many_shared_heads_the_newest_stay() {
        let mut history = History::default();
        for number in 0..SHARED_MAX as u64 + 10 {
            history.share(head(number), 10_000 - number as i64);
        }
        let shared = history.shared(0);
        assert_eq!((shared.len(), shared[0].head, history.untold().len()), (SHARED_MAX, head(0), SHARED_MAX));
        history.told();
        history.share(head(3), 99_999);
        assert_eq!(history.untold(), [], "it was told already");
    }

    #[test]
    fn the_newest_common_ancestor_may_be_a_shared_one() {
        let (mut one, mut other) = (History::default(), History::default());
        (0..5).for_each(|number| one.push(head(number)));
        (3..9).for_each(|number| other.push(head(number)));
        assert_eq!(one.common(&other), Some(head(4)));
        one.share(head(20), 1);
        assert_eq!(one.common(&other), Some(head(4)));
        other.share(head(20), 2);
        assert_eq!((one.common(&other), other.common(&one)), (Some(head(20)), Some(head(20))));
        assert_eq!(one.common(&History::default()), None);
    }
}
