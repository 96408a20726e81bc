//! Taking over the upgrade to version 2 that another machine made of this vault, which is of version 1 here: a vault of version 1 has
//! no id, so that what proves that it is the same one is the base of this machine and a passphrase that opens both.

use std::path::Path;

use tempfile::NamedTempFile;
use vaultfs::crypto::Passphrase;
use vaultfs::vault::{ArchiveCopy, ArchiveFormat, Secret, TakenUpgrade, Vault, VaultError, VaultOptions};

use crate::agent::client::Client;
use crate::agent::joining::{is_other_key, note};
use crate::agent::protocol::Failure;
use crate::error::{CommandError, CommandResult, Status};
use crate::remote::description::Format;
use crate::remote::{Description, Version, sync_file};
use crate::sync::base::Base;
use crate::sync::before;

use super::remote_access::RemoteAccess;
use super::take_over::{Taken, Ways, tell_conflicts};
use super::{inside, locked};

/// All that is known when an upgrade is to be taken.
pub struct Upgrade<'a> {
    /// The way to the remote.
    pub access: &'a RemoteAccess,
    /// What both sides last agreed on.
    pub base: &'a Base,
    /// A copy of what is here.
    pub own: NamedTempFile,
    /// What is there.
    pub theirs: NamedTempFile,
    /// What that is.
    pub description: Description,
    /// Its version.
    pub version: Version,
}

/// Refuses an archive of another version than this vault's, unless it is an upgrade that can be taken: told before anybody types
/// a passphrase, and without one.
///
/// # Errors
/// Why it cannot be taken, and what to do.
pub fn require_takeable(
    access: &RemoteAccess,
    (own, theirs): (Format, Format),
    base: Option<&Base>,
    heads: usize,
) -> CommandResult {
    let place = access.remote.place();
    let (text, hint) = match (own, theirs, base.map(|base| base.state().format)) {
        (Format::V2, Format::V1, _) => (
            format!("{place} holds an archive of version 1 in place of this vault, which is of version 2"),
            "an older program overwrote it, and nothing was changed here; look at it with 'tazpod pull --output FILE'; to put this \
             vault back there, move it away and 'tazpod push'",
        ),
        (Format::V1, Format::V2, None) => (
            format!(
                "{place} holds an archive of version 2, and this vault, which is of version 1, was never synchronised with it: it \
                 may be another vault"
            ),
            "where it is this one, upgraded elsewhere: move the archive here away and 'tazpod pull'; import what is only in the one \
             that was here",
        ),
        (Format::V1, Format::V2, Some(Format::V2)) => (
            format!(
                "the archive here is of version 1, and what this machine and {place} last agreed on is of version 2"
            ),
            "an older archive was put in its place, and nothing was changed; to have the one that is there, move it away and \
             'tazpod pull'",
        ),
        (Format::V1, Format::V2, Some(Format::V1)) if heads > 1 => (
            format!("{place} holds {heads} archives that do not know of each other, of version 1 and of version 2"),
            "look at them in that folder, and leave the one there that counts",
        ),
        (Format::V1, Format::V2, Some(Format::V1)) if Client::find(&access.vault.archive)?.is_some() => (
            format!(
                "this vault was upgraded to version 2 elsewhere, which {place} holds; it is not taken while it is unlocked here"
            ),
            "lock it, then 'tazpod pull' takes over the upgrade of the other machine, and what was changed here stays",
        ),
        _ => return Ok(()),
    };
    Err(CommandError::new(Status::Conflict, text).hint(hint))
}

impl Upgrade<'_> {
    /// Asks for the passphrase and takes it. At every moment the archive of version 1 is there or what comes of it.
    pub fn take(self, ways: &Ways) -> CommandResult<Taken> {
        let Self { access, base, own, theirs, description, version } = self;
        inside::prepare_for_new_key(&access.vault)?;
        locked::protect_process()?;
        let options = locked::options(&access.vault)?;
        let passphrase = ask_own(access, own.path(), ways, &options)?;
        let begun = base.path(&access.state);
        let opened = Opened::open(access, &passphrase, (theirs.path(), &begun), ways, &options)?;
        sync_file(own.path())?;
        sync_file(theirs.path())?;
        let before = before::keep(&access.state, own).map_err(CommandError::state_folder)?;
        let taken = Vault::take_upgrade(&access.vault.archive, passphrase, &opened.theirs, &opened.base, &options);
        let TakenUpgrade { merged, is_forward, kept } = match taken {
            Ok(taken) => taken,
            Err(error) => {
                if ArchiveFormat::of(&access.vault.archive).is_ok_and(|format| format == ArchiveFormat::V1) {
                    std::fs::remove_file(before).map_err(CommandError::state_folder)?;
                }
                return Err(refused(error));
            }
        };
        access.record(vec![version], description, theirs)?;
        access.say("The vault was upgraded elsewhere, and is of version 2 here too from now on");
        access.say(format!("The archive of version 1 is {}", kept.display()));
        if opened.is_under_another {
            access.warn("its passphrase was changed elsewhere: it opens with that one only");
        }
        tell_conflicts(access, &merged.conflicts.iter().map(note).collect::<Vec<_>>());
        Ok(if is_forward { Taken::Forward } else { Taken::Merged })
    }
}

/// What is joined with the archive here.
struct Opened {
    theirs: ArchiveCopy,
    base: ArchiveCopy,
    /// Another passphrase opens it than the archive here.
    is_under_another: bool,
}

impl Opened {
    fn open(
        access: &RemoteAccess,
        own: &Passphrase,
        (theirs, base): (&Path, &Path),
        ways: &Ways,
        options: &VaultOptions,
    ) -> CommandResult<Self> {
        let open = |path: &Path, passphrase: &Passphrase| {
            ArchiveCopy::open(path, Secret::Passphrase(passphrase.duplicate()?), None, options)
        };
        let with_own = match open(theirs, own) {
            Err(error) if is_other_key(&error) => None,
            outcome => Some(outcome?),
        };
        let is_under_another = with_own.is_none();
        let (theirs, base) = match with_own {
            Some(theirs) => (theirs, open(base, own)),
            None => {
                let question = format!("Passphrase of the archive in {}: ", access.remote.place());
                ways.remote.source().try_with(&question, |passphrase| {
                    // What was agreed on opens with the one or with the other.
                    let base_either = || open(base, own).or_else(|_| open(base, passphrase));
                    open(theirs, passphrase).map(|theirs| (theirs, base_either())).map_err(|error| {
                        match is_other_key(&error) {
                            true => {
                                Failure::OtherKey("the passphrase does not open the remote's archive".to_owned()).into()
                            }
                            false => CommandError::from(error),
                        }
                    })
                })?
            }
        };
        let base = base.map_err(|error| match is_other_key(&error) {
            true => no_base(access),
            false => error.into(),
        })?;
        Ok(Self { theirs, base, is_under_another })
    }
}

/// The passphrase of the archive here.
fn ask_own(access: &RemoteAccess, own: &Path, ways: &Ways, options: &VaultOptions) -> CommandResult<Passphrase> {
    ways.own.try_with(&locked::question(&access.vault), |secret| {
        let Secret::Passphrase(passphrase) = secret else {
            return Err(CommandError::new(Status::Usage, "an archive of version 1 opens with its passphrase only"));
        };
        ArchiveCopy::open(own, secret.duplicate().map_err(CommandError::secret_memory)?, None, options)?;
        passphrase.duplicate().map_err(CommandError::secret_memory)
    })
}

fn refused(error: VaultError) -> CommandError {
    match error {
        VaultError::ArchiveExists(_) => CommandError::from(error)
            .hint("the archive of version 1 is kept under that name, and another one is there already: move it away"),
        error => error.into(),
    }
}

fn no_base(access: &RemoteAccess) -> CommandError {
    let place = access.remote.place();
    let text = format!("no passphrase that was given opens what this machine and {place} last agreed on");
    CommandError::new(Status::Conflict, text)
        .hint("nothing was changed; to have the one that is there, move the archive here away and 'tazpod pull'")
}
