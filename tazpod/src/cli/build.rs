//! `tazpod build`

use crate::error::{CommandError, CommandResult, Status};
use crate::ui;

use super::Global;
use super::development::Development;

/// Builds the container's image from 'build' in the configuration. `.dockerignore` counts; .tazpod is never sent.
#[derive(clap::Args)]
pub struct Arguments {}

pub fn run(global: &Global, _arguments: &Arguments) -> CommandResult {
    let development = Development::open(global)?;
    let build = development.container.build.as_ref().ok_or_else(|| {
        CommandError::new(Status::Usage, "nothing says how the image is built")
            .hint("write 'build: {dockerfile: Dockerfile}' into .tazpod/config.yaml, or 'tazpod pull image'")
    })?;
    development.build(build)?;
    if development.find()?.is_some() {
        ui::say("'tazpod up --recreate' makes the container of it");
    }
    Ok(())
}
