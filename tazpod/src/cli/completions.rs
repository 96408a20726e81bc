//! `tazpod completions`

use clap_complete::Shell;

use crate::error::CommandResult;

/// Prints the completions for a shell, for example for bash: source <(tazpod completions bash)
#[derive(clap::Args)]
pub struct Arguments {
    /// The shell.
    shell: Shell,
}

pub fn run(arguments: &Arguments, command: &clap::Command) -> CommandResult {
    clap_complete::generate(arguments.shell, &mut visible(command), "tazpod", &mut std::io::stdout());
    Ok(())
}

/// Without the commands that the program and old scripts call: completions know no hidden ones.
fn visible(command: &clap::Command) -> clap::Command {
    let commands = command.get_subcommands().filter(|command| !command.is_hide_set());
    clap::Command::new("tazpod").args(command.get_arguments()).subcommands(commands)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_commands_are_not_completed() {
        let hidden = clap::Command::new("hidden").hide(true);
        let command = clap::Command::new("all").subcommands([hidden, clap::Command::new("shown")]);
        let names: Vec<_> = visible(&command).get_subcommands().map(|command| command.get_name().to_owned()).collect();
        assert_eq!(names, ["shown"]);
    }
}
