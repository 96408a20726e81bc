//! The base: byte for byte the archive that this machine and a remote last agreed on, and which version it was there. It lies in
//! the state folder, never in the project's, which others can write.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::path_key::path_key;
use crate::remote::{Description, State, Version};

use super::snapshot;

/// What is remembered of one remote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// The remote.
    pub place: String,
    /// The versions that it had there.
    pub versions: Vec<Version>,
    /// The archive.
    pub description: Description,
    /// The file beside this note that holds it.
    file: String,
}

impl Base {
    /// What is remembered of a remote in a state folder; `None`: nothing that can be read.
    pub fn load(state: &Path, place: &str) -> Option<Self> {
        let base: Self = serde_json::from_slice(&std::fs::read(note(state, place)).ok()?).ok()?;
        (base.place == place).then_some(base)
    }

    /// Names of the archives that are remembered of all remotes, files of a state folder.
    pub fn files(state: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(state).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| name.starts_with("base-") && name.ends_with(".tar.aes")).collect()
    }

    /// Remembers an archive, a file in the state folder that is taken over. At every moment the note names a file that is whole.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn record(
        state: &Path,
        place: &str,
        versions: Vec<Version>,
        description: Description,
        archive: tempfile::NamedTempFile,
    ) -> io::Result<Self> {
        let key = path_key(Path::new(place));
        let file = format!("base-{key}-{}.tar.aes", description.sha256);
        // By its name: a fetched archive took the place of the file that was opened.
        File::open(archive.path())?.sync_all()?;
        archive.persist(state.join(&file)).map_err(|error| error.error)?;
        let base = Self { place: place.to_owned(), versions, description, file };
        let mut written = tempfile::Builder::new().prefix(snapshot::START).tempfile_in(state)?;
        serde_json::to_writer(&mut written, &base)?;
        written.as_file().sync_all()?;
        written.persist(note(state, place)).map_err(|error| error.error)?;
        File::open(state)?.sync_all()?;
        base.forget_older(state, &format!("base-{key}-"))?;
        Ok(base)
    }

    /// Notes that both sides still agree on it.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn confirm(&self, state: &Path) -> io::Result<()> {
        File::options().write(true).open(note(state, &self.place))?.set_modified(SystemTime::now())
    }

    /// When both sides were last known to agree on it.
    pub fn agreed(&self, state: &Path) -> Option<SystemTime> {
        std::fs::metadata(note(state, &self.place)).and_then(|metadata| metadata.modified()).ok()
    }

    /// Its state.
    pub fn state(&self) -> &State {
        &self.description.state
    }

    /// Name of its file in the state folder.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Where it lies.
    pub fn path(&self, state: &Path) -> PathBuf {
        state.join(&self.file)
    }

    fn forget_older(&self, state: &Path, start: &str) -> io::Result<()> {
        for entry in std::fs::read_dir(state)? {
            let name = entry?.file_name();
            let is_older = name.to_str().is_some_and(|name| name.starts_with(start) && name != self.file);
            if is_older {
                std::fs::remove_file(state.join(name))?;
            }
        }
        Ok(())
    }
}

fn note(state: &Path, place: &str) -> PathBuf {
    state.join(format!("base-{}.json", path_key(Path::new(place))))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn archive(state: &Path, bytes: &[u8]) -> (tempfile::NamedTempFile, Description) {
        let mut file = tempfile::NamedTempFile::new_in(state).unwrap();
        file.write_all(bytes).unwrap();
        let description = Description::of(file.path()).unwrap();
        (file, description)
    }

    #[test]
    fn the_newest_is_remembered_whole_for_each_place() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path();
        assert_eq!(Base::load(state, "a"), None);
        for (place, bytes) in [("a", b"first".as_slice()), ("b", b"other"), ("a", b"second")] {
            let (file, description) = archive(state, bytes);
            let version = Version(format!("\"{}\"", bytes.len()));
            let base = Base::record(state, place, vec![version], description, file).unwrap();
            assert_eq!(Base::load(state, place), Some(base.clone()));
            assert_eq!(std::fs::read(base.path(state)).unwrap(), bytes);
        }
        // Two notes, and one archive each.
        assert_eq!(std::fs::read_dir(state).unwrap().count(), 4);
        assert!(Base::load(state, "b").is_some());
        assert_eq!(Base::files(state).len(), 2);
    }
}
