//! What the first process of a container printed.

use std::io::Write;

use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptionsBuilder;

use super::engine::Engine;
use super::error::ContainerError;
use super::files;
use super::lifecycle::Found;

/// Whether to go on when all was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// Until the container ends.
    Yes,
    /// No.
    No,
}

/// Writes them; `tail` is a number of lines, or `all`.
///
/// # Errors
/// [`ContainerError::Refused`].
pub fn logs(
    engine: &Engine,
    found: &Found,
    tail: &str,
    follow: Follow,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<(), ContainerError> {
    let options =
        LogsOptionsBuilder::default().stdout(true).stderr(true).follow(follow == Follow::Yes).tail(tail).build();
    let stream = engine.docker.logs(&found.id, Some(options));
    let outcome = files::each(engine, stream, |piece| {
        let to: &mut dyn Write = if matches!(piece, LogOutput::StdErr { .. }) { errors } else { out };
        // Nobody reads it any more: nothing to be done.
        let _ = to.write_all(&piece.into_bytes()).and_then(|()| to.flush());
    });
    outcome.map_err(|error| ContainerError::of("read what the container printed", error))
}
