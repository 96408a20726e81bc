//! `tazpod compact`

use crate::agent::client::Client;
use crate::error::{CommandError, CommandResult};
use crate::ui;

use super::way_in::WayIn;
use super::{Global, locked};

/// Writes the archive anew, so that nothing that was deleted is left in it. Works on a locked and on an unlocked vault.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    way_in: WayIn,
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult {
    let plan = global.plan()?;
    match Client::connect(&plan.archive)? {
        Some(mut client) => client.compact()?,
        None => {
            let (vault, _) = locked::open(&plan, &arguments.way_in, &locked::question(&plan))?;
            vault.compact()?;
            vault.close().map_err(|(_, error)| CommandError::caused("the archive cannot be closed", &*error))?;
        }
    }
    ui::say("Compacted");
    Ok(())
}
