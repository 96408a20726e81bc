//! Folders that others write into at the same time.

use std::fs::Metadata;
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Mode, OFlags};

use super::RemoteError;

/// How long a temporary file lies there that nobody writes any more.
const LEFT_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// Regular files of a folder; none where there is no folder.
pub fn list(folder: &Path) -> Result<Vec<(String, Metadata)>, RemoteError> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(RemoteError::file("read", folder)(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(RemoteError::file("read", folder))?;
        // One that is gone meanwhile is not there.
        let (Ok(name), Ok(metadata)) = (entry.file_name().into_string(), entry.metadata()) else { continue };
        if metadata.is_file() {
            files.push((name, metadata));
        }
    }
    Ok(files)
}

/// Removes temporary files that killed programs left, told by their names: those that are a day older than one that was just written
/// there. Whoever still writes one, a machine that slept perhaps, cannot put it in its place then, and tries again.
pub fn remove_left(folder: &Path, now: SystemTime, is_temporary: impl Fn(&str) -> bool) {
    let is_left = |name: &str, metadata: &Metadata| {
        let age = metadata.modified().ok().and_then(|modified| now.duration_since(modified).ok());
        is_temporary(name) && age.is_some_and(|age| age >= LEFT_FOR)
    };
    let files = list(folder).unwrap_or_default();
    for (name, _) in files.iter().filter(|(name, metadata)| is_left(name, metadata)) {
        if let Err(error) = remove_in(folder, name) {
            tracing::info!(name, %error, "what a killed program left cannot be removed");
        }
    }
}

/// Removes a file of a folder that is no symbolic link: that could lead anywhere, and others may have put it there.
pub fn remove_in(folder: &Path, name: &str) -> std::io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(folder, flags, Mode::empty())?;
    Ok(rustix::fs::unlinkat(&folder, name, AtFlags::empty())?)
}
