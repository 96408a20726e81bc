//! `tazpod run`

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

use crate::container;
use crate::error::{CommandError, CommandResult, Status};

use super::development::Development;
use super::lease::{self, Keeping};
use super::{Global, env, run_inside};

/// Runs a program with variables of the vault in its environment, and in no other process.
#[derive(clap::Args)]
pub struct Arguments {
    /// Gives only this variable of 'env:' in the configuration; may be repeated [default: all].
    #[arg(long = "env", value_name = "NAME", value_delimiter = ',')]
    names: Vec<String>,
    /// Runs it in the development container, which must be up.
    #[arg(long)]
    in_container: bool,
    #[command(flatten)]
    keeping: Keeping,
    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult<ExitCode> {
    let (plan, variables) = global.plan_with(|plan| plan.environment().map(<[_]>::to_vec))?;
    let variables = env::chosen(variables, &arguments.names)?;
    if arguments.in_container && plan.is_inside()? {
        let development = Development::of(global, plan)?;
        return run_inside::run_there(&development, &arguments.names, arguments.keeping.flag(), &arguments.command);
    }
    let seen = arguments.in_container.then_some(Path::new(container::VAULT));
    let values = env::values(&plan, &variables, seen)?.into_iter().map(|value| {
        let text = value.value.map_err(|reason| {
            CommandError::new(Status::Failure, format!("{}: {reason}", value.name))
                .hint("nothing was run; --env NAME gives only the variables that are named")
        });
        text.map(|text| (value.name, text))
    });
    let values = values.collect::<CommandResult<Vec<_>>>()?;
    if arguments.in_container {
        let development = Development::open(global)?;
        let _lease = lease::take(&plan, "run", &arguments.keeping)?;
        return run_inside::run(&development, &values, &arguments.command);
    }
    let (program, rest) = arguments.command.split_first().expect("clap asks for one");
    let mut command = Command::new(program);
    command.args(rest).envs(values);
    let _lease = lease::take(&plan, "run", &arguments.keeping)?;
    lease::run(command)
}
