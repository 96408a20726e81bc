//! What `unlock` and its kin say to an agent about synchronising on its own, and what they tell of merges.

use std::ffi::OsString;
use std::time::UNIX_EPOCH;

use crate::agent::client::Client;
use crate::agent::paths::VaultKey;
use crate::agent::protocol::Status;
use crate::agent::syncing::{SyncOff, SyncSettings};
use crate::config::{ConfigError, Plan};
use crate::remote;
use crate::sync::standing::Standing;
use crate::ui;

/// What the configuration says.
pub fn settings(plan: &Plan) -> SyncSettings {
    let place = plan.remote().map(|remote| remote::name_of(&remote.place)).ok();
    let standing = standing(plan);
    let agreed = standing.and_then(|standing| standing.agreed);
    SyncSettings {
        off: reason_against(plan),
        remote: place,
        quiet: plan.sync.quiet,
        every: plan.sync.every,
        at_lock: plan.sync.at_lock,
        pushed: standing.is_some_and(|standing| standing.pushed),
        last_success: agreed.and_then(|agreed| Some(agreed.duration_since(UNIX_EPOCH).ok()?.as_secs())),
    }
}

/// Why a vault is not synchronised on its own. A remote that is not trusted, or is wrong, is told each time: it may be settled.
pub fn reason_against(plan: &Plan) -> Option<SyncOff> {
    match plan.remote() {
        _ if !plan.sync.automatic => Some(SyncOff::Asked("the configuration says 'sync: false'".to_owned())),
        Err(ConfigError::NoRemote) => Some(SyncOff::NoRemote),
        _ => None,
    }
}

/// Has the agent of an unlocked vault try again what needed a person, after that person has done something.
pub fn settled(plan: &Plan) {
    let told = Client::connect(&plan.archive)
        .and_then(|client| client.map_or(Ok(()), |mut client| client.settle(settings(plan))));
    if let Err(error) = told {
        tracing::debug!(%error, "the agent was not told that something was settled");
    }
}

/// Tells of a configuration that its owner probably thinks to be in effect.
pub fn warn_of_configuration(plan: &Plan) {
    match plan.remote() {
        Err(error @ (ConfigError::Untrusted { .. } | ConfigError::Value { .. })) if plan.sync.automatic => {
            ui::warn(format!("the vault is not synchronised on its own: {error}; 'tazpod trust' shows it"));
        }
        _ => {}
    }
}

/// How the archive stands to the remote, where there is one.
pub fn standing(plan: &Plan) -> Option<Standing> {
    let place = remote::name_of(&plan.remote().ok()?.place);
    let state = VaultKey::of(&plan.archive).state_folder().ok()?;
    Some(Standing::of(&plan.archive, &state, &place))
}

/// Flags by which another process finds the same vault from any folder.
pub fn place(plan: &Plan) -> Vec<OsString> {
    let mut flags: Vec<OsString> = vec!["--vault".into(), plan.archive.clone().into()];
    flags.extend(["--mount".into(), plan.mount.clone().into()]);
    if let Some(project) = &plan.project {
        flags.extend(["--project".into(), project.clone().into()]);
    }
    flags
}

/// Tells whoever begins to work with an unlocked vault what merges put aside.
pub fn tell_conflicts(status: &Status) {
    let count = status.conflicts.count;
    if count > 0 {
        let dir = status.mounts.first().map_or_else(Default::default, |mount| mount.dir.clone());
        let files = ui::count(count, "file", "files");
        ui::warn(format!(
            "two machines edited the same: what had to make way is in {} ({files}); take what you need from there, and remove it",
            dir.join(".tazpod-conflicts").display()
        ));
    }
}
