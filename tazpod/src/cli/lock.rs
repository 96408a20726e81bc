//! `tazpod lock`

use std::time::Duration;

use crate::agent::client::{AgentError, Client};
use crate::agent::paths;
use crate::agent::protocol::{Failure, LockMode, Status};
use crate::config::units;
use crate::error::{CommandError, CommandResult};
use crate::ui;

use super::{Global, unlock};

/// Saves everything, takes the mounts away, forgets the keys.
#[derive(clap::Args)]
pub struct Arguments {
    /// Locks every unlocked vault of this user.
    #[arg(long)]
    all: bool,
    /// Waits this long for programs that hold files of the vault, for example 30s.
    #[arg(long, value_name = "TIME", value_parser = units::duration, conflicts_with = "force")]
    wait: Option<Duration>,
    /// Cuts off programs that hold files of the vault; what they have written is saved.
    #[arg(long)]
    force: bool,
    /// With --force: loses changes that cannot be saved.
    #[arg(long, requires = "force")]
    discard: bool,
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult {
    if !arguments.all {
        let plan = global.plan()?;
        let Some(found) = Client::find(&plan.archive)? else {
            unlock::clean_up(&plan)?;
            ui::say("Locked already");
            return Ok(());
        };
        return lock(found, arguments);
    }
    let mut outcome = Ok(());
    for note in paths::all_notes() {
        let locked = match Client::find(&note.archive)? {
            Some(found) => lock(found, arguments),
            None => Ok(()),
        };
        if let Err(error) = locked {
            ui::say(error.to_string().trim_end());
            outcome = Err(error);
        }
    }
    outcome
}

fn lock((client, status): (Client, Status), arguments: &Arguments) -> CommandResult {
    let mode = match (arguments.force, arguments.discard, arguments.wait) {
        (true, true, _) => LockMode::ForceAndDiscard,
        (true, false, _) => LockMode::Force,
        (false, _, Some(patience)) => LockMode::Wait(patience),
        (false, _, None) => LockMode::Refuse,
    };
    match client.lock(&status, mode) {
        Err(AgentError::Refused(failure @ (Failure::NotCommitted(_) | Failure::ChangedElsewhere(_))))
            if mode == LockMode::Force =>
        {
            discard_after_asking(failure, &status.archive)?;
        }
        outcome => outcome?,
    }
    ui::say("Locked");
    Ok(())
}

/// Locks although changes cannot be saved, when the user says so.
fn discard_after_asking(failure: Failure, archive: &std::path::Path) -> CommandResult {
    let error = CommandError::from(failure).hint("add --discard to lose those changes");
    ui::say(error.to_string().trim_end());
    match ui::confirm("Lock and lose these changes?") {
        Ok(true) => {}
        Ok(false) | Err(ui::AskError::NoTerminal) => return Err(error),
        Err(asked) => return Err(asked.into()),
    }
    match Client::find(archive)? {
        Some((client, status)) => Ok(client.lock(&status, LockMode::ForceAndDiscard)?),
        None => Ok(()),
    }
}
