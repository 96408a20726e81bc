//! What was begun in a running container beside its first process: shells and programs of `tazpod enter`, and of anybody else's.

use super::engine::Engine;
use super::error::ContainerError;
use super::lifecycle::Found;

/// Names of the programs that run now, without their arguments.
///
/// # Errors
/// [`ContainerError::Refused`].
pub fn programs(engine: &Engine, found: &Found) -> Result<Vec<String>, ContainerError> {
    let mut names = Vec::new();
    for exec in &found.execs {
        match engine.ask(engine.docker.inspect_exec(exec)) {
            Ok(program) if program.running == Some(true) => {
                let name = program.process_config.and_then(|config| config.entrypoint).unwrap_or_default();
                names.push(name.rsplit('/').next().unwrap_or_default().to_owned());
            }
            // It ended just now.
            Ok(_) => {}
            Err(error) if super::error::is_missing(&error) => {}
            Err(error) => return Err(ContainerError::of("tell what runs in the container", error)),
        }
    }
    Ok(names)
}
