//! Older copies: one is kept of each archive that was put, and those that are too many go. Nothing is deleted before the new
//! copy is seen in the place.

use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::config::Retention;

use super::{CopyName, Description, HistoryCopy, Remote, RemoteError, Version};

/// Keeps a copy of what was just put, then removes those that are too many. The put itself worked: whatever fails here is a
/// warning, and they are returned.
pub fn keep(
    remote: &dyn Remote,
    archive: &Path,
    description: &Description,
    of: &Version,
    retention: Retention,
) -> Vec<String> {
    match remote.put_copy(archive, description, of) {
        Err(error) => vec![format!("no copy was kept in the history: {error}")],
        Ok(name) => prune(remote, &name, retention),
    }
}

/// Whether there is no copy that is younger than this; so where they cannot be listed, as keeping one tells.
pub fn is_due(remote: &dyn Remote, spacing: Duration) -> bool {
    remote.copies().map_or(true, |copies| are_older(&copies, SystemTime::now(), spacing))
}

/// Whether the newest of the copies, which is the first, is that old. One of the future tells nothing.
fn are_older(copies: &[HistoryCopy], now: SystemTime, spacing: Duration) -> bool {
    let age = copies.first().and_then(|newest| now.duration_since(newest.modified).ok());
    age.is_none_or(|age| age >= spacing)
}

/// Removes copies that are too many, if `confirmed` is really there. Returns warnings.
fn prune(remote: &dyn Remote, confirmed: &CopyName, retention: Retention) -> Vec<String> {
    if retention == Retention::All {
        return Vec::new();
    }
    let copies = match remote.copies() {
        Ok(copies) => copies,
        Err(error) => return vec![format!("the history cannot be listed, and nothing was deleted from it: {error}")],
    };
    if !copies.iter().any(|copy| copy.name == *confirmed) {
        return vec!["the new copy is not in the history; nothing was deleted from it".to_owned()];
    }
    for copy in too_many(&copies, retention).filter(|copy| copy.name != *confirmed) {
        match remote.remove_copy(&copy.name) {
            Ok(()) => {}
            Err(RemoteError::NoPermission { .. }) => {
                return vec!["old copies cannot be deleted: this user has no permission to".to_owned()];
            }
            Err(error) => return vec![format!("old copies cannot be deleted: {error}")],
        }
    }
    Vec::new()
}

/// Those that go; `copies` are the newest first.
fn too_many(copies: &[HistoryCopy], retention: Retention) -> impl Iterator<Item = &HistoryCopy> {
    let keep = match retention {
        Retention::All | Retention::Newest(0) => usize::MAX,
        Retention::Newest(count) => usize::try_from(count).unwrap_or(usize::MAX),
    };
    copies.iter().skip(keep)
}

/// Puts copies in order: the newest first, by the store's time, then by name.
pub fn sort(copies: &mut [HistoryCopy]) {
    copies.sort_by(|left, right| (right.modified, &right.name).cmp(&(left.modified, &left.name)));
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn copy(name: &str, seconds: u64) -> HistoryCopy {
        let modified = UNIX_EPOCH + Duration::from_secs(seconds);
        HistoryCopy { name: CopyName(name.to_owned()), bytes: 1, modified, sequence: None }
    }

    #[test]
    fn a_copy_is_due_when_the_newest_is_old_enough_or_of_the_future() {
        let due = |copies: &[HistoryCopy]| {
            are_older(copies, UNIX_EPOCH + Duration::from_secs(1000), Duration::from_secs(600))
        };
        assert!(due(&[]));
        assert!(due(&[copy("a", 400)]));
        assert!(!due(&[copy("a", 401), copy("b", 1)]));
        assert!(!due(&[copy("a", 1000)]));
        assert!(due(&[copy("a", 1001)]));
    }

    #[test]
    fn the_oldest_go_and_zero_means_none() {
        let mut copies = [copy("b", 1), copy("a", 2), copy("c", 1)];
        sort(&mut copies);
        let names = |retention| too_many(&copies, retention).map(|copy| copy.name.0.as_str()).collect::<Vec<_>>();
        assert_eq!(names(Retention::Newest(1)), ["c", "b"]);
        assert_eq!(names(Retention::Newest(2)), ["b"]);
        assert_eq!(names(Retention::Newest(3)), [""; 0]);
        assert_eq!(names(Retention::Newest(0)), [""; 0]);
        assert_eq!(names(Retention::All), [""; 0]);
    }
}
