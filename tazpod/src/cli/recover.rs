//! `tazpod recover`

use crate::error::CommandResult;

use super::Global;

/// Placeholder.
#[derive(clap::Args)]
pub struct Arguments {}

pub fn run(_global: &Global, _arguments: &Arguments) -> CommandResult {
    Ok(())
}
