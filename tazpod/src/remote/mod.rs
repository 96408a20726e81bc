//! Where archives travel to: one trait, kept by a folder and by a bucket. Bytes of archives and what anyone can tell of them;
//! knows no vault, no merge and no command line. Only `s3` imports the AWS crates.

pub mod credentials;
pub mod description;
mod directory;
mod error;
mod folder;
pub mod history;
mod names;
pub mod probe;
mod receive;
mod s3;
#[cfg(test)]
mod tests;
pub mod transfer;

use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

pub use description::{Description, Digest, State};
pub use error::RemoteError;
pub use probe::Conditions;
pub use receive::{sync_file, sync_folder};
pub use s3::{policy, single_sign_on};

use crate::config::{RemotePlace, S3Place};
use credentials::VaultFiles;
use transfer::Transfers;

/// A place for the archive of one vault and for older copies of it. Nothing here overwrites what it was not told of.
pub trait Remote: Send + Sync {
    /// Sets the terms of all transfers from now on.
    fn set_transfers(&mut self, transfers: Transfers);

    /// Names the place, for people and for telling places apart.
    fn place(&self) -> String;

    /// What the place holds now: nothing, one archive, or several that do not know of each other (folders only), the lowest
    /// first. One round trip.
    ///
    /// # Errors
    /// See [`RemoteError`].
    fn heads(&self) -> Result<Vec<Head>, RemoteError>;

    /// Fetches a head to a file, whole and verified or not at all; what was there is replaced. It is not synced: see [`sync_file`].
    ///
    /// # Errors
    /// [`RemoteError::Changed`]: it is not there any more. [`RemoteError::Damaged`].
    fn fetch(&self, version: &Version, target: &Path) -> Result<Description, RemoteError>;

    /// Puts an archive in the place of the heads that were seen (none: where nothing was), and only then. The file must not
    /// change meanwhile.
    ///
    /// # Errors
    /// [`RemoteError::ArchiveChanged`]: the file is not what the description says. Nothing is put then.
    fn put(&self, archive: &Path, description: &Description, seen: &[Version]) -> Result<Put, RemoteError>;

    /// Lists the older copies, the newest first, by the store's own time.
    ///
    /// # Errors
    /// See [`RemoteError`].
    fn copies(&self) -> Result<Vec<HistoryCopy>, RemoteError>;

    /// Fetches a copy, as [`Remote::fetch`] does.
    ///
    /// # Errors
    /// [`RemoteError::Changed`]: it is not there any more. [`RemoteError::Damaged`].
    fn fetch_copy(&self, copy: &CopyName, target: &Path) -> Result<Description, RemoteError>;

    /// Keeps a copy of an archive that was just put as a version; never over another copy.
    ///
    /// # Errors
    /// See [`RemoteError`].
    fn put_copy(&self, archive: &Path, description: &Description, of: &Version) -> Result<CopyName, RemoteError>;

    /// Removes a copy; one that is gone already is no error.
    ///
    /// # Errors
    /// [`RemoteError::NoPermission`] and others.
    fn remove_copy(&self, copy: &CopyName) -> Result<(), RemoteError>;

    /// Makes the bucket or the folder where it is missing; returns what was done and what was not, a sentence each.
    ///
    /// # Errors
    /// See [`RemoteError`].
    fn make_storage(&self) -> Result<Vec<String>, RemoteError>;

    /// Finds out whether the place keeps the conditions that [`Remote::put`] relies on.
    ///
    /// # Errors
    /// See [`RemoteError`].
    fn probe(&self) -> Result<Conditions, RemoteError>;
}

/// The opaque version of a head: an ETag, or the name of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version(pub String);

/// An archive as a remote tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// For fetching it and for putting something in its place.
    pub version: Version,
    /// Its size.
    pub bytes: u64,
    /// When the store got it.
    pub modified: SystemTime,
    /// Which state it says it is; `None`: another program put it there, and only fetching tells.
    pub state: Option<State>,
    /// SHA-256 of all its bytes, where the place tells it.
    pub sha256: Option<Digest>,
}

/// How a put ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is there.
    Done(PutDone),
    /// The place does not hold what was seen any more, and was not changed: look again.
    Conflict,
}

/// What was put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutDone {
    /// Its version.
    pub version: Version,
    /// Things the user is told.
    pub warnings: Vec<String>,
}

/// An older copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryCopy {
    /// What it is called.
    pub name: CopyName,
    /// Its size.
    pub bytes: u64,
    /// When the store got it.
    pub modified: SystemTime,
    /// Number of the last commit in it, where its name tells.
    pub sequence: Option<u64>,
}

/// Names a copy within the history.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CopyName(pub String);

/// Opens a place. `vault` is what the unlocked vault holds of credentials; `known` is what a probe found before. Nothing goes
/// over the network yet.
///
/// # Errors
/// [`RemoteError::Credentials`]: this process cannot make connections at all.
pub fn open(
    place: &RemotePlace,
    vault: &mut VaultFiles,
    known: Option<&Conditions>,
) -> Result<Box<dyn Remote>, RemoteError> {
    match place {
        RemotePlace::Directory(folder) => Ok(Box::new(directory::DirectoryRemote::new(folder))),
        RemotePlace::S3(place) => {
            Ok(Box::new(s3::S3Remote::open(place, vault, s3::Patience::default(), s3::Parts::allowed_by(known))?))
        }
    }
}

/// The version of an archive that somebody brings to an empty folder by hand, under its plain name.
pub fn brought_by_hand(sha256: &Digest) -> Version {
    directory::by_hand(sha256)
}

/// Names a place without opening it, as [`Remote::place`] does.
pub fn name_of(place: &RemotePlace) -> String {
    match place {
        RemotePlace::Directory(folder) => directory::DirectoryRemote::new(folder).place(),
        RemotePlace::S3(place) => s3::name_of(place),
    }
}

impl S3Place {
    /// Key of the archive.
    fn archive_key(&self) -> String {
        format!("{}{}", self.prefix, names::ARCHIVE)
    }
}
