//! `tazpod lock`

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::agent::client::{AgentError, Client};
use crate::agent::paths::{self, UnlockedNote};
use crate::agent::protocol::{Failure, LastSync, LockMode, Status};
use crate::agent::start::{Keeperless, Settled, settle};
use crate::agent::syncing::SyncState;
use crate::config::{self, ConfigError, DEFAULT_ARCHIVE, Plan, units};
use crate::container::Patience;
use crate::error::{CommandError, CommandResult};
use crate::ui;

use super::beside::Beside;
use super::{Global, inside, unlock, vpn};

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
    /// Locks later, for example in 30m, whatever happens until then; 'cancel' takes that back.
    #[arg(long, value_name = "TIME", value_parser = delay, conflicts_with_all = ["wait", "force", "all"])]
    after: Option<Delay>,
    /// With --force: loses changes that cannot be saved.
    #[arg(long, requires = "force")]
    discard: bool,
    /// Does not synchronise before.
    #[arg(long)]
    no_sync: bool,
}

impl Arguments {
    /// Flags that the program in a container gets as well.
    fn words_for_inside(&self) -> Vec<String> {
        let wait = self.wait.map(|wait| ["--wait".to_owned(), format!("{}ms", wait.as_millis())]);
        let force = self.force.then(|| "--force".to_owned());
        let discard = self.discard.then(|| "--discard".to_owned());
        wait.into_iter().flatten().chain(force).chain(discard).collect()
    }
}

/// What `--after` says.
#[derive(Clone, Copy)]
enum Delay {
    After(Duration),
    Cancel,
}

impl Delay {
    /// As it is given to the program in a container.
    fn word(self) -> String {
        match self {
            Self::After(delay) => format!("{}ms", delay.as_millis()),
            Self::Cancel => "cancel".to_owned(),
        }
    }
}

fn delay(text: &str) -> Result<Delay, String> {
    if text == "cancel" { Ok(Delay::Cancel) } else { units::duration(text).map(Delay::After) }
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult {
    if let Some(delay) = arguments.after {
        return lock_after(global, delay);
    }
    if !arguments.all {
        return lock_one(&vault(global)?, arguments);
    }
    let mut outcome = Ok(());
    for note in paths::all_notes() {
        if let Err(error) = lock(&note.archive, &note.mounts, arguments) {
            ui::say(error.to_string().trim_end());
            outcome = Err(error);
        }
    }
    outcome
}

/// Locks one vault, here and in containers that have it.
fn lock_one(vault: &Vault, arguments: &Arguments) -> CommandResult {
    let tunnel = vault.plan.clone().filter(|plan| plan.vpn().is_ok());
    let tunnel = tunnel.map(|plan| Beside::begin(move || vpn::open_tunnel(&plan)));
    // What is unlocked here is locked whatever the engine does.
    if !vault.is_inside() || Client::connect(&vault.archive)?.is_some() {
        lock(&vault.archive, &vault.mounts, arguments)?;
    }
    vault.plan.as_ref().map_or(Ok(()), |plan| lock_inside(plan, arguments))?;
    if let Some(interface) = tunnel.and_then(Beside::wait).flatten() {
        ui::say(format!("The tunnel {interface} stays up; 'tazpod vpn down' closes it while the vault is unlocked"));
    }
    Ok(())
}

/// What is to be locked: an archive, and where it is mounted.
struct Vault {
    archive: PathBuf,
    mounts: Vec<PathBuf>,
    /// What is configured, where that can be relied on.
    plan: Option<Plan>,
}

impl Vault {
    /// Whether containers were made to unlock it inside.
    fn is_inside(&self) -> bool {
        self.plan.as_ref().is_some_and(inside::is_noted)
    }
}

/// The plan's vault. A configuration that is wrong, or not trusted, keeps nobody from locking what was unlocked before.
fn vault(global: &Global) -> CommandResult<Vault> {
    if let Err(error) = Plan::load(&global.overrides())
        && let Some(note) = unlocked(global)
    {
        ui::warn(format!("{}; {} is locked all the same", CommandError::from(error).summary(), note.archive.display()));
        return Ok(Vault { archive: note.archive, mounts: note.mounts, plan: None });
    }
    let plan = global.plan_or_no_project()?.map_err(with_those_that_are_unlocked)?;
    Ok(Vault { archive: plan.archive.clone(), mounts: vec![plan.mount.clone()], plan: Some(plan) })
}

/// Somebody in another folder wants what is unlocked locked.
fn with_those_that_are_unlocked(no_project: ConfigError) -> CommandError {
    let archives = paths::all_notes().into_iter().map(|note| note.archive.display().to_string()).collect::<Vec<_>>();
    let error = CommandError::from(no_project);
    match archives.is_empty() {
        true => error,
        false => error.hint(format!("'tazpod lock --all' locks what is unlocked: {}", archives.join(", "))),
    }
}

/// The vault that was unlocked for the project or archive that is meant, as far as it can be known without a configuration.
fn unlocked(global: &Global) -> Option<UnlockedNote> {
    let overrides = global.overrides();
    let project = Plan::find_project(&overrides).ok().and_then(|project| config::canonical(&project).ok());
    let default = project.as_ref().map(|project| project.join(DEFAULT_ARCHIVE));
    let archive = overrides.vault.or(default).and_then(|archive| config::canonical(&archive).ok());
    let mount = overrides.mount.and_then(|mount| config::canonical(&mount).ok());
    let notes = paths::all_notes();
    let by = |fits: &dyn Fn(&UnlockedNote) -> bool| notes.iter().find(|note| fits(note)).cloned();
    by(&|note| archive.as_ref() == Some(&note.archive))
        .or_else(|| by(&|note| project.is_some() && note.project == project))
        .or_else(|| by(&|note| mount.as_ref().is_some_and(|mount| note.mounts.contains(mount))))
}

fn lock_inside(plan: &Plan, arguments: &Arguments) -> CommandResult {
    let sides = inside::running(plan, Patience::Usual)?;
    if inside::is_noted(plan) && sides.is_empty() {
        unlock::clean_up(plan)?;
        ui::say("Locked already: the container does not run");
    }
    let flags = arguments.words_for_inside();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    sides.iter().try_for_each(|side| inside::lock(side, plan, &flags))
}

fn lock_after(global: &Global, delay: Delay) -> CommandResult {
    let vault = vault(global)?;
    let client = Client::connect(&vault.archive)?;
    let mut client = match (client, &vault.plan) {
        (Some(client), _) => client,
        (None, Some(plan)) if vault.is_inside() => return inside::lock_after(plan, &delay.word()),
        (None, _) => return Err(CommandError::locked(&vault.archive)),
    };
    match delay {
        Delay::After(delay) => {
            client.lock_after(Some(delay))?;
            ui::say(format!("Locks in {}", ui::span(delay.as_secs())));
        }
        Delay::Cancel => {
            client.lock_after(None)?;
            ui::say("Does not lock at a set time any more");
        }
    }
    Ok(())
}

fn lock(archive: &Path, mounts: &[PathBuf], arguments: &Arguments) -> CommandResult {
    // Without its keeper an agent cannot tell who holds files, and locks by force on its own.
    let keeperless = if arguments.force { Keeperless::Counts } else { Keeperless::Ends };
    match settle(archive, keeperless)? {
        Settled::Unlocked(client, status) => lock_unlocked(client, &status, arguments),
        Settled::Locked(claim) => {
            unlock::clean_up_with(&claim, mounts)?;
            ui::say("Locked already");
            Ok(())
        }
    }
}

fn lock_unlocked(client: Client, status: &Status, arguments: &Arguments) -> CommandResult {
    let waits = matches!(status.sync.state, SyncState::Waiting | SyncState::Failing | SyncState::Running);
    if waits && status.sync.unpushed == Some(true) && status.sync.at_lock_millis > 0 && !arguments.no_sync {
        ui::say("Synchronising before the lock");
    }
    let mode = match (arguments.force, arguments.discard, arguments.wait) {
        (true, true, _) => LockMode::ForceAndDiscard,
        (true, false, _) => LockMode::Force,
        (false, _, Some(patience)) => LockMode::Wait(patience),
        (false, _, None) => LockMode::Refuse,
    };
    let last = if arguments.no_sync { LastSync::Skip } else { LastSync::Try };
    let unsent = match client.lock(status, mode, last) {
        Ok(unsent) => unsent,
        Err(AgentError::Refused(failure @ (Failure::NotCommitted(_) | Failure::ChangedElsewhere(_))))
            if mode == LockMode::Force =>
        {
            discard_after_asking(failure, &status.archive)?;
            None
        }
        Err(error) if error.is_hang_up() => return lock_after_hang_up(error, &status.archive, arguments),
        Err(error) => return Err(error.into()),
    };
    ui::say("Locked");
    if let Some(reason) = unsent {
        let place = status.sync.remote.as_deref().unwrap_or("the remote");
        ui::warn(format!(
            "not everything was sent to {place}: {}; it stays in the archive here until the next synchronisation",
            ui::printable(&reason)
        ));
    }
    Ok(())
}

/// Another command's lock may have ended the agent before it read ours. Or somebody killed it: then changes may be lost.
fn lock_after_hang_up(hang_up: AgentError, archive: &Path, arguments: &Arguments) -> CommandResult {
    match settle(archive, Keeperless::Counts)? {
        Settled::Unlocked(client, status) => lock_unlocked(client, &status, arguments),
        Settled::Locked(claim) if claim.was_locked_in_order() => {
            unlock::clean_up_with(&claim, &[])?;
            ui::say("Locked already");
            Ok(())
        }
        Settled::Locked(_) => Err(hang_up.into()),
    }
}

/// Locks although changes cannot be saved, when the user says so.
fn discard_after_asking(failure: Failure, archive: &Path) -> CommandResult {
    let error = CommandError::from(failure).hint("add --discard to lose those changes");
    ui::say(error.to_string().trim_end());
    match ui::confirm("Lock and lose these changes?") {
        Ok(true) => {}
        Ok(false) | Err(ui::AskError::NoTerminal) => return Err(error),
        Err(asked) => return Err(asked.into()),
    }
    match Client::find(archive)? {
        Some((client, status)) => Ok(client.lock(&status, LockMode::ForceAndDiscard, LastSync::Skip).map(drop)?),
        None => Ok(()),
    }
}
