//! What can go wrong with a remote, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Why a remote could not do something. Nothing was changed on this machine then.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// A file or folder, here or in a directory remote.
    #[error("cannot {operation} {}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The bucket or the folder.
    #[error("{0} does not exist")]
    NoStorage(String),
    /// No credentials anywhere.
    #[error("there are no credentials for {0}")]
    NoCredentials(String),
    /// They cannot be had.
    #[error("the credentials cannot be had: {0}")]
    Credentials(String),
    /// The server does not know the key, or the signature is wrong.
    #[error("{place} refuses the credentials from {source_name} ({code})")]
    WrongKeys {
        /// Where.
        place: String,
        /// Where they came from.
        source_name: String,
        /// What the server said.
        code: String,
    },
    /// They were good once.
    #[error("the credentials from {source_name} have expired ({code})")]
    Expired {
        /// Where they came from.
        source_name: String,
        /// What the server said.
        code: String,
    },
    /// The files of the AWS tools do not hold it.
    #[error("there is no profile '{0}', neither in the vault nor on this machine")]
    NoProfile(String),
    /// A profile that cannot be signed in to.
    #[error("the profile '{profile}' is none with single sign-on: {reason}")]
    NotSingleSignOn {
        /// Its name.
        profile: String,
        /// What is missing.
        reason: String,
    },
    /// Somebody said no.
    #[error("the sign-in was denied")]
    SignInDenied,
    /// Nobody said anything.
    #[error("nobody confirmed the code in time")]
    SignInTimedOut,
    /// The sign-in service does not do it.
    #[error("{place} refuses: {reason}")]
    SignInRefused {
        /// Which.
        place: String,
        /// Code and message.
        reason: String,
    },
    /// The right to do something is missing.
    #[error("{place} does not permit {action}")]
    NoPermission {
        /// Where.
        place: String,
        /// As IAM names it.
        action: &'static str,
    },
    /// The bucket is somewhere else.
    #[error("{place} is not in this region{}", region.as_ref().map_or_else(String::new, |region| format!(", but in {region}")))]
    WrongRegion {
        /// Where.
        place: String,
        /// The right one.
        region: Option<String>,
    },
    /// The clocks differ too much.
    #[error("the clock of this machine is wrong, says {0}")]
    Clock(String),
    /// No connection.
    #[error("{place} cannot be reached")]
    Unreachable {
        /// Where.
        place: String,
        /// Why.
        reason: String,
    },
    /// No answer in time.
    #[error("{0} does not answer")]
    TimedOut(String),
    /// The connection broke, again and again.
    #[error("the connection to {place} was cut: {reason}")]
    Cut {
        /// Where.
        place: String,
        /// Why.
        reason: String,
    },
    /// The server fails.
    #[error("{place} fails: {reason}")]
    Server {
        /// Where.
        place: String,
        /// Status and code.
        reason: String,
    },
    /// The server says something that is not expected.
    #[error("{place} refuses: {reason}")]
    Refused {
        /// Where.
        place: String,
        /// Code and message.
        reason: String,
    },
    /// The bytes are not those that were put.
    #[error("{place} is damaged: {reason}")]
    Damaged {
        /// What.
        place: String,
        /// How.
        reason: String,
    },
    /// More than any archive of this vault.
    #[error("{place} has {}, and at most {} are taken", crate::ui::size(*bytes), crate::ui::size(*most))]
    TooLarge {
        /// What.
        place: String,
        /// Its size, as far as it is known.
        bytes: u64,
        /// What the configuration allows.
        most: u64,
    },
    /// It would fill the disk.
    #[error("there is no room for {}: {} more are needed, and {} are free", path.display(), crate::ui::size(*more), crate::ui::size(*free))]
    NoRoom {
        /// What.
        path: PathBuf,
        /// Bytes that are still to come.
        more: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// What was asked for is not there any more.
    #[error("{0} changed meanwhile")]
    Changed(String),
    /// The file to be put changed while it was read.
    #[error("{} changed while it was read", .0.display())]
    ArchiveChanged(PathBuf),
}

impl RemoteError {
    /// Makes the error of an operation on a file.
    pub fn file(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File { operation, path, source }
    }

    /// Whether it stays so until somebody does something here.
    pub fn needs_person(&self) -> bool {
        match self {
            Self::NoCredentials(_)
            | Self::Credentials(_)
            | Self::WrongKeys { .. }
            | Self::Expired { .. }
            | Self::NoPermission { .. }
            | Self::WrongRegion { .. }
            | Self::Clock(_)
            | Self::NoProfile(_)
            | Self::NotSingleSignOn { .. }
            | Self::SignInDenied
            | Self::SignInTimedOut
            | Self::SignInRefused { .. }
            | Self::TooLarge { .. }
            | Self::NoRoom { .. }
            | Self::Damaged { .. } => true,
            // A stick or a share that is not there comes back under the same name.
            Self::File { .. }
            | Self::NoStorage(_)
            | Self::Unreachable { .. }
            | Self::TimedOut(_)
            | Self::Cut { .. }
            | Self::Server { .. }
            | Self::Refused { .. }
            | Self::Changed(_)
            | Self::ArchiveChanged(_) => false,
        }
    }

    /// What to do next.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::File { .. } => "is the disk there, and may you write to it?",
            Self::NoStorage(_) => "'tazpod setup-storage' makes it; or is its name in the configuration wrong?",
            Self::NoCredentials(_) => {
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or unlock a vault that holds .aws/credentials, or \
                 configure a profile with 'aws configure'"
            }
            Self::Credentials(_) => "sign in again with 'tazpod login', or set keys in the environment",
            Self::WrongKeys { .. } => "correct the key id and the secret there",
            Self::Expired { .. } => "sign in again with 'tazpod login'",
            Self::NoProfile(_) => {
                "'aws configure sso' makes one in ~/.aws/config, and --profile names another; or is it in a vault that is locked?"
            }
            Self::NotSingleSignOn { .. } => {
                "'aws configure sso' makes a profile that can be signed in to; --profile names another"
            }
            Self::SignInDenied | Self::SignInTimedOut => "nothing was changed: run 'tazpod login' again",
            Self::SignInRefused { .. } => "are sso_start_url and sso_region of the profile right?",
            Self::NoPermission { .. } => "'tazpod setup-storage --policy' prints what this user must be allowed",
            Self::WrongRegion { .. } => "set remote.region in the configuration",
            Self::Clock(_) => "set the clock, for example with 'timedatectl set-ntp true'",
            Self::Unreachable { .. } => {
                "is there a network, and is remote.endpoint right? Nothing was changed: try again"
            }
            Self::TimedOut(_) | Self::Cut { .. } | Self::Server { .. } => "nothing was changed: try again later",
            Self::Refused { .. } => "'tazpod remote test' looks closer",
            Self::Damaged { .. } => "nothing was changed; fetch an older copy: 'tazpod list vault-history'",
            Self::TooLarge { .. } => {
                "nothing was fetched; is it the right place? vault.size in the configuration says how large the vault may be"
            }
            Self::NoRoom { .. } => "nothing was fetched: make room and try again",
            Self::Changed(_) => "somebody else was faster: try again",
            Self::ArchiveChanged(_) => "try again",
        }
    }
}
