//! What an open vault was: its history, and the way back.

use std::io;
use std::time::Duration;

use crate::entry::EntryPath;

use super::v2::{CheckReport, Log};
use super::{Access, HistoryError, Vault, VaultError, import};

/// How long after something was put back the archive is not compacted on its own: what was replaced is in its history only.
const HISTORY_KEPT: Duration = Duration::from_secs(60 * 60);

/// What was put back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Entries, folders included.
    pub entries: u64,
    /// Files that were there and are replaced.
    pub replaced: Vec<EntryPath>,
    /// The commit that holds what was there before.
    pub before: u64,
}

impl Vault {
    /// The commits that the archive holds now.
    ///
    /// # Errors
    /// [`HistoryError::NoHistory`]: it is of version 1. [`VaultError::ChangedElsewhere`], [`VaultError::Closed`].
    pub fn log(&self) -> Result<Log, VaultError> {
        let mut archive = self.shared.archive.lock();
        let archive = archive.as_mut().ok_or_else(|| VaultError::Closed(self.shared.path.clone()))?;
        archive.log(&self.options)?.ok_or_else(|| HistoryError::NoHistory(self.shared.path.clone()).into())
    }

    /// Verifies everything that was acknowledged, in the file as it lies there.
    ///
    /// # Errors
    /// As for [`Vault::log`], and [`VaultError::Io`]: it cannot be read, or `progress` (bytes done, bytes in all) returned that.
    pub fn check(&self, progress: &mut dyn FnMut(u64, u64) -> io::Result<()>) -> Result<CheckReport, VaultError> {
        self.log()?.check(progress)
    }

    /// Puts a file, or a folder with all below it, back as it was after a commit; at `to`, or where it was. The present state
    /// is committed before; files that came later stay. It is in the archive with the next commit.
    ///
    /// # Errors
    /// Those of [`Log::at`] and of a commit; [`VaultError::Tree`]: a folder is where a file was or the other way round, or
    /// there is no room. Nothing is changed then.
    pub fn restore(&self, number: u64, path: &EntryPath, to: Option<&EntryPath>) -> Result<Restored, VaultError> {
        if self.shared.access == Access::ReadOnly {
            return Err(VaultError::ReadOnly(self.shared.path.clone()));
        }
        let past = self.log()?.at(number, path)?;
        self.committer().commit().map_err(VaultError::NotSaved)?;
        let before = {
            let mut archive = self.shared.archive.lock();
            let archive = archive.as_mut().ok_or_else(|| VaultError::Closed(self.shared.path.clone()))?;
            archive.keep_history(HISTORY_KEPT);
            archive.sequence().unwrap_or(number)
        };
        let (entries, replaced) = import::put_back(&self.tree, &self.options, &past, to.unwrap_or(path))?;
        Ok(Restored { entries, replaced, before })
    }
}
