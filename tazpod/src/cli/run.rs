//! `tazpod run`

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use crate::error::{CommandError, CommandResult, Status};

use super::lease::{self, Keeping};
use super::{Global, env};

/// Runs a program with variables of the vault in its environment, and in no other process.
#[derive(clap::Args)]
pub struct Arguments {
    /// Gives only this variable of 'env:' in the configuration; may be repeated [default: all].
    #[arg(long = "env", value_name = "NAME", value_delimiter = ',')]
    names: Vec<String>,
    #[command(flatten)]
    keeping: Keeping,
    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult<ExitCode> {
    let (plan, variables) = global.plan_with(|plan| plan.environment().map(<[_]>::to_vec))?;
    let variables = env::chosen(variables, &arguments.names)?;
    let (program, rest) = arguments.command.split_first().expect("clap asks for one");
    let mut command = Command::new(program);
    command.args(rest);
    for value in env::values(&plan, &variables)? {
        let text = value.value.map_err(|reason| {
            CommandError::new(Status::Failure, format!("{}: {reason}", value.name))
                .hint("nothing was run; --env NAME gives only the variables that are named")
        })?;
        command.env(value.name, text);
    }
    let _lease = lease::take(&plan, "run", &arguments.keeping)?;
    lease::run(command)
}
