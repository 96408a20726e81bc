//! Commands of this machine for a vault that is unlocked in the container (`vault.inside`). Which containers have one is remembered since
//! they were made: locking needs no configuration.

use crate::agent::protocol::Status as VaultStatus;
use crate::config::Plan;
use crate::container::{self, Engine, Found, Patience, State};
use crate::error::{CommandError, CommandResult, Status};
use crate::inside::call::Side;
use crate::inside::copies::{Copies, Moved};
use crate::ui;

use super::development::Development;
use super::remote_access::most;
use super::views::{self, ContainerNote};
use super::{Global, enter};

/// The container of a plan, if its vault is to be unlocked inside. What counts only from a trusted file is asked for on a terminal.
pub fn wanted(global: &Global, plan: Plan) -> CommandResult<Result<Development, Plan>> {
    let (plan, inside) = global.part_of(plan, Plan::is_inside)?;
    match inside? {
        true => Development::of(global, plan).map(Ok),
        false => Ok(Err(plan)),
    }
}

/// Whether containers of the project were made to unlock the vault inside.
pub fn is_noted(plan: &Plan) -> bool {
    !notes(plan).is_empty()
}

/// Who names only the archive means what is on this machine.
fn notes(plan: &Plan) -> Vec<ContainerNote> {
    let is_ours = |note: &ContainerNote| note.is_inside && plan.project.as_ref() == Some(&note.project);
    views::known(&plan.archive).into_iter().filter(is_ours).collect()
}

/// Those that run. One that is paused is asked in vain, and what is unlocked in it stays so.
pub fn running(plan: &Plan, patience: Patience) -> CommandResult<Vec<Side>> {
    let mut sides = Vec::new();
    for note in notes(plan) {
        let engine = Engine::connect(patience)?;
        let found = container::find(&engine, &note.name, &note.project)?;
        match found.filter(|found| found.is_inside) {
            Some(found) if found.state == State::Paused => {
                let text = format!("the container '{}' is paused, and whatever is unlocked in it stays so", found.name);
                return Err(CommandError::new(Status::Container, text).hint("'tazpod up' has it go on"));
            }
            Some(found) if found.state == State::Running => sides.push(Side::reach(engine, found)?),
            _ => {}
        }
    }
    Ok(sides)
}

/// Both copies of a plan's archive.
pub fn copies<'a>(side: &'a Side, plan: &'a Plan) -> CommandResult<Copies<'a>> {
    Copies::new(side, &plan.archive, most(plan))
}

/// Whether it is unlocked there.
pub fn is_unlocked(side: &Side, plan: &Plan) -> CommandResult<bool> {
    Ok(copies(side, plan)?.present()?.unlocked)
}

/// Whether it is unlocked in any of the containers that run.
pub fn is_unlocked_anywhere(plan: &Plan) -> CommandResult<bool> {
    is_unlocked_in_any(&running(plan, Patience::Usual)?, plan)
}

fn is_unlocked_in_any(sides: &[Side], plan: &Plan) -> CommandResult<bool> {
    for side in sides {
        if is_unlocked(side, plan)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Brings the archive here and those inside in step, for commands that have done what they are for, or do it all the same: what does not
/// work is told.
pub fn try_to_bring_in_step(plan: &Plan) {
    tell(running(plan, Patience::Usual).and_then(|sides| settle_all(&sides, plan)));
}

/// The same with one container.
pub fn try_to_settle(side: &Side, plan: &Plan) {
    tell(settle(side, plan).map(drop));
}

fn tell(outcome: CommandResult) {
    if let Err(error) = outcome {
        ui::warn(format!("the archives here and in the container were not brought in step: {}", error.summary()));
    }
}

/// Brings both in step; tells where that has to wait.
pub fn settle(side: &Side, plan: &Plan) -> CommandResult<Moved> {
    let moved = copies(side, plan)?.settle()?;
    if moved.diverged {
        ui::warn(
            "the archive here and the one in the container both went on: 'tazpod unlock' merges them, inside; nothing is lost",
        );
    }
    Ok(moved)
}

fn settle_all(sides: &[Side], plan: &Plan) -> CommandResult {
    sides.iter().try_for_each(|side| settle(side, plan).map(drop))
}

/// For an unlock here: the vault is not unlocked in a container that was made for that, whatever the configuration says now. Who cannot
/// reach its engine may unlock it all the same: what both change is merged.
pub fn check_locked_there(plan: &Plan) -> CommandResult {
    match running(plan, Patience::Usual).and_then(|sides| require_locked_in(&sides, plan)) {
        Err(error) if error.status == Status::Container => {
            ui::warn(format!("nobody knows whether it is unlocked in the container: {}", error.summary()));
            Ok(())
        }
        outcome => outcome,
    }
}

fn require_locked_in(sides: &[Side], plan: &Plan) -> CommandResult {
    if is_unlocked_in_any(sides, plan)? {
        return Err(
            CommandError::new(Status::Failure, "the vault is unlocked in the container").hint("'tazpod lock' first")
        );
    }
    Ok(())
}

/// For commands that put the archive here under another key or into another format: what was committed inside is here before, since two
/// copies under two keys are not merged without both.
pub fn prepare_for_new_key(plan: &Plan) -> CommandResult {
    let sides = running(plan, Patience::Usual)?;
    require_locked_in(&sides, plan)?;
    if is_noted(plan) && sides.is_empty() {
        ui::warn("the container does not run: what was committed inside and is not here yet is not under the new key");
    }
    settle_all(&sides, plan)
}

/// The way to the vault in the container, which must run.
pub fn reach(development: &Development) -> CommandResult<Side> {
    let found = enter::running(development)?;
    require_inside(&found)?;
    Side::connect(found)
}

/// A container that was made before the configuration said so has no place for a vault.
fn require_inside(found: &Found) -> CommandResult {
    if found.is_inside {
        return Ok(());
    }
    let text = format!("the container '{}' was made without 'vault.inside'", found.name);
    Err(CommandError::new(Status::Container, text).hint("'tazpod up --recreate' makes it anew"))
}

/// Locks it there, and brings what was committed to the archive here.
pub fn lock(side: &Side, plan: &Plan, flags: &[&str]) -> CommandResult {
    let was_unlocked = is_unlocked(side, plan)?;
    if was_unlocked {
        side.call(&[&["lock", "--no-sync"], flags].concat(), b"")?;
        ui::say(format!("Locked in the container '{}'", side.found.name));
    }
    settle(side, plan)?;
    if !was_unlocked {
        ui::say("Locked already");
    }
    Ok(())
}

/// Has it lock later, by `lock --after`.
pub fn lock_after(plan: &Plan, when: &str) -> CommandResult {
    let sides = running(plan, Patience::Usual)?;
    if sides.is_empty() {
        return Err(locked_error(plan));
    }
    for side in sides {
        side.call(&["lock", "--after", when], b"")?;
        ui::say(format!("The vault in the container '{}' was told", side.found.name));
    }
    Ok(())
}

/// The same as [`lock`] for a container that is to go: programs inside end with it. Only what cannot be saved there stops it; the volume
/// keeps what does not come here.
pub fn lock_for_removal(engine: &Engine, found: &Found, plan: &Plan) -> CommandResult {
    match found.state {
        State::Running if found.is_inside => {}
        State::Paused if found.is_inside => container::start(engine, found)?,
        _ => return Ok(()),
    }
    lock_in_time(found, plan).inspect_err(|_| {
        ui::say(format!("'docker rm -f {}' removes the container all the same, and leaves its volume", found.name));
    })
}

fn lock_in_time(found: &Found, plan: &Plan) -> CommandResult {
    let side = Side::connect(found.clone())?;
    if is_unlocked(&side, plan)? {
        side.call(&["lock", "--no-sync", "--force"], b"")?;
        ui::say(format!("Locked in the container '{}'", found.name));
    }
    if let Err(error) = settle(&side, plan) {
        ui::warn(format!("what was committed inside stays in the volume, and is not here yet: {}", error.summary()));
    }
    Ok(())
}

/// Whether the archive here holds all that is inside.
pub fn require_brought_back(found: &Found, plan: &Plan) -> CommandResult {
    let refused = |text: &str| {
        CommandError::new(Status::Failure, text)
            .hint("'tazpod up', 'tazpod unlock' and 'tazpod lock' bring it here; then again")
    };
    if found.state != State::Running {
        return Err(refused(
            "the container does not run: nobody knows whether its volume holds something that is not here",
        ));
    }
    let side = Side::connect(found.clone())?;
    match copies(&side, plan)?.settle()?.diverged {
        true => Err(refused("the volume of the container holds something that is not in the archive here")),
        false => Ok(()),
    }
}

/// How a vault stands that is not unlocked here.
pub enum Elsewhere {
    /// In no container.
    Locked,
    /// In the container of this name.
    Unlocked(String, Box<VaultStatus>),
    /// Why nobody knows.
    Unknown(CommandError),
}

/// Tells it quickly.
pub fn status(plan: &Plan) -> Elsewhere {
    let find = || {
        for side in running(plan, Patience::Short)? {
            if is_unlocked(&side, plan)? {
                let status = side.call_json(&["status", "--json"])?;
                return Ok(Elsewhere::Unlocked(side.found.name, Box::new(status)));
            }
        }
        Ok(Elsewhere::Locked)
    };
    find().unwrap_or_else(Elsewhere::Unknown)
}

/// Commits what was changed inside, and brings it here; tells whether there was an unlocked vault.
pub fn save(plan: &Plan) -> CommandResult<bool> {
    let mut saved = false;
    for side in running(plan, Patience::Usual)? {
        if is_unlocked(&side, plan)? {
            side.call(&["save"], b"")?;
            settle(&side, plan)?;
            saved = true;
        }
    }
    Ok(saved)
}

/// The error of a vault that is locked here, for commands that need it here.
pub fn locked_error(plan: &Plan) -> CommandError {
    let error = CommandError::locked(&plan.archive);
    match is_noted(plan) {
        false => error,
        true => error.hint(
            "with 'vault.inside' it is unlocked in the container only: 'tazpod run --in-container' and 'tazpod enter' see it there",
        ),
    }
}
