//! What a command that fails tells the user, and its exit status. The statuses are a promise: see docs/CLI.md.

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use vaultfs::crypto::CryptoError;
use vaultfs::vault::VaultError;

use crate::agent::client::AgentError;
use crate::agent::failure::causes;
use crate::agent::protocol::{Failure, Holder};
use crate::config::ConfigError;
use crate::container::ContainerError;
use crate::remote::RemoteError;
use crate::ui::{AskError, printable};

/// Exit statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Anything that has no status of its own.
    Failure = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// Wrong passphrase (or a damaged v1 archive, which cannot be told apart).
    WrongPassphrase = 3,
    /// The vault is locked, and the command needs it unlocked.
    Locked = 4,
    /// The archive is damaged.
    Damaged = 5,
    /// Somebody else changed the archive too.
    Conflict = 6,
    /// Where the archive travels to cannot be used.
    Remote = 7,
    /// The engine of the container cannot do what it should.
    Container = 8,
    /// Ctrl-C.
    Interrupted = 130,
}

/// A failed command: what, why, what to do next.
#[derive(Debug)]
pub struct CommandError {
    /// Exit status.
    pub status: Status,
    /// Whether it may work the next time though nobody has done anything.
    pub passing: bool,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
}

/// What commands return.
pub type CommandResult<T = ()> = Result<T, CommandError>;

impl CommandError {
    /// An error with a message.
    pub fn new(status: Status, message: impl Into<String>) -> Self {
        use Status::{Conflict, Damaged, Usage, WrongPassphrase};
        let passing = !matches!(status, Usage | WrongPassphrase | Damaged | Conflict);
        Self { status, passing, message: message.into(), causes: Vec::new(), hint: None }
    }

    /// An error with the causes of another.
    pub fn caused(message: impl Into<String>, cause: &dyn Error) -> Self {
        let mut error = Self::new(Status::Failure, message);
        error.causes = causes(Some(cause));
        error
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Marks it as one that may pass by itself.
    #[must_use]
    pub fn passing(mut self) -> Self {
        self.passing = true;
        self
    }

    /// Marks it as one that somebody has to settle.
    #[must_use]
    pub fn lasting(mut self) -> Self {
        self.passing = false;
        self
    }

    /// All of it in one line, but for what to do next.
    pub fn reason(&self) -> String {
        let texts = std::iter::once(&self.message).chain(&self.causes);
        texts.map(|text| text.replace('\n', "; ")).collect::<Vec<_>>().join(": ")
    }

    /// What to do next behind a text.
    pub fn with_hint(&self, text: String) -> String {
        self.hint.iter().fold(text, |text, hint| format!("{text} ({hint})"))
    }

    /// The vault is locked.
    pub fn locked(archive: &Path) -> Self {
        Self::new(Status::Locked, format!("the vault {} is locked", archive.display()))
            .hint("run 'tazpod unlock' first")
    }

    /// What is remembered of a vault cannot be written down.
    pub fn state_folder(error: std::io::Error) -> Self {
        Self::caused("the state folder cannot be written", &error)
    }

    /// There is no room for a key.
    pub fn secret_memory(error: CryptoError) -> Self {
        Self::caused("secret memory fails", &error)
    }

    /// Ctrl-C at a question.
    pub fn interrupted() -> Self {
        Self::new(Status::Interrupted, "interrupted")
    }

    /// The error and its causes in one line.
    pub fn summary(&self) -> String {
        std::iter::once(&self.message).chain(&self.causes).map(String::as_str).collect::<Vec<_>>().join(": ")
    }

    /// What the process ends with.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.status as u8)
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Error: {}", self.message)?;
        for cause in &self.causes {
            writeln!(f, "Caused by: {cause}")?;
        }
        match &self.hint {
            Some(hint) => writeln!(f, "Hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl From<AgentError> for CommandError {
    fn from(error: AgentError) -> Self {
        let source = causes(error.source());
        let message = error.to_string();
        let mut mapped = match error {
            AgentError::Refused(failure) => return failure.into(),
            AgentError::Ended(_) => Self::new(Status::Failure, message)
                .hint("run 'tazpod status'; its log is agent.log in the vault's folder below ~/.local/state/tazpod"),
            AgentError::Interrupted => Self::new(Status::Interrupted, message),
            AgentError::NoKeeper { .. } => Self::new(Status::Failure, message)
                .hint("it goes on trying: make room or repair the disk; 'tazpod lock --force --discard' loses what is not saved"),
            AgentError::Silent => Self::new(Status::Failure, message).hint(
                "wait and try again; when it stays so, end the process 'tazpod __agent', and what is not saved is lost",
            ),
            AgentError::OtherRelease(_, pid) => Self::new(Status::Failure, message)
                .hint(format!("lock it with that version, or run 'kill {pid}', which saves and locks")),
            AgentError::StillMounted(ref dir) => {
                Self::new(Status::Failure, message).hint(format!("run 'fusermount3 -u -z {}'", dir.display()))
            }
            AgentError::Transfer(_) | AgentError::Io(..) => Self::new(Status::Failure, message),
        };
        mapped.causes = source;
        mapped
    }
}

impl From<Failure> for CommandError {
    fn from(failure: Failure) -> Self {
        let message = failure.to_string();
        match failure {
            Failure::Busy(holders) => Self::new(Status::Failure, format!("{message}:\n{}", list(&holders))).hint(
                "close them and lock again; 'tazpod lock --wait 30s' waits for them, 'tazpod lock --force' cuts them off",
            ),
            Failure::WrongPassphrase(_) => Self::new(Status::WrongPassphrase, message)
                .hint("try again; where the passphrase is surely right, restore an older copy of the archive"),
            Failure::WrongIdentity(_) => Self::new(Status::WrongPassphrase, message)
                .hint("'tazpod recipient list' tells who can open the archive"),
            Failure::LittleMemory(_) => Self::new(Status::Failure, message).hint(
                "end other programs, or raise the limit on the memory of this container or session, and try again; \
                 an identity ('tazpod unlock --identity FILE') opens the vault without it",
            ),
            Failure::Version1(_) => Self::new(Status::Failure, message)
                .hint("'tazpod upgrade' makes it one of version 2, which has recipients and recovery keys"),
            Failure::PassphraseNeeded(_) => Self::new(Status::Usage, message)
                .hint("give the passphrase; where it is lost, set another one first: 'tazpod passwd --identity FILE'"),
            Failure::Damaged(_) => Self::new(Status::Damaged, message)
                .hint("nothing was changed; restore an older copy of the archive, or see what 'tazpod recover OUT' can save"),
            Failure::RolledBack(_) => Self::new(Status::Conflict, message).hint(
                "nothing was changed; put the newer archive back, or take this one with 'tazpod unlock --accept-rollback'",
            ),
            Failure::UnknownKey(_) => Self::new(Status::Conflict, message).hint(
                "was the passphrase changed on another machine? Then 'tazpod unlock --accept-new-key' takes the archive",
            ),
            Failure::NoArchive(_) => {
                Self::new(Status::Failure, message).hint("'tazpod init' makes a new vault; one that a remote holds is fetched by 'tazpod pull'")
            }
            Failure::InUse(_) => Self::new(Status::Failure, message)
                .hint("another tazpod command or agent has it; wait for it, or look with 'tazpod status'"),
            Failure::NotCommitted(_) => Self::new(Status::Failure, message).hint(
                "nothing is lost: it stays unlocked and is tried again; make room or repair the disk, then try again",
            ),
            Failure::ChangedElsewhere(_) => Self::new(Status::Conflict, message).hint(
                "save what you changed here with 'tazpod export', lock with --force --discard, unlock, 'tazpod import'",
            ),
            Failure::OtherKey(_) => Self::new(Status::WrongPassphrase, message).hint(
                "the passphrase was changed on one of the machines; give the one of the other archive, on a terminal or with \
                 --remote-passphrase-file",
            ),
            Failure::RemoteRolledBack(_) => Self::new(Status::Conflict, message).hint(
                "nothing was changed here; look at it with 'tazpod pull --output FILE'; to put this vault back there, move what is \
                 there away and 'tazpod push'",
            ),
            Failure::NoCommonState(_) => Self::new(Status::Conflict, message).hint(
                "nothing was changed; fetch theirs with 'tazpod pull --output FILE', unlock it with --vault FILE --mount DIR, and \
                 bring over what you need",
            ),
            Failure::Mount(_) => Self::new(Status::Failure, message)
                .hint("choose another place or folder; where that is not it, 'tazpod doctor' looks for what is missing"),
            Failure::NoHistory(_) => Self::new(Status::Failure, message)
                .hint("'tazpod upgrade' makes it one of version 2, which keeps one from then on"),
            Failure::NotInHistory(_) => Self::new(Status::Failure, message).hint("'tazpod log' lists what there is"),
            Failure::Other(_) => Self::new(Status::Failure, message),
        }
    }
}

impl From<ConfigError> for CommandError {
    fn from(error: ConfigError) -> Self {
        let mut mapped = Self::new(Status::Usage, error.to_string());
        mapped.causes = causes(error.source());
        match error {
            ConfigError::NoProject(_) => {
                mapped.hint("run 'tazpod init' to make one, or name the files: --vault FILE --mount DIR")
            }
            ConfigError::NoRemote => mapped.hint(
                "write 'remote:' into .tazpod/config.yaml, for example 'remote: {type: directory, path: /media/stick/vault}' \
                 or 'remote: {type: s3, bucket: NAME}', then 'tazpod setup-storage'",
            ),
            ConfigError::NoVpn => mapped.hint("say in .tazpod/config.yaml 'vpn: {config: wireguard/wg0.conf}', with a file of the vault"),
            ConfigError::NoContainer => mapped.hint(
                "write 'image: NAME' or 'build: {dockerfile: Dockerfile}' into .tazpod/config.yaml, then 'tazpod trust' and \
                 'tazpod up'; see docs/CONTAINER.md",
            ),
            ConfigError::Parse(..) => mapped.hint("correct it; docs/CLI.md tells what each key takes"),
            ConfigError::Value { .. } => mapped.hint(
                "correct it in .tazpod/config.yaml, or in ~/.config/tazpod/config.yaml; docs/CLI.md tells what each key takes",
            ),
            ConfigError::Untrusted { .. } => mapped.hint("look at it and run 'tazpod trust'"),
            _ => mapped,
        }
    }
}

impl From<RemoteError> for CommandError {
    fn from(error: RemoteError) -> Self {
        let status = match error {
            RemoteError::NoProfile(_) | RemoteError::NotSingleSignOn { .. } => Status::Usage,
            _ => Status::Remote,
        };
        let mut mapped = Self::new(status, error.to_string()).hint(error.hint());
        mapped.passing = !error.needs_person();
        mapped.causes = causes(error.source());
        if let RemoteError::Unreachable { reason, .. } = &error {
            mapped.causes.push(reason.clone());
        }
        mapped
    }
}

impl From<ContainerError> for CommandError {
    fn from(error: ContainerError) -> Self {
        let mut mapped = Self::new(Status::Container, error.to_string()).hint(error.hint());
        mapped.causes = causes(error.source());
        mapped
    }
}

impl From<AskError> for CommandError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::NoTerminal => {
                Self::new(Status::Usage, error.to_string()).hint("give the answer by a flag; see --help")
            }
            AskError::Interrupted => Self::interrupted(),
            AskError::Io(_) => Self::new(Status::Failure, error.to_string()),
        }
    }
}

impl From<VaultError> for CommandError {
    fn from(error: VaultError) -> Self {
        let Self { status, passing, hint, .. } = Failure::from(&error).into();
        Self { status, passing, message: error.to_string(), causes: causes(error.source()), hint }
    }
}

fn list(holders: &[Holder]) -> String {
    let lines = holders.iter().map(|holder| match holder.pid {
        0 => format!("  {}: {}", holder.command, holder.path),
        pid => format!("  {} (pid {pid}): {}", printable(&holder.command), printable(&holder.path)),
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_not_repeated() {
        let inner = std::io::Error::other("the disk is on fire");
        let error = VaultError::Io { operation: "write", path: "/a".into(), source: inner };
        let text = CommandError::from(error).hint("run").to_string();
        assert_eq!(text, "Error: cannot write /a\nCaused by: the disk is on fire\nHint: run\n");
    }
}
