//! What was begun in a running container beside its first process: shells and programs of `tazpod enter`, and of anybody else's.

use super::engine::Engine;
use super::error::ContainerError;
use super::lifecycle::Found;
use super::program::Program;

/// Names of the programs that run now, without their arguments.
///
/// # Errors
/// [`ContainerError::Refused`].
pub fn programs(engine: &Engine, found: &Found) -> Result<Vec<String>, ContainerError> {
    let mut names = Vec::new();
    for exec in &found.execs {
        match engine.ask(engine.docker.inspect_exec(exec)) {
            Ok(program) if program.running == Some(true) => {
                let config = program.process_config.unwrap_or_default();
                names.push(name(&config.entrypoint.unwrap_or_default(), &config.arguments.unwrap_or_default()));
            }
            // It ended just now.
            Ok(_) => {}
            Err(error) if super::error::is_missing(&error) => {}
            Err(error) => return Err(ContainerError::of("tell what runs in the container", error)),
        }
    }
    Ok(names)
}

/// Of what this program inside runs for somebody, that is meant.
fn name(program: &str, arguments: &[String]) -> String {
    let run = arguments.iter().skip_while(|word| *word != "--").nth(1);
    let path = run.map(String::as_str).filter(|_| Program::is_at(program)).unwrap_or(program);
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_for_somebody_is_named() {
        let arguments = ["__inside", "enter", "--session", "me-1", "--", "/bin/sh", "--", "x"].map(str::to_owned);
        assert_eq!(name("/opt/tazpod/24b3/tazpod", &arguments), "sh");
        assert_eq!(name("/opt/tazpod/24b3/tazpod", &arguments[..4]), "tazpod");
        assert_eq!(name("/usr/bin/env", &arguments), "env");
    }
}
