//! `tazpod upgrade`

use std::fs::File;
use std::path::PathBuf;

use vaultfs::crypto::{KdfCost, Suite};
use vaultfs::vault::{ArchiveFormat, OLD_SUFFIX, Secret, Vault};

use crate::agent::client::Client;
use crate::agent::paths::VaultKey;
use crate::agent::protocol::Failure;
use crate::config::Plan;
use crate::error::{CommandError, CommandResult, Status};
use crate::sync::upgraded;
use crate::ui;

use super::way_in::WayIn;
use super::{Global, check, inside, locked};

/// Makes an archive of version 1 one of version 2. The old file stays beside it, as 'vault.tar.aes.v1', until you remove it
/// with --remove-old.
#[derive(clap::Args)]
pub struct Arguments {
    /// Removes the old file that an upgrade kept; not before the archive of version 2 was verified whole.
    #[arg(long)]
    remove_old: bool,
    #[command(flatten)]
    way_in: WayIn,
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult {
    let plan = global.plan()?;
    inside::prepare_for_new_key(&plan)?;
    if arguments.remove_old {
        return remove_old(&plan, &arguments.way_in);
    }
    if Client::find(&plan.archive)?.is_some() {
        return Err(CommandError::new(Status::Failure, "the vault is unlocked").hint("run 'tazpod lock' first"));
    }
    locked::protect_process()?;
    locked::require_archive(&plan)?;
    if ArchiveFormat::of(&plan.archive)? == ArchiveFormat::V2 {
        let text = format!("{} is of version 2 already: there is nothing to upgrade", plan.archive.display());
        return Err(CommandError::new(Status::Failure, text));
    }
    let options = locked::options(&plan)?;
    let kept = arguments.way_in.try_with(&locked::question(&plan), |secret| {
        let Secret::Passphrase(passphrase) = secret else {
            return Err(CommandError::new(Status::Usage, "an archive of version 1 opens with its passphrase only")
                .hint("give that; --identity is for 'tazpod upgrade --remove-old'"));
        };
        let copy = passphrase.duplicate().map_err(CommandError::secret_memory)?;
        let cost = KdfCost::calibrate().map_err(|error| CommandError::caused("the key derivation fails", &error))?;
        Ok(Vault::upgrade(&plan.archive, copy, Suite::of_this_machine(), cost, &options)?)
    })?;
    let noted = VaultKey::of(&plan.archive).state_folder().and_then(|state| upgraded::note(&state, &plan.archive));
    if let Err(error) = noted {
        ui::warn(format!(
            "the upgrade cannot be noted ({error}): where another machine upgrades the vault too, both stay apart"
        ));
    }
    ui::say(format!("{} is of version 2 now", plan.archive.display()));
    ui::say(format!(
        "The old archive is {}; the old tool opens it as it is. 'tazpod upgrade --remove-old' removes it when all is well",
        kept.display()
    ));
    Ok(())
}

fn remove_old(plan: &Plan, way_in: &WayIn) -> CommandResult {
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
    let checked = check::look(plan, way_in)?;
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
