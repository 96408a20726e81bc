//! A vault that the remote holds already when a new one is about to be made: it is fetched, so that nobody has two by mistake.

use crate::error::{CommandError, CommandResult, Status};
use crate::remote::RemoteError;
use crate::ui;

use super::remote_access::{RemoteAccess, Watcher};
use super::{Global, init, pull};

/// Fetches it, if a remote that counts holds one and nobody wants another.
pub fn is_fetched(global: &Global, arguments: &init::Arguments) -> CommandResult<bool> {
    if arguments.wants_new_vault() {
        return Ok(false);
    }
    let plan = global.plan()?;
    let Ok(remote) = plan.remote().cloned() else { return Ok(false) };
    let access = RemoteAccess::of(plan, remote, Watcher::Person)?;
    let place = access.remote.place();
    match access.remote.heads() {
        Ok(heads) if heads.is_empty() => return Ok(false),
        Ok(_) => {}
        Err(error) => return goes_on_unseen(&place, error, arguments).map(|()| false),
    }
    if arguments.says_yes() {
        ui::say(format!("{place} holds a vault already, which is fetched"));
    } else {
        match ui::agree(&format!("{place} holds a vault already. Fetch it, rather than make a second one?")) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(ui::AskError::NoTerminal) => return Err(second(&place)),
            Err(error) => return Err(error.into()),
        }
    }
    pull::first_pull(&access)?;
    Ok(true)
}

fn second(place: &str) -> CommandError {
    CommandError::new(Status::Failure, format!("{place} holds a vault already, and no second one was made")).hint(
        "'tazpod pull' fetches it; 'tazpod init --new-vault' makes another one, which cannot be sent to the same place",
    )
}

/// Offline, a vault can be made all the same; a push refuses to mix two of them.
fn goes_on_unseen(place: &str, error: RemoteError, arguments: &init::Arguments) -> CommandResult {
    let is_storage_missing = matches!(error, RemoteError::NoStorage(_));
    let reason = CommandError::from(error).summary();
    ui::warn(format!("it cannot be seen whether {place} holds a vault already: {reason}"));
    if arguments.says_yes() || is_storage_missing {
        ui::say("Where it does, move the new one away and run 'tazpod pull'");
        return Ok(());
    }
    match ui::confirm("Make a new vault all the same?") {
        Ok(false) => {
            Err(CommandError::new(Status::Remote, "no vault was made").hint("run 'tazpod pull' when it can be reached"))
        }
        Ok(true) | Err(ui::AskError::NoTerminal) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
