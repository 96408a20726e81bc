//! A folder as a remote: a stick, a network share, a folder that another program synchronises. No such place has conditional
//! writes, so every head is a file of its own, and two machines that write at once leave two heads.

mod files;
#[cfg(test)]
mod tests;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::description::Format;
use super::receive::Expected;
use super::transfer::Transfers;
use super::{
    Conditions, CopyName, Description, Digest, Head, HistoryCopy, Put, PutDone, Remote, RemoteError, State, Version,
    names,
};
use files::{FolderLock, TemporaryFile};

use super::folder;

/// A folder.
pub struct DirectoryRemote {
    folder: PathBuf,
    transfers: Transfers,
}

impl DirectoryRemote {
    /// Names the folder; it need not exist.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), transfers: Transfers::default() }
    }

    fn history(&self) -> PathBuf {
        self.folder.join(names::HISTORY)
    }

    fn convenience_copy(&self) -> PathBuf {
        self.folder.join(names::ARCHIVE)
    }

    fn require(&self) -> Result<(), RemoteError> {
        match std::fs::metadata(&self.folder) {
            Ok(metadata) if metadata.is_dir() => Ok(()),
            Ok(_) => Err(RemoteError::file("use", &self.folder)(ErrorKind::NotADirectory.into())),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(RemoteError::NoStorage(self.place())),
            Err(error) => Err(RemoteError::file("use", &self.folder)(error)),
        }
    }

    /// The files of heads, the lowest first.
    fn head_files(&self) -> Result<Vec<Head>, RemoteError> {
        let mut heads = Vec::new();
        for (name, metadata) in folder::list(&self.folder)? {
            let Some((sequence, head)) = names::parse_head_file(&name) else { continue };
            let format = files::format_of(&self.folder.join(&name))?;
            heads.push(Head {
                version: Version(name),
                bytes: metadata.len(),
                modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                state: format.map(|(format, vault)| State { format, vault, sequence, head }),
                sha256: None,
            });
        }
        heads.sort_by(|left, right| (left.state, &left.version).cmp(&(right.state, &right.version)));
        Ok(heads)
    }

    /// An archive that somebody put into an empty folder by hand. Its version is its hash: it has no name of its own.
    fn brought_by_hand(&self) -> Result<Option<Head>, RemoteError> {
        let path = self.convenience_copy();
        let error = || RemoteError::file("read", &path);
        let file = match files::open_regular(&path) {
            Ok(file) => file,
            Err(failed) if matches!(failed.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => return Ok(None),
            Err(failed) => return Err(error()(failed)),
        };
        let metadata = file.metadata().map_err(error())?;
        self.transfers.require_bound(&path.display().to_string(), metadata.len())?;
        let description = Description::of_file(&file, &path)?;
        Ok(Some(Head {
            version: by_hand(&description.sha256),
            bytes: description.bytes,
            modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            state: Some(description.state),
            sha256: Some(description.sha256),
        }))
    }

    /// Whether the heads are those that were seen. One that was put before, by a run that did not hear of it, counts for
    /// nothing, and what it stood for may be gone already or not.
    fn is_as_seen(&self, seen: &[Version], own: &str) -> Result<bool, RemoteError> {
        let others =
            |versions: Vec<Version>| versions.into_iter().filter(|version| version.0 != own).collect::<Vec<_>>();
        let present: Vec<Version> = self.heads()?.into_iter().map(|head| head.version).collect();
        let was_put = present.iter().any(|version| version.0 == own) && !seen.iter().any(|version| version.0 == own);
        let (present, seen) = (others(present), others(seen.to_vec()));
        let nothing_new = present.iter().all(|version| seen.contains(version));
        Ok(nothing_new && (was_put || seen.iter().all(|version| present.contains(version))))
    }

    /// Makes `vault.tar.aes` a copy of the new head. What is there and is no head that was seen is not ours to overwrite: it
    /// moves to the history.
    fn refresh_copy(
        &self,
        archive: &Path,
        description: &Description,
        seen: &[Version],
    ) -> Result<Vec<String>, RemoteError> {
        let (path, mut warnings) = (self.convenience_copy(), Vec::new());
        let there = files::open_regular(&path).map_err(RemoteError::file("read", &path));
        match there.and_then(|file| Description::of_file(&file, &path)) {
            Ok(found) if found.sha256 == description.sha256 => return Ok(warnings),
            Ok(found) if self.is_known(&found, seen) => {}
            Err(RemoteError::File { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            _ => {
                let kept = self.keep_aside(&path)?;
                warnings.push(format!(
                    "{} was put there by somebody else; it is in the history now, as {}",
                    path.display(),
                    kept.0
                ));
            }
        }
        TemporaryFile::copy_of(archive, description, &path, &self.transfers)?.into_place()?;
        Ok(warnings)
    }

    fn is_known(&self, found: &Description, seen: &[Version]) -> bool {
        let by_name = names::head_file(&found.state);
        seen.iter().any(|version| version.0 == by_name || *version == by_hand(&found.sha256))
            || self.folder.join(by_name).exists()
    }

    fn keep_aside(&self, path: &Path) -> Result<CopyName, RemoteError> {
        files::make_folder(&self.history())?;
        let name = names::copy(SystemTime::now(), 0);
        std::fs::rename(path, self.history().join(&name.0)).map_err(RemoteError::file("move", path))?;
        Ok(name)
    }

    /// Removes the files of heads that the new one stands for.
    fn remove_superseded(&self, seen: &[Version], new: &str) -> Vec<String> {
        let mut warnings = Vec::new();
        for version in seen.iter().filter(|version| version.0 != new && names::parse_head_file(&version.0).is_some()) {
            let path = self.folder.join(&version.0);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    warnings.push(format!("{} cannot be removed: {error}", path.display()));
                }
                _ => {}
            }
        }
        warnings
    }

    fn fetch_file(
        &self,
        path: &Path,
        target: &Path,
        state: Option<State>,
        sha256: Option<Digest>,
    ) -> Result<Description, RemoteError> {
        let file = match files::open_regular(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.require()?;
                return Err(RemoteError::Changed(path.display().to_string()));
            }
            Err(error) => return Err(RemoteError::file("read", path)(error)),
        };
        files::receive(file, path, target, Expected { bytes: None, sha256, state }, &self.transfers)
    }
}

impl Remote for DirectoryRemote {
    fn set_transfers(&mut self, transfers: Transfers) {
        self.transfers = transfers;
    }

    fn place(&self) -> String {
        self.folder.display().to_string()
    }

    fn heads(&self) -> Result<Vec<Head>, RemoteError> {
        self.require()?;
        let mut heads = self.head_files()?;
        if heads.is_empty() {
            heads.extend(self.brought_by_hand()?);
        }
        Ok(heads)
    }

    fn fetch(&self, version: &Version, target: &Path) -> Result<Description, RemoteError> {
        self.require()?;
        let path = self.folder.join(&version.0);
        let Some((sequence, head)) = names::parse_head_file(&version.0) else {
            let told = version.0.strip_prefix(BY_HAND).and_then(|digest| digest.parse().ok());
            let sha256 = told.ok_or_else(|| RemoteError::Changed(self.place()))?;
            return self.fetch_file(&self.convenience_copy(), target, None, Some(sha256));
        };
        let format = files::format_of(&path)?.map_or(Format::V1, |(format, _)| format);
        self.fetch_file(&path, target, Some(State { format, vault: None, sequence, head }), None)
    }

    fn put(&self, archive: &Path, description: &Description, seen: &[Version]) -> Result<Put, RemoteError> {
        self.require()?;
        // Where the file system has no locks, two at once leave two heads, and nothing is lost.
        let _lock = FolderLock::take(&self.folder)?;
        let name = names::head_file(&description.state);
        if !self.is_as_seen(seen, &name)? {
            return Ok(Put::Conflict);
        }
        let new = TemporaryFile::copy_of(archive, description, &self.folder.join(&name), &self.transfers)?;
        let now = new.modified();
        new.into_place()?;
        let mut warnings = self.refresh_copy(archive, description, seen)?;
        warnings.extend(self.remove_superseded(seen, &name));
        [&self.folder, &self.history()].iter().for_each(|folder| files::remove_left(folder, now));
        Ok(Put::Done(PutDone { version: Version(name), warnings }))
    }

    fn copies(&self) -> Result<Vec<HistoryCopy>, RemoteError> {
        self.require()?;
        let mut copies = Vec::new();
        for (name, metadata) in folder::list(&self.history())? {
            let Some(sequence) = names::parse_copy(&name) else { continue };
            let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            copies.push(HistoryCopy { name: CopyName(name), bytes: metadata.len(), modified, sequence });
        }
        super::history::sort(&mut copies);
        Ok(copies)
    }

    fn fetch_copy(&self, copy: &CopyName, target: &Path) -> Result<Description, RemoteError> {
        if names::parse_copy(&copy.0).is_none() {
            return Err(RemoteError::Changed(copy.0.clone()));
        }
        self.fetch_file(&self.history().join(&copy.0), target, None, None)
    }

    fn put_copy(&self, archive: &Path, description: &Description, _: &Version) -> Result<CopyName, RemoteError> {
        self.require()?;
        files::make_folder(&self.history())?;
        loop {
            let name = names::copy(SystemTime::now(), description.state.sequence);
            let path = self.history().join(&name.0);
            // The name holds the time to the millisecond: the next one is free.
            if TemporaryFile::copy_of(archive, description, &path, &self.transfers)?.into_free_place()? {
                return Ok(name);
            }
        }
    }

    fn remove_copy(&self, copy: &CopyName) -> Result<(), RemoteError> {
        let path = self.history().join(&copy.0);
        if names::parse_copy(&copy.0).is_none() {
            return Ok(());
        }
        match folder::remove_in(&self.history(), &copy.0) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                Err(RemoteError::NoPermission { place: self.place(), action: "deleting" })
            }
            outcome => outcome.map_err(RemoteError::file("remove", &path)),
        }
    }

    fn make_storage(&self) -> Result<Vec<String>, RemoteError> {
        if self.folder.is_dir() {
            return Ok(vec![format!("The folder {} is there already", self.place())]);
        }
        files::make_folder(&self.folder)?;
        Ok(vec![format!("Made the folder {}", self.place())])
    }

    fn probe(&self) -> Result<Conditions, RemoteError> {
        self.require()?;
        files::try_out(&self.folder)?;
        Ok(Conditions::Kept)
    }
}

/// What the version of an archive that was brought by hand begins with.
const BY_HAND: &str = "sha256-";

/// The version of an archive that was brought to a folder by hand.
pub(super) fn by_hand(sha256: &Digest) -> Version {
    Version(format!("{BY_HAND}{sha256}"))
}
