//! `tazpod push`

use std::time::Duration;

use crate::agent::syncing::SyncReport;
use crate::error::{CommandError, CommandResult, Status};
use crate::remote::{Conditions, Put, PutDone, history};
use crate::sync::base::Base;
use crate::sync::decision::{Decision, decide};
use crate::sync::settled::is_settled;
use crate::sync::{snapshot, upgraded};
use crate::ui;

use super::remote_access::{RemoteAccess, Watcher, What, unsafe_place};
use super::{Global, inside, locked};

/// How far apart the copies in the history are of what is sent on its own: else an hour of edits would take the place of all older ones.
const COPY_EVERY: Duration = Duration::from_secs(600);

/// Sends the archive to the remote, on top of what this machine last saw there and only then. Works locked and unlocked.
#[derive(clap::Args)]
pub struct Arguments {
    /// What to send.
    #[arg(value_enum, default_value_t = What::Vault)]
    what: What,
    /// Sends it also where two machines could overwrite each other unseen.
    #[arg(long)]
    unsafe_remote: bool,
}

/// What became of a push.
pub enum Pushed {
    /// It is there.
    Done,
    /// It was there.
    Nothing,
    /// The remote is ahead of what is here.
    RemoteIsNewer,
    /// It holds something that this machine has not seen.
    Conflict,
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult {
    let What::Vault = arguments.what;
    let access = RemoteAccess::open(global)?;
    inside::try_to_bring_in_step(&access.vault);
    let _turn = access.turn()?;
    match push(&access, arguments.unsafe_remote)? {
        Pushed::Done => {}
        Pushed::Nothing => ui::say("Nothing to push"),
        Pushed::RemoteIsNewer => {
            ui::say("Nothing to push; another machine pushed newer work: 'tazpod pull' takes it over");
        }
        Pushed::Conflict => return Err(conflict(&access)),
    }
    Ok(())
}

/// Sends what is here, on top of what was last seen there.
pub fn push(access: &RemoteAccess, unsafe_remote: bool) -> CommandResult<Pushed> {
    locked::require_archive(&access.vault)?;
    let saved = access.save()?;
    let pushed = push_saved(access, unsafe_remote)?;
    if let (Some(commit), Pushed::Done | Pushed::Nothing) = (saved, &pushed) {
        access.note_sync(SyncReport::Same { commit, remote: access.remote.place() });
    }
    Ok(pushed)
}

fn push_saved(access: &RemoteAccess, unsafe_remote: bool) -> CommandResult<Pushed> {
    let base = Base::load(&access.state, &access.remote.place());
    let heads = access.heads(base.as_ref())?;
    if let Some(base) = base.as_ref().filter(|base| is_settled(&access.vault.archive, base, &heads)) {
        access.confirm(base)?;
        return Ok(Pushed::Nothing);
    }
    let (copy, description) = snapshot::take(&access.vault.archive, &access.state)?;
    let seen = match decide(&description, base.as_ref(), &heads) {
        Decision::Put(seen) => seen,
        Decision::Same(version) => {
            access.agree(base, version, description, copy)?;
            return Ok(Pushed::Nothing);
        }
        Decision::RemoteIsNewer => return Ok(Pushed::RemoteIsNewer),
        Decision::BothChanged => return Ok(Pushed::Conflict),
        Decision::OtherVault if upgraded::is_apart(&access.state, &description, base.as_ref(), &heads) => {
            return Ok(Pushed::Conflict);
        }
        Decision::OtherVault => return Err(other_vault(access)),
    };
    require_conditions(access, unsafe_remote)?;
    match access.remote.put(copy.path(), &description, &seen)? {
        Put::Conflict => Ok(Pushed::Conflict),
        Put::Done(PutDone { version, warnings }) => {
            warnings.iter().for_each(|warning| access.warn(warning));
            let base = access.record(vec![version.clone()], description, copy)?;
            access.note_shared()?;
            let retention = access.plan.retention;
            let path = base.path(&access.state);
            if access.watcher == Watcher::Person || history::is_due(&*access.remote, COPY_EVERY) {
                let warnings = history::keep(&*access.remote, &path, &description, &version, retention);
                warnings.iter().for_each(|warning| access.warn(warning));
            }
            access.say(format!("Pushed {} to {}", ui::size(description.bytes), access.remote.place()));
            Ok(Pushed::Done)
        }
    }
}

/// A place is tried once before anything is put there.
pub fn require_conditions(access: &RemoteAccess, unsafe_remote: bool) -> CommandResult {
    if unsafe_remote {
        return Ok(());
    }
    let known = access.remembered().map(|outcome| outcome.conditions);
    match known.map_or_else(|| access.probe(), Ok)? {
        Conditions::Broken(reason) => Err(unsafe_place(&access.remote.place(), &reason)),
        Conditions::Kept | Conditions::KeptInOneRequest => Ok(()),
    }
}

/// The error of a remote that holds what this machine has not seen.
pub fn conflict(access: &RemoteAccess) -> CommandError {
    let text = format!("{} holds work that this machine has not seen; nothing was overwritten", access.remote.place());
    CommandError::new(Status::Conflict, text).hint("'tazpod pull' first, or 'tazpod sync', which does both")
}

/// The error of a remote that is another vault's.
pub fn other_vault(access: &RemoteAccess) -> CommandError {
    let text = format!("{} holds another vault", access.remote.place());
    CommandError::new(Status::Conflict, text).hint("give this vault a remote.prefix, or a folder, of its own")
}
