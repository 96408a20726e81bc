//! `tazpod unlock`

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use vaultfs::vault::Secret;

use crate::agent::auto_lock::Rules;
use crate::agent::bridges::BridgeRequest;
use crate::agent::machine::this_machine;
use crate::agent::paths::{self, NotedEnd, VaultKey};
use crate::agent::protocol::Settings;
use crate::agent::stale::{self, Claim, Taken};
use crate::agent::start::{Keeperless, Settled, Started, settle, start};
use crate::agent::syncing::{SyncOff, SyncSettings};
use crate::agent::{self, client::Client};
use crate::config::{self, CommitMode, Plan};
use crate::error::{CommandError, CommandResult, Status};
use crate::sync::base::Base;
use crate::ui;

use super::way_in::WayIn;
use super::{Global, automatic, bridges, inside, locked, places, unlock_inside, views};

/// Unlocks the vault: asks for the passphrase, or takes an identity, and mounts it.
#[derive(clap::Args)]
pub struct Arguments {
    /// Mounts it so that it can only be read.
    #[arg(long)]
    read_only: bool,
    #[command(flatten)]
    way_in: WayIn,
    /// Takes an archive that is older than what this machine has seen of the vault, or goes back to another state (version 2).
    #[arg(long)]
    accept_rollback: bool,
    /// Takes an archive whose key this machine has not seen: the passphrase was changed elsewhere (version 2).
    #[arg(long)]
    accept_new_key: bool,
    /// Makes no bridges, neither those of the configuration nor the one at ~/.aws.
    #[arg(long)]
    no_bridges: bool,
    /// Does not synchronise it on its own until it is locked; so does TAZPOD_SYNC=off.
    #[arg(long)]
    no_sync: bool,
    #[arg(long, hide = true, env = "TAZPOD_SYNC", value_enum, default_value_t = Switch::On)]
    sync: Switch,
    /// Lets other users in, as far as modes allow (needs user_allow_other in /etc/fuse.conf, or root).
    #[arg(long, hide = true)]
    allow_other: bool,
}

/// `TAZPOD_SYNC`
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Switch {
    /// As the configuration says.
    On,
    Off,
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult {
    let plan = match inside::wanted(global, global.plan()?)? {
        Ok(development) => return unlock_inside::run(&development, arguments),
        Err(plan) => plan,
    };
    inside::check_locked_there(&plan)?;
    if let Settled::Unlocked(_, status) = settle(&plan.archive, Keeperless::Ends)? {
        tell_where(&status);
        if arguments.read_only && !status.read_only {
            ui::warn("it can be written; 'tazpod lock', then unlock it with --read-only");
        }
        return complete(global, plan, arguments, &status);
    }
    let unlock = Unlock::prepare(global, plan, arguments)?;
    arguments.way_in.try_with(&locked::question(&unlock.plan), |secret| unlock.with(secret))
}

/// Makes what an unlock could not make then.
fn complete(global: &Global, plan: Plan, arguments: &Arguments, status: &agent::protocol::Status) -> CommandResult {
    views::mount_missing(&plan);
    if arguments.no_bridges {
        return Ok(());
    }
    match bridges::wanted(global, plan) {
        Ok((plan, wanted)) => make_bridges(&plan, bridges::missing(wanted, status)),
        Err(error) => warn_of_bridges(&error),
    }
    Ok(())
}

/// Unlocks a locked vault for who knows already what opens it.
pub fn with(global: &Global, arguments: &Arguments, secret: &Secret) -> CommandResult {
    match inside::wanted(global, global.plan()?)? {
        Ok(development) => unlock_inside::run_knowing(&development, arguments, secret),
        Err(plan) => Unlock::prepare(global, plan, arguments)?.with(secret),
    }
}

impl Arguments {
    /// What it is opened with.
    pub fn way_in(&self) -> &WayIn {
        &self.way_in
    }

    /// Flags that the program in a container gets as well.
    pub fn words_for_inside(&self) -> Vec<&'static str> {
        let flags = [
            (self.read_only, "--read-only"),
            (self.accept_rollback, "--accept-rollback"),
            (self.accept_new_key, "--accept-new-key"),
        ];
        flags.into_iter().filter_map(|(is_set, flag)| is_set.then_some(flag)).collect()
    }
}

/// All that is decided before the passphrase is known.
struct Unlock {
    plan: Plan,
    settings: Settings,
    place: Vec<OsString>,
    bridges: Vec<BridgeRequest>,
    covered: places::Covered,
    log_level: &'static str,
}

impl Unlock {
    fn prepare(global: &Global, plan: Plan, arguments: &Arguments) -> CommandResult<Self> {
        clean_up(&plan)?;
        check_places(&plan)?;
        let (plan, bridges) = if arguments.no_bridges { (plan, Vec::new()) } else { bridges::wanted(global, plan)? };
        let settings = settings(&plan, arguments)?;
        let mut place = automatic::place(&plan);
        place.extend(global.debug.then(|| "--debug".into()));
        let covered = places::Covered::by(&plan.mount);
        Ok(Self { plan, settings, place, bridges, covered, log_level: global.log_level() })
    }

    fn with(&self, secret: &Secret) -> CommandResult {
        let plan = &self.plan;
        match start(&self.settings, secret, self.log_level, &self.place)? {
            Started::Already(status) => {
                tell_where(&status);
                views::mount_missing(plan);
            }
            Started::Fresh { notices, read_only, signals: _held } => {
                notices.iter().for_each(ui::warn);
                let how = if read_only { ", read-only" } else { "" };
                ui::say(format!("Unlocked at {}{how}", plan.mount.display()));
                self.covered.tell();
                greet(plan);
                make_bridges(plan, self.bridges.clone());
                views::mount_missing(plan);
                paths::note_change();
            }
        }
        Ok(())
    }
}

/// The vault is unlocked whatever becomes of them.
fn make_bridges(plan: &Plan, wanted: Vec<BridgeRequest>) {
    if let Err(error) = bridges::make(plan, wanted) {
        warn_of_bridges(&error);
    }
}

fn warn_of_bridges(error: &CommandError) {
    ui::warn(format!("bridges cannot be made: {}", error.summary()));
}

fn settings(plan: &Plan, arguments: &Arguments) -> CommandResult<Settings> {
    let machine = this_machine().map_err(|error| CommandError::caused("there is no randomness", &error))?;
    Ok(Settings {
        archive: plan.archive.clone(),
        project: plan.project.clone(),
        // As it is noted down before anything is mounted.
        mount: config::canonical(&plan.mount)?,
        size_limit_bytes: plan.size_limit,
        commit_delay: plan.commit_delay,
        strict_close: plan.commit == CommitMode::Strict,
        read_only: arguments.read_only,
        allow_other: arguments.allow_other,
        machine_id: machine.id.0,
        host: machine.host,
        accept_rollback: arguments.accept_rollback,
        accept_new_key: arguments.accept_new_key,
        auto_lock: auto_lock(plan)?,
        sync: sync_settings(plan, arguments),
    })
}

/// When the vault locks by itself; what a file that is not trusted would put off is told and does not count.
fn auto_lock(plan: &Plan) -> CommandResult<Rules> {
    let (rules, refused) = plan.auto_lock()?;
    if !refused.is_empty() {
        ui::warn(format!("{} would lock later, and count only after 'tazpod trust'", refused.join(", ")));
    }
    Ok(Rules { last_lease: rules.last_shell, grace: rules.grace, idle: rules.idle, suspend: rules.suspend })
}

fn sync_settings(plan: &Plan, arguments: &Arguments) -> SyncSettings {
    let mut settings = automatic::settings(plan);
    if arguments.no_sync || arguments.sync == Switch::Off {
        settings.off = Some(SyncOff::Asked("it was unlocked so".to_owned()));
    }
    settings
}

/// What agent and user are told of each other's past. Where that fails it is told by `status`.
fn greet(plan: &Plan) {
    automatic::warn_of_configuration(plan);
    note_shared(&plan.archive);
    match Client::find(&plan.archive) {
        Ok(Some((_, status))) => automatic::tell_conflicts(&status),
        Ok(None) => {}
        Err(error) => tracing::debug!(%error, "the agent does not say how the vault stands"),
    }
}

/// Tells the agent what other machines may know of the vault. Where that fails, only the name of an ancestor is forgotten earlier.
fn note_shared(archive: &Path) {
    let Ok(state) = VaultKey::of(archive).state_folder() else { return };
    let files = Base::files(&state);
    if files.is_empty() {
        return;
    }
    let told =
        Client::connect(archive).and_then(|client| client.map(|mut client| client.note_shared(files)).transpose());
    if let Err(error) = told {
        tracing::debug!(%error, "the agent was not told what other machines know");
    }
}

fn tell_where(status: &agent::protocol::Status) {
    let dir = status.mounts.first().map_or_else(String::new, |mount| mount.dir.display().to_string());
    ui::say(format!("Unlocked already, at {dir} (agent pid {})", status.agent_pid));
}

/// Removes what killed agents left at the plan's places, and says so; leaves alone what is just being unlocked or locked.
pub fn clean_up(plan: &Plan) -> CommandResult {
    let claim =
        Claim::take(&plan.archive).map_err(|error| CommandError::caused("cannot use the state folder", &error))?;
    claim.map_or(Ok(()), |claim| clean_up_with(&claim, std::slice::from_ref(&plan.mount)))
}

/// The same for whoever has the claim already.
pub fn clean_up_with(claim: &Claim, mounts: &[PathBuf]) -> CommandResult {
    let told = |dir: &Path, end| {
        let why = match end {
            NotedEnd::None => "which was left behind when the agent and the keeper of a vault were killed",
            NotedEnd::SavedWithoutKeeper => {
                "which was left behind when the keeper of a vault was killed; its agent saved everything"
            }
        };
        ui::say(format!("Cleaned up {}, {why}", dir.display()));
    };
    let failed = |reason: String| {
        CommandError::new(Status::Failure, reason).hint("run 'fusermount3 -u -z' with the folder's name")
    };
    let (detached, end) = claim.clean_up().map_err(failed)?;
    detached.iter().for_each(|dir| told(dir, end));
    for dir in mounts {
        if stale::detach_if_dead(dir).map_err(failed)? {
            told(dir, NotedEnd::None);
        }
    }
    Ok(())
}

/// What can be known before anybody types a passphrase.
fn check_places(plan: &Plan) -> CommandResult {
    locked::require_archive(plan)?;
    let mount = config::canonical(&plan.mount)?;
    places::check_mount(plan, &mount)?;
    let Some(taken) = stale::taken(&mount) else { return Ok(()) };
    let elsewhere = "mount this vault elsewhere: --mount DIR, or 'vault.mount' in .tazpod/config.yaml";
    Err(CommandError::new(Status::Failure, taken.to_string()).hint(match taken {
        Taken::ByVault(_, archive) => {
            format!("lock that one first ('tazpod lock --vault {}'), or {elsewhere}", archive.display())
        }
        Taken::ByOther(_) => elsewhere.to_owned(),
    }))
}
