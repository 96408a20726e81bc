//! A program in a container that gets some bytes as its standard input: a secret reaches it without an argument, a variable or a file
//! of the image.

use bollard::container::LogOutput;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::ExecConfig;
use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;

use super::engine::Engine;
use super::error::ContainerError;
use super::interactive::exit_status;
use super::lifecycle::Found;

/// What came of a program.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Its exit status.
    pub status: u8,
    /// What it wrote to standard output.
    pub output: Vec<u8>,
    /// And to standard error.
    pub errors: Vec<u8>,
}

/// Runs a program in a running container as one of its users, and hands what it writes to whoever tells it. Returns its exit status.
///
/// # Errors
/// [`ContainerError::Refused`].
pub fn feed(
    engine: &Engine,
    found: &Found,
    user: &str,
    command: Vec<String>,
    input: &[u8],
    mut tell: impl FnMut(&[u8]),
) -> Result<u8, ContainerError> {
    talk(engine, &found.id, user, command, input, |piece| tell(piece.as_ref()))
}

/// The same as who works inside, and returns what it wrote.
///
/// # Errors
/// [`ContainerError::Refused`].
pub fn ask(engine: &Engine, found: &Found, command: Vec<String>, input: &[u8]) -> Result<Told, ContainerError> {
    let mut told = Told::default();
    told.status = talk(engine, &found.id, &found.user, command, input, |piece| match piece {
        LogOutput::StdErr { message } => told.errors.extend_from_slice(&message),
        other => told.output.extend_from_slice(other.as_ref()),
    })?;
    Ok(told)
}

pub(super) fn talk(
    engine: &Engine,
    container: &str,
    user: &str,
    command: Vec<String>,
    input: &[u8],
    mut tell: impl FnMut(LogOutput),
) -> Result<u8, ContainerError> {
    let config = ExecConfig {
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(command),
        user: Some(user.to_owned()),
        ..ExecConfig::default()
    };
    let exec = engine.wait("run a program inside", engine.docker.create_exec(container, config))?.id;
    let started = engine.docker.start_exec(&exec, None::<StartExecOptions>);
    let StartExecResults::Attached { mut output, input: mut pipe } = engine.wait("run a program inside", started)?
    else {
        return Err(ContainerError::Endpoint("the engine runs a program without a way to talk to it".to_owned()));
    };
    engine.ask(async {
        // A program that ends before it has read all says why by what it writes.
        let _ = pipe.write_all(input).await;
        let _ = pipe.shutdown().await;
        while let Some(Ok(piece)) = output.next().await {
            tell(piece);
        }
    });
    exit_status(engine, &exec)
}
