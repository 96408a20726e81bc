//! Where an agent leaves its socket and its notes: folders of the user alone.

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::path_key::path_key;

/// Names the vault of an archive on this machine, by its canonical path.
/// (A v1 archive has no id of its own, and two projects may share one vault.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultKey(String);

impl VaultKey {
    /// Makes the key of a canonical path.
    pub fn of(archive: &Path) -> Self {
        Self(path_key(archive))
    }

    /// Path of the agent's socket.
    ///
    /// # Errors
    /// There is no safe runtime folder.
    pub fn socket(&self) -> io::Result<PathBuf> {
        Ok(runtime_folder()?.join(format!("{}.sock", self.0)))
    }

    /// The vault's state folder, made when missing, for what must outlast a restart of the machine. It may be that it can only be
    /// read.
    ///
    /// # Errors
    /// There is no home, or the folder cannot be made or is not ours.
    pub fn lasting_folder(&self) -> io::Result<PathBuf> {
        let folder = state_root()?.join(&self.0);
        make_private(&folder)?;
        Ok(folder)
    }

    /// The same for what counts while the vault is unlocked: where nothing can be written there, a folder beside the socket.
    ///
    /// # Errors
    /// Neither can be made.
    pub fn state_folder(&self) -> io::Result<PathBuf> {
        if let Some(folder) = self.lasting_folder().ok().filter(|folder| is_writable(folder)) {
            return Ok(folder);
        }
        let folder = runtime_folder()?.join(&self.0);
        make_private(&folder)?;
        Ok(folder)
    }

    /// File that says where the vault is unlocked.
    ///
    /// # Errors
    /// As for [`VaultKey::state_folder`].
    pub fn note(&self) -> io::Result<PathBuf> {
        Ok(self.state_folder()?.join("unlocked.json"))
    }
}

/// What later commands need when the agent cannot tell any more.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UnlockedNote {
    /// The archive.
    pub archive: PathBuf,
    /// Mount points.
    pub mounts: Vec<PathBuf>,
    /// What was made for bridges, to be removed when it is empty.
    #[serde(default)]
    pub made: Vec<PathBuf>,
    /// The project that it was unlocked for.
    #[serde(default)]
    pub project: Option<PathBuf>,
    /// Its keeper, which has made the mounts.
    #[serde(default)]
    pub keeper_pid: u32,
    /// What is known of its end.
    #[serde(default)]
    pub end: NotedEnd,
}

/// What an agent notes of its end. One that ends in order leaves no note.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NotedEnd {
    /// Nothing yet; for ever, when it is killed.
    #[default]
    None,
    /// All was saved, and nobody is left who takes the mounts away: the keeper was killed.
    SavedWithoutKeeper,
}

impl UnlockedNote {
    /// Reads a note; `None` when there is none that can be read.
    pub fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    /// Writes it, replacing an older one whole.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let temporary = path.with_extension("tmp");
        std::fs::write(&temporary, serde_json::to_vec(self)?)?;
        std::fs::rename(temporary, path)
    }
}

/// Tells shells that a vault was unlocked or locked: they compare the content of [`changes_file`] with what they saw before. Where
/// nothing can be written they notice nothing.
pub fn note_change() {
    let told = changes_file().and_then(|file| {
        let temporary = file.with_extension(std::process::id().to_string());
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        std::fs::write(&temporary, format!("{}.{}\n", now.as_nanos(), std::process::id()))?;
        std::fs::rename(temporary, file)
    });
    if let Err(error) = told {
        tracing::debug!(%error, "shells cannot be told of a change");
    }
}

/// File with one line, which is another one after each unlock and each lock.
///
/// # Errors
/// As for [`runtime_folder`].
pub fn changes_file() -> io::Result<PathBuf> {
    Ok(runtime_folder()?.join("changes"))
}

/// Notes of all vaults that were unlocked and not locked in order.
pub fn all_notes() -> Vec<UnlockedNote> {
    let entries = [state_root(), runtime_folder()].into_iter().flatten().map(std::fs::read_dir);
    let entries = entries.flatten().flatten().flatten();
    entries.filter_map(|entry| UnlockedNote::read(&entry.path().join("unlocked.json"))).collect()
}

/// `$XDG_RUNTIME_DIR/tazpod`, or `~/.local/state/tazpod/run` where there is no runtime folder of ours, or `/tmp/tazpod-<uid>` where
/// nothing can be written there either.
///
/// # Errors
/// The folder cannot be made or is not ours.
pub fn runtime_folder() -> io::Result<PathBuf> {
    let uid = rustix::process::getuid().as_raw();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    let usable = runtime.filter(|path| std::fs::metadata(path).is_ok_and(|meta| meta.is_dir() && meta.uid() == uid));
    let folder = match usable {
        Some(runtime) => runtime.join("tazpod"),
        None => match state_root().map(|root| root.join("run")) {
            Ok(folder) if make_private(&folder).is_ok() && is_writable(&folder) => folder,
            _ => std::env::temp_dir().join(format!("tazpod-{uid}")),
        },
    };
    make_private(&folder)?;
    Ok(folder)
}

/// `$TAZPOD_STATE`, `$XDG_STATE_HOME/tazpod` or `~/.local/state/tazpod`, made when missing.
///
/// # Errors
/// There is no home, or the folder cannot be made or is not ours.
pub fn state_root() -> io::Result<PathBuf> {
    let named = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = named("XDG_STATE_HOME").or_else(|| std::env::home_dir().map(|home| home.join(".local/state")));
    let root = named("TAZPOD_STATE").or_else(|| state.map(|state| state.join("tazpod")));
    let root = root.ok_or_else(|| io::Error::other("there is no home folder"))?;
    make_private(&root)?;
    Ok(root)
}

/// Whether files can be made there, as far as that can be known without trying.
fn is_writable(folder: &Path) -> bool {
    rustix::fs::access(folder, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).is_ok()
}

/// Makes a folder that only its owner can enter, and refuses one that somebody else could have prepared.
fn make_private(folder: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let metadata = std::fs::symlink_metadata(folder)?;
    let ours = metadata.is_dir() && metadata.uid() == rustix::process::getuid().as_raw();
    if !ours {
        let text = format!("{} is not a folder of this user", folder.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    if metadata.mode() & 0o077 != 0 {
        std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    }
    Ok(())
}
