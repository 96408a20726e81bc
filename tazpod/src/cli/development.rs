//! The way from a command to the development container: the configuration must be trusted, the engine must answer.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use crate::config::{self, Bridge, BuildPlan, ConfigError, ContainerPlan, PROJECT_FOLDER, Plan, trust};
use crate::container::{self, ContainerSpec, Engine, Found, HomePlan, Host, Patience, Place, Pulled};
use crate::error::{CommandError, CommandResult};
use crate::ui;

use super::{Global, views};

/// The container of a project, as it is configured, and the engine that has it.
pub struct Development {
    /// All that is configured.
    pub plan: Plan,
    /// The container.
    pub container: ContainerPlan,
    /// Folders below `.tazpod` that are writable inside.
    identity: Vec<String>,
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
        Self::of(global, global.plan()?)
    }

    /// Connects for a plan.
    pub fn of(global: &Global, plan: Plan) -> CommandResult<Self> {
        let host = host()?;
        let part = |plan: &Plan| Ok((plan.container()?.clone(), home_plan(plan, &host)?));
        let (plan, parts) = global.part_of(plan, part)?;
        let (container, home) = parts?;
        let spec = ContainerSpec::new(&container, &host, &home)?;
        let place = Place::of(&host.data_home, &container.name);
        let engine = Engine::connect(Patience::Usual)?;
        Ok(Self { plan, container, identity: home.identity, spec, engine, place })
    }

    /// The container, if there is one.
    pub fn find(&self) -> CommandResult<Option<Found>> {
        Ok(container::find(&self.engine, &self.container.name, &self.container.project)?)
    }

    /// Makes the folders that its views are mounted in, and sees to it that they will be seen inside.
    pub fn prepare_place(&self) -> CommandResult {
        if self.spec.is_inside() {
            return Ok(());
        }
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

    /// Makes the folders in which tools inside keep their settings.
    pub fn make_identity_folders(&self) -> CommandResult {
        if self.spec.is_inside() && !self.engine.is_local() {
            return Ok(());
        }
        let folder = self.container.project.join(PROJECT_FOLDER);
        for name in &self.identity {
            let folder = folder.join(name);
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
            made.map_err(|error| CommandError::caused(format!("cannot make {}", folder.display()), &error))?;
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

/// What the home inside gets: bridges to places of the home here, and the folders of tools.
pub fn home_plan(plan: &Plan, host: &Host) -> Result<HomePlan, ConfigError> {
    let bridges = match plan.bridges()? {
        Some(bridges) => bridges.to_vec(),
        None => config::default_bridge().into_iter().collect(),
    };
    let within =
        |bridge: Bridge| Some((bridge.source, bridge.target.strip_prefix(&host.home).ok()?.to_str()?.to_owned()));
    let identity = plan.identity()?.map_or_else(Vec::new, |folders| folders.names().to_vec());
    Ok(HomePlan {
        bridges: bridges.into_iter().filter_map(within).collect(),
        identity,
        configuration: plan.inside_configuration()?,
    })
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
