//! The way from a command to the remote: the configuration must be trusted, and credentials may lie in the unlocked vault.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::agent::client::Client;
use crate::agent::paths::VaultKey;
use crate::config::{ConfigError, Plan, RemotePlan};
use crate::error::{CommandError, CommandResult, Status};
use crate::remote::credentials::{VAULT_FILE_MAX, VaultFiles};
use crate::remote::probe::Outcome;
use crate::remote::transfer::Transfers;
use crate::remote::{self, Conditions, Description, Head, Remote, Version};
use crate::sync::base::Base;
use crate::sync::heads;
use crate::ui;

use super::bar::TransferBar;
use super::{Global, locked, trust};

/// What is sent and fetched.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum What {
    /// The archive.
    Vault,
}

/// A remote, opened; nothing went over the network yet.
pub struct RemoteAccess {
    /// What the configuration says.
    pub plan: RemotePlan,
    /// The remote.
    pub remote: Box<dyn Remote>,
    /// All that is configured.
    pub vault: Plan,
    /// The vault's state folder.
    pub state: PathBuf,
}

impl RemoteAccess {
    /// Opens the remote of the plan.
    pub fn open(global: &Global) -> CommandResult<Self> {
        let (plan, remote_plan) = plans(global)?;
        // Keys pass through this process.
        locked::protect_process()?;
        let state = VaultKey::of(&plan.archive).state_folder();
        let state = state.map_err(|error| CommandError::caused("the state folder cannot be used", &error))?;
        let known = Outcome::remembered(&state, &remote::name_of(&remote_plan.place));
        let known = known.map(|outcome| outcome.conditions);
        let mut remote = remote::open(&remote_plan.place, &mut vault_files(&plan)?, known.as_ref())?;
        remote.set_transfers(Transfers::new(TransferBar::on_terminal(), most(&plan)));
        Ok(Self { plan: remote_plan, remote, vault: plan, state })
    }

    /// What a probe found before.
    pub fn remembered(&self) -> Option<Outcome> {
        Outcome::remembered(&self.state, &self.remote.place())
    }

    /// What the remote holds.
    pub fn heads(&self, base: Option<&Base>) -> CommandResult<Vec<Head>> {
        Ok(heads::look(&*self.remote, base, &self.state)?)
    }

    /// Remembers what this machine and the remote agree on.
    pub fn record(
        &self,
        versions: Vec<Version>,
        description: Description,
        copy: tempfile::NamedTempFile,
    ) -> CommandResult<Base> {
        Base::record(&self.state, &self.remote.place(), versions, description, copy)
            .map_err(|error| CommandError::caused("the state folder cannot be written", &error))
    }

    /// Tells the agent of an unlocked vault what other machines may know; it forgets that when the vault is locked.
    pub fn note_shared(&self) -> CommandResult {
        if let Some(mut client) = Client::connect(&self.vault.archive)? {
            client.note_shared(Base::files(&self.state))?;
        }
        Ok(())
    }

    /// Probes and remembers what was found.
    pub fn probe(&self) -> CommandResult<Conditions> {
        let found = self.remote.probe()?;
        Outcome::remember(&self.state, &self.remote.place(), found.clone())
            .map_err(|error| CommandError::caused("the outcome cannot be remembered", &error))?;
        Ok(found)
    }
}

/// The most bytes that an archive of this vault can have: with all that a vault holds between two compactions, and room for more.
fn most(plan: &Plan) -> u64 {
    const LEAST: u64 = 64 << 20;
    plan.size_limit.saturating_mul(8).saturating_add(LEAST)
}

/// The configuration, whose remote counts only when its file is trusted; a terminal is asked.
pub fn plans(global: &Global) -> CommandResult<(Plan, RemotePlan)> {
    let plan = global.plan()?;
    match plan.remote() {
        Ok(remote) => {
            let remote = remote.clone();
            Ok((plan, remote))
        }
        Err(ConfigError::Untrusted { file, keys }) => match trust::ask(&file) {
            Ok(true) => {
                let plan = global.plan()?;
                let remote = plan.remote()?.clone();
                Ok((plan, remote))
            }
            Ok(false) | Err(ui::AskError::NoTerminal) => Err(ConfigError::Untrusted { file, keys }.into()),
            Err(error) => Err(error.into()),
        },
        Err(error) => Err(error.into()),
    }
}

/// What the vault holds of credentials, read through its own mount while it is unlocked.
pub fn vault_files(plan: &Plan) -> CommandResult<VaultFiles> {
    let Some(folder) = vault_folder(plan)? else { return Ok(VaultFiles::default()) };
    Ok(VaultFiles::read(|path| read_small(&folder.join(path))))
}

/// Where the whole vault is mounted while it is unlocked.
pub fn vault_folder(plan: &Plan) -> CommandResult<Option<PathBuf>> {
    let Some((_, status)) = Client::find(&plan.archive)? else { return Ok(None) };
    Ok(status.mounts.into_iter().find(|mount| mount.subtree.is_empty()).map(|mount| mount.dir))
}

fn read_small(path: &Path) -> Option<Zeroizing<Vec<u8>>> {
    if !std::fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(path).ok()?.take(VAULT_FILE_MAX + 1).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The error of a place that keeps no conditions.
pub fn unsafe_place(place: &str, reason: &str) -> CommandError {
    CommandError::new(Status::Remote, format!("{place} does not keep conditions: {reason}")).hint(
        "two machines could overwrite each other's work there unseen, so nothing is sent to it on its own; use another store, \
         or a directory remote",
    )
}
