//! What every remote must keep, whatever it is made of. Each kind runs the whole list; see the tests of each.

mod contract;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::config::Retention;

use super::transfer::{Direction, Watcher};
use super::*;

pub use contract::{run, run_except};

/// A fresh place, and the ways to it that a remote does not have.
pub trait Bench: Sync {
    /// A place that was never used and whose storage is not made; the same for the same name.
    fn open(&self, name: &str) -> Box<dyn Remote>;

    /// Flips a bit in the head of a place, and leaves all that the place tells of it as it was.
    fn damage_head(&self, name: &str);

    /// Puts a file into the history as somebody else would.
    fn plant_copy(&self, name: &str, file: &str, bytes: &[u8]);

    /// Names of all files in the history.
    fn history_files(&self, name: &str) -> Vec<String>;
}

/// A file with an archive.
pub struct Sample {
    _folder: tempfile::TempDir,
    pub path: PathBuf,
    pub bytes: Vec<u8>,
    pub description: Description,
}

impl Sample {
    pub fn of(bytes: Vec<u8>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("archive");
        std::fs::write(&path, &bytes).unwrap();
        let description = Description::of(&path).unwrap();
        Self { _folder: folder, path, bytes, description }
    }

    /// Of version 1, which anything is that does not say otherwise.
    pub fn v1(seed: u8) -> Self {
        Self::of(noise(seed, 5000))
    }

    /// States of one vault of version 2, the oldest first.
    pub fn v2_states() -> Vec<Self> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/v2/aes-256-gcm.tar.aes");
        let whole = std::fs::read(path).unwrap();
        let mut end = u32::from_le_bytes(whole[12..16].try_into().unwrap()) as usize;
        let mut states = Vec::new();
        while end < whole.len() {
            let payload = u64::from_le_bytes(whole[end + 80..end + 88].try_into().unwrap());
            end += 88 + payload as usize;
            states.push(Self::of(whole[..end].to_vec()));
        }
        states
    }
}

/// Bytes that do not compress and do not repeat.
pub fn noise(seed: u8, len: usize) -> Vec<u8> {
    let mut state = u64::from(seed) + 0x9e37_79b9_7f4a_7c15;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend(next());
    }
    bytes.truncate(len);
    bytes
}

pub fn done(put: Put) -> Version {
    match put {
        Put::Done(done) => {
            assert_eq!(done.warnings, Vec::<String>::new());
            done.version
        }
        Put::Conflict => panic!("a conflict"),
    }
}

/// The only head.
pub fn head(remote: &dyn Remote) -> Head {
    let [head] = remote.heads().unwrap().try_into().unwrap();
    head
}

/// Names of files in a folder.
pub fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub fn keep(remote: &dyn Remote, sample: &Sample, of: &Version, retention: Retention) {
    let warnings = history::keep(remote, &sample.path, &sample.description, of, retention);
    assert_eq!(warnings, Vec::<String>::new());
}

/// What was told of one transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub direction: Direction,
    pub bytes: u64,
    pub reached: u64,
    pub ended: bool,
}

/// Writes down what it is told.
#[derive(Clone, Default)]
pub struct Notes(Arc<Mutex<Vec<Note>>>);

impl Notes {
    /// Watches a remote.
    pub fn watch(remote: &mut dyn Remote) -> Self {
        let notes = Self::default();
        remote.set_transfers(Transfers::new(Some(Arc::new(notes.clone())), u64::MAX));
        notes
    }

    /// What was told since this was asked before.
    pub fn take(&self) -> Vec<Note> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Watcher for Notes {
    fn begin(&self, direction: Direction, bytes: u64) {
        self.0.lock().unwrap().push(Note { direction, bytes, reached: 0, ended: false });
    }

    fn reached(&self, bytes: u64) {
        self.0.lock().unwrap().last_mut().unwrap().reached = bytes;
    }

    fn end(&self) {
        self.0.lock().unwrap().last_mut().unwrap().ended = true;
    }
}
