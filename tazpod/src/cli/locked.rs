//! Where an unlocked vault is, and one that no agent has, opened within a command.

use std::path::PathBuf;

use vaultfs::vault::{Acceptance, Secret, Vault, VaultOptions};

use crate::agent::client::Client;
use crate::agent::machine::{this_machine, vault_options};
use crate::agent::notice;
use crate::agent::protocol::{Failure, Status};
use crate::agent::sys;
use crate::config::Plan;
use crate::error::{CommandError, CommandResult};
use crate::ui;

use super::way_in::WayIn;

/// Opens it with what the flags name, which is asked for again while it is wrong; returns the right one too.
pub fn open(plan: &Plan, way_in: &WayIn, question: &str) -> CommandResult<(Vault, Secret)> {
    open_with(plan, way_in, question, options(plan)?)
}

/// The same with other options.
pub fn open_with(plan: &Plan, way_in: &WayIn, question: &str, options: VaultOptions) -> CommandResult<(Vault, Secret)> {
    protect_process()?;
    require_archive(plan)?;
    way_in.try_with(question, |secret| {
        let copy = || secret.duplicate().map_err(CommandError::secret_memory);
        let (vault, report) = Vault::open_with(&plan.archive, copy()?, &options)?;
        report.warnings.iter().map(notice::words).for_each(ui::warn);
        Ok((vault, copy()?))
    })
}

/// Options of the plan's vault; nothing that looks like an attack is accepted.
pub fn options(plan: &Plan) -> CommandResult<VaultOptions> {
    let acceptance = Acceptance::default();
    let machine = this_machine().map_err(|error| CommandError::caused("there is no randomness", &error))?;
    Ok(vault_options(&plan.archive, plan.size_limit, plan.commit_delay, machine, acceptance))
}

/// What a terminal is asked.
pub fn question(plan: &Plan) -> String {
    format!("Passphrase for {}: ", plan.archive.display())
}

/// Says that there is no archive before anybody types a passphrase for it.
pub fn require_archive(plan: &Plan) -> CommandResult {
    match plan.archive.exists() {
        true => Ok(()),
        false => Err(Failure::NoArchive(plan.archive.clone()).into()),
    }
}

/// Where the whole vault is mounted; `None`: it is locked.
pub fn vault_folder(plan: &Plan) -> CommandResult<Option<PathBuf>> {
    Ok(Client::find(&plan.archive)?.and_then(|(_, status)| whole_vault(status)))
}

/// The same of an unlocked one whose status is known.
pub fn whole_vault(status: Status) -> Option<PathBuf> {
    status.mounts.into_iter().find(|mount| mount.subtree.is_empty()).map(|mount| mount.dir)
}

/// To be called before a passphrase is in this process, which may still unlock the vault.
pub fn protect_process() -> CommandResult {
    sys::hide().map_err(|error| CommandError::caused("the process cannot be protected", &error))
}
