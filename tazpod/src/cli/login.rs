//! `tazpod login`

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::SystemTime;

use crate::calendar::Utc;
use crate::config::{ConfigError, Plan, RemotePlace};
use crate::error::{CommandError, CommandResult, Status};
use crate::remote::RemoteError;
use crate::remote::credentials::{DEFAULT_PROFILE, Source, VaultFiles, choose};
use crate::remote::single_sign_on::{DeviceCode, Origin, SignIn};
use crate::ui;

use super::aws_command::{AwsCommand, Browser, find_program};
use super::remote_access::{plans, vault_files};
use super::{Global, automatic, locked};

/// Signs in to the profile of the remote, with single sign-on: by the AWS command line (version 2) where it is installed, else by itself.
/// The AWS tools use the same token.
#[derive(clap::Args)]
pub struct Arguments {
    /// The profile [default: that of the remote, else AWS_PROFILE, else 'default'].
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Signs in without the AWS command line, also where it is installed.
    #[arg(long)]
    native: bool,
    /// Opens no browser; prints where to confirm which code.
    #[arg(long)]
    no_browser: bool,
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult {
    locked::protect_process()?;
    let (plan, profile) = match &arguments.profile {
        Some(profile) => (global.plan_or_no_project()?.ok(), Some(profile.clone())),
        None => configured(global)?,
    };
    let files = || plan.as_ref().map_or_else(|| Ok(VaultFiles::default()), vault_files);
    let sign_in = find(profile.as_deref(), &mut files()?)?;
    let aws = if arguments.native { None } else { AwsCommand::find() };
    let browser = browser(arguments.no_browser);
    let until = match aws {
        Some(aws) => {
            aws.sign_in(sign_in.profile(), config_elsewhere(&sign_in, plan.as_ref())?, browser)?;
            sign_in.signed_in_until()
        }
        None => Some(sign_in.by_device(&mut |code| tell(code, browser))?),
    };
    tell_end(&sign_in, until);
    warn_of_others(profile.as_deref(), &mut files()?);
    if let Some(plan) = &plan {
        // What could not be synchronised without it is tried at once.
        automatic::settled(plan);
    }
    Ok(())
}

/// The profile that the configuration names, if it does.
fn configured(global: &Global) -> CommandResult<(Option<Plan>, Option<String>)> {
    if let Err(error) = global.plan_or_no_project()? {
        return Err(CommandError::from(error).hint("run it in a project, or name a profile: --profile NAME"));
    }
    let plan = global.plan()?;
    match plan.remote() {
        Err(ConfigError::NoRemote) => Ok((Some(plan), None)),
        _ => match plans(global)?.1.place {
            RemotePlace::S3(place) => Ok((Some(plan), place.profile)),
            RemotePlace::Directory(_) => {
                Err(CommandError::new(Status::Usage, "the remote is a folder, which needs no sign-in")
                    .hint("'tazpod login --profile NAME' signs in to a profile all the same"))
            }
        },
    }
}

fn find(named: Option<&str>, files: &mut VaultFiles) -> CommandResult<SignIn> {
    let from_environment = || std::env::var("AWS_PROFILE").ok().filter(|profile| !profile.is_empty());
    if let Some(profile) = named.map(str::to_owned).or_else(from_environment) {
        return Ok(SignIn::find(&profile, files)?);
    }
    SignIn::find(DEFAULT_PROFILE, files).map_err(|error| match error {
        RemoteError::NoProfile(_) | RemoteError::NotSingleSignOn { .. } => {
            CommandError::new(Status::Usage, "no profile is configured, and the default one is none with single sign-on")
                .hint("name it: 'tazpod login --profile NAME', or 'remote: {profile: NAME}' in .tazpod/config.yaml; 'aws configure sso' makes one")
        }
        error => error.into(),
    })
}

/// Where the AWS command line finds the profile, if not in the home.
fn config_elsewhere(sign_in: &SignIn, plan: Option<&Plan>) -> CommandResult<Option<PathBuf>> {
    match (sign_in.origin(), plan) {
        (Origin::Vault, Some(plan)) => Ok(locked::vault_folder(plan)?.map(|folder| folder.join(".aws/config"))),
        (Origin::Covered(folder), _) => Ok(Some(folder.join("config"))),
        _ => Ok(None),
    }
}

/// A browser opens for somebody who sits before a desktop and nobody else.
fn browser(unwanted: bool) -> Browser {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let has_desktop = is_set("DISPLAY") || is_set("WAYLAND_DISPLAY");
    let has_terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if has_desktop && has_terminal && !unwanted { Browser::Open } else { Browser::None }
}

fn tell(code: &DeviceCode, browser: Browser) {
    let [url, with_code, shown] = [&code.url, &code.url_with_code, &code.code].map(|text| ui::printable(text));
    ui::say(format!("To sign in, open {url} and confirm the code {shown}"));
    if with_code != url {
        ui::say(format!("(or {with_code}, which has it filled in)"));
    }
    if browser == Browser::Open {
        open(&code.url_with_code);
    }
    ui::say(format!("Waiting for that, {} at most", ui::span(code.life.as_secs())));
}

/// Hands a page to the desktop. Whatever becomes of it, the page was told.
fn open(url: &str) {
    // Nothing but a page: a program's name or a file is not opened because a service says so.
    let Some(program) = find_program("xdg-open").filter(|_| url.starts_with("https://")) else { return };
    let mut command = Command::new(program);
    command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Err(error) = command.spawn() {
        tracing::info!(%error, "no browser was opened");
    }
}

fn tell_end(sign_in: &SignIn, until: Option<SystemTime>) {
    let profile = ui::printable(sign_in.profile());
    let Some(until) = until else { return ui::say(format!("Signed in to the profile '{profile}'")) };
    let left = until.duration_since(SystemTime::now()).unwrap_or_default().as_secs();
    let until = Utc::of(until);
    ui::say(format!("Signed in to the profile '{profile}' until {until}, for {}", ui::span(left)));
}

/// What goes before the profile makes the sign-in useless.
fn warn_of_others(profile: Option<&str>, files: &mut VaultFiles) {
    let source = choose(|name| std::env::var(name).ok(), files, profile);
    if let Source::Environment(_) | Source::VaultKeys(_) = source {
        ui::warn(format!("{} has keys, which go before the profile", source.name()));
    }
}
