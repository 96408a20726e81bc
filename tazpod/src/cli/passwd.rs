//! `tazpod passwd`

use vaultfs::vault::{KeyChange, Rekey};

use crate::agent::client::Client;
use crate::error::{CommandError, CommandResult};
use crate::ui;

use super::way_in::WayIn;
use super::{Global, inside, locked, passphrase};

/// What a terminal is asked first.
const QUESTION: &str = "Present passphrase: ";

/// Changes the passphrase. Works on a locked and on an unlocked vault. Who lost it proves themselves with a recovery key or another
/// identity.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    way_in: WayIn,
    #[command(flatten)]
    new_passphrase: passphrase::NewSource,
    /// Keeps the key that content is sealed under, and only wraps it anew (version 2): quick, but whoever had the old passphrase
    /// and a copy of the archive can read later copies too.
    #[arg(long)]
    keep_key: bool,
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult {
    let plan = global.plan()?;
    inside::prepare_for_new_key(&plan)?;
    let rekey = if arguments.keep_key { Rekey::KeepMaster } else { Rekey::NewMaster };
    let new_source = arguments.new_passphrase.source();
    match Client::connect(&plan.archive)? {
        Some(mut client) => {
            // Asked for once, however often the present one is mistyped.
            let mut new = None;
            arguments.way_in.try_with(QUESTION, |old| {
                let new = match &mut new {
                    Some(new) => new,
                    empty => empty.insert(new_source.choose()?),
                };
                Ok(client.change_passphrase(old, new, rekey)?)
            })?;
        }
        None => {
            let (vault, old) = locked::open(&plan, &arguments.way_in, QUESTION)?;
            vault.change_keys(&old, KeyChange::Passphrase { new: new_source.choose()?, rekey })?;
            vault.close().map_err(|(_, error)| CommandError::caused("the archive cannot be closed", &*error))?;
        }
    }
    ui::say("The passphrase is changed. Copies of the archive made before still open with the old one.");
    Ok(())
}
