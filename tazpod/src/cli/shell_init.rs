//! `tazpod shell-init`

use crate::agent::paths;
use crate::environment::shell::Shell;
use crate::error::{CommandError, CommandResult, Status};
use crate::ui;

use super::env::ShellName;

/// Prints what a shell reads at its start so that the variables of 'env:' come with each unlock and go with each lock.
#[derive(clap::Args)]
#[command(after_help = "bash: eval \"$(tazpod shell-init bash)\" in ~/.bashrc\n\
                        zsh:  eval \"$(tazpod shell-init zsh)\" in ~/.zshrc\n\
                        fish: tazpod shell-init fish | source in ~/.config/fish/config.fish")]
pub struct Arguments {
    #[arg(value_name = "SHELL", value_enum)]
    shell: ShellName,
}

pub fn run(arguments: &Arguments) -> CommandResult {
    let shell = Shell::from(arguments.shell);
    if shell == Shell::Sh {
        let text = "the shell of POSIX runs nothing at its prompt; bash, zsh and fish do";
        return Err(CommandError::new(Status::Usage, text).hint("eval \"$(tazpod env --shell sh)\" after an unlock"));
    }
    let system = |error| CommandError::caused("the hook cannot be written", &error);
    let program = std::env::current_exe().map_err(system)?;
    let changes = paths::changes_file().map_err(system)?;
    ui::print(shell.hook(&program, &changes).trim_end()).map_err(system)
}
