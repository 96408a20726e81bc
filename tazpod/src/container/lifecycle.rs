//! Containers of a project: finding, making, starting, stopping, removing. Those of anybody else are never touched.

use std::path::Path;

use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, RemoveContainerOptionsBuilder, StartContainerOptions,
    StopContainerOptionsBuilder,
};

use super::engine::Engine;
use super::error::{ContainerError, is_conflict, is_missing};
use super::home;
use super::inside;
use super::linked::Links;
use super::mapping::Mapped;
use super::networks;
use super::request::{HASH_LABEL, IMAGE_ID_LABEL, IMAGE_LABEL, INSIDE_LABEL, PROJECT_LABEL};
use super::spec::ContainerSpec;

/// Seconds that what runs inside may take to end.
const STOP_SECS: i32 = 10;

/// A container of a project.
#[derive(Clone, Debug)]
pub struct Found {
    /// As the engine names it.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether it runs.
    pub state: State,
    /// When it was started last (RFC 3339).
    pub started: Option<String>,
    /// The image that was configured when it was made.
    pub image: String,
    /// The id of that image then.
    pub image_id: String,
    /// The image that it really is of, perhaps a derived one.
    pub made_of: String,
    /// Who works inside: `uid:gid`.
    pub user: String,
    /// Number of its first process on the engine's machine, while it runs.
    pub pid: Option<u32>,
    /// What was begun in it beside that, as the engine names it.
    pub(super) execs: Vec<String>,
    /// Whether the vault is unlocked inside, in this container.
    pub is_inside: bool,
    hash: String,
    project: String,
}

/// Whether a container runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It does.
    Running,
    /// Every process in it is halted.
    Paused,
    /// It does not, or not yet: the engine's word.
    Stopped(String),
}

impl State {
    /// For people and programs.
    pub fn word(&self) -> &str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped(word) => word,
        }
    }
}

impl Found {
    /// The project that it is of.
    pub(super) fn project(&self) -> &str {
        &self.project
    }

    /// Whether what is configured now would make another container.
    pub fn is_changed(&self, spec: &ContainerSpec) -> bool {
        self.hash != spec.hash()
    }

    /// Whether it was made and never started: whoever made it was interrupted, and something may be missing.
    pub fn is_unfinished(&self) -> bool {
        self.state == State::Stopped("created".to_owned())
    }

    /// Whether the image's name means another image now.
    pub fn has_other_image(&self, engine: &Engine) -> Result<bool, ContainerError> {
        let now = super::mapping::inspect(engine, &self.image)?.and_then(|image| image.id);
        Ok(now.is_some_and(|id| id != self.image_id))
    }
}

/// Looks for the container of a project.
///
/// # Errors
/// [`ContainerError::NameTaken`]: there is one of that name that is not the project's. [`ContainerError::Refused`].
pub fn find(engine: &Engine, name: &str, project: &Path) -> Result<Option<Found>, ContainerError> {
    let inspected = match engine.ask(engine.docker.inspect_container(name, None::<InspectContainerOptions>)) {
        Ok(inspected) => inspected,
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => return Err(ContainerError::of("look at the container", error)),
    };
    let found = read(name, inspected);
    if found.project == project.display().to_string() {
        return Ok(Some(found));
    }
    let owner = match found.project.as_str() {
        "" => "it was made without this tool".to_owned(),
        project => format!("it is of {project}"),
    };
    Err(ContainerError::NameTaken { name: name.to_owned(), owner })
}

fn read(name: &str, inspected: ContainerInspectResponse) -> Found {
    let config = inspected.config.unwrap_or_default();
    let labels = config.labels.unwrap_or_default();
    let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
    let state = inspected.state.unwrap_or_default();
    Found {
        id: inspected.id.unwrap_or_default(),
        name: name.to_owned(),
        state: match state.status {
            Some(ContainerStateStatusEnum::RUNNING) => State::Running,
            Some(ContainerStateStatusEnum::PAUSED) => State::Paused,
            other => State::Stopped(other.map_or_else(|| "unknown".to_owned(), |word| word.to_string())),
        },
        started: state.started_at.filter(|time| !time.starts_with("0001")),
        image: label(IMAGE_LABEL),
        image_id: label(IMAGE_ID_LABEL),
        made_of: config.image.unwrap_or_default(),
        user: config.user.unwrap_or_default(),
        pid: state.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0),
        execs: inspected.exec_ids.unwrap_or_default(),
        is_inside: !label(INSIDE_LABEL).is_empty(),
        hash: label(HASH_LABEL),
        project: label(PROJECT_LABEL),
    }
}

/// A container that was just made.
pub struct Made {
    id: String,
    /// The places of links where the image has something.
    pub covered: Vec<String>,
}

/// Makes a container, with its links in the user's home, and does not start it.
///
/// # Errors
/// [`ContainerError::Refused`], [`ContainerError::NameTaken`]. Nothing is left then.
pub fn create(engine: &Engine, spec: &ContainerSpec, mapped: &Mapped) -> Result<Made, ContainerError> {
    networks::make(engine, spec)?;
    inside::check_volumes(engine, spec)?;
    let body = spec.body(&mapped.account, &mapped.image, &mapped.base, engine.read_only_binds(), engine.folders());
    let options = CreateContainerOptionsBuilder::default().name(&spec.name).build();
    let made = engine.ask(engine.docker.create_container(Some(options), body)).map_err(|error| {
        if is_conflict(&error) {
            let owner = "somebody just made it".to_owned();
            return ContainerError::NameTaken { name: spec.name.clone(), owner };
        }
        ContainerError::of(&format!("make the container '{}'", spec.name), error)
    })?;
    let furnished = inside::furnish(engine, &made.id, spec, &mapped.account);
    let covered = furnished.and_then(|()| match &mapped.links {
        Links::InImage(covered) => Ok(covered.clone()),
        Links::Missing => home::place(engine, &made.id, &mapped.account, &spec.links),
    });
    let covered = covered.inspect_err(|_| {
        // The first error is the one to be told.
        let _ = remove_by_id(engine, &made.id);
    })?;
    Ok(Made { id: made.id, covered })
}

/// Starts a container; does nothing to one that runs.
///
/// # Errors
/// [`ContainerError::Refused`].
pub fn start(engine: &Engine, found: &Found) -> Result<(), ContainerError> {
    let doing = format!("start the container '{}'", found.name);
    match found.state {
        State::Paused => engine.wait(&doing, engine.docker.unpause_container(&found.id)),
        _ => engine.wait(&doing, engine.docker.start_container(&found.id, None::<StartContainerOptions>)),
    }
}

/// Starts a container that was just made; removes it when it does not start.
///
/// # Errors
/// [`ContainerError::Refused`].
pub fn start_new(engine: &Engine, spec: &ContainerSpec, made: &Made) -> Result<(), ContainerError> {
    let started = engine.docker.start_container(&made.id, None::<StartContainerOptions>);
    engine.wait(&format!("start the container '{}'", spec.name), started).inspect_err(|_| {
        // The first error is the one to be told.
        let _ = remove_by_id(engine, &made.id);
    })
}

/// Stops a container: what runs inside is asked to end, and ended after a while.
///
/// # Errors
/// [`ContainerError::Refused`].
pub fn stop(engine: &Engine, found: &Found) -> Result<(), ContainerError> {
    let options = StopContainerOptionsBuilder::default().t(STOP_SECS).build();
    let stopped = engine.docker.stop_container(&found.id, Some(options));
    engine.wait(&format!("stop the container '{}'", found.name), stopped)
}

/// Removes a container, with its network when that was made for it.
///
/// # Errors
/// [`ContainerError::Refused`].
pub fn remove(engine: &Engine, found: &Found) -> Result<(), ContainerError> {
    remove_by_id(engine, &found.id)?;
    networks::remove(engine, &format!("{}-network", found.name), &found.project)
}

fn remove_by_id(engine: &Engine, id: &str) -> Result<(), ContainerError> {
    let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    match engine.ask(engine.docker.remove_container(id, Some(options))) {
        Err(error) if !is_missing(&error) => Err(ContainerError::of("remove the container", error)),
        _ => Ok(()),
    }
}
