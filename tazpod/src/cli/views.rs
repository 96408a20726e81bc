//! Further places where an unlocked vault is to be seen: written down for an archive, mounted by its agent after each unlock.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::agent::client::Client;
use crate::agent::paths::VaultKey;
use crate::agent::protocol::MountRequest;
use crate::agent::stale;
use crate::config::Plan;
use crate::error::{CommandError, CommandResult, Status};
use crate::ui;

/// A container that is to see the vault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerNote {
    /// Its name.
    pub name: String,
    /// The project that it is of.
    pub project: PathBuf,
    /// The folder that its views are mounted in.
    pub place: PathBuf,
    /// What it sees.
    pub views: Vec<ContainerView>,
    /// Whether the vault is unlocked in it, and not seen from outside.
    #[serde(default)]
    pub is_inside: bool,
}

/// A folder of the vault, as a container sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerView {
    /// Its mount point, a name within the container's place.
    pub folder: String,
    /// Path within the vault; empty: all of it.
    pub subtree: String,
}

/// What a container sees: the vault as a whole.
pub fn of_container() -> Vec<ContainerView> {
    vec![ContainerView { folder: "secrets".to_owned(), subtree: String::new() }]
}

/// A view beside the vault's own mount.
struct FurtherView {
    request: MountRequest,
    /// For whom it is, for the user.
    what: String,
}

/// All that belong to a vault.
fn further_views(plan: &Plan) -> Vec<FurtherView> {
    known(&plan.archive).iter().flat_map(of_note).collect()
}

fn of_note(note: &ContainerNote) -> impl Iterator<Item = FurtherView> {
    note.views.iter().map(|view| {
        let (dir, subtree) = (note.place.join(&view.folder), view.subtree.clone().into_bytes());
        let whole = if subtree.is_empty() { String::new() } else { format!(" in {}", ui::printable(&view.subtree)) };
        FurtherView {
            request: MountRequest { dir, subtree, read_only: false },
            what: format!("the container '{}' does not see the vault{whole}", note.name),
        }
    })
}

/// Mounts those that are not; does nothing while the vault is locked. What cannot be mounted is told, and stops nothing.
pub fn mount_missing(plan: &Plan) {
    let views = further_views(plan);
    if views.is_empty() {
        return;
    }
    let (mut client, status) = match Client::find(&plan.archive) {
        Ok(Some(found)) => found,
        Ok(None) => return,
        Err(error) => return tell("containers do not see the vault", &error.into()),
    };
    let missing = |view: &FurtherView| !status.mounts.iter().any(|mount| mount.dir == view.request.dir);
    for FurtherView { request, what } in views.into_iter().filter(missing) {
        if let Err(error) = mount(&mut client, request) {
            tell(&what, &error);
        }
    }
}

fn mount(client: &mut Client, request: MountRequest) -> CommandResult {
    stale::detach_if_dead(&request.dir).map_err(|reason| CommandError::new(Status::Failure, reason))?;
    Ok(client.mount(request)?)
}

fn tell(what: &str, error: &CommandError) {
    ui::warn(what);
    ui::say(error.to_string().trim_end());
}

/// Takes the views of a container away that is no more, and forgets them; where something is left in a folder it stays.
pub fn withdraw(plan: &Plan, note: &ContainerNote) -> CommandResult {
    unmount(plan, note)?;
    forget(&plan.archive, &note.name)?;
    note.views.iter().for_each(|view| remove_empty(&note.place.join(&view.folder)));
    remove_empty(&note.place);
    Ok(())
}

fn remove_empty(folder: &Path) {
    if let Err(error) = std::fs::remove_dir(folder) {
        tracing::debug!(%error, folder = %folder.display(), "a folder stays");
    }
}

fn unmount(plan: &Plan, note: &ContainerNote) -> CommandResult {
    let Some((mut client, status)) = Client::find(&plan.archive)? else { return Ok(()) };
    for dir in note.views.iter().map(|view| note.place.join(&view.folder)) {
        if status.mounts.iter().any(|mount| mount.dir == dir) {
            client.unmount(dir)?;
        }
    }
    Ok(())
}

/// The right to make and remove the containers of a vault: one command at a time has it, until this is dropped or its process ends.
pub struct Turn(#[expect(dead_code, reason = "the lock is on it")] File);

/// Waits for it, and says so.
pub fn turn(plan: &Plan) -> CommandResult<Turn> {
    let failed = CommandError::state_folder;
    let file = file(&plan.archive).map_err(failed)?.with_extension("lock");
    let file = File::options().create(true).append(true).open(file).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            ui::say("Waiting for another command that makes or removes the container");
            file.lock().map_err(failed)?;
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    Ok(Turn(file))
}

/// The containers that are to see a vault.
pub fn known(archive: &Path) -> Vec<ContainerNote> {
    let text = file(archive).ok().and_then(|file| std::fs::read(file).ok()).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Adds one.
pub fn remember(archive: &Path, note: ContainerNote) -> CommandResult {
    let mut notes = known(archive);
    if notes.contains(&note) {
        return Ok(());
    }
    notes.retain(|other| other.name != note.name);
    notes.push(note);
    write(archive, &notes)
}

fn forget(archive: &Path, name: &str) -> CommandResult {
    let mut notes = known(archive);
    let count = notes.len();
    notes.retain(|note| note.name != name);
    if notes.len() == count { Ok(()) } else { write(archive, &notes) }
}

fn write(archive: &Path, notes: &[ContainerNote]) -> CommandResult {
    let failed = CommandError::state_folder;
    let file = file(archive).map_err(failed)?;
    let text = serde_json::to_vec(notes).map_err(|error| failed(error.into()))?;
    let temporary = file.with_extension("tmp");
    std::fs::write(&temporary, text).and_then(|()| std::fs::rename(temporary, file)).map_err(failed)
}

fn file(archive: &Path) -> std::io::Result<PathBuf> {
    Ok(VaultKey::of(archive).state_folder()?.join("containers.json"))
}
