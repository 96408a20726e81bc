//! Where a passphrase comes from: a descriptor, a file, a program, or the terminal.

use std::fs::File;
use std::io::Read;
use std::os::fd::RawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use vaultfs::crypto::Passphrase;
use zeroize::Zeroizing;

use crate::agent::sys;
use crate::error::{CommandError, CommandResult, Status};
use crate::ui;

/// Tries on a terminal.
const TRIES: usize = 3;

/// Flags that name a source; without one the terminal is asked.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Source {
    /// Reads the passphrase from this open descriptor, one line.
    #[arg(long, value_name = "N", group = "passphrase_source")]
    passphrase_fd: Option<RawFd>,
    /// Reads the passphrase from this file, one line; TAZPOD_PASSPHRASE_FILE names one too.
    #[arg(long, value_name = "FILE", group = "passphrase_source")]
    passphrase_file: Option<PathBuf>,
    /// Runs this command with sh and takes the line that it prints.
    #[arg(long, value_name = "COMMAND", group = "passphrase_source")]
    passphrase_command: Option<String>,
}

/// Flags that name where a new passphrase comes from.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct NewSource {
    /// Reads the new passphrase from this open descriptor, one line.
    #[arg(long, value_name = "N", group = "new_passphrase_source")]
    new_passphrase_fd: Option<RawFd>,
    /// Reads the new passphrase from this file, one line.
    #[arg(long, value_name = "FILE", group = "new_passphrase_source")]
    new_passphrase_file: Option<PathBuf>,
    /// Runs this command with sh and takes the line that it prints as the new passphrase.
    #[arg(long, value_name = "COMMAND", group = "new_passphrase_source")]
    new_passphrase_command: Option<String>,
}

/// Flags that name where the passphrase of the remote's archive comes from, where it is another one than here.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct RemoteSource {
    /// Reads the passphrase of the remote's archive, where it was changed elsewhere, from this open descriptor, one line.
    #[arg(long, value_name = "N", group = "remote_passphrase_source")]
    remote_passphrase_fd: Option<RawFd>,
    /// The same from this file.
    #[arg(long, value_name = "FILE", group = "remote_passphrase_source")]
    remote_passphrase_file: Option<PathBuf>,
    /// The same: runs this command with sh and takes the line that it prints.
    #[arg(long, value_name = "COMMAND", group = "remote_passphrase_source")]
    remote_passphrase_command: Option<String>,
}

impl RemoteSource {
    /// The same question, asked of other flags.
    pub fn source(&self) -> Source {
        Source {
            passphrase_fd: self.remote_passphrase_fd,
            passphrase_file: self.remote_passphrase_file.clone(),
            passphrase_command: self.remote_passphrase_command.clone(),
        }
    }
}

impl NewSource {
    /// The same question, asked of other flags.
    pub fn source(&self) -> Source {
        Source {
            passphrase_fd: self.new_passphrase_fd,
            passphrase_file: self.new_passphrase_file.clone(),
            passphrase_command: self.new_passphrase_command.clone(),
        }
    }
}

impl Source {
    /// Falls back to the file that the environment names.
    #[must_use]
    pub fn or_environment(mut self) -> Self {
        if self.is_terminal() {
            self.passphrase_file = std::env::var_os("TAZPOD_PASSPHRASE_FILE").map(PathBuf::from);
        }
        self
    }

    /// Whether a flag names a source.
    pub fn is_given(&self) -> bool {
        !self.is_terminal()
    }

    fn is_terminal(&self) -> bool {
        self.passphrase_fd.is_none() && self.passphrase_file.is_none() && self.passphrase_command.is_none()
    }

    /// Gets the passphrase and tries it: again, on a terminal, while `attempt` says that it is wrong.
    pub fn try_with<T>(
        &self,
        question: &str,
        mut attempt: impl FnMut(&Passphrase) -> CommandResult<T>,
    ) -> CommandResult<T> {
        if !self.is_terminal() {
            return attempt(&self.read()?);
        }
        // Also while one is tried: the next, typed too early, is not shown.
        let mut prompt = open_prompt()?;
        let mut tries = 0;
        loop {
            tries += 1;
            let outcome = match Passphrase::new(prompt.ask(question)?) {
                Ok(passphrase) => attempt(&passphrase),
                // An empty one is wrong too.
                Err(error) => Err(CommandError::new(Status::WrongPassphrase, error.to_string())),
            };
            match outcome {
                Err(error) if error.status == Status::WrongPassphrase && tries < TRIES => {
                    ui::say(error.to_string().trim_end());
                }
                outcome => return outcome,
            }
        }
    }

    /// Chooses a new passphrase: twice on a terminal, with a word on its strength.
    pub fn choose(&self) -> CommandResult<Passphrase> {
        if !self.is_terminal() {
            let passphrase = self.read()?;
            judge(&passphrase);
            return Ok(passphrase);
        }
        let mut prompt = open_prompt()?;
        for _ in 0..TRIES {
            let passphrase = match Passphrase::new(prompt.ask("New passphrase: ")?) {
                Ok(passphrase) => passphrase,
                Err(error) => {
                    ui::say(format!("Error: {error}"));
                    continue;
                }
            };
            judge(&passphrase);
            let again = Passphrase::new(prompt.ask("The same again: ")?);
            if again.is_ok_and(|again| passphrase.matches(&again)) {
                return Ok(passphrase);
            }
            ui::say("Error: the two are not the same");
        }
        Err(CommandError::new(Status::WrongPassphrase, "no passphrase was chosen")
            .hint("nothing was changed; try again"))
    }

    fn read(&self) -> CommandResult<Passphrase> {
        let (origin, content) = if let Some(number) = self.passphrase_fd {
            let descriptor = sys::inherited_descriptor(number).map_err(|_| {
                CommandError::new(Status::Usage, format!("the descriptor {number} is not open"))
                    .hint(format!("open it for this command: tazpod … --passphrase-fd {number} {number}< FILE"))
            })?;
            (format!("descriptor {number}"), read_all(File::from(descriptor)).map_err(Into::into))
        } else if let Some(file) = &self.passphrase_file {
            warn_of_readers(file);
            (file.display().to_string(), File::open(file).and_then(read_all).map_err(Into::into))
        } else {
            let command = self.passphrase_command.as_deref().unwrap_or_default();
            (format!("the command '{command}'"), output_of(command))
        };
        let content = content.map_err(|cause: Box<dyn std::error::Error>| {
            CommandError::caused(format!("the passphrase cannot be read from {origin}"), &*cause)
        })?;
        let line = single_line(&content)
            .ok_or_else(|| CommandError::new(Status::Usage, format!("there is more than one line in {origin}")))?;
        Passphrase::new(Zeroizing::new(line.to_vec()))
            .map_err(|error| CommandError::new(Status::WrongPassphrase, format!("{error} (from {origin})")))
    }
}

fn open_prompt() -> CommandResult<ui::SecretPrompt> {
    ui::SecretPrompt::open().map_err(|error| match error {
        ui::AskError::NoTerminal => {
            CommandError::new(Status::Usage, "there is no terminal to ask for the passphrase on")
                .hint("use --passphrase-file, --passphrase-fd, --passphrase-command or TAZPOD_PASSPHRASE_FILE")
        }
        error => error.into(),
    })
}

type Content = Result<Zeroizing<Vec<u8>>, Box<dyn std::error::Error>>;

/// Reads a little more than a passphrase can have, into room that does not grow: growing leaves copies.
fn read_all(source: impl Read) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let limit = Passphrase::MAX_LEN + 2;
    let mut content = Zeroizing::new(Vec::with_capacity(limit + 1));
    source.take(limit as u64).read_to_end(&mut content)?;
    Ok(content)
}

fn output_of(command: &str) -> Content {
    let mut child = Command::new("sh").args(["-c", command]).stdout(Stdio::piped()).spawn()?;
    let content = child.stdout.take().map(read_all).transpose()?.unwrap_or_default();
    let status = child.wait()?;
    if !status.success() {
        return Err(format!("it ended with {status}").into());
    }
    Ok(content)
}

/// A line without its end; `None` when there is more than one.
fn single_line(content: &[u8]) -> Option<&[u8]> {
    let line = content.strip_suffix(b"\n").unwrap_or(content);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    (!line.contains(&b'\n')).then_some(line)
}

/// Warns of a file that others can read.
pub fn warn_of_readers(file: &Path) {
    if std::fs::metadata(file).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o077 != 0) {
        ui::warn(format!("other users may read {}; 'chmod 600' it", file.display()));
    }
}

/// Says when a new passphrase is weak. Whoever gets the archive can try as many as he likes.
fn judge(passphrase: &Passphrase) {
    passphrase.expose(|bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let estimate = zxcvbn::zxcvbn(text, &["tazpod", "vault"]);
        if estimate.score() < zxcvbn::Score::Three {
            ui::warn(
                "this passphrase is weak: whoever gets the archive may guess it. Several random words are easy to keep \
                 in mind and hard to guess.",
            );
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_is_taken_without_its_end() {
        assert_eq!(single_line(b"a b\n"), Some(b"a b".as_slice()));
        assert_eq!(single_line(b" a\r\n"), Some(b" a".as_slice()));
        assert_eq!(single_line(b""), Some(b"".as_slice()));
        assert_eq!(single_line(b"a\nb\n"), None);
    }
}
