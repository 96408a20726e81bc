//! Joins a vault with a copy of its archive that went on elsewhere: finds the key, the relation and the state that both began with.
//! Knows no remote; the copies are files of the state folder.

use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use vaultfs::crypto::CryptoError;
use vaultfs::format::FormatError;
use vaultfs::format::v2::{Head, Outline};
use vaultfs::tree::{Conflict, ConflictKind, Merged};
use vaultfs::vault::{ArchiveCopy, ArchiveFormat, Relation, Secret, Vault, VaultError};

use super::failure::causes;
use super::lock::LockState;
use super::protocol::{ConflictNote, Failure, JoinRequest, Joined};
use super::secrets;
use super::server::Server;

/// How often it is begun anew when the vault goes on meanwhile.
const TRIES: usize = 4;

/// Files that are joined.
pub struct Offer<'a> {
    /// The copy.
    pub theirs: &'a Path,
    /// What both sides last agreed on.
    pub base: Option<&'a Path>,
    /// What opens the copy, where it is under another key: a passphrase, nothing else proves who made it.
    pub secret: Option<&'a Secret>,
}

/// [`Vault::join`], of the copy and the state that both began with.
pub type Apply<'a> = dyn Fn(&ArchiveCopy, Option<&ArchiveCopy>) -> Result<Merged, VaultError> + 'a;

/// Does it. `apply` is [`Vault::join`] with whatever has to be done before and after.
///
/// # Errors
/// [`Failure::OtherKey`], [`Failure::RemoteRolledBack`], [`Failure::NoCommonState`], and those of a commit.
pub fn join(vault: &Vault, offer: &Offer<'_>, apply: &Apply<'_>) -> Result<Joined, Failure> {
    vault.committer().commit().map_err(|error| Failure::from(&*error))?;
    let theirs = open_theirs(vault, offer)?;
    let joined = join_opened(vault, &theirs, offer, apply);
    wipe_later(theirs);
    joined
}

/// Lets go of what a tree is in, which takes its time where it is large, and which nobody has to wait for.
pub fn wipe_later(held: impl Send + 'static) {
    // Where there is no thread for it, it is dropped here.
    drop(std::thread::Builder::new().name("wiper".to_owned()).spawn(move || drop(held)));
}

fn join_opened(vault: &Vault, theirs: &ArchiveCopy, offer: &Offer<'_>, apply: &Apply<'_>) -> Result<Joined, Failure> {
    for _ in 0..TRIES {
        let found;
        let relation = match vault.relation(theirs) {
            Err(VaultError::Format { source: FormatError::OtherVault, .. }) => Relation::Diverged { common: None },
            outcome => outcome.map_err(|error| Failure::from(&error))?,
        };
        let base = match relation {
            Relation::Same => return Ok(Joined::Nothing),
            Relation::OursAhead => return refuse_older(vault, theirs, offer).map(|()| Joined::Nothing),
            Relation::TheirsAhead => None,
            Relation::Diverged { common } => match theirs.earlier().filter(|earlier| earlier.head() == common) {
                Some(earlier) => Some(earlier),
                None => {
                    found = find_base(vault, theirs, offer, common)?;
                    Some(&found)
                }
            },
        };
        match apply(theirs, base) {
            // Something was committed meanwhile: both went on now.
            Err(VaultError::NoCommonState(_)) if base.is_none() => {}
            outcome => {
                let merged = outcome.map_err(|error| Failure::from(&error))?;
                let is_forward = base.is_none() || matches!(vault.relation(theirs), Ok(Relation::Same));
                let conflicts = merged.conflicts.iter().map(note).collect();
                return Ok(if is_forward { Joined::Forward } else { Joined::Merged(conflicts) });
            }
        }
    }
    Err(Failure::Other("something goes on writing while the vault is joined with another copy".to_owned()))
}

/// Notes that other machines may know the head of an archive, if the vault descends from it; tells whether it does, as far as its
/// version can tell.
pub fn note_shared(vault: &Vault, archive: &Path) -> bool {
    let Some(outline) = std::fs::File::open(archive).ok().and_then(|file| Outline::read(&file).ok()) else {
        return vault.format() == ArchiveFormat::V1;
    };
    let descends = vault.relation_to_outline(&outline).is_some();
    if descends {
        vault.note_shared(outline.head);
    }
    descends
}

fn open_theirs(vault: &Vault, offer: &Offer<'_>) -> Result<ArchiveCopy, Failure> {
    let other_key = |error: &VaultError| Failure::OtherKey(causes(Some(error)).join(": "));
    let own = match vault.open_other(offer.theirs, None) {
        Err(error) if is_other_key(&error) => error,
        outcome => return outcome.map_err(|error| Failure::from(&error)),
    };
    // Not an identity: whoever knows its public key can make an archive that it opens.
    let Some(secret @ Secret::Passphrase(_)) = offer.secret else {
        return Err(Failure::OtherKey("the other archive is under another key than this one".to_owned()));
    };
    tracing::info!(error = %own, "a copy of the archive is under another key");
    let secret = secret.duplicate().map_err(secret_memory)?;
    vault.open_other(offer.theirs, Some(secret)).map_err(|error| match is_other_key(&error) {
        true => other_key(&error),
        false => Failure::from(&error),
    })
}

/// Whether an archive is under another key than what it was tried with.
pub fn is_other_key(error: &VaultError) -> bool {
    let VaultError::Format { source, .. } = error else {
        return matches!(
            error,
            VaultError::WrongPassphrase | VaultError::WrongPassphraseOrHeader | VaultError::WrongIdentity(_)
        );
    };
    matches!(source, FormatError::Header(_) | FormatError::WrongPassphraseOrDamaged | FormatError::NoSlot(_))
}

/// The copy is an earlier state. One that is earlier than what was last there is a remote that was rolled back.
fn refuse_older(vault: &Vault, theirs: &ArchiveCopy, offer: &Offer<'_>) -> Result<(), Failure> {
    let (Some(head), Some(path)) = (theirs.head(), offer.base) else { return Ok(()) };
    let Ok(base) = open_either(vault, path, offer, None) else { return Ok(()) };
    if base.descends_from(head) {
        let text = "the other archive is older than the one that was there before: it was rolled back";
        return Err(Failure::RemoteRolledBack(text.to_owned()));
    }
    Ok(())
}

/// The state that both began with: the newest common ancestor wherever it is still to be read, else what was last agreed on, as long
/// as both descend from it.
fn find_base(
    vault: &Vault,
    theirs: &ArchiveCopy,
    offer: &Offer<'_>,
    common: Option<Head>,
) -> Result<ArchiveCopy, Failure> {
    if common.is_some() {
        let places = [offer.base, Some(theirs.path()), Some(vault.archive().as_path())];
        let found = places.into_iter().flatten().find_map(|path| open_either(vault, path, offer, common).ok());
        if let Some(base) = found {
            return Ok(base);
        }
    }
    let is_apart = matches!(vault.relation(theirs), Err(VaultError::Format { source: FormatError::OtherVault, .. }));
    let is_common = |base: &ArchiveCopy| match (base.format(), base.head()) {
        // Version 1 has no chain; two vaults of version 2 may be upgrades of it that were made apart.
        (ArchiveFormat::V1, _) => is_apart || vault.format() == ArchiveFormat::V1,
        (ArchiveFormat::V2, Some(head)) => {
            theirs.descends_from(head) && matches!(vault.relation(base), Ok(Relation::OursAhead | Relation::Same))
        }
        (ArchiveFormat::V2, None) => false,
    };
    let base = offer.base.and_then(|path| open_either(vault, path, offer, None).ok()).filter(is_common);
    base.ok_or_else(|| Failure::from(&VaultError::NoCommonState(theirs.path().to_owned())))
}

/// Opens an archive with the vault's key or with the other one.
fn open_either(vault: &Vault, path: &Path, offer: &Offer<'_>, until: Option<Head>) -> Result<ArchiveCopy, VaultError> {
    match (vault.open_copy(path, until), offer.secret) {
        (Err(error), Some(secret)) if is_other_key(&error) => vault.open_copy_with(path, secret.duplicate()?, until),
        (outcome, _) => outcome,
    }
}

/// What is told of a conflict.
pub fn note(conflict: &Conflict) -> ConflictNote {
    let what = match conflict.kind {
        ConflictKind::BothEdited => "edited on both sides; theirs has the name",
        ConflictKind::EditedAndDeleted => "edited on one side and deleted on the other; it stays",
        ConflictKind::BothRenamed => "renamed on both sides; it has their name",
        ConflictKind::NameTaken => "two things were given this name; theirs has it",
        ConflictKind::MovedIntoEachOther => {
            "folders were moved into each other; they lie where the other side has them"
        }
    };
    let copy = conflict.copy.as_ref().map(ToString::to_string);
    ConflictNote { path: conflict.path.to_string(), what: what.to_owned(), copy }
}

fn secret_memory(error: CryptoError) -> Failure {
    Failure::Other(error.to_string())
}

impl Server {
    /// Reads the secrets that follow a request off the stream, and does what it asks.
    pub(super) fn join(&self, request: &JoinRequest, stream: &mut impl Read) -> io::Result<Result<Joined, Failure>> {
        let keys = match request.with_keys {
            true => Some((secrets::read(stream)?, secrets::read(stream)?)),
            false => None,
        };
        let keys = keys.map(|(proof, theirs)| Ok((proof?, theirs?))).transpose();
        let wrong = |error: CryptoError| Failure::WrongPassphrase(error.to_string());
        Ok(keys.map_err(wrong).and_then(|keys| self.join_files(request, keys)))
    }

    fn join_files(&self, request: &JoinRequest, keys: Option<(Secret, Secret)>) -> Result<Joined, Failure> {
        if self.read_only {
            return Err(Failure::Other("the vault is read-only".to_owned()));
        }
        let theirs = self.state_file(&request.theirs)?;
        let base = request.base.as_deref().map(|name| self.state_file(name)).transpose()?;
        let secret = keys.map(|(proof, theirs)| self.prove(proof).map(|()| theirs)).transpose()?;
        let lock_state = self.lock_state.lock();
        if *lock_state == LockState::Locked {
            return Err(Failure::Other("the vault is being locked".to_owned()));
        }
        let offer = Offer { theirs: &theirs, base: base.as_deref(), secret: secret.as_ref() };
        let outcome = join(&self.vault, &offer, &|theirs, base| {
            self.mounts.before_outside_change();
            let outcome = self.vault.join(theirs, base);
            match &outcome {
                Ok(merged) => self.mounts.after_outside_change(&merged.changes),
                // The tree may hold the result all the same.
                Err(_) => self.mounts.invalidate_all(),
            }
            outcome
        });
        drop(lock_state);
        outcome
    }

    /// Another key is taken only from somebody who can open the vault: that a program of the user's reaches the socket is not enough.
    fn prove(&self, proof: Secret) -> Result<(), Failure> {
        let opened = self.vault.open_copy_with(self.vault.archive(), proof, None);
        opened.map(drop).map_err(|error| Failure::from(&error))
    }

    /// Returns those that the vault does not descend from.
    pub(super) fn note_shared(&self, files: Vec<String>) -> Result<Vec<String>, Failure> {
        let mut strange = Vec::new();
        for name in files {
            if !note_shared(&self.vault, &self.state_file(&name)?) {
                strange.push(name);
            }
        }
        Ok(strange)
    }

    fn state_file(&self, name: &str) -> Result<PathBuf, Failure> {
        let mut parts = Path::new(name).components();
        match (parts.next(), parts.next(), self.note.file.parent()) {
            (Some(Component::Normal(_)), None, Some(folder)) => Ok(folder.join(name)),
            _ => Err(Failure::Other(format!("{name} is no file of the state folder"))),
        }
    }
}
