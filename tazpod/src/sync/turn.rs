//! One synchronisation of a vault at a time: two that go on at once would take each other's work for that of another machine, and
//! throw away each other's base.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::snapshot;

const LOCK: &str = "sync.lock";
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The right to synchronise; the kernel takes it back when the process ends, however it ends.
pub struct Turn {
    _file: File,
}

impl Turn {
    /// Waits for the right to synchronise the vault of a state folder; `None`: it is not had in time. What killed processes left in
    /// the folder is removed: nobody else is at it.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn take(state: &Path, patience: Duration) -> io::Result<Option<Self>> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(state.join(LOCK))?;
        let until = Instant::now() + patience;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < until => std::thread::sleep(LOOK_AGAIN),
                Err(Errno::WOULDBLOCK | Errno::INTR) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        snapshot::remove_left(state)?;
        Ok(Some(Self { _file: file }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_it_and_the_next_clears_up() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path();
        let first = Turn::take(state, Duration::ZERO).unwrap().unwrap();
        std::fs::write(state.join(".travelling-a"), b"left by a killed process").unwrap();
        std::fs::write(state.join("base-b"), b"kept").unwrap();
        assert!(Turn::take(state, Duration::from_millis(50)).unwrap().is_none());
        assert!(state.join(".travelling-a").exists(), "it may be in use");
        drop(first);
        let _second = Turn::take(state, Duration::ZERO).unwrap().unwrap();
        assert!(!state.join(".travelling-a").exists() && state.join("base-b").exists());
    }
}
