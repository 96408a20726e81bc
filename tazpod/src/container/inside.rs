//! What a container has more where the vault is unlocked inside: the device and the privilege that a mount takes there, volumes for what
//! cannot be bound from another machine, and what the program inside is configured with.

use std::collections::HashMap;
use std::path::Path;

use bollard::models::{Mount, MountType, MountVolumeOptions};
use bollard::query_parameters::RemoveVolumeOptions;
use serde::Serialize;

use super::accounts::Account;
use super::engine::Engine;
use super::error::{ContainerError, is_missing};
use super::files::{SmallTar, temporary};
use super::home;
use super::lifecycle::Found;
use super::request::{Folders, PROJECT_LABEL};
use super::spec::ContainerSpec;

pub use super::program::Program;

/// The volume's place inside: of the user alone.
pub const DATA: &str = "/var/lib/tazpod";
/// The archive inside.
pub const ARCHIVE: &str = "/var/lib/tazpod/vault.tar.aes";
/// Where archives come in and go out.
pub const TRAVEL: &str = "/var/lib/tazpod/travel";
/// Where what is known of the archive lies.
const STATE: &str = "/var/lib/tazpod/state";
/// Where the mount is in the home; what is linked to [`home::VAULT`] elsewhere leads there.
const MOUNT: &str = "secrets";
/// What a tar of one file has around it, bytes, and more.
const AROUND: u64 = 64 * 1024;
const CONFIGURATION: &str = ".config/tazpod";

/// What is wanted of it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct InsideSpec {
    volume: String,
    workspace_volume: String,
    /// Text of the configuration.
    configuration: String,
}

impl InsideSpec {
    /// What mounting takes, in the hands of fusermount3 alone: programs of the user have none. It also has to get into the folder that is
    /// mounted on, which is the user's alone.
    pub(super) const CAPABILITIES: [&str; 2] = ["DAC_OVERRIDE", "SYS_ADMIN"];
    /// The engine's own profile forbids mounts.
    pub(super) const SECURITY_OPTION: &str = "apparmor=unconfined";
    pub(super) const DEVICE: &str = "/dev/fuse";

    pub(super) fn new(container: &str, configuration: String) -> Self {
        let [volume, workspace_volume] = names(container);
        Self { volume, workspace_volume, configuration }
    }

    pub(super) fn volumes(&self, project: &Path, workspace: &str, folders: Folders) -> Vec<Mount> {
        let labels = HashMap::from([(PROJECT_LABEL.to_owned(), project.display().to_string())]);
        let volume = |name: &str, target: &str| Mount {
            typ: Some(MountType::VOLUME),
            source: Some(name.to_owned()),
            target: Some(target.to_owned()),
            volume_options: Some(MountVolumeOptions { labels: Some(labels.clone()), ..MountVolumeOptions::default() }),
            ..Mount::default()
        };
        let own = (folders == Folders::Volumes).then(|| volume(&self.workspace_volume, workspace));
        own.into_iter().chain([volume(&self.volume, DATA)]).collect()
    }
}

/// Names of the volume of the vault and of the workspace.
fn names(container: &str) -> [String; 2] {
    [format!("{container}-vault"), format!("{container}-workspace")]
}

/// By which the program finds the vault in any shell inside.
pub(super) fn environment() -> [String; 2] {
    [format!("TAZPOD_VAULT={ARCHIVE}"), format!("TAZPOD_STATE={STATE}")]
}

/// Where volumes are inside, and what is written into the home: nothing is to be linked near it.
pub(super) fn places(workspace: &str, account: &Account) -> [String; 3] {
    [DATA.to_owned(), workspace.to_owned(), format!("{}/{CONFIGURATION}", account.home)]
}

/// Sees to it that what is in the volumes is the project's.
pub(super) fn check_volumes(engine: &Engine, spec: &ContainerSpec) -> Result<(), ContainerError> {
    if spec.inside.is_none() {
        return Ok(());
    }
    let project = spec.project.display().to_string();
    for name in names(&spec.name) {
        match owner(engine, &name)? {
            Some(owner) if owner != project => {
                let owner = if owner.is_empty() { "it was made without this tool".to_owned() } else { owner };
                return Err(ContainerError::VolumeTaken { name, owner });
            }
            _ => {}
        }
    }
    Ok(())
}

/// The project that a volume is of, empty where none is named; `None`: there is no such volume.
fn owner(engine: &Engine, name: &str) -> Result<Option<String>, ContainerError> {
    match engine.ask(engine.docker.inspect_volume(name)) {
        Ok(mut volume) => Ok(Some(volume.labels.remove(PROJECT_LABEL).unwrap_or_default())),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(ContainerError::of("look at the volume", error)),
    }
}

/// Removes the volumes of a container that is gone, those of the project only; returns their names.
///
/// # Errors
/// [`ContainerError::Refused`].
pub fn remove_volumes(engine: &Engine, found: &Found) -> Result<Vec<String>, ContainerError> {
    let mut removed = Vec::new();
    for name in names(&found.name) {
        if owner(engine, &name)?.is_some_and(|owner| owner == found.project()) {
            engine.wait("remove the volume", engine.docker.remove_volume(&name, None::<RemoveVolumeOptions>))?;
            removed.push(name);
        }
    }
    Ok(removed)
}

/// Makes in a container that was not started yet what the program inside needs, and brings it in.
pub(super) fn furnish(
    engine: &Engine,
    container: &str,
    spec: &ContainerSpec,
    account: &Account,
) -> Result<(), ContainerError> {
    let Some(inside) = &spec.inside else { return Ok(()) };
    let owner = (account.uid, account.gid);
    let mut tar = SmallTar::new();
    let mut furnish = || {
        let home = account.home.trim_matches('/');
        let for_root = [engine.missing_folders(container, "/var/lib")?, run(engine, container)?].concat();
        let for_user = engine.missing_folders(container, &format!("{home}/{CONFIGURATION}"))?;
        tar.folders(&for_root, (0, 0))
            .and_then(|()| tar.folders(&for_user, owner))
            .and_then(|()| tar.private_folder(DATA.trim_start_matches('/'), owner))
            .and_then(|()| tar.private_folder(TRAVEL.trim_start_matches('/'), owner))
            .and_then(|()| tar.file(&format!("{home}/{CONFIGURATION}/config.yaml"), &inside.configuration))
            .and_then(|()| tar.link(&home::VAULT[1..], &Path::new(&account.home).join(MOUNT), (0, 0)))
            .map_err(temporary)?;
        if engine.folders() == Folders::Volumes {
            workspace(&mut tar, spec, owner).map_err(temporary)?;
        }
        Ok::<_, ContainerError>(())
    };
    furnish()?;
    engine.upload(container, "/", tar.finish().map_err(temporary)?)?;
    Program::own()?.send(engine, container)
}

/// The folders above the link that stands where views are in other containers.
fn run(engine: &Engine, container: &str) -> Result<Vec<String>, ContainerError> {
    engine.missing_folders(container, home::VAULT.rsplit_once('/').map_or("", |(folder, _)| folder))
}

/// The project's folder cannot be bound: the volume in its place has the folders of tools.
fn workspace(tar: &mut SmallTar, spec: &ContainerSpec, owner: (u32, u32)) -> std::io::Result<()> {
    let workspace = spec.workspace.trim_matches('/');
    tar.folder(workspace, owner)?;
    if !spec.identity.is_empty() {
        let folder = format!("{workspace}/{}", crate::config::PROJECT_FOLDER);
        tar.folder(&folder, owner)?;
        spec.identity.iter().try_for_each(|name| tar.folder(&format!("{folder}/{name}"), owner))?;
    }
    Ok(())
}

/// Writes a file that the user inside can read into [`TRAVEL`].
///
/// # Errors
/// [`ContainerError::Refused`], [`ContainerError::Io`].
pub fn send_file(engine: &Engine, found: &Found, name: &str, file: &Path) -> Result<(), ContainerError> {
    let mut number = found.user.split(':').map(|number| number.parse().unwrap_or(0));
    let owner = (number.next().unwrap_or(0), number.next().unwrap_or(0));
    let packed = std::fs::File::open(file).and_then(|file| super::files::pack(name, file, 0o600, owner));
    engine.upload_file(&found.id, TRAVEL, packed.map_err(temporary)?)
}

/// Reads a file of [`TRAVEL`] into one that is empty; at most so many bytes.
///
/// # Errors
/// [`ContainerError::Refused`], [`ContainerError::Io`].
pub fn fetch_file(
    engine: &Engine,
    found: &Found,
    name: &str,
    to: &std::fs::File,
    most: u64,
) -> Result<(), ContainerError> {
    let mut packed = tempfile::tempfile().map_err(temporary)?;
    if !engine.download_at_most(&found.id, &format!("{TRAVEL}/{name}"), &mut packed, most.saturating_add(AROUND))? {
        let reason = "what it was to hand over is not there".to_owned();
        return Err(ContainerError::Refused { doing: "read the archive inside".to_owned(), reason });
    }
    super::files::unpack(packed, to, most).map_err(temporary)
}
