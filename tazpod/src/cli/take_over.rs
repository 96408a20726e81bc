//! Taking over what a remote has, for `pull` and `sync`: fetches it beside the base, joins the vault with it where it is open or
//! here, remembers the new base, tells of conflicts.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use vaultfs::vault::{Secret, Vault, VaultOptions, file_hash};

use crate::agent::client::{AgentError, Client};
use crate::agent::joining::{self, Offer};
use crate::agent::protocol::{ConflictNote, Failure, Joined};
use crate::error::{CommandError, CommandResult, Status};
use crate::remote::description::Format;
use crate::remote::{Description, Head, RemoteError, Version, sync_file};
use crate::sync::base::Base;
use crate::sync::decision::{Decision, decide, unseen};
use crate::sync::settled::is_settled;
use crate::sync::{before, snapshot, upgraded};
use crate::ui;

use super::remote_access::{RemoteAccess, Watcher};
use super::take_upgrade::{Upgrade, require_takeable};
use super::way_in::WayIn;
use super::{locked, passphrase, push};

/// How often it is looked again when the remote changes while something is fetched.
const TRIES: usize = 4;

/// What opens the vault when it is locked, and what opens the remote's archive when its passphrase was changed elsewhere.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Ways {
    #[command(flatten)]
    pub(super) own: WayIn,
    #[command(flatten)]
    pub(super) remote: passphrase::RemoteSource,
    /// Takes an archive from the remote that is under another key and opens with the same passphrase: one was changed or somebody
    /// removed elsewhere. Without it the passphrase of that archive is asked for, or taken from --remote-passphrase-file and its like
    /// (version 2).
    #[arg(long)]
    accept_new_key: bool,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Both are the same.
    Nothing,
    /// There is nothing new there, and something here.
    Ahead,
    /// The vault is what the remote has.
    Forward,
    /// Both went on; the vault holds both.
    Merged,
}

/// Does it; returns what is there, too. Nothing there is changed, and a locked vault is opened only when there is something new.
pub fn take_over(access: &RemoteAccess, ways: &Ways) -> CommandResult<(Taken, Vec<Head>)> {
    for _ in 1..TRIES {
        if let Some(taken) = try_to(access, ways)? {
            return Ok(taken);
        }
    }
    try_to(access, ways)?.ok_or_else(|| RemoteError::Changed(access.remote.place()).into())
}

/// `None`: the remote changed meanwhile.
fn try_to(access: &RemoteAccess, ways: &Ways) -> CommandResult<Option<(Taken, Vec<Head>)>> {
    access.save()?;
    let base = Base::load(&access.state, &access.remote.place());
    let heads = access.heads(base.as_ref())?;
    if let Some(base) = base.as_ref().filter(|base| is_settled(&access.vault.archive, base, &heads)) {
        access.confirm(base)?;
        return Ok(Some((Taken::Nothing, heads)));
    }
    let (own, description) = snapshot::take(&access.vault.archive, &access.state)?;
    match decide(&description, base.as_ref(), &heads) {
        Decision::Same(version) => {
            access.agree(base, version, description, own)?;
            return Ok(Some((Taken::Nothing, heads)));
        }
        Decision::Put(_) => return Ok(Some((Taken::Ahead, heads))),
        Decision::OtherVault if !upgraded::is_apart(&access.state, &description, base.as_ref(), &heads) => {
            return Err(push::other_vault(access));
        }
        Decision::OtherVault | Decision::RemoteIsNewer | Decision::BothChanged => {}
    }
    let mut fetched = Vec::new();
    for head in unseen(&description, base.as_ref(), &heads) {
        let Some((file, found)) = fetch(access, head)? else { return Ok(None) };
        let formats = (description.state.format, found.state.format);
        require_takeable(access, formats, base.as_ref(), heads.len())?;
        if let ((Format::V1, Format::V2), Some(base)) = (formats, &base) {
            let version = head.version.clone();
            let upgrade = Upgrade { access, base, own, theirs: file, description: found, version };
            return upgrade.take(ways).map(|taken| Some((taken, heads)));
        }
        fetched.push((file, found));
    }
    let versions = heads.iter().map(|head| head.version.clone()).collect();
    let taking = Taking { access, base, own, description };
    taking.take(fetched, versions, ways).map(|taken| Some((taken, heads)))
}

type Fetched = (NamedTempFile, Description);

fn fetch(access: &RemoteAccess, head: &Head) -> CommandResult<Option<Fetched>> {
    let file = snapshot::temporary(&access.state)?;
    let description = match access.remote.fetch(&head.version, file.path()) {
        Ok(description) => description,
        Err(RemoteError::Changed(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    Ok(Some((file, description)))
}

/// All that is known when something is to be taken over.
struct Taking<'a> {
    access: &'a RemoteAccess,
    base: Option<Base>,
    own: NamedTempFile,
    description: Description,
}

impl Taking<'_> {
    fn take(self, fetched: Vec<Fetched>, versions: Vec<Version>, ways: &Ways) -> CommandResult<Taken> {
        // The disk writes both sides while the vault is opened.
        let mut opened = std::thread::scope(|scope| {
            let files = || [&self.own].into_iter().chain(fetched.iter().map(|(file, _)| file));
            let synced = scope.spawn(move || files().try_for_each(|file| sync_file(file.path())));
            let opened = Opened::open(self.access, self.base.as_ref(), ways);
            synced.join().expect("syncing does not panic")?;
            opened
        })?;
        let before = before::keep(&self.access.state, self.own).map_err(CommandError::state_folder)?;
        let base = self.base.as_ref().map(|base| base.file().to_owned());
        let (mut taken, mut last) = (Taken::Ahead, None);
        for (file, description) in fetched {
            match opened.join(self.access, file.path(), base.as_deref(), ways) {
                Ok(Joined::Nothing) => {}
                Ok(Joined::Forward) => taken = if taken == Taken::Merged { taken } else { Taken::Forward },
                Ok(Joined::Merged(conflicts)) => {
                    taken = Taken::Merged;
                    tell_conflicts(self.access, &conflicts);
                }
                Err(error) => {
                    opened.close()?;
                    let hash = |path: &Path| file_hash(path).ok();
                    if hash(&before) == hash(&self.access.vault.archive) {
                        std::fs::remove_file(before).map_err(CommandError::state_folder)?;
                    }
                    return Err(error);
                }
            }
            last = Some((file, description));
        }
        opened.close()?;
        let base = self.base.as_ref().map(|base| base.path(&self.access.state));
        if let Some((file, description)) = last {
            match taken {
                Taken::Nothing | Taken::Ahead => std::fs::remove_file(before).map_err(CommandError::state_folder)?,
                Taken::Forward | Taken::Merged => tell_keys(self.access, &before, base.as_deref()),
            }
            self.access.record(versions, description, file)?;
        }
        self.access.note_shared()?;
        tracing::debug!(sequence = self.description.state.sequence, ?taken, "what was here is joined");
        Ok(taken)
    }
}

/// The vault, wherever it is open.
enum Opened {
    Agent(Client),
    Here(Box<(Vault, Secret)>),
}

impl Opened {
    fn open(access: &RemoteAccess, base: Option<&Base>, ways: &Ways) -> CommandResult<Self> {
        if let Some(client) = Client::connect(&access.vault.archive)? {
            return Ok(Self::Agent(client));
        }
        if access.watcher != Watcher::Person {
            return Err(CommandError::locked(&access.vault.archive));
        }
        // What both sides went on from is what the remote's archive mostly begins with.
        let options =
            VaultOptions { keep: base.and_then(|base| base.state().commit()), ..locked::options(&access.vault)? };
        let (vault, secret) = locked::open_with(&access.vault, &ways.own, &locked::question(&access.vault), options)?;
        for name in Base::files(&access.state) {
            joining::note_shared(&vault, &access.state.join(name));
        }
        Ok(Self::Here(Box::new((vault, secret))))
    }

    /// Joins, and asks for the other passphrase where it needs one.
    fn join(&mut self, access: &RemoteAccess, theirs: &Path, base: Option<&str>, ways: &Ways) -> CommandResult<Joined> {
        let first = match self {
            Self::Agent(client) => join_in_agent(client, theirs, base, None),
            Self::Here(open) => {
                // Whoever was removed may still hold an old key that the same passphrase opens.
                let secret = ways.accept_new_key.then_some(&open.1);
                join_here(&open.0, theirs, base.map(|name| access.state.join(name)), secret)
            }
        };
        match first {
            Err(Failed::OtherKey) if access.watcher == Watcher::Person => {}
            Err(Failed::OtherKey) => {
                let text = format!("the passphrase of the archive in {} was changed elsewhere", access.remote.place());
                return Err(CommandError::new(Status::WrongPassphrase, text).hint("'tazpod sync' asks for it"));
            }
            Err(Failed::Error(error)) => return Err(error),
            Ok(joined) => return Ok(joined),
        }
        let question = format!("Passphrase of the archive in {}: ", access.remote.place());
        match self {
            Self::Agent(client) => {
                let client = RefCell::new(client);
                ways.own.try_with(&locked::question(&access.vault), |proof| {
                    if ways.accept_new_key {
                        let same = join_in_agent(&mut client.borrow_mut(), theirs, base, Some((proof, proof)));
                        if !matches!(same, Err(Failed::OtherKey)) {
                            return same.map_err(Into::into);
                        }
                    }
                    ways.remote.source().try_with(&question, |passphrase| {
                        let secret = Secret::Passphrase(passphrase.duplicate().map_err(CommandError::secret_memory)?);
                        Ok(join_in_agent(&mut client.borrow_mut(), theirs, base, Some((proof, &secret)))?)
                    })
                })
            }
            Self::Here(open) => ways.remote.source().try_with(&question, |passphrase| {
                let secret = Secret::Passphrase(passphrase.duplicate().map_err(CommandError::secret_memory)?);
                let base = base.map(|name| access.state.join(name));
                Ok(join_here(&open.0, theirs, base, Some(&secret))?)
            }),
        }
    }

    fn close(self) -> CommandResult {
        let Self::Here(open) = self else { return Ok(()) };
        let tree = open.0.tree().clone();
        let closed = open.0.close().map_err(|(_, error)| CommandError::caused("the archive cannot be closed", &*error));
        joining::wipe_later(tree);
        closed
    }
}

/// Why a join failed.
enum Failed {
    /// It needs another passphrase.
    OtherKey,
    /// Anything else.
    Error(CommandError),
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::OtherKey(_) => Self::OtherKey,
            other => Self::Error(other.into()),
        }
    }
}

impl From<Failed> for CommandError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::OtherKey => {
                Failure::OtherKey("the passphrase does not open the remote's archive".to_owned()).into()
            }
            Failed::Error(error) => error,
        }
    }
}

fn join_in_agent(
    client: &mut Client,
    theirs: &Path,
    base: Option<&str>,
    keys: Option<(&Secret, &Secret)>,
) -> Result<Joined, Failed> {
    let name = theirs.file_name().unwrap_or_default().to_string_lossy().into_owned();
    client.join(name, base.map(str::to_owned), keys).map_err(|error| match error {
        AgentError::Refused(failure) => failure.into(),
        error => Failed::Error(error.into()),
    })
}

fn join_here(vault: &Vault, theirs: &Path, base: Option<PathBuf>, secret: Option<&Secret>) -> Result<Joined, Failed> {
    let offer = Offer { theirs, base: base.as_deref(), secret };
    Ok(joining::join(vault, &offer, &|theirs, base| vault.join(theirs, base))?)
}

pub(super) fn tell_conflicts(access: &RemoteAccess, conflicts: &[ConflictNote]) {
    for ConflictNote { path, what, copy } in conflicts {
        let place = copy.as_ref().map_or_else(String::new, |copy| format!("; yours is {copy}"));
        access.warn(format!("{}: {what}{}", ui::printable(path), ui::printable(&place)));
    }
}

/// Tells who can open the vault now, where that was changed. That takes no key.
fn tell_keys(access: &RemoteAccess, before: &Path, base: Option<&Path>) {
    let outline = |path: &Path| {
        let file = std::fs::File::open(path).ok()?;
        vaultfs::format::v2::Outline::read(&file).ok()
    };
    let (Some(own), Some(now)) = (outline(before), outline(&access.vault.archive)) else { return };
    if own.vault_id != now.vault_id {
        access.warn(
            "the vault was upgraded apart here and elsewhere, and is the other one from now on: it opens as that one does; recipients and \
             recovery keys that were added here are to be added again",
        );
        return;
    }
    if own.header == now.header {
        return;
    }
    match base.and_then(outline) {
        Some(base) if base.header == own.header => {
            access.say("Passphrase or recipients were changed elsewhere: the vault opens as it does there from now on");
        }
        _ => access.warn(
            "passphrase or recipients were changed on both sides, and the vault opens as it does in the remote now: change them again",
        ),
    }
}
