//! `tazpod compact`

use crate::agent::client::Client;
use crate::error::{CommandError, CommandResult};
use crate::ui;

use super::{Global, locked, passphrase};

/// Writes the archive anew, so that nothing that was deleted is left in it. Works on a locked and on an unlocked vault.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    passphrase: passphrase::Source,
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult {
    let plan = global.plan()?;
    match Client::connect(&plan.archive)? {
        Some(mut client) => client.compact()?,
        None => {
            let source = arguments.passphrase.clone().or_environment();
            let (vault, _) = locked::open(&plan, &source, &locked::question(&plan))?;
            vault.compact()?;
            vault.close().map_err(|(_, error)| CommandError::caused("the archive cannot be closed", &*error))?;
        }
    }
    ui::say("Compacted");
    Ok(())
}
