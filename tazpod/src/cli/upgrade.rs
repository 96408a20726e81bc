//! `tazpod upgrade`

use std::fs::File;
use std::path::PathBuf;

use vaultfs::crypto::{CryptoError, KdfCost, Suite};
use vaultfs::vault::{OLD_SUFFIX, Vault};

use crate::agent::client::Client;
use crate::agent::protocol::Failure;
use crate::config::Plan;
use crate::error::{CommandError, CommandResult, Status};
use crate::ui;

use super::{Global, check, locked, passphrase};

/// Makes an archive of version 1 one of version 2. The old file stays beside it, as 'vault.tar.aes.v1', until you remove it
/// with --remove-old.
#[derive(clap::Args)]
pub struct Arguments {
    /// Removes the old file that an upgrade kept; not before the archive of version 2 was verified whole.
    #[arg(long)]
    remove_old: bool,
    #[command(flatten)]
    passphrase: passphrase::Source,
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult {
    let plan = global.plan()?;
    if arguments.remove_old {
        return remove_old(&plan, &arguments.passphrase);
    }
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
        "The old archive is {}; the old tool opens it as it is. 'tazpod upgrade --remove-old' removes it when all is well",
        kept.display()
    ));
    Ok(())
}

fn remove_old(plan: &Plan, source: &passphrase::Source) -> CommandResult {
    let archive = plan.archive.canonicalize().map_err(|_| Failure::NoArchive(plan.archive.clone()))?;
    let mut old = archive.clone().into_os_string();
    old.push(OLD_SUFFIX);
    let old = PathBuf::from(old);
    if old.symlink_metadata().is_err() {
        return Err(CommandError::new(
            Status::Failure,
            format!("there is no {}: nothing to be removed", old.display()),
        ));
    }
    let checked = check::look(plan, source)?;
    if checked.status != "sound" || checked.format != "v2" {
        let message = format!("{} is no sound archive of version 2: {} stays", archive.display(), old.display());
        return Err(CommandError::new(Status::Failure, message).hint("'tazpod check' tells more"));
    }
    let folder = archive.parent().unwrap_or(&archive);
    let removed = std::fs::remove_file(&old).and_then(|()| File::open(folder)?.sync_all());
    removed.map_err(|error| CommandError::caused(format!("cannot remove {}", old.display()), &error))?;
    ui::say(format!("Removed {}", old.display()));
    Ok(())
}
