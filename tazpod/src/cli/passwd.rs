//! `tazpod passwd`

use vaultfs::vault::Rekey;

use crate::agent::client::Client;
use crate::error::{CommandError, CommandResult};
use crate::ui;

use super::{Global, locked, passphrase};

/// What a terminal is asked first.
const QUESTION: &str = "Present passphrase: ";

/// Changes the passphrase. Works on a locked and on an unlocked vault.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    passphrase: passphrase::Source,
    #[command(flatten)]
    new_passphrase: passphrase::NewSource,
    /// Keeps the key that content is sealed under, and only wraps it anew (version 2): quick, but whoever had the old passphrase
    /// and a copy of the archive can read later copies too.
    #[arg(long)]
    keep_key: bool,
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult {
    let plan = global.plan()?;
    let source = arguments.passphrase.clone().or_environment();
    let rekey = if arguments.keep_key { Rekey::KeepMaster } else { Rekey::NewMaster };
    let new_source = arguments.new_passphrase.source();
    match Client::connect(&plan.archive)? {
        Some(mut client) => {
            // Asked for once, however often the present one is mistyped.
            let mut new = None;
            source.try_with(QUESTION, |old| {
                let new = match &mut new {
                    Some(new) => new,
                    empty => empty.insert(new_source.choose()?),
                };
                Ok(client.change_passphrase(old, new, rekey)?)
            })?;
        }
        None => {
            let (vault, old) = locked::open(&plan, &source, QUESTION)?;
            vault.change_passphrase(&old, new_source.choose()?, rekey)?;
            vault.close().map_err(|(_, error)| CommandError::caused("the archive cannot be closed", &*error))?;
        }
    }
    ui::say("The passphrase is changed. Copies of the archive made before still open with the old one.");
    Ok(())
}
