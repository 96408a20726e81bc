//! `tazpod save`

use crate::agent::client::Client;
use crate::error::CommandResult;
use crate::ui;

use super::{Global, inside};

/// Writes every change to the archive now, and waits until the disk has it.
#[derive(clap::Args)]
pub struct Arguments {}

pub fn run(global: &Global, _: &Arguments) -> CommandResult {
    let plan = global.plan()?;
    let is_here = !inside::is_noted(&plan) || Client::connect(&plan.archive)?.is_some();
    if is_here || !inside::save(&plan)? {
        global.connect()?.save()?;
    }
    ui::say("Saved");
    Ok(())
}
