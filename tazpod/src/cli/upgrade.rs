//! `tazpod upgrade`

use vaultfs::crypto::{CryptoError, KdfCost, Suite};
use vaultfs::vault::Vault;

use crate::agent::client::Client;
use crate::error::{CommandError, CommandResult, Status};
use crate::ui;

use super::{Global, locked, passphrase};

/// Makes an archive of version 1 one of version 2. The old file stays beside it, as 'vault.tar.aes.v1', until you remove it.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    passphrase: passphrase::Source,
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult {
    let plan = global.plan()?;
    if Client::find(&plan.archive)?.is_some() {
        return Err(CommandError::new(Status::Failure, "the vault is unlocked").hint("run 'tazpod lock' first"));
    }
    locked::protect_process()?;
    locked::require_archive(&plan)?;
    let options = locked::options(&plan)?;
    let source = arguments.passphrase.clone().or_environment();
    let kept = source.try_with(&locked::question(&plan), |passphrase| {
        let copy =
            passphrase.duplicate().map_err(|error: CryptoError| CommandError::caused("secret memory fails", &error))?;
        let cost = KdfCost::calibrate().map_err(|error| CommandError::caused("the key derivation fails", &error))?;
        Ok(Vault::upgrade(&plan.archive, copy, Suite::of_this_machine(), cost, &options)?)
    })?;
    ui::say(format!("{} is of version 2 now", plan.archive.display()));
    ui::say(format!(
        "The old archive is {}: remove it when all is well; the old tool opens it as it is",
        kept.display()
    ));
    Ok(())
}
