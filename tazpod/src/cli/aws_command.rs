//! The AWS command line, where it is installed: which version it is, and having it sign in.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Access, access};
use signal_hook::consts::SIGINT;

use crate::error::{CommandError, CommandResult, Status};
use crate::signals::Hold;

/// The first version that signs in with a page of its own on this machine, unless it is told to use a code.
const BRINGS_A_PAGE: Version = Version(2, 22);

/// Major and minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32);

/// `aws` of the PATH, of a version that can sign in.
pub struct AwsCommand {
    program: PathBuf,
    version: Version,
}

/// Whether it may open a browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Browser {
    /// There is a desktop and somebody before it.
    Open,
    /// Not here.
    None,
}

impl AwsCommand {
    /// Looks for it; version 1 knows no single sign-on.
    pub fn find() -> Option<Self> {
        let program = find_program("aws")?;
        let asked = Command::new(&program).arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        let version = Version::of(&String::from_utf8_lossy(&asked.stdout))?;
        (version >= Version(2, 0)).then_some(Self { program, version })
    }

    /// Signs in; what it prints is passed through. `config` is a file in place of `~/.aws/config`.
    pub fn sign_in(&self, profile: &str, config: Option<PathBuf>, browser: Browser) -> CommandResult {
        let mut command = Command::new(&self.program);
        command.args(["sso", "login", "--profile", profile]);
        if browser == Browser::None {
            command.arg("--no-browser");
            if self.version >= BRINGS_A_PAGE {
                command.arg("--use-device-code");
            }
        }
        command.envs(config.map(|config| ("AWS_CONFIG_FILE", config)));
        // Ctrl-C reaches the child too, which says so itself.
        let interrupted = Arc::new(AtomicBool::new(false));
        let failed = |error| CommandError::caused(format!("cannot run {}", self.program.display()), &error);
        let _hold = Hold::take().map_err(failed)?;
        let registered = signal_hook::flag::register(SIGINT, interrupted.clone()).map_err(failed)?;
        let status = command.status();
        signal_hook::low_level::unregister(registered);
        match status.map_err(failed)? {
            _ if interrupted.load(Ordering::Relaxed) => Err(CommandError::interrupted()),
            status if status.success() => Ok(()),
            status => Err(CommandError::new(Status::Remote, format!("'aws sso login' failed ({status})"))
                .hint("'tazpod login --native' signs in without it")),
        }
    }
}

impl Version {
    /// From `aws-cli/2.22.1 Python/3.12 …`.
    fn of(text: &str) -> Option<Self> {
        let mut numbers = text.trim().strip_prefix("aws-cli/")?.split(['.', ' ']);
        Some(Self(numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }
}

/// Looks a program up. A relative folder of the PATH may be anybody's, and is passed over.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let is_program = |path: &PathBuf| path.is_file() && access(path, Access::EXEC_OK).is_ok();
    let folders = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
    folders.map(|folder| folder.join(name)).find(is_program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(
            Version::of("aws-cli/2.9.19 Python/3.11.2 Linux/6.1 source/x86_64.debian.12 prompt/off\n"),
            Some(Version(2, 9))
        );
        assert!(Version::of("aws-cli/2.22.0 Python/3").unwrap() >= BRINGS_A_PAGE);
        assert!(Version::of("aws-cli/1.46.3 Python/3").unwrap() < Version(2, 0));
        assert_eq!(Version::of("something else"), None);
    }
}
