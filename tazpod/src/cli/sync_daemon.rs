//! `tazpod __internal_sync_daemon`, which scripts of the old tool start in the background.

use crate::agent::client::Client;
use crate::error::{CommandError, CommandResult, Status};
use crate::ui;

use super::{Global, automatic};

/// Has the agent of an unlocked vault synchronise it on its own, unless it does already.
#[derive(clap::Args)]
pub struct Arguments {}

pub fn run(global: &Global, _: &Arguments) -> CommandResult {
    let plan = global.plan()?;
    let Some(mut client) = Client::connect(&plan.archive)? else { return Err(CommandError::locked(&plan.archive)) };
    plan.remote()?;
    if let Some(reason) = automatic::reason_against(&plan) {
        let text = format!("the vault is not synchronised on its own: {reason}");
        return Err(CommandError::new(Status::Usage, text).hint("write 'sync: true', or run 'tazpod sync' yourself"));
    }
    let already = client.synchronise(automatic::settings(&plan))?;
    ui::say(if already {
        "The vault is synchronised on its own already, as long as it is unlocked"
    } else {
        "The vault is synchronised on its own from now on, as long as it is unlocked"
    });
    Ok(())
}
