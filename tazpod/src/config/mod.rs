//! Configuration: finds the project by walking up, reads its file and the user's, and makes one plan with all defaults.
//! Flags go before the project's file, which goes before the user's.

mod file;
mod remote;
mod sync;
pub mod trust;
pub mod units;

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use file::CommitMode;
use file::{ConfigFile, VaultSection};
pub use remote::{RemotePlace, RemotePlan, Retention, S3Place};
pub use sync::SyncPlan;
use sync::SyncSection;

/// The project's folder for everything of this tool.
pub const PROJECT_FOLDER: &str = ".tazpod";
/// Where the archive lies within a project.
pub const DEFAULT_ARCHIVE: &str = ".tazpod/vault/vault.tar.aes";
/// Where the vault is mounted within the home.
pub const DEFAULT_MOUNT: &str = "secrets";
/// Default of `vault.size`, bytes.
pub const DEFAULT_SIZE: u64 = 256 << 20;
const DEFAULT_COMMIT_DELAY: Duration = Duration::from_secs(1);

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Neither a project nor `--vault`.
    #[error("there is no project here: no .tazpod folder in {} or above it", .0.display())]
    NoProject(PathBuf),
    /// A file cannot be read.
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// A file is wrong.
    #[error("{} is wrong: {}", .0.display(), .1)]
    Parse(PathBuf, String),
    /// A value is wrong.
    #[error("{key}: {reason}")]
    Value {
        /// Its name.
        key: &'static str,
        /// Why.
        reason: String,
    },
    /// The file changed since it was trusted, and would widen something.
    #[error("{} has not been trusted, and sets {}", file.display(), keys.join(", "))]
    Untrusted {
        /// The file.
        file: PathBuf,
        /// Keys that would count.
        keys: Vec<&'static str>,
    },
    /// Nothing says where the archive travels to.
    #[error("no remote is configured")]
    NoRemote,
    /// No home folder to put defaults into.
    #[error("there is no home folder (HOME is not set)")]
    NoHome,
}

/// What is asked for by flags and environment.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--project`
    pub project: Option<PathBuf>,
    /// `--vault`
    pub vault: Option<PathBuf>,
    /// `--mount`
    pub mount: Option<PathBuf>,
}

/// All that commands need to know, validated.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The project, canonical; `None`: flags name all that is needed.
    pub project: Option<PathBuf>,
    /// The archive; canonical when it exists.
    pub archive: PathBuf,
    /// The mount point, absolute.
    pub mount: PathBuf,
    /// Bytes that the vault may grow to.
    pub size_limit: u64,
    /// When `close` returns.
    pub commit: CommitMode,
    /// How long a change may wait.
    pub commit_delay: Duration,
    /// When it is synchronised on its own.
    pub sync: SyncPlan,
    /// Unknown keys.
    pub warnings: Vec<String>,
    remote: RemoteChoice,
}

/// What the files say about a remote. Commands that use none do not stumble over it.
#[derive(Clone, Debug)]
enum RemoteChoice {
    /// Nothing.
    Nowhere,
    /// It counts.
    Trusted(RemotePlan),
    /// A project's file that was not trusted as it is.
    Untrusted(PathBuf, Vec<&'static str>),
    /// It is wrong.
    Wrong(&'static str, String),
}

impl Plan {
    /// Makes the plan for this folder.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(overrides: &Overrides) -> Result<Self, ConfigError> {
        let mut warnings = Vec::new();
        let user = match user_folder() {
            Some(folder) => read(&folder.join("config.yaml"), &mut warnings)?.map(|(file, _)| file).unwrap_or_default(),
            None => ConfigFile::default(),
        };
        let project = project_or_none(overrides)?;
        let (mut section, mut sync) = (VaultSection::default(), SyncSection::default());
        // Whoever runs the command may be anywhere.
        let mut remote = RemoteChoice::of(&user, &home().unwrap_or_default(), &mut warnings)?;
        if let Some(project) = &project {
            let path = project_file(project);
            if let Some((file, text)) = read(&path, &mut warnings)? {
                check_trust(&path, &text, &file.vault, overrides)?;
                let keys = file.remote_sections().keys();
                let trusted = is_trusted(&canonical(&path)?, &text);
                if !keys.is_empty() && !trusted {
                    remote = RemoteChoice::Untrusted(canonical(&path)?, keys);
                } else if !keys.is_empty() {
                    remote = RemoteChoice::of(&file, project, &mut warnings)?;
                }
                section = file.vault;
                sync = if trusted { file.sync } else { file.sync.untrusted() };
            }
        }
        let sync = sync.resolve(&user.sync)?;
        Self::resolve(overrides, project, &section, &user.vault, warnings, (remote, sync))
    }

    /// Where the archive travels to.
    ///
    /// # Errors
    /// [`ConfigError::NoRemote`], [`ConfigError::Untrusted`], [`ConfigError::Value`].
    pub fn remote(&self) -> Result<&RemotePlan, ConfigError> {
        match &self.remote {
            RemoteChoice::Nowhere => Err(ConfigError::NoRemote),
            RemoteChoice::Trusted(plan) => Ok(plan),
            RemoteChoice::Untrusted(file, keys) => {
                Err(ConfigError::Untrusted { file: file.clone(), keys: keys.clone() })
            }
            RemoteChoice::Wrong(key, reason) => Err(ConfigError::Value { key, reason: reason.clone() }),
        }
    }

    /// Finds the project.
    ///
    /// # Errors
    /// [`ConfigError::NoProject`].
    pub fn find_project(overrides: &Overrides) -> Result<PathBuf, ConfigError> {
        let here = || ConfigError::NoProject(std::env::current_dir().unwrap_or_default());
        project_or_none(overrides)?.ok_or_else(here)
    }

    fn resolve(
        overrides: &Overrides,
        project: Option<PathBuf>,
        section: &VaultSection,
        user: &VaultSection,
        warnings: Vec<String>,
        (remote, sync): (RemoteChoice, SyncPlan),
    ) -> Result<Self, ConfigError> {
        let base = project.clone().unwrap_or_default();
        let archive = match (&overrides.vault, &section.file, &project) {
            (Some(vault), ..) => vault.clone(),
            (None, Some(file), _) => base.join(expand_home(file)?),
            (None, None, Some(project)) => project.join(DEFAULT_ARCHIVE),
            (None, None, None) => return Err(ConfigError::NoProject(std::env::current_dir().unwrap_or_default())),
        };
        let mount = match (&overrides.mount, section.mount.as_ref().or(user.mount.as_ref())) {
            (Some(mount), _) => mount.clone(),
            (None, Some(mount)) => base.join(expand_home(mount)?),
            (None, None) => home()?.join(DEFAULT_MOUNT),
        };
        let pick = |value: fn(&VaultSection) -> Option<&str>| value(section).or(value(user));
        let size_limit = match pick(|section| section.size.as_deref()) {
            Some(text) => units::size(text).map_err(|reason| ConfigError::Value { key: "vault.size", reason })?,
            None => DEFAULT_SIZE,
        };
        let commit_delay = match pick(|section| section.commit_delay.as_deref()) {
            Some(text) => {
                units::duration(text).map_err(|reason| ConfigError::Value { key: "vault.commit_delay", reason })?
            }
            None => DEFAULT_COMMIT_DELAY,
        };
        let commit = section.commit.or(user.commit).unwrap_or(CommitMode::Relaxed);
        let (archive, mount) = (canonical(&archive)?, absolute(&mount)?);
        let project = project.as_deref().map(canonical).transpose()?;
        Ok(Self { project, archive, mount, size_limit, commit, commit_delay, sync, warnings, remote })
    }
}

impl RemoteChoice {
    fn of(file: &ConfigFile, base: &Path, warnings: &mut Vec<String>) -> Result<Self, ConfigError> {
        match file.remote_sections().resolve(base, warnings) {
            Ok(plan) => Ok(plan.map_or(Self::Nowhere, Self::Trusted)),
            Err(ConfigError::Value { key, reason }) => Ok(Self::Wrong(key, reason)),
            Err(error) => Err(error),
        }
    }
}

/// Path of a project's configuration.
pub fn project_file(project: &Path) -> PathBuf {
    project.join(PROJECT_FOLDER).join("config.yaml")
}

/// `$XDG_CONFIG_HOME/tazpod` or `~/.config/tazpod`.
pub fn user_folder() -> Option<PathBuf> {
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    Some(config.or_else(|| home().ok().map(|home| home.join(".config")))?.join("tazpod"))
}

/// The home folder.
///
/// # Errors
/// [`ConfigError::NoHome`].
pub fn home() -> Result<PathBuf, ConfigError> {
    std::env::home_dir().filter(|home| home.is_absolute()).ok_or(ConfigError::NoHome)
}

/// Replaces a leading `~/` by the home folder.
fn expand_home(path: &Path) -> Result<PathBuf, ConfigError> {
    match path.strip_prefix("~") {
        Ok(rest) => Ok(home()?.join(rest)),
        Err(_) => Ok(path.to_owned()),
    }
}

/// The project: named, or the next folder above that has a `.tazpod` of this user. Somebody else's, in `/tmp` for example,
/// is passed over.
fn project_or_none(overrides: &Overrides) -> Result<Option<PathBuf>, ConfigError> {
    if let Some(project) = &overrides.project {
        let project = canonical(project)?;
        return match project.join(PROJECT_FOLDER).is_dir() {
            true => Ok(Some(project)),
            false => Err(ConfigError::NoProject(project)),
        };
    }
    if overrides.vault.is_some() {
        return Ok(None);
    }
    let here = std::env::current_dir().map_err(|error| ConfigError::Read(PathBuf::from("."), error))?;
    Ok(here.ancestors().find(|folder| is_own_folder(&folder.join(PROJECT_FOLDER))).map(Path::to_owned))
}

fn is_own_folder(path: &Path) -> bool {
    let uid = rustix::process::geteuid().as_raw();
    std::fs::metadata(path).is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == uid)
}

fn read(path: &Path, warnings: &mut Vec<String>) -> Result<Option<(ConfigFile, String)>, ConfigError> {
    let Some((file, unknown, text)) = ConfigFile::read(path)? else { return Ok(None) };
    warnings.extend(unknown.into_iter().map(|key| format!("{}: the key '{key}' is unknown", path.display())));
    Ok(Some((file, text)))
}

/// Paths count only from a file that its owner has seen, unless flags replace them.
fn check_trust(path: &Path, text: &str, vault: &VaultSection, overrides: &Overrides) -> Result<(), ConfigError> {
    let mut keys = Vec::new();
    if vault.file.is_some() && overrides.vault.is_none() {
        keys.push("vault.file");
    }
    if vault.mount.is_some() && overrides.mount.is_none() {
        keys.push("vault.mount");
    }
    let file = canonical(path)?;
    if keys.is_empty() || is_trusted(&file, text) {
        return Ok(());
    }
    Err(ConfigError::Untrusted { file, keys })
}

fn is_trusted(file: &Path, text: &str) -> bool {
    trust::trusted(file).is_some_and(|trusted| trusted == text)
}

/// The canonical path, whose last component need not exist.
///
/// # Errors
/// [`ConfigError::Read`]: its folder does not exist.
pub fn canonical(path: &Path) -> Result<PathBuf, ConfigError> {
    let path = absolute(path)?;
    if let Ok(canonical) = path.canonicalize() {
        return Ok(canonical);
    }
    match (path.parent().map(Path::canonicalize), path.file_name()) {
        (Some(Ok(parent)), Some(name)) => Ok(parent.join(name)),
        _ => Ok(path),
    }
}

fn absolute(path: &Path) -> Result<PathBuf, ConfigError> {
    std::path::absolute(path).map_err(|error| ConfigError::Read(path.to_owned(), error))
}
