//! Before a container ends: whoever works in it is told of, and a terminal is asked.

use crate::container::{self, Engine, Found};
use crate::error::{CommandError, CommandResult, Status};
use crate::ui;

/// Names of programs that are shown.
const SHOWN: usize = 3;

/// Whether what runs inside is ended without a question.
#[derive(clap::Args)]
pub struct Ending {
    /// Ends shells and programs that run in it without asking.
    #[arg(long)]
    force: bool,
}

impl Ending {
    /// Asks on a terminal; goes on without one, and tells what ends.
    pub fn agree(&self, engine: &Engine, found: &Found) -> CommandResult {
        let programs = container::programs(engine, found)?;
        if programs.is_empty() || self.force {
            return Ok(());
        }
        let told = told(&found.name, &programs);
        match ui::confirm(&format!("{told}. Go on?")) {
            Ok(true) => Ok(()),
            Ok(false) => {
                let text = format!("the container '{}' stays as it is", found.name);
                Err(CommandError::new(Status::Failure, text).hint("leave what runs in it first, or add --force"))
            }
            Err(ui::AskError::NoTerminal) => {
                ui::warn(told);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn told(container: &str, programs: &[String]) -> String {
    let mut names: Vec<String> = programs.iter().take(SHOWN).map(|name| ui::printable(name)).collect();
    if programs.len() > SHOWN {
        names.push("…".to_owned());
    }
    let names = names.join(", ");
    match programs.len() {
        1 => format!("A program runs in the container '{container}' ({names}) and ends with it"),
        count => format!("{count} programs run in the container '{container}' ({names}) and end with it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_is_counted_and_some_of_it_named() {
        let programs = |count: usize| vec!["sh".to_owned(); count];
        assert_eq!(told("lab", &programs(1)), "A program runs in the container 'lab' (sh) and ends with it");
        assert_eq!(told("lab", &programs(4)), "4 programs run in the container 'lab' (sh, sh, sh, …) and end with it");
    }
}
