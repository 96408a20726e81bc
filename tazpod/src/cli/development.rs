//! The way from a command to the development container: the configuration must be trusted, the engine must answer.

use std::path::PathBuf;

use crate::config::{self, BuildPlan, ConfigError, ContainerPlan, Plan, trust};
use crate::container::{self, ContainerSpec, Engine, Found, Host, Patience, Place, Pulled};
use crate::error::{CommandError, CommandResult};
use crate::ui;

use super::{Global, views};

/// The container of a project, as it is configured, and the engine that has it.
pub struct Development {
    /// All that is configured.
    pub plan: Plan,
    /// The container.
    pub container: ContainerPlan,
    /// What the engine is to make of it.
    pub spec: ContainerSpec,
    /// The engine.
    pub engine: Engine,
    /// Where its views are mounted.
    pub place: Place,
}

impl Development {
    /// Makes the plan and connects.
    pub fn open(global: &Global) -> CommandResult<Self> {
        let (plan, container) = global.plan_with(|plan| plan.container().cloned())?;
        let host = host()?;
        let spec = ContainerSpec::new(&container, &host)?;
        let place = Place::of(&host.data_home, &container.name);
        let engine = Engine::connect(Patience::Usual)?;
        Ok(Self { plan, container, spec, engine, place })
    }

    /// The container, if there is one.
    pub fn find(&self) -> CommandResult<Option<Found>> {
        Ok(container::find(&self.engine, &self.container.name, &self.container.project)?)
    }

    /// Makes the folders that its views are mounted in, and sees to it that they will be seen inside.
    pub fn prepare_place(&self) -> CommandResult {
        let folders: Vec<String> = views::of_container().into_iter().map(|view| view.folder).collect();
        Ok(container::prepare(&self.place, &folders)?)
    }

    /// Says when a container is not what would be made now.
    pub fn tell_changes(&self, found: &Found) -> CommandResult {
        if found.is_changed(&self.spec) {
            ui::warn("the configuration changed since this container was made: 'tazpod up --recreate' applies it");
        } else if found.has_other_image(&self.engine)? {
            ui::warn("there is a newer image than that of this container: 'tazpod up --recreate' uses it");
        }
        Ok(())
    }

    /// Builds the image, when its Dockerfile is trusted too.
    pub fn build(&self, build: &BuildPlan) -> CommandResult {
        require_trusted(build)?;
        container::build(&self.engine, build, &self.container.image)?;
        ui::say(format!("Built {}", self.container.image));
        Ok(())
    }

    /// Pulls the image.
    pub fn pull(&self) -> CommandResult<Pulled> {
        ui::say(format!("Pulling {}", self.container.image));
        Ok(container::pull(&self.engine, &self.container.image)?)
    }
}

/// What is known of this user and machine.
pub fn host() -> CommandResult<Host> {
    let path = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = config::home()?;
    Ok(Host {
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        data_home: path("XDG_DATA_HOME").unwrap_or_else(|| home.join(".local/share")),
        agent_socket: path("SSH_AUTH_SOCK"),
        home,
    })
}

/// A container can write the Dockerfile, as it can all of the project: what it says runs only after its owner has seen it.
fn require_trusted(build: &BuildPlan) -> CommandResult {
    let file = &build.dockerfile;
    let text = std::fs::read_to_string(file)
        .map_err(|error| CommandError::from(container::ContainerError::Context(file.clone(), error)))?;
    if trust::trusted(file).is_some_and(|trusted| trusted == text) {
        return Ok(());
    }
    let untrusted = || ConfigError::Untrusted { file: file.clone(), keys: vec!["how the image is built"] };
    match super::trust::ask(file) {
        Ok(true) => Ok(()),
        Ok(false) | Err(ui::AskError::NoTerminal) => Err(untrusted().into()),
        Err(error) => Err(error.into()),
    }
}
