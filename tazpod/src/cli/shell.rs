//! `tazpod shell`

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use crate::error::CommandResult;

use super::Global;
use super::lease::{self, Keeping};

/// Starts your shell on this machine; when the last one ends, the vault locks.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    keeping: Keeping,
    /// Arguments of the shell.
    #[arg(last = true, value_name = "ARGUMENT")]
    arguments: Vec<std::ffi::OsString>,
}

impl Arguments {
    /// The shell without arguments.
    pub fn plain(keeping: Keeping) -> Self {
        Self { keeping, arguments: Vec::new() }
    }
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult<ExitCode> {
    let plan = global.plan()?;
    let _lease = lease::take(&plan, "shell", &arguments.keeping)?;
    lease::tell_conflicts(&plan)?;
    let shell = std::env::var_os("SHELL").filter(|shell| !shell.is_empty()).map_or("/bin/sh".into(), PathBuf::from);
    let mut command = Command::new(shell);
    command.args(&arguments.arguments);
    lease::run(command)
}
