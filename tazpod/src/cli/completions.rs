//! `tazpod completions`

use clap_complete::Shell;

use crate::error::CommandResult;

/// Prints the completions for a shell, for example for bash: source <(tazpod completions bash)
#[derive(clap::Args)]
pub struct Arguments {
    /// The shell.
    shell: Shell,
}

pub fn run(arguments: &Arguments, command: &mut clap::Command) -> CommandResult {
    clap_complete::generate(arguments.shell, command, "tazpod", &mut std::io::stdout());
    Ok(())
}
