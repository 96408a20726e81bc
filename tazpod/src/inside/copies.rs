//! The archive here and its copy inside: what one of them lacks is brought to it, and where both went on the one inside takes over this
//! one while it is unlocked there, as from another machine. Neither is ever put in the place of something that it does not hold, and
//! none of it takes a key here.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::NamedTempFile;
use vaultfs::format::v2::{Outline, Passed};
use vaultfs::vault::{adopt_file, goes_on_from};

use crate::agent::paths::VaultKey;
use crate::container::inside as place;
use crate::error::{CommandError, CommandResult, Status};
use crate::remote::description::Format;
use crate::remote::{self, Description, State, Version};
use crate::sync::base::Base;
use crate::sync::decision::{Decision, decide};
use crate::sync::settled::is_settled;
use crate::sync::turn::Turn;
use crate::sync::{before, snapshot};

use super::call::Side;
use super::{INCOMING, OUTGOING, Present};

/// How long another process that synchronises this vault is waited for.
const PATIENCE: Duration = Duration::from_secs(180);
/// How often it is looked again.
const ROUNDS: usize = 6;

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// What is here is inside now.
    pub inwards: bool,
    /// What was committed inside is here now.
    pub outwards: bool,
    /// Both went on, and the vault is locked inside: nothing was done yet.
    pub diverged: bool,
}

/// Both copies.
pub struct Copies<'a> {
    side: &'a Side,
    archive: &'a Path,
    state: PathBuf,
    /// The name by which what both last agreed on is remembered.
    place: String,
    most: u64,
}

/// What a round came to.
enum Round {
    Settled,
    Again,
}

impl<'a> Copies<'a> {
    /// Those of an archive here, which has at most so many bytes.
    pub fn new(side: &'a Side, archive: &'a Path, most: u64) -> CommandResult<Self> {
        let state = VaultKey::of(archive).state_folder().map_err(CommandError::state_folder)?;
        let place = format!("the container {} of {}", side.found.name, side.engine.address());
        Ok(Self { side, archive, state, place, most })
    }

    /// How it stands inside. What was changed in an unlocked vault is committed before.
    pub fn present(&self) -> CommandResult<Present> {
        self.side.call_hidden(&["describe"])
    }

    /// Brings both in step, as far as that can be.
    pub fn settle(&self) -> CommandResult<Moved> {
        let _turn = Turn::take(&self.state, PATIENCE).map_err(CommandError::state_folder)?.ok_or_else(|| {
            CommandError::new(Status::Failure, "another synchronisation of this vault goes on and on")
        })?;
        let mut moved = Moved::default();
        for _ in 0..ROUNDS {
            let present = self.present()?;
            if let Round::Settled = self.round(&present, &mut moved)? {
                return Ok(moved);
            }
        }
        let text = "the archives here and in the container go on while they are brought together";
        Err(CommandError::new(Status::Conflict, text).hint("nothing is lost; try again"))
    }

    fn round(&self, present: &Present, moved: &mut Moved) -> CommandResult<Round> {
        let Some(theirs) = &present.archive else { return self.send_first(moved) };
        if !self.archive.exists() {
            let (file, description) = self.fetch()?;
            self.make_folder()?;
            adopt_file(self.archive, file.as_file(), |_| Ok(false))?;
            moved.outwards = true;
            return self.agree(description, version(&description), file);
        }
        let base = Base::load(&self.state, &self.place);
        if let Some(base) = base.as_ref().filter(|base| is_settled(self.archive, base, &[head(theirs)])) {
            return base.confirm(&self.state).map(|()| Round::Settled).map_err(CommandError::state_folder);
        }
        let (own, description) = snapshot::take(self.archive, &self.state)?;
        match decide(&description, base.as_ref(), &[head(theirs)]) {
            Decision::OtherVault => Err(self.other_vault()),
            // Version 1 has no id; what was upgraded inside since is newer, and no case of these.
            Decision::Put(_) | Decision::BothChanged
                if (description.state.format, theirs.state.format) == (Format::V1, Format::V2) =>
            {
                Err(self.other_vault())
            }
            Decision::Same(_) => self.agree(description, version(theirs), own),
            Decision::Put(_) if !present.unlocked => {
                moved.inwards = true;
                self.replace(own, description, Some(&theirs.state))
            }
            Decision::Put(_) | Decision::BothChanged => self.diverge(present, own, description, moved),
            Decision::RemoteIsNewer => self.take_back(present, own, description, moved),
        }
    }

    /// There is nothing inside yet.
    fn send_first(&self, moved: &mut Moved) -> CommandResult<Round> {
        if !self.archive.exists() {
            return Ok(Round::Settled);
        }
        let (own, description) = snapshot::take(self.archive, &self.state)?;
        moved.inwards = true;
        self.replace(own, description, None)
    }

    /// Puts what is here in the place of what is inside, which is locked there and holds nothing more.
    fn replace(&self, own: NamedTempFile, description: Description, expected: Option<&State>) -> CommandResult<Round> {
        place::send_file(&self.side.engine, &self.side.found, INCOMING, own.path())?;
        let expected = serde_json::to_string(&expected).expect("it is made of texts and numbers");
        let sent = description.sha256.to_string();
        match self.side.call_hidden(&["take", "--sent", &sent, "--expected", &expected])? {
            true => self.agree(description, version(&description), own),
            false => Ok(Round::Again),
        }
    }

    /// Has the vault inside, which is unlocked, take over what is here.
    fn join(&self, own: NamedTempFile, description: Description) -> CommandResult<Round> {
        place::send_file(&self.side.engine, &self.side.found, INCOMING, own.path())?;
        let () = self.side.call_hidden(&["join", "--sent", &description.sha256.to_string()]).map_err(other_key)?;
        // What is inside holds what is here now: whatever it is in the next round goes on from that.
        self.record(description, Vec::new(), own)?;
        Ok(Round::Again)
    }

    /// Takes what was committed inside, if nothing here is missing in it.
    fn take_back(
        &self,
        present: &Present,
        own: NamedTempFile,
        ours: Description,
        moved: &mut Moved,
    ) -> CommandResult<Round> {
        let (file, theirs) = self.fetch()?;
        if passed(file.as_file(), &theirs, &ours)? == Passed::No {
            // An older copy was put in its place there.
            return self.diverge(present, own, ours, moved);
        }
        let adopted = adopt_over(self.archive, &own, &file, &self.state)?;
        if !adopted {
            let text = format!("{} changed meanwhile, or a write to it was cut off", self.archive.display());
            return Err(CommandError::new(Status::Conflict, text).hint(
                "nothing was changed; 'tazpod --vault FILE --mount DIR unlock' opens it on this machine and settles it",
            ));
        }
        moved.outwards = true;
        self.agree(theirs, version(&theirs), file)
    }

    /// Both went on, or it is not known which of them did: what is open inside takes over what is here; what is locked there waits, unless
    /// it is plainly an earlier state of what is here.
    fn diverge(
        &self,
        present: &Present,
        own: NamedTempFile,
        ours: Description,
        moved: &mut Moved,
    ) -> CommandResult<Round> {
        if present.unlocked {
            moved.inwards = true;
            return self.join(own, ours);
        }
        let theirs = present.archive.as_ref().expect("there is one, which differs from what is here");
        if passed(own.as_file(), &ours, theirs)? == Passed::Yes {
            moved.inwards = true;
            return self.replace(own, ours, Some(&theirs.state));
        }
        moved.diverged = true;
        Ok(Round::Settled)
    }

    fn fetch(&self) -> CommandResult<(NamedTempFile, Description)> {
        let told: Description = self.side.call_hidden(&["give"])?;
        let file = snapshot::temporary(&self.state)?;
        place::fetch_file(&self.side.engine, &self.side.found, OUTGOING, file.as_file(), self.most)?;
        let description = Description::of(file.path())?;
        if description != told {
            return Err(CommandError::new(Status::Container, "the archive did not come out of the container whole")
                .hint("nothing was changed here; try again"));
        }
        Ok((file, description))
    }

    fn agree(&self, description: Description, version: Version, archive: NamedTempFile) -> CommandResult<Round> {
        self.record(description, vec![version], archive)?;
        Ok(Round::Settled)
    }

    fn record(&self, description: Description, versions: Vec<Version>, archive: NamedTempFile) -> CommandResult {
        Base::record(&self.state, &self.place, versions, description, archive)
            .map(drop)
            .map_err(CommandError::state_folder)
    }

    fn make_folder(&self) -> CommandResult {
        use std::os::unix::fs::DirBuilderExt;
        let folder = self.archive.parent().unwrap_or(Path::new("/"));
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| CommandError::caused(format!("cannot make {}", folder.display()), &error))
    }

    fn other_vault(&self) -> CommandError {
        let text = format!("the volume of the container '{}' holds another vault", self.side.found.name);
        CommandError::new(Status::Conflict, text).hint(
            "give this project a 'container_name' of its own; where nobody needs the other vault any more, remove the container and \
             its volume with docker",
        )
    }
}

/// Puts a copy in the place of an archive that is as it was copied before, or that the copy goes on from byte for byte. What it does not
/// go on from so is kept in the state folder.
pub fn adopt_over(archive: &Path, before: &NamedTempFile, copy: &NamedTempFile, state: &Path) -> CommandResult<bool> {
    Ok(adopt_file(archive, copy.as_file(), |present| {
        if goes_on_from(copy.as_file(), present)? {
            return Ok(true);
        }
        let is_known = goes_on_from(before.as_file(), present)? && goes_on_from(present, before.as_file())?;
        if is_known {
            let kept = snapshot::copy(before.path(), state).map_err(std::io::Error::other)?;
            before::keep(state, kept)?;
        }
        Ok(is_known)
    })?)
}

/// Whether an archive went on from the state of another, as far as can be told without the key.
fn passed(file: &File, archive: &Description, other: &Description) -> CommandResult<Passed> {
    // Version 1 has no history, and neither has what was upgraded from it.
    let Some(head) = other.state.commit() else { return Ok(Passed::Unknown) };
    if archive.state.format == Format::V1 {
        return Ok(Passed::No);
    }
    Outline::passed(file, head).map_err(|error| CommandError::caused("an archive cannot be read", &error))
}

/// The archive inside as a head of a remote. Its bytes are its version.
fn head(theirs: &Description) -> remote::Head {
    remote::Head {
        version: version(theirs),
        bytes: theirs.bytes,
        modified: SystemTime::UNIX_EPOCH,
        state: Some(theirs.state),
        sha256: Some(theirs.sha256),
    }
}

fn version(description: &Description) -> Version {
    Version(description.sha256.to_string())
}

/// Nobody is asked for a second passphrase there.
fn other_key(error: CommandError) -> CommandError {
    if !matches!(error.status, Status::WrongPassphrase | Status::Usage) {
        return error;
    }
    CommandError::new(Status::Conflict, "the archives here and in the container both went on, under different keys").hint(
        "nothing was changed, and it is unlocked in the container: bring what you need from one to the other by 'tazpod export' and \
         'tazpod import'",
    )
}
