//! `tazpod __sync`: what the keeper of an unlocked vault starts. It does what `tazpod sync` does, asks nobody, changes nothing where
//! a person has to decide, and tells the agent what came of it.

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use crate::agent::client::Client;
use crate::agent::syncing::SyncReport;
use crate::config::Plan;
use crate::error::{CommandError, CommandResult, Status};
use crate::remote::Head;
use crate::sync::base::Base;
use crate::sync::decision::{Decision, decide};
use crate::sync::settled::is_settled;
use crate::sync::{snapshot, upgraded};

use super::remote_access::{RemoteAccess, Watcher};
use super::take_over::Ways;
use super::{Global, automatic, push, sync};

/// Synchronises an unlocked vault for its agent.
#[derive(clap::Args)]
pub struct Arguments {
    /// Tells this one from others.
    #[arg(long)]
    number: u64,
    /// Who started it: it ends with that process.
    #[arg(long)]
    keeper: i32,
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult {
    end_with(arguments.keeper)?;
    let overrides = global.overrides();
    let archive = overrides.vault.clone();
    let archive = archive.ok_or_else(|| CommandError::new(Status::Usage, "the keeper named no vault"))?;
    let plan = Plan::load(&overrides).map_err(CommandError::from);
    let report = match plan.and_then(|plan| synchronise(plan, Watcher::Agent(arguments.number))) {
        // Told already, with how far it came.
        Ok(None) => return Ok(()),
        Ok(Some(report)) => report,
        Err(error) => report_of(&error),
    };
    // Nobody waits for it where there is no agent any more.
    let Some(mut client) = Client::connect(&archive)? else { return Ok(()) };
    Ok(client.note_sync(Some(arguments.number), report)?)
}

/// Has the kernel end this process with its keeper, however that ends.
fn end_with(keeper: i32) -> CommandResult {
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| CommandError::caused("the process cannot be tied to its keeper", &error))?;
    match getppid().map(Pid::as_raw_pid) == Some(keeper) {
        true => Ok(()),
        false => Err(CommandError::new(Status::Failure, "the keeper of the vault is gone")),
    }
}

fn synchronise(plan: Plan, watcher: Watcher) -> CommandResult<Option<SyncReport>> {
    if let Some(off) = automatic::reason_against(&plan) {
        return Ok(Some(SyncReport::Off(off)));
    }
    let remote = plan.remote()?.clone();
    let access = RemoteAccess::of(plan, remote, watcher)?;
    let Some(_turn) = access.next_turn()? else { return Ok(Some(SyncReport::Busy)) };
    push::require_conditions(&access, false)?;
    let saved = access.save()?.ok_or_else(|| CommandError::locked(&access.vault.archive))?;
    let base = Base::load(&access.state, &access.remote.place());
    let heads = access.heads(base.as_ref())?;
    match &base {
        // That is mostly so, and takes no copy of the archive.
        Some(base) if is_settled(&access.vault.archive, base, &heads) => {
            access.confirm(base)?;
            return Ok(Some(SyncReport::Same { commit: saved, remote: access.remote.place() }));
        }
        Some(base) => check_known(&access, base, &heads)?,
        None => check_first(&access, &heads)?,
    }
    access.leave_heads(heads);
    sync::synchronise(&access, &Ways::default(), false)?;
    Ok(None)
}

/// What a person does not expect of a remote that was used before is left to a person.
fn check_known(access: &RemoteAccess, base: &Base, heads: &[Head]) -> CommandResult {
    let place = access.remote.place();
    if heads.is_empty() {
        let text = format!("{place} held this vault before and holds nothing now: is the disk there?");
        return Err(CommandError::new(Status::Remote, text).hint("'tazpod push' puts it there again"));
    }
    let Some(mut client) = Client::connect(&access.vault.archive)? else {
        return Err(CommandError::locked(&access.vault.archive));
    };
    // Whoever puts an older copy in the archive's place may be an attacker; other machines would take it for one.
    let goes_on = client.note_shared(vec![base.file().to_owned()])?.is_empty();
    if goes_on || upgraded::is_of_base(&access.state, &access.vault.archive, base) {
        return Ok(());
    }
    let text = format!("the archive here does not go on from what this machine and {place} last agreed on");
    Err(CommandError::new(Status::Conflict, text).hint("'tazpod sync' puts it there, where it is the one that counts"))
}

/// An archive that never was there may be a copy that somebody just looks into: it is not made what the remote has.
fn check_first(access: &RemoteAccess, heads: &[Head]) -> CommandResult {
    let (_copy, description) = snapshot::take(&access.vault.archive, &access.state)?;
    match decide(&description, None, heads) {
        Decision::Put(_) | Decision::Same(_) => Ok(()),
        _ => {
            let place = access.remote.place();
            let text = format!("this archive was never synchronised with {place}, which holds something else");
            Err(CommandError::new(Status::Conflict, text).hint("'tazpod sync' does it for the first time"))
        }
    }
}

fn report_of(error: &CommandError) -> SyncReport {
    let text = error.reason();
    match error.passing {
        true => SyncReport::Failed(text),
        false => SyncReport::NeedsPerson(error.with_hint(text)),
    }
}
