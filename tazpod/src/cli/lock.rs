//! `tazpod lock`

use std::time::Duration;

use crate::agent::client::{AgentError, Client};
use crate::agent::paths;
use crate::agent::protocol::{Failure, LockMode};
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
        let Some(client) = Client::connect(&plan.archive)? else {
            unlock::clean_up(&plan)?;
            ui::say("Locked already");
            return Ok(());
        };
        return lock(client, &plan.archive, arguments);
    }
    let mut outcome = Ok(());
    for note in paths::all_notes() {
        let locked = match Client::connect(&note.archive)? {
            Some(client) => lock(client, &note.archive, arguments),
            None => Ok(()),
        };
        if let Err(error) = locked {
            ui::say(error.to_string().trim_end());
            outcome = Err(error);
        }
    }
    outcome
}

fn lock(client: Client, archive: &std::path::Path, arguments: &Arguments) -> CommandResult {
    let mode = match (arguments.force, arguments.discard, arguments.wait) {
        (true, true, _) => LockMode::ForceAndDiscard,
        (true, false, _) => LockMode::Force,
        (false, _, Some(patience)) => LockMode::Wait(patience),
        (false, _, None) => LockMode::Refuse,
    };
    match client.lock(mode) {
        Err(AgentError::Refused(failure @ (Failure::NotCommitted(_) | Failure::ChangedElsewhere(_))))
            if mode == LockMode::Force =>
        {
            discard_after_asking(failure, archive)?;
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
    match Client::connect(archive)? {
        Some(client) => Ok(client.lock(LockMode::ForceAndDiscard)?),
        None => Ok(()),
    }
}
