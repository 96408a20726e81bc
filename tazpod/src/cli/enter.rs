//! `tazpod enter`

use std::path::Path;
use std::process::ExitCode;

use crate::container::interactive::{self, Request};
use crate::container::{self, ContainerError, Found, State};
use crate::error::{CommandError, CommandResult};
use crate::inside::call::Side;
use crate::inside::{HIDDEN, SESSION};
use crate::ui;

use super::development::Development;
use super::lease::{self, Keeping};
use super::{Global, inside, views};

/// Opens a shell in the development container, or runs a program there; ends with its exit status.
#[derive(clap::Args)]
pub struct Arguments {
    /// Another user of the container, for example root; the vault lets in only the usual one.
    #[arg(long, short, value_name = "USER")]
    user: Option<String>,
    /// The folder inside [default: this one, as far as it is in the project].
    #[arg(long, short, value_name = "DIR")]
    workdir: Option<String>,
    /// A variable for the program; without a value that of this environment.
    #[arg(long, short, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    #[command(flatten)]
    keeping: Keeping,
    /// The program, and its arguments.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Arguments {
    /// The usual shell.
    pub fn shell(keeping: Keeping) -> Self {
        Self { user: None, workdir: None, env: Vec::new(), keeping, command: Vec::new() }
    }
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult<ExitCode> {
    let development = Development::open(global)?;
    let found = running(&development)?;
    if found.is_inside {
        return enter_inside(&development, found, arguments);
    }
    // A vault that is locked is not needed by it; one that is unlocked meanwhile is.
    lease::hold(&development.plan, "enter", &arguments.keeping)?;
    views::mount_missing(&development.plan);
    if arguments.command.is_empty() {
        lease::tell_conflicts(&development.plan)?;
    }
    let request = request(&development, arguments);
    Ok(ExitCode::from(interactive::run(&development.engine, &found, &request)?))
}

/// Through this program there, which holds the vault for it; other users have no way to that. What was committed meanwhile comes here.
fn enter_inside(development: &Development, found: Found, arguments: &Arguments) -> CommandResult<ExitCode> {
    let side = Side::connect(found)?;
    let mut request = request(development, arguments);
    if arguments.user.is_none() {
        let session = format!("{}-{}", rustix::system::uname().nodename().to_string_lossy(), std::process::id());
        let own = |words: &[&str]| -> Vec<String> {
            let start = [side.program(), HIDDEN.to_owned()].into_iter();
            start.chain(words.iter().map(|word| (*word).to_owned())).collect()
        };
        let flag = arguments.keeping.flag();
        request.started_by = own(&[&["enter", SESSION, &session], flag.as_slice(), &["--"]].concat());
        request.hung_up_by = own(&["hang-up", SESSION, &session]);
    }
    let code = interactive::run(&side.engine, &side.found, &request)?;
    inside::try_to_settle(&side, &development.plan);
    Ok(ExitCode::from(code))
}

fn request(development: &Development, arguments: &Arguments) -> Request {
    Request {
        started_by: Vec::new(),
        hung_up_by: Vec::new(),
        command: arguments.command.clone(),
        user: arguments.user.clone(),
        workdir: Some(arguments.workdir.clone().unwrap_or_else(|| workdir(development))),
        environment: arguments.env.iter().filter_map(|variable| with_value(variable)).collect(),
    }
}

/// The container, which must run; a terminal is asked whether it is to be started.
pub fn running(development: &Development) -> CommandResult<Found> {
    let name = &development.container.name;
    let Some(found) = development.find()? else { return Err(ContainerError::NotThere(name.clone()).into()) };
    development.tell_changes(&found)?;
    if found.state == State::Running {
        return Ok(found);
    }
    let stopped = || CommandError::from(ContainerError::NotRunning(name.clone()));
    match ui::confirm(&format!("The container '{name}' is {}. Start it?", found.state.word())) {
        Ok(true) => {
            development.prepare_place()?;
            development.make_identity_folders()?;
            container::start(&development.engine, &found)?;
            Ok(found)
        }
        Ok(false) | Err(ui::AskError::NoTerminal) => Err(stopped()),
        Err(error) => Err(error.into()),
    }
}

/// Who is somewhere in the project is in the same place inside.
pub fn workdir(development: &Development) -> String {
    let plan = &development.container;
    let here = std::env::current_dir().and_then(|here| here.canonicalize()).unwrap_or_default();
    match here.strip_prefix(&plan.project) {
        Ok(within) if within != Path::new("") => format!("{}/{}", plan.workspace, within.display()),
        _ => development.spec.workdir.clone(),
    }
}

fn with_value(variable: &str) -> Option<String> {
    match variable.contains('=') {
        true => Some(variable.to_owned()),
        false => Some(format!("{variable}={}", std::env::var(variable).ok()?)),
    }
}
