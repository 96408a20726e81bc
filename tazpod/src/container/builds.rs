//! Building an image: the context is sent, what the steps print is shown as it comes.

use std::io::{self, Write};

use bollard::body_try_stream;
use bollard::errors::Error;
use bollard::query_parameters::BuildImageOptionsBuilder;

use crate::config::BuildPlan;

use super::endpoint::Surroundings;
use super::engine::Engine;
use super::error::ContainerError;
use super::{build_context, credentials, files};

/// Builds an image and gives it a name.
///
/// # Errors
/// [`ContainerError::Build`]: a step fails, what it printed was shown. [`ContainerError::Context`].
pub fn build(engine: &Engine, plan: &BuildPlan, image: &str) -> Result<(), ContainerError> {
    let context = build_context::pack(plan)?;
    let options =
        BuildImageOptionsBuilder::default().dockerfile(&context.dockerfile).t(image).rm(true).forcerm(true).build();
    let config = Surroundings::here().config;
    let credentials = config.map(|config| credentials::all(&config)).filter(|known| !known.is_empty());
    let tar = body_try_stream(files::pieces(context.tar));
    let stream = engine.docker.build_image(options, credentials, Some(tar));
    let outcome = files::each(engine, stream, |info| {
        if let Some(text) = info.stream.or(info.status) {
            show(&text);
        }
    });
    outcome.map_err(|error| match error {
        Error::DockerStreamError { error } => ContainerError::Build(error),
        Error::DockerResponseServerError { message, .. } => ContainerError::Build(message),
        error => ContainerError::of("build the image", error),
    })
}

/// Steps may print anything: what moves about on a terminal is left out.
fn show(text: &str) {
    let text: String = text.chars().filter(|char| !char.is_control() || matches!(char, '\n' | '\t')).collect();
    let mut out = io::stderr().lock();
    // Nobody reads it any more: nothing to be done.
    let _ = out.write_all(text.as_bytes());
    if !text.ends_with('\n') {
        let _ = out.write_all(b"\n");
    }
}
