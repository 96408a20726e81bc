//! `tazpod` without a command: the way from an empty folder to a shell that sees the vault, a question a step. A no leaves things as
//! they are and goes on with the next step that makes sense.

use std::process::ExitCode;

use vaultfs::vault::Secret;

use crate::agent::client::Client;
use crate::config::{ConfigError, Plan, RemotePlace, S3Place};
use crate::container::State;
use crate::error::{CommandError, CommandResult};
use crate::ui;

use super::development::Development;
use super::lease::Keeping;
use super::remote_access::RemoteAccess;
use super::{Global, enter, init, inside, login, pull, shell, unlock, up, usual};

/// Flags of the guided way.
#[derive(clap::Args)]
pub struct Arguments {
    /// Without a command: says yes to every question but those for a passphrase.
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    keeping: Keeping,
}

impl Arguments {
    /// Whether nobody needs to be asked.
    pub fn says_yes(&self) -> bool {
        self.yes
    }
}

/// Whether there is a container to go to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Container {
    Running,
    None,
}

/// Whether there is a vault to be seen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Vault {
    Unlocked,
    Locked,
}

pub fn run(global: &Global, arguments: Arguments) -> CommandResult<ExitCode> {
    let guide = Guide { global, says_yes: arguments.yes };
    if !guide.project()? {
        return Ok(ExitCode::SUCCESS);
    }
    let container = guide.container()?;
    let vault = guide.vault()?;
    match (container, vault) {
        (Container::Running, _) => enter::run(global, &enter::Arguments::shell(arguments.keeping)),
        (Container::None, Vault::Unlocked) => shell::run(global, &shell::Arguments::plain(arguments.keeping)),
        (Container::None, Vault::Locked) => {
            ui::say("The vault is locked and no container runs: there is nothing to enter");
            Ok(ExitCode::SUCCESS)
        }
    }
}

struct Guide<'a> {
    global: &'a Global,
    says_yes: bool,
}

impl Guide<'_> {
    fn agrees(&self, question: &str) -> CommandResult<bool> {
        Ok(self.says_yes || ui::agree(question)?)
    }

    /// There is a project, or one is made.
    fn project(&self) -> CommandResult<bool> {
        let Err(ConfigError::NoProject(here)) = self.global.plan_or_no_project()? else { return Ok(true) };
        if !self.agrees(&format!("There is no project in {} or above it. Make one here?", here.display()))? {
            return Ok(false);
        }
        init::run(self.global, &init::Arguments::project_only(self.says_yes)?)?;
        Ok(true)
    }

    /// The container that is configured runs. Without an engine there is none, and the vault is of use all the same.
    fn container(&self) -> CommandResult<Container> {
        let plan = self.global.plan()?;
        if matches!(plan.container(), Err(ConfigError::NoContainer)) {
            return Ok(Container::None);
        }
        let development = match Development::open(self.global) {
            Ok(development) => development,
            Err(error) => {
                ui::warn(format!("the container cannot be used: {}", error.summary()));
                return Ok(Container::None);
            }
        };
        let found = development.find()?;
        if found.as_ref().is_some_and(|found| found.state == State::Running) {
            return Ok(Container::Running);
        }
        let what = if found.is_some() { "Start" } else { "Make and start" };
        if !self.agrees(&format!("{what} the container '{}'?", development.container.name))? {
            return Ok(Container::None);
        }
        up::run(self.global, &usual()?)?;
        Ok(Container::Running)
    }

    /// The vault is unlocked: fetched before where the remote has it, made where nobody has.
    fn vault(&self) -> CommandResult<Vault> {
        let plan = self.global.plan()?;
        if Client::find(&plan.archive)?.is_some() || inside::is_unlocked_anywhere(&plan)? {
            return Ok(Vault::Unlocked);
        }
        if plan.archive.exists() {
            if !self.agrees("The vault is locked. Unlock it?")? {
                return Ok(Vault::Locked);
            }
            unlock::run(self.global, &usual()?)?;
            return Ok(Vault::Unlocked);
        }
        if self.fetches(&plan)? {
            unlock::run(self.global, &usual()?)?;
            return Ok(Vault::Unlocked);
        }
        if !self.agrees("There is no vault yet. Make a new, empty one?")? {
            return Ok(Vault::Locked);
        }
        let passphrase = init::make_vault(&plan.archive, &init::Arguments::project_only(self.says_yes)?)?;
        unlock::with(self.global, &usual()?, &Secret::Passphrase(passphrase))?;
        Ok(Vault::Unlocked)
    }

    /// Fetches the vault, if there is a remote that has it.
    fn fetches(&self, plan: &Plan) -> CommandResult<bool> {
        if matches!(plan.remote(), Err(ConfigError::NoRemote)) {
            return Ok(false);
        }
        let mut access = RemoteAccess::open(self.global)?;
        let place = access.remote.place();
        if !self.agrees(&format!("There is no vault here. Fetch it from {place}?"))? {
            return Ok(false);
        }
        let heads = match access.heads(None) {
            Err(error) if self.signs_in(plan, &error)? => {
                access = RemoteAccess::open(self.global)?;
                access.heads(None)?
            }
            outcome => outcome?,
        };
        if heads.is_empty() {
            ui::say(format!("{place} holds no vault yet"));
            return Ok(false);
        }
        pull::first_pull(&access)?;
        Ok(true)
    }

    /// Signs in to the remote's profile, if that may be what is missing.
    fn signs_in(&self, plan: &Plan, error: &CommandError) -> CommandResult<bool> {
        let RemotePlace::S3(S3Place { profile: Some(profile), .. }) = &plan.remote()?.place else { return Ok(false) };
        ui::say(error.to_string().trim_end());
        if !self.agrees(&format!("Sign in to the profile '{profile}', with single sign-on?"))? {
            return Ok(false);
        }
        login::run(self.global, &usual()?)?;
        Ok(true)
    }
}
