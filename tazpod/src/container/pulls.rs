//! Pulling an image, with progress where somebody looks.

use std::collections::HashMap;

use bollard::errors::Error;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptionsBuilder;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::endpoint::Surroundings;
use super::engine::Engine;
use super::error::ContainerError;
use super::{credentials, files, mapping};

/// What a pull came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulled {
    /// It is another image than before.
    New,
    /// It was here already.
    Same,
}

/// Pulls an image.
///
/// # Errors
/// [`ContainerError::NoImage`].
pub fn pull(engine: &Engine, image: &str) -> Result<Pulled, ContainerError> {
    let before = mapping::inspect(engine, image)?.and_then(|image| image.id);
    // Without a tag the engine would fetch all of them.
    let name = if has_tag(image) { image.to_owned() } else { format!("{image}:latest") };
    let options = CreateImageOptionsBuilder::default().from_image(&name).build();
    let config = Surroundings::here().config;
    let credentials = config.and_then(|config| credentials::of_image(&config, image));
    let mut progress = Progress::new();
    let stream = engine.docker.create_image(Some(options), None, credentials);
    let outcome = files::each(engine, stream, |info| progress.show(info));
    progress.bar.finish_and_clear();
    outcome.map_err(|error| no_image(image, error))?;
    let after = mapping::inspect(engine, image)?.and_then(|image| image.id);
    Ok(if before == after { Pulled::Same } else { Pulled::New })
}

fn no_image(image: &str, error: Error) -> ContainerError {
    match ContainerError::of("pull", error) {
        ContainerError::Refused { reason, .. } => ContainerError::NoImage { image: image.to_owned(), reason },
        error => error,
    }
}

fn has_tag(image: &str) -> bool {
    image.rsplit('/').next().is_some_and(|last| last.contains([':', '@']))
}

/// Bytes of all layers together.
struct Progress {
    bar: ProgressBar,
    layers: HashMap<String, (u64, u64)>,
}

impl Progress {
    fn new() -> Self {
        // It is hidden where standard error is no terminal.
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes} {msg}");
        let bar = style.map_or(bar.clone(), |style| bar.with_style(style));
        Self { bar, layers: HashMap::new() }
    }

    fn show(&mut self, info: CreateImageInfo) {
        if let (Some(layer), Some(detail)) = (info.id, info.progress_detail) {
            let number = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
            if let (Some(current), Some(total)) = (number(detail.current), number(detail.total)) {
                self.layers.insert(layer, (current, total));
            }
        }
        if self.layers.is_empty() {
            return;
        }
        self.bar.set_length(self.layers.values().map(|(_, total)| total).sum());
        self.bar.set_position(self.layers.values().map(|(current, _)| current).sum());
        if let Some(status) = info.status {
            self.bar.set_message(status.chars().filter(|char| !char.is_control()).take(40).collect::<String>());
        }
    }
}
