//! Configuration: finds the project by walking up, reads its file and the user's, and makes one plan with all defaults.
//! Flags go before the project's file, which goes before the user's.

mod auto_lock;
mod bridges;
mod choice;
mod container;
mod container_values;
mod environment;
mod file;
mod identity;
mod inside;
mod remote;
mod sync;
pub mod trust;
pub mod units;
mod vault_path;
mod vpn;
mod words;

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use auto_lock::AutoLock;
pub use bridges::{Bridge, check_places, default_bridge};
use choice::{Choice, ProjectFile};
pub use container::{BuildPlan, ContainerPlan};
pub use container_values::{BindAccess, Network, Port, Privilege};
pub use environment::{FieldFormat, ValueSource, Variable};
pub use file::CommitMode;
use file::{ConfigFile, VaultSection};
pub use identity::IdentityFolders;
pub use remote::{RemotePlace, RemotePlan, Retention, S3Place};
pub use sync::SyncPlan;
use sync::SyncSection;
use vpn::VpnSection;
pub use vpn::{VpnPlace, VpnPlan};

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
    /// Nothing says of what image the container is to be made.
    #[error("no container is configured")]
    NoContainer,
    /// No tunnel is configured.
    #[error("no tunnel is configured")]
    NoVpn,
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
    choices: Choices,
}

/// Whether a project's file counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// As its owner has said.
    AsGiven,
    /// In any case.
    Assumed,
}

/// What counts only from a trusted file.
#[derive(Clone, Debug)]
struct Choices {
    remote: Choice<RemotePlan>,
    bridges: Choice<Vec<Bridge>>,
    /// With the keys of an untrusted file that do not count.
    auto_lock: Choice<(AutoLock, Vec<&'static str>)>,
    environment: Choice<Vec<Variable>>,
    identity: Choice<IdentityFolders>,
    container: Choice<ContainerPlan>,
    inside: Choice<bool>,
    vpn: Choice<VpnPlan>,
}

impl Plan {
    /// Makes the plan for this folder.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(overrides: &Overrides) -> Result<Self, ConfigError> {
        Self::load_with(overrides, Trust::AsGiven)
    }

    /// Makes the plan that it would be were the project's file trusted as it is.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load_as_if_trusted(overrides: &Overrides) -> Result<Self, ConfigError> {
        Self::load_with(overrides, Trust::Assumed)
    }

    fn load_with(overrides: &Overrides, trust: Trust) -> Result<Self, ConfigError> {
        let mut warnings = Vec::new();
        let user = match user_folder() {
            Some(folder) => read(&folder.join("config.yaml"), &mut warnings)?.map(|(file, _)| file).unwrap_or_default(),
            None => ConfigFile::default(),
        };
        let project = project_or_none(overrides)?;
        let file = project.as_deref().map(|project| read_project(project, trust, &mut warnings)).transpose()?.flatten();
        if let Some(file) = &file {
            check_trust(file, overrides)?;
        }
        let choices = Choices::of(project.as_deref(), file.as_ref(), &user, &mut warnings)?;
        let (section, sync) = match file {
            Some(ProjectFile { file, is_trusted: true, .. }) => (file.vault, file.sync),
            Some(ProjectFile { file, .. }) => (file.vault, file.sync.untrusted()),
            None => (VaultSection::default(), SyncSection::default()),
        };
        let sync = sync.resolve(&user.sync)?;
        Self::resolve(overrides, project, &section, &user.vault, warnings, (choices, sync))
    }

    /// The development container.
    ///
    /// # Errors
    /// [`ConfigError::NoContainer`], [`ConfigError::Untrusted`], [`ConfigError::Value`].
    pub fn container(&self) -> Result<&ContainerPlan, ConfigError> {
        self.choices.container.plan()?.ok_or(ConfigError::NoContainer)
    }

    /// Whether the vault is unlocked in the container and not on this machine.
    ///
    /// # Errors
    /// [`ConfigError::Untrusted`]: the file says so and is not trusted.
    pub fn is_inside(&self) -> Result<bool, ConfigError> {
        match self.choices.inside.plan() {
            Ok(inside) => Ok(inside == Some(&true)),
            Err(ConfigError::Untrusted { keys, .. }) if !keys.contains(&container::INSIDE) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The tunnel.
    ///
    /// # Errors
    /// [`ConfigError::NoVpn`], [`ConfigError::Untrusted`], [`ConfigError::Value`].
    pub fn vpn(&self) -> Result<&VpnPlan, ConfigError> {
        self.choices.vpn.plan()?.ok_or(ConfigError::NoVpn)
    }

    /// Where the archive travels to.
    ///
    /// # Errors
    /// [`ConfigError::NoRemote`], [`ConfigError::Untrusted`], [`ConfigError::Value`].
    pub fn remote(&self) -> Result<&RemotePlan, ConfigError> {
        self.choices.remote.plan()?.ok_or(ConfigError::NoRemote)
    }

    /// What is to show up outside the mount point; `None`: the files say nothing.
    ///
    /// # Errors
    /// [`ConfigError::Untrusted`], [`ConfigError::Value`].
    pub fn bridges(&self) -> Result<Option<&[Bridge]>, ConfigError> {
        Ok(self.choices.bridges.plan()?.map(Vec::as_slice))
    }

    /// When the vault locks by itself, and which keys of an untrusted file do not count.
    ///
    /// # Errors
    /// [`ConfigError::Value`].
    pub fn auto_lock(&self) -> Result<(AutoLock, &[&'static str]), ConfigError> {
        let found = self.choices.auto_lock.plan()?;
        Ok(found.map(|(rules, refused)| (rules.clone(), refused.as_slice())).unwrap_or_default())
    }

    /// The variables whose values lie in the vault.
    ///
    /// # Errors
    /// [`ConfigError::Untrusted`], [`ConfigError::Value`].
    pub fn environment(&self) -> Result<&[Variable], ConfigError> {
        Ok(self.choices.environment.plan()?.map(Vec::as_slice).unwrap_or_default())
    }

    /// Folders of the project that hold the settings of a container's tools; `None`: the files say nothing.
    ///
    /// # Errors
    /// [`ConfigError::Untrusted`], [`ConfigError::Value`].
    pub fn identity(&self) -> Result<Option<&IdentityFolders>, ConfigError> {
        self.choices.identity.plan()
    }

    /// Values that are wrong, each of which only those commands stumble over that use it.
    pub fn wrong_values(&self) -> Vec<ConfigError> {
        let all = [
            self.remote().err(),
            self.bridges().err(),
            self.auto_lock().err(),
            self.environment().err(),
            self.identity().err(),
            self.container().err(),
            self.vpn().err(),
        ];
        all.into_iter().flatten().filter(|error| matches!(error, ConfigError::Value { .. })).collect()
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
        (choices, sync): (Choices, SyncPlan),
    ) -> Result<Self, ConfigError> {
        let base = project.clone().unwrap_or_default();
        let archive = match (&overrides.vault, &section.file, &project) {
            (Some(vault), ..) => expand_home(vault)?,
            (None, Some(file), _) => base.join(expand_home(file)?),
            (None, None, Some(project)) => project.join(DEFAULT_ARCHIVE),
            (None, None, None) => return Err(ConfigError::NoProject(std::env::current_dir().unwrap_or_default())),
        };
        let mount = match (&overrides.mount, section.mount.as_ref().or(user.mount.as_ref())) {
            (Some(mount), _) => expand_home(mount)?,
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
        Ok(Self { archive, mount, size_limit, commit, commit_delay, sync, warnings, project, choices })
    }
}

impl Choices {
    fn of(
        folder: Option<&Path>,
        project: Option<&ProjectFile>,
        user: &ConfigFile,
        warnings: &mut Vec<String>,
    ) -> Result<Self, ConfigError> {
        let remote = Choice::of(
            project,
            user,
            |file| file.remote_sections().keys(),
            |file, base| file.remote_sections().resolve(base, warnings),
        )?;
        let bridges = Choice::of_section(project, user, "bridges", |file| file.bridges.as_ref(), bridges::resolve)?;
        let environment = Choice::of_section(project, user, "env", |file| file.env.as_ref(), environment::resolve)?;
        let identity = Choice::of(project, user, IdentityFolders::keys, |file, _| IdentityFolders::of(file))?;
        let auto_lock = project.map(|project| (&project.file.auto_lock, project.is_trusted));
        let auto_lock = Choice::from(AutoLock::resolve(auto_lock, &user.auto_lock))?;
        let container = Choice::of(project, user, container::keys, |file, base| {
            folder.map_or(Ok(None), |project| container::resolve(file, base, project))
        })?;
        // Of the same file as the container.
        let inside = Choice::of(project, user, container::keys, |file, _| Ok(file.vault.inside))?;
        let vpn = Choice::of_section(project, user, "vpn", |file| file.vpn.as_ref(), VpnSection::resolve)?;
        Ok(Self { remote, bridges, auto_lock, environment, identity, container, inside, vpn })
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
    warnings.extend(unknown.into_iter().map(|key| format!("{}: {}", path.display(), words::unknown(&key))));
    Ok(Some((file, text)))
}

fn read_project(project: &Path, trust: Trust, warnings: &mut Vec<String>) -> Result<Option<ProjectFile>, ConfigError> {
    let path = project_file(project);
    let Some((file, text)) = read(&path, warnings)? else { return Ok(None) };
    let path = canonical(&path)?;
    let is_trusted = trust == Trust::Assumed || is_trusted(&path, &text);
    Ok(Some(ProjectFile { path, folder: project.to_owned(), file, is_trusted }))
}

/// Paths count only from a file that its owner has seen, unless flags replace them.
fn check_trust(project: &ProjectFile, overrides: &Overrides) -> Result<(), ConfigError> {
    let (vault, mut keys) = (&project.file.vault, Vec::new());
    if vault.file.is_some() && overrides.vault.is_none() {
        keys.push("vault.file");
    }
    // What is so without a word, as 'init' writes it, widens nothing.
    let usual = Path::new("~").join(DEFAULT_MOUNT);
    if vault.mount.as_ref().is_some_and(|mount| *mount != usual) && overrides.mount.is_none() {
        keys.push("vault.mount");
    }
    if keys.is_empty() || project.is_trusted {
        return Ok(());
    }
    Err(ConfigError::Untrusted { file: project.path.clone(), keys })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn choices(text: &str, is_trusted: bool, user: &str) -> Choices {
        let file = ConfigFile::parse(text).unwrap().0;
        let project = ProjectFile { path: "/p/.tazpod/config.yaml".into(), folder: "/p".into(), file, is_trusted };
        let user = ConfigFile::parse(user).unwrap().0;
        Choices::of(Some(Path::new("/p")), Some(&project), &user, &mut Vec::new()).unwrap()
    }

    #[test]
    fn what_binds_runs_or_widens_counts_only_from_a_trusted_file() {
        type Sets = fn(&Choices) -> Result<bool, ConfigError>;
        let keys: [(&str, &str, Sets); 7] = [
            ("remote", "remote: {type: directory, path: /r}", |all| Ok(all.remote.plan()?.is_some())),
            ("bridges", "bridges: {.kube: ~/.kube}", |all| Ok(all.bridges.plan()?.is_some())),
            ("env", "env: {TOKEN: token}", |all| Ok(all.environment.plan()?.is_some())),
            ("identity", "identity: [.claude]", |all| Ok(all.identity.plan()?.is_some())),
            ("vpn", "vpn: {config: wg0.conf}", |all| Ok(all.vpn.plan()?.is_some())),
            ("image", "image: debian:12", |all| Ok(all.container.plan()?.is_some())),
            ("build", "build: {dockerfile: D}", |all| Ok(all.container.plan()?.is_some())),
        ];
        for (key, text, sets) in keys {
            let untrusted = choices(text, false, "");
            assert!(matches!(sets(&untrusted), Err(ConfigError::Untrusted { keys, .. }) if keys == [key]), "{key}");
            assert!(sets(&choices(text, true, "")).unwrap(), "{key}");
            assert!(sets(&choices("vault: {size: 1M}", false, text)).unwrap(), "{key} of the user's own file");
            let is_container = |key: &str| matches!(key, "image" | "build");
            let others = keys.iter().filter(|(other, ..)| *other != key && !(is_container(other) && is_container(key)));
            others.for_each(|(other, _, sets)| {
                assert!(!sets(&untrusted).unwrap(), "{other} has nothing to do with {key}")
            });
        }
    }

    #[test]
    fn a_project_of_the_old_tool_has_its_identity_folders_once_it_is_trusted() {
        let text = "mode: docker\nimage: registry/tazpod:latest\n";
        assert!(matches!(choices(text, false, "").identity.plan(), Err(ConfigError::Untrusted { .. })));
        let trusted = choices(text, true, "");
        assert_eq!(trusted.identity.plan().unwrap(), Some(&IdentityFolders::of_the_old_tool()));
        assert!(choices("image: x\n", true, "").identity.plan().unwrap().is_none(), "a new project has none");
    }

    #[test]
    fn a_wrong_value_keeps_nobody_from_the_rest() {
        let all = choices("bridges: {.kube: nowhere}\nenv: {TOKEN: token}\nauto_lock: {grace: soon}", true, "");
        assert!(matches!(all.bridges.plan(), Err(ConfigError::Value { key: "bridges", .. })));
        assert!(matches!(all.auto_lock.plan(), Err(ConfigError::Value { key: "auto_lock.grace", .. })));
        assert!(all.environment.plan().unwrap().is_some());
    }
}
