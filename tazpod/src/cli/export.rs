//! `tazpod export`

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::agent::client::Client;
use crate::config::Plan;
use crate::error::{CommandError, CommandResult, Status};
use crate::signals::Caught;
use crate::ui;

use super::way_in::WayIn;
use super::{Global, locked};

/// Writes everything in the vault as a plain, unencrypted tar.
#[derive(clap::Args)]
pub struct Arguments {
    /// File to be written (0600, never over an existing one) [default: standard output, if it is no terminal].
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    way_in: WayIn,
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult {
    let plan = global.plan()?;
    match &arguments.output {
        None if io::stdout().is_terminal() => {
            Err(CommandError::new(Status::Usage, "this would write your secrets to the terminal")
                .hint("redirect it, or name a file with --output"))
        }
        None => {
            let mut output = io::stdout().lock();
            export(&plan, arguments, &mut output)?;
            output.flush().map_err(|error| CommandError::caused("the tar cannot be written", &error))
        }
        Some(path) => to_file(&plan, arguments, path),
    }
}

/// A file that takes nothing more after Ctrl-C.
struct Interruptible {
    file: File,
    signals: Caught,
}

impl Write for Interruptible {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.signals.is_raised() {
            true => Err(io::Error::other("interrupted")),
            false => self.file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Writes a new file, which is gone again when it cannot be completed.
fn to_file(plan: &Plan, arguments: &Arguments, path: &Path) -> CommandResult {
    let failed = |operation: &str, error: &io::Error| {
        CommandError::caused(format!("cannot {operation} {}", path.display()), error)
    };
    // Nobody is left with half of it in the clear.
    let signals = Caught::begin().map_err(|error| failed("make", &error))?;
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let file = file.map_err(|error| failed("make", &error).hint("name another file"))?;
    let mut output = Interruptible { file, signals };
    let outcome = export(plan, arguments, &mut output)
        .and_then(|()| output.file.sync_all().map_err(|error| failed("write", &error)))
        .map_err(|error| if output.signals.is_raised() { CommandError::interrupted() } else { error });
    match outcome {
        Ok(()) => {
            ui::say(format!("Exported to {}, unencrypted", path.display()));
            Ok(())
        }
        Err(error) => {
            if let Err(left) = std::fs::remove_file(path) {
                ui::warn(format!("the incomplete {} cannot be removed: {left}", path.display()));
            }
            Err(error)
        }
    }
}

fn export(plan: &Plan, arguments: &Arguments, output: &mut dyn Write) -> CommandResult {
    if let Some(mut client) = Client::connect(&plan.archive)? {
        return Ok(client.export(output)?);
    }
    let (vault, _) = locked::open(plan, &arguments.way_in, &locked::question(plan))?;
    vault.export(output)?;
    vault.discard();
    Ok(())
}
