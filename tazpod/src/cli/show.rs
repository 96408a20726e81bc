//! `tazpod show`

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};

use vaultfs::entry::EntryKind;

use crate::agent::client::{AgentError, Client};
use crate::agent::past;
use crate::error::{CommandError, CommandResult};
use crate::ui;

use super::log::vault_path;
use super::way_in::WayIn;
use super::{Global, locked};

/// Prints a file as it was after a commit, byte for byte; of a folder the names that were in it.
#[derive(clap::Args)]
pub struct Arguments {
    /// The commit's number, as 'tazpod log' tells it.
    #[arg(value_name = "N")]
    number: u64,
    /// A file or a folder of the vault; '.' is its root.
    #[arg(value_name = "PATH")]
    path: OsString,
    #[command(flatten)]
    way_in: WayIn,
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult {
    let plan = global.plan()?;
    let (number, path) = (arguments.number, vault_path(&arguments.path)?);
    let (mut output, mut listing) = (io::stdout().lock(), Vec::new());
    match Client::connect(&plan.archive)? {
        Some(mut client) => match client.show(number, path.as_bytes().to_vec(), &mut output, &mut listing) {
            Err(AgentError::Transfer(error)) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            outcome => outcome?,
        },
        None => {
            let (vault, _) = locked::open(&plan, &arguments.way_in, &locked::question(&plan))?;
            let found = past::find(&vault, number, &path)?;
            let is_folder = found.kind() == EntryKind::Folder;
            past::write_past(&found, if is_folder { &mut listing } else { &mut output })?;
            vault.discard();
        }
    }
    if io::stdout().is_terminal() {
        let text = String::from_utf8_lossy(&listing);
        listing = text.split('\n').map(ui::printable).collect::<Vec<_>>().join("\n").into_bytes();
    }
    match output.write_all(&listing).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CommandError::caused("the content cannot be written", &error))
        }
        _ => Ok(()),
    }
}
