//! The way from a command to the remote: the configuration must be trusted, and credentials may lie in the unlocked vault.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::agent::client::Client;
use crate::agent::paths::VaultKey;
use crate::config::{self, Plan, RemotePlan};
use crate::error::{CommandError, CommandResult, Status};
use crate::remote::credentials::{VAULT_FILE_MAX, VaultFiles};
use crate::remote::probe::Outcome;
use crate::remote::{self, Conditions, Description, Head, Remote, Version};
use crate::sync::base::Base;
use crate::sync::heads;

use super::{Global, locked};

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
        let remote = remote::open(&remote_plan.place, &mut vault_files(&plan)?, known.as_ref())?;
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

/// The configuration, whose remote counts only when its file is trusted; a terminal is asked.
pub fn plans(global: &Global) -> CommandResult<(Plan, RemotePlan)> {
    global.plan_with(|plan| plan.remote().cloned())
}

/// What the vault holds of credentials, read through its own mount while it is unlocked, and what a bridge to the home covers.
pub fn vault_files(plan: &Plan) -> CommandResult<VaultFiles> {
    let Some((_, status)) = Client::find(&plan.archive)? else { return Ok(VaultFiles::default()) };
    let Some(mount) = status.mounts.iter().find(|mount| mount.subtree.is_empty()) else {
        return Ok(VaultFiles::default());
    };
    let files = VaultFiles::read(|path| read_small(&mount.dir.join(path)));
    let home = config::default_bridge().map(|bridge| bridge.target);
    let covered = status.bridges.into_iter().find(|bridge| Some(&bridge.target) == home.as_ref());
    Ok(match covered.and_then(|bridge| bridge.underneath) {
        Some(folder) => files.over(folder.clone(), |path| read_small(&folder.join(path.strip_prefix(".aws/")?))),
        None => files,
    })
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
