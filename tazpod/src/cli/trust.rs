//! `tazpod trust`

use std::path::Path;

use crate::config::{self, Overrides, Plan, trust};
use crate::error::{CommandError, CommandResult, Status};
use crate::ui;

use super::{Global, automatic, bridges};

/// Trusts the project's .tazpod/config.yaml as it is now, and the Dockerfile that it names, after showing what changed.
#[derive(clap::Args)]
pub struct Arguments {
    /// Does not ask.
    #[arg(long, short)]
    yes: bool,
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult {
    let overrides = Overrides { vault: None, mount: None, ..global.overrides() };
    let project = Plan::find_project(&overrides)?;
    let file = config::canonical(&config::project_file(&project))?;
    check(&overrides)?;
    trust_file(&file, arguments)?;
    let Ok(plan) = Plan::load(&global.overrides()) else { return Ok(()) };
    automatic::settled(&plan);
    // A container can write the Dockerfile as well.
    let build = plan.container().ok().and_then(|container| container.build.clone());
    match build.filter(|build| build.dockerfile.exists()) {
        Some(build) => trust_file(&build.dockerfile, arguments),
        None => Ok(()),
    }
}

/// Tells what is wrong in the project's file. One that cannot be used says nothing that could be trusted.
fn check(overrides: &Overrides) -> CommandResult {
    let plan = Plan::load_as_if_trusted(overrides).map_err(|error| {
        CommandError::from(error).hint("nothing is trusted; correct it, then run 'tazpod trust' again")
    })?;
    plan.warnings.iter().for_each(ui::warn);
    let bridges = plan.bridges().ok().flatten().map(|listed| bridges::check_places(&plan, listed));
    let wrong = plan.wrong_values().into_iter().chain(bridges.and_then(Result::err));
    wrong.for_each(|error| ui::warn(CommandError::from(error).summary()));
    Ok(())
}

fn trust_file(file: &Path, arguments: &Arguments) -> CommandResult {
    let text = read(file)?;
    if trust::trusted(file).is_some_and(|trusted| trusted == text) {
        ui::say(format!("{} is trusted already", file.display()));
        return Ok(());
    }
    show(file, &text);
    if !arguments.yes && !ui::confirm("Trust it?")? {
        return Err(CommandError::new(Status::Failure, "it is not trusted"));
    }
    remember(file, &text)
}

/// Shows a file that changed and asks whether it is to be trusted.
pub fn ask(file: &Path) -> Result<bool, ui::AskError> {
    let text = std::fs::read_to_string(file)?;
    show(file, &text);
    let trusted = ui::confirm("Trust it?")?;
    if trusted {
        trust::trust(file, &text)?;
    }
    Ok(trusted)
}

/// Trusts a text as the content of a file.
pub fn remember(file: &Path, text: &str) -> CommandResult {
    trust::trust(file, text).map_err(|error| CommandError::caused("the trust cannot be written down", &error))
}

fn show(file: &Path, text: &str) {
    let old = trust::trusted(file);
    match &old {
        Some(_) => ui::say(format!("{} changed since it was trusted:", file.display())),
        None => ui::say(format!("{} was never trusted. It says:", file.display())),
    }
    ui::say(trust::difference(&old.unwrap_or_default(), text));
}

fn read(file: &Path) -> CommandResult<String> {
    std::fs::read_to_string(file)
        .map_err(|error| CommandError::caused(format!("cannot read {}", file.display()), &error))
}
