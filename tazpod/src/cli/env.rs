//! `tazpod env`

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::agent::paths;
use crate::config::{Overrides, Plan, Variable};
use crate::environment::shell::Shell;
use crate::environment::{self, Value};
use crate::error::{CommandError, CommandResult, Status};
use crate::ui;

use super::{Global, inside, locked, unlock};

/// Prints the variables of 'env:' in the configuration with their values from the unlocked vault, as a shell reads them.
#[derive(clap::Args)]
pub struct Arguments {
    /// For which shell [default: the one in SHELL].
    #[arg(long, value_enum)]
    shell: Option<ShellName>,
    /// Prints a JSON object.
    #[arg(long, conflicts_with_all = ["shell", "unset"])]
    json: bool,
    /// Prints lines that take the variables away; works locked too.
    #[arg(long)]
    unset: bool,
    /// For the hook of 'tazpod shell-init': of all unlocked vaults; asks nothing.
    #[arg(long, hide = true, conflicts_with_all = ["json", "unset", "names"])]
    hook: bool,
    /// Only these variables.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

/// Shells.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum ShellName {
    Bash,
    Zsh,
    Fish,
    Sh,
}

impl From<ShellName> for Shell {
    fn from(name: ShellName) -> Self {
        match name {
            ShellName::Bash => Self::Bash,
            ShellName::Zsh => Self::Zsh,
            ShellName::Fish => Self::Fish,
            ShellName::Sh => Self::Sh,
        }
    }
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult<ExitCode> {
    let from_environment = || Shell::of_path(&std::env::var_os("SHELL").map(PathBuf::from).unwrap_or_default());
    let shell = arguments.shell.map_or_else(from_environment, Shell::from);
    if arguments.hook {
        return print(&for_hook(shell)).map(|()| ExitCode::SUCCESS);
    }
    let (plan, variables) = global.plan_with(|plan| plan.environment().map(<[_]>::to_vec))?;
    let variables = chosen(variables, &arguments.names)?;
    if arguments.unset {
        let lines: Vec<String> = variables.iter().map(|variable| shell.unset(&variable.name)).collect();
        return print(&lines).map(|()| ExitCode::SUCCESS);
    }
    let (found, missing) = split(values(&plan, &variables, None)?);
    if arguments.json {
        let object: serde_json::Map<_, _> = found.into_iter().map(|(name, value)| (name, value.into())).collect();
        print(&[serde_json::Value::from(object).to_string()])?;
    } else {
        print(&found.iter().map(|(name, value)| shell.export(name, value)).collect::<Vec<_>>())?;
    }
    missing.iter().for_each(|text| ui::say(format!("Error: {text}")));
    Ok(if missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The variables of these names; all, when there are none.
pub fn chosen(variables: Vec<Variable>, names: &[String]) -> CommandResult<Vec<Variable>> {
    if let Some(name) = names.iter().find(|name| !variables.iter().any(|variable| variable.name == **name)) {
        let text = format!("'env:' in the configuration has no {}", ui::printable(name));
        return Err(CommandError::new(Status::Usage, text).hint(format!(
            "write 'env: {{{}: FILE}}' into .tazpod/config.yaml, with a file of the vault",
            ui::printable(name)
        )));
    }
    Ok(variables.into_iter().filter(|variable| names.is_empty() || names.contains(&variable.name)).collect())
}

/// Their values, from the plan's vault, which must be unlocked; `seen` is where the program sees it, if that is not where it is here.
pub fn values(plan: &Plan, variables: &[Variable], seen: Option<&Path>) -> CommandResult<Vec<Value>> {
    let Some(mount) = locked::vault_folder(plan)? else {
        unlock::clean_up(plan)?;
        return Err(inside::locked_error(plan));
    };
    Ok(environment::values(variables, &mount, seen.unwrap_or(&mount)))
}

/// What a shell's hook evaluates: the variables of all projects whose vaults are unlocked, and how to forget them. What goes wrong is
/// told, and keeps nobody from the prompt.
fn for_hook(shell: Shell) -> Vec<String> {
    let (mut lines, mut names) = (Vec::new(), Vec::new());
    for project in paths::all_notes().into_iter().filter_map(|note| note.project) {
        let (found, problems) = of_project(project).unwrap_or_else(|error| (Vec::new(), vec![error.summary()]));
        problems.iter().for_each(|text| ui::say(format!("tazpod: {}", ui::printable(text))));
        for (name, value) in found {
            lines.push(shell.export(&name, &value));
            names.push(name);
        }
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    lines.push(shell.forget(&names));
    lines
}

type Found = (Vec<(String, String)>, Vec<String>);

fn of_project(project: PathBuf) -> CommandResult<Found> {
    let plan = Plan::load(&Overrides { project: Some(project), ..Overrides::default() })?;
    let variables = plan.environment()?;
    match locked::vault_folder(&plan)? {
        Some(mount) if !variables.is_empty() => Ok(split(environment::values(variables, &mount, &mount))),
        _ => Ok(Found::default()),
    }
}

fn split(values: Vec<Value>) -> Found {
    let mut found = Found::default();
    for Value { name, value } in values {
        match value {
            Ok(value) => found.0.push((name, value)),
            Err(reason) => found.1.push(format!("{name}: {reason}")),
        }
    }
    found
}

/// Past the buffer of standard output, which nobody wipes.
fn print(lines: &[String]) -> CommandResult {
    let mut text = lines.join("\n");
    if !text.is_empty() {
        text.push('\n');
    }
    let written = ui::unbuffered_output().and_then(|mut output| output.write_all(text.as_bytes()));
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CommandError::caused("the variables cannot be written", &error))
        }
        _ => Ok(()),
    }
}
