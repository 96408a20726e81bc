//! `tazpod save`

use crate::error::CommandResult;
use crate::ui;

use super::Global;

/// Writes every change to the archive now, and waits until the disk has it.
#[derive(clap::Args)]
pub struct Arguments {}

pub fn run(global: &Global, _: &Arguments) -> CommandResult {
    global.connect()?.save()?;
    ui::say("Saved");
    Ok(())
}
