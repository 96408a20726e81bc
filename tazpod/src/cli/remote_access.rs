//! The way from a command to the remote: the configuration must be trusted, and credentials may lie in the unlocked vault.

use std::cell::RefCell;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::agent::bridges::BridgeStatus;
use crate::agent::client::Client;
use crate::agent::paths::VaultKey;
use crate::agent::protocol::Status as VaultStatus;
use crate::agent::syncing::SyncReport;
use crate::config::{self, Plan, RemotePlace, RemotePlan};
use crate::error::{CommandError, CommandResult, Status};
use crate::remote::credentials::{VAULT_FILE_MAX, VaultFiles};
use crate::remote::probe::Outcome;
use crate::remote::transfer::Transfers;
use crate::remote::{self, Conditions, Description, Head, Remote, Version};
use crate::sync::base::Base;
use crate::sync::heads;
use crate::sync::standing::Standing;
use crate::sync::turn::Turn;
use crate::ui;

use super::bar::TransferBar;
use super::{Global, locked};

/// What is sent and fetched.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum What {
    /// The archive.
    Vault,
}

/// What is fetched.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Fetched {
    /// The archive.
    Vault,
    /// The container's image.
    Image,
}

/// Where the AWS tools have their files, in a home as in a vault.
const AWS: &str = ".aws";
/// What names other files.
const AWS_FILES: [&str; 2] = ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"];
/// How long a person waits for another synchronisation, and after how long that is told.
const PATIENCE: Duration = Duration::from_secs(180);
const SILENCE: Duration = Duration::from_millis(500);
/// How long the agent's process waits for one.
const SHORT: Duration = Duration::from_secs(5);

/// Who looks at a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watcher {
    /// Somebody who reads what is told, and can be asked.
    Person,
    /// The agent, which started this with a number. What is told would go to a log: names of the vault do not belong there.
    Agent(u64),
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
    /// Who looks.
    pub watcher: Watcher,
    /// What was just seen there, for who looks next.
    seen: RefCell<Option<Vec<Head>>>,
}

impl RemoteAccess {
    /// Opens the remote of the plan.
    pub fn open(global: &Global) -> CommandResult<Self> {
        let (plan, remote_plan) = plans(global)?;
        Self::of(plan, remote_plan, Watcher::Person)
    }

    /// Opens a remote of a plan.
    pub fn of(plan: Plan, remote_plan: RemotePlan, watcher: Watcher) -> CommandResult<Self> {
        check_place(&plan, &remote_plan.place)?;
        // Keys pass through this process.
        locked::protect_process()?;
        let state = VaultKey::of(&plan.archive).state_folder();
        let state = state.map_err(|error| CommandError::caused("the state folder cannot be used", &error))?;
        let known = Outcome::remembered(&state, &remote::name_of(&remote_plan.place));
        let known = known.map(|outcome| outcome.conditions);
        let mut remote = remote::open(&remote_plan.place, &mut vault_files(&plan)?, known.as_ref())?;
        let bar = if watcher == Watcher::Person { TransferBar::on_terminal() } else { None };
        remote.set_transfers(Transfers::new(bar, most(&plan)));
        Ok(Self { plan: remote_plan, remote, vault: plan, state, watcher, seen: RefCell::default() })
    }

    /// Tells whoever looks.
    pub fn say(&self, text: impl AsRef<str>) {
        if self.watcher == Watcher::Person {
            ui::say(text);
        }
    }

    /// The same of what needs attention.
    pub fn warn(&self, text: impl AsRef<str>) {
        if self.watcher == Watcher::Person {
            ui::warn(text);
        }
    }

    /// Waits until no other process synchronises this vault, and keeps them from it.
    pub fn turn(&self) -> CommandResult<Turn> {
        if let Some(turn) = self.take_turn(SILENCE)? {
            return Ok(turn);
        }
        self.say("Waiting for another synchronisation of this vault");
        self.take_turn(PATIENCE)?.ok_or_else(|| {
            CommandError::new(Status::Failure, "another synchronisation of this vault goes on and on")
                .hint("try again later; 'tazpod status' tells of one that was started on its own")
        })
    }

    /// The same, but not for long; `None`: another process is at it.
    pub fn next_turn(&self) -> CommandResult<Option<Turn>> {
        self.take_turn(SHORT)
    }

    fn take_turn(&self, patience: Duration) -> CommandResult<Option<Turn>> {
        Turn::take(&self.state, patience).map_err(CommandError::state_folder)
    }

    /// Has an unlocked vault write everything to its archive; returns the commit of the session that is there. `None`: it is locked.
    pub fn save(&self) -> CommandResult<Option<u64>> {
        let client = Client::connect(&self.vault.archive)?;
        Ok(client.map(|mut client| client.save()).transpose()?)
    }

    /// Tells the agent of an unlocked vault what came of it. One that is just gone needs not know.
    pub fn note_sync(&self, report: SyncReport) {
        let number = match self.watcher {
            Watcher::Person => None,
            Watcher::Agent(number) => Some(number),
        };
        let told = Client::connect(&self.vault.archive)
            .and_then(|client| client.map_or(Ok(()), |mut client| client.note_sync(number, report)));
        if let Err(error) = told {
            tracing::debug!(%error, "the agent was not told what came of it");
        }
    }

    /// What a probe found before.
    pub fn remembered(&self) -> Option<Outcome> {
        Outcome::remembered(&self.state, &self.remote.place())
    }

    /// What the remote holds, or what was just seen there and [left](Self::leave_heads).
    pub fn heads(&self, base: Option<&Base>) -> CommandResult<Vec<Head>> {
        match self.seen.take() {
            Some(heads) => Ok(heads),
            None => Ok(heads::look(&*self.remote, base, &self.state)?),
        }
    }

    /// Leaves what was seen to who looks next, once. What is put there is put on top of it and of nothing else: where it changed
    /// meanwhile, that is found out.
    pub fn leave_heads(&self, heads: Vec<Head>) {
        self.seen.replace(Some(heads));
    }

    /// Remembers what this machine and the remote agree on.
    pub fn record(
        &self,
        versions: Vec<Version>,
        description: Description,
        copy: tempfile::NamedTempFile,
    ) -> CommandResult<Base> {
        Base::record(&self.state, &self.remote.place(), versions, description, copy).map_err(CommandError::state_folder)
    }

    /// Notes that both sides still agree.
    pub fn confirm(&self, base: &Base) -> CommandResult {
        base.confirm(&self.state).map_err(CommandError::state_folder)
    }

    /// Remembers that what is here is there already, as a version.
    pub fn agree(
        &self,
        base: Option<Base>,
        version: Version,
        description: Description,
        copy: tempfile::NamedTempFile,
    ) -> CommandResult {
        let known = base.filter(|base| base.description == description && base.versions == [version.clone()]);
        match known {
            Some(base) => self.confirm(&base),
            None => self.record(vec![version], description, copy).map(drop),
        }
    }

    /// Tells the agent of an unlocked vault what other machines may know; it forgets that when the vault is locked.
    pub fn note_shared(&self) -> CommandResult {
        if let Some(mut client) = Client::connect(&self.vault.archive)? {
            client.note_shared(Base::files(&self.state))?;
        }
        Ok(())
    }

    /// Tells the agent of an unlocked vault that all was fetched; where that is all that is here, too.
    pub fn note_fetched(&self) -> CommandResult {
        let saved = self.save()?;
        let is_all = || Standing::of(&self.vault.archive, &self.state, &self.remote.place()).pushed;
        self.note_sync(match saved {
            Some(commit) if is_all() => SyncReport::Same { commit, remote: self.remote.place() },
            _ => SyncReport::Fetched,
        });
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

/// A folder in the vault would hold itself, and one with the archive in it is no second place.
fn check_place(plan: &Plan, place: &RemotePlace) -> CommandResult {
    let RemotePlace::Directory(folder) = place else { return Ok(()) };
    let folder = config::canonical(folder)?;
    let reason = match plan.archive.parent() {
        _ if folder.starts_with(config::canonical(&plan.mount)?) => "it is in the vault itself",
        Some(own) if own == folder => "it is the folder of the archive itself",
        _ => return Ok(()),
    };
    let text = format!("{} cannot be the remote: {reason}", folder.display());
    Err(CommandError::new(Status::Usage, text)
        .hint("name another folder in 'remote.path': of a stick, or one that is synced"))
}

/// The most bytes that an archive of this vault can have: with all that a vault holds between two compactions, and room for more.
pub fn most(plan: &Plan) -> u64 {
    const LEAST: u64 = 64 << 20;
    plan.size_limit.saturating_mul(8).saturating_add(LEAST)
}

/// The configuration, whose remote counts only when its file is trusted; a terminal is asked.
pub fn plans(global: &Global) -> CommandResult<(Plan, RemotePlan)> {
    global.plan_with(|plan| plan.remote().cloned())
}

/// What the vault holds of credentials, read through its own mount while it is unlocked, and what a bridge to the home covers.
pub fn vault_files(plan: &Plan) -> CommandResult<VaultFiles> {
    let Some((_, status)) = Client::find(&plan.archive)? else { return Ok(VaultFiles::default()) };
    let bridge = bridge_over_home(&status).cloned();
    let Some(folder) = locked::whole_vault(status) else { return Ok(VaultFiles::default()) };
    let files = VaultFiles::read(|path| read_small(&folder.join(path)));
    let Some(BridgeStatus { source, underneath: Some(underneath), .. }) = bridge else { return Ok(files) };
    // Who says where the files are does not mean those in the home; and of another folder of the vault, nothing was read above.
    let is_elsewhere = AWS_FILES.iter().any(|name| std::env::var_os(name).is_some());
    if source != AWS || is_elsewhere {
        return Ok(files.over(underneath, |_| None));
    }
    Ok(files.over(underneath.clone(), |path| read_small(&underneath.join(Path::new(path).strip_prefix(AWS).ok()?))))
}

/// What lies over the home's `.aws`.
fn bridge_over_home(status: &VaultStatus) -> Option<&BridgeStatus> {
    let place = config::home().ok()?.canonicalize().ok()?.join(AWS);
    status.bridges.iter().find(|bridge| bridge.target == place)
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
    CommandError::new(Status::Remote, format!("{place} does not keep conditions: {reason}")).lasting().hint(
        "two machines could overwrite each other's work there unseen, so nothing is sent to it on its own; use another store, \
         or a directory remote",
    )
}
