//! What a command opens the vault with: the passphrase, an age identity, an SSH private key, or a recovery key that is typed.

use std::fs::File;
use std::io::Read;
use std::os::fd::RawFd;
use std::path::PathBuf;

use vaultfs::crypto::Identity;
use vaultfs::vault::Secret;
use zeroize::Zeroizing;

use crate::agent::sys;
use crate::error::{CommandError, CommandResult, Status};
use crate::ui;

use super::passphrase;

/// Tries on a terminal.
const TRIES: usize = 3;
/// A little more than an identity can have, in bytes.
const FILE_MAX: usize = 64 * 1024 + 1;

/// Flags that say how; without one the passphrase is asked for.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct WayIn {
    #[command(flatten)]
    passphrase: passphrase::Source,
    #[command(flatten)]
    identity: IdentitySource,
    /// Asks for a recovery key (AGE-SECRET-KEY-1…) in place of the passphrase.
    #[arg(long, group = "identity_source")]
    recovery_key: bool,
}

/// Flags that name an identity.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct IdentitySource {
    /// Opens with this age identity or SSH private key in place of the passphrase (version 2); the passphrase flags then give that
    /// of an encrypted private key.
    #[arg(long, value_name = "FILE", group = "identity_source")]
    identity: Option<PathBuf>,
    /// The same, read from this open descriptor.
    #[arg(long, value_name = "N", group = "identity_source")]
    identity_fd: Option<RawFd>,
}

impl WayIn {
    /// Gets what opens the vault and tries it: again, on a terminal, while `attempt` says that it is wrong.
    pub fn try_with<T>(
        &self,
        question: &str,
        mut attempt: impl FnMut(&Secret) -> CommandResult<T>,
    ) -> CommandResult<T> {
        if self.recovery_key {
            return ask_recovery_key(|key| attempt(&Secret::Identity(key)));
        }
        if let Some(identity) = self.identity.read(&self.passphrase)? {
            return attempt(&Secret::Identity(identity));
        }
        let source = self.passphrase.clone().or_environment();
        source.try_with(question, |passphrase| {
            attempt(&Secret::Passphrase(passphrase.duplicate().map_err(CommandError::secret_memory)?))
        })
    }
}

impl IdentitySource {
    /// Reads the identity; asks for the passphrase of an encrypted one. `None` without a flag.
    pub fn read(&self, passphrase: &passphrase::Source) -> CommandResult<Option<Identity>> {
        let (origin, file) = if let Some(path) = &self.identity {
            passphrase::warn_of_readers(path);
            (path.display().to_string(), File::open(path))
        } else if let Some(number) = self.identity_fd {
            let descriptor = sys::inherited_descriptor(number).map_err(|_| {
                CommandError::new(Status::Usage, format!("the descriptor {number} is not open"))
                    .hint(format!("open it for this command: tazpod … --identity-fd {number} {number}< FILE"))
            })?;
            (format!("descriptor {number}"), Ok(File::from(descriptor)))
        } else {
            return Ok(None);
        };
        let text = file
            .and_then(read_all)
            .map_err(|error| CommandError::caused(format!("the identity cannot be read from {origin}"), &error))?;
        let identity = Identity::new(text)
            .map_err(|error| CommandError::new(Status::Usage, format!("{error} (from {origin})")))?;
        unlock_private_key(identity, &origin, passphrase).map(Some)
    }
}

/// Adds the passphrase of an encrypted private key.
fn unlock_private_key(identity: Identity, origin: &str, source: &passphrase::Source) -> CommandResult<Identity> {
    if !identity.needs_passphrase() {
        if source.is_given() {
            let text = format!("the private key from {origin} is not encrypted: there is no passphrase to be given");
            return Err(CommandError::new(Status::Usage, text));
        }
        return Ok(identity);
    }
    source.try_with(&format!("Passphrase of the private key {origin}: "), |passphrase| {
        let copy = || passphrase.duplicate().map_err(CommandError::secret_memory);
        let unlocked = identity.duplicate().map_err(CommandError::secret_memory)?.with_passphrase(copy()?);
        unlocked.check_passphrase().map_err(|error| {
            CommandError::new(Status::WrongPassphrase, error.to_string()).hint(format!("it is that of {origin}"))
        })?;
        Ok(unlocked)
    })
}

/// Asks on the terminal for a recovery key, again while it is misspelt or opens nothing.
pub fn ask_recovery_key<T>(mut attempt: impl FnMut(Identity) -> CommandResult<T>) -> CommandResult<T> {
    let mut prompt = ui::SecretPrompt::open().map_err(|error| match error {
        ui::AskError::NoTerminal => {
            CommandError::new(Status::Usage, "there is no terminal to ask for the recovery key on")
                .hint("use --identity FILE or --identity-fd N")
        }
        error => error.into(),
    })?;
    let mut tries = 0;
    loop {
        tries += 1;
        let outcome = match Identity::new(without_spaces(&prompt.ask("Recovery key: ")?)) {
            Ok(key) => attempt(key),
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

/// A key on paper may have been written down in groups.
fn without_spaces(line: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut key = Zeroizing::new(Vec::with_capacity(line.len()));
    key.extend(line.iter().filter(|byte| !byte.is_ascii_whitespace()));
    key
}

/// Reads into room that does not grow: growing leaves copies.
fn read_all(file: File) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut content = Zeroizing::new(Vec::with_capacity(FILE_MAX + 1));
    file.take(FILE_MAX as u64).read_to_end(&mut content)?;
    Ok(content)
}
