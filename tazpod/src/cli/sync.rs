//! `tazpod sync`

use crate::error::CommandResult;

use super::pull;
use super::push::{self, Pushed};
use super::remote_access::{RemoteAccess, What};
use super::take_over::{Taken, Ways, take_over};
use super::{Global, inside};

/// How often both are done again when another machine is faster.
const TRIES: usize = 8;

/// Takes over what the remote has, as pull does, and sends what is here, as push does; again where another machine was faster.
#[derive(clap::Args)]
pub struct Arguments {
    /// What to synchronise.
    #[arg(value_enum, default_value_t = What::Vault)]
    what: What,
    /// Sends it also where two machines could overwrite each other unseen.
    #[arg(long)]
    unsafe_remote: bool,
    #[command(flatten)]
    ways: Ways,
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult {
    let What::Vault = arguments.what;
    let access = RemoteAccess::open(global)?;
    inside::try_to_bring_in_step(&access.vault);
    let turn = access.turn()?;
    match access.vault.archive.exists() {
        false => pull::first_pull(&access)?,
        true => synchronise(&access, &arguments.ways, arguments.unsafe_remote)?,
    }
    drop(turn);
    inside::try_to_bring_in_step(&access.vault);
    Ok(())
}

/// Takes over and sends, and both again where another machine was faster.
pub fn synchronise(access: &RemoteAccess, ways: &Ways, unsafe_remote: bool) -> CommandResult {
    for _ in 0..TRIES {
        let (taken, heads) = take_over(access, ways)?;
        if taken == Taken::Nothing {
            access.say("Nothing to synchronise");
            return access.note_fetched();
        }
        if matches!(taken, Taken::Forward | Taken::Merged) {
            let how = if matches!(taken, Taken::Forward) { "Pulled from" } else { "Merged with" };
            access.say(format!("{how} {}", access.remote.place()));
        }
        access.leave_heads(heads);
        match push::push(access, unsafe_remote)? {
            Pushed::Conflict | Pushed::RemoteIsNewer => {}
            Pushed::Done => return Ok(()),
            Pushed::Nothing => {
                if taken == Taken::Ahead {
                    access.say("Nothing to synchronise");
                }
                return Ok(());
            }
        }
    }
    Err(push::conflict(access).passing())
}
