//! `tazpod __inside`: what the program outside has the one in the container do, where the vault is unlocked there. Answers are JSON.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

use rustix::process::{Pid, Signal, kill_process_group};
use vaultfs::vault::adopt_file;

use crate::agent::client::Client;
use crate::agent::paths::VaultKey;
use crate::config::{Plan, RemotePlace, RemotePlan, Retention};
use crate::container::inside::TRAVEL;
use crate::error::{CommandError, CommandResult, Status};
use crate::inside::{HIDDEN, INCOMING, OUTGOING, Present, SESSION, copies};
use crate::remote::{self, Description, RemoteError, State};
use crate::sync::base::Base;
use crate::sync::snapshot;
use crate::ui;

use super::Global;
use super::lease::{self, Keeping};
use super::remote_access::{RemoteAccess, Watcher};
use super::take_over::{Ways, take_over};

/// Does what the program outside asks for.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Tells how it stands.
    Describe,
    /// Copies the archive for being fetched, and describes it.
    Give,
    /// Puts the archive that came in in the place of the one that is expected, which is locked; tells whether it did.
    Take {
        #[command(flatten)]
        sent: Sent,
        /// State of the present archive, or null.
        #[arg(long)]
        expected: String,
    },
    /// Has the unlocked vault take over the archive that came in.
    Join {
        #[command(flatten)]
        sent: Sent,
    },
    /// Runs a program with a lease on the vault, whenever that is unlocked.
    Enter {
        /// By which it is found again.
        #[arg(long)]
        session: String,
        #[command(flatten)]
        keeping: Keeping,
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Tells such a program that nobody is there any more.
    HangUp {
        /// Which.
        #[arg(long)]
        session: String,
    },
}

/// What came in.
#[derive(clap::Args)]
struct Sent {
    /// SHA-256 of all its bytes.
    #[arg(long)]
    sent: String,
}

pub fn run(global: &Global, arguments: &Arguments) -> CommandResult<ExitCode> {
    let plan = global.plan()?;
    let answer = match &arguments.what {
        What::Describe => serde_json::to_string(&describe(&plan)?),
        What::Give => serde_json::to_string(&give(&plan)?),
        What::Take { sent, expected } => serde_json::to_string(&take(&plan, sent, expected)?),
        What::Join { sent } => serde_json::to_string(&join(plan, sent)?),
        What::Enter { keeping, command, .. } => return enter(&plan, keeping, command),
        What::HangUp { session } => {
            hang_up(session);
            return Ok(ExitCode::SUCCESS);
        }
    };
    let answer = answer.expect("it is made of texts and numbers");
    ui::print(&answer).map_err(|error| CommandError::caused("nobody takes the answer", &error))?;
    Ok(ExitCode::SUCCESS)
}

fn describe(plan: &Plan) -> CommandResult<Present> {
    let unlocked = match Client::connect(&plan.archive)? {
        Some(mut client) => {
            client.save()?;
            true
        }
        None => false,
    };
    if !plan.archive.exists() {
        return Ok(Present { unlocked, archive: None });
    }
    let description = match Description::of(&plan.archive) {
        // Something was just being written: a copy is cut to what is whole.
        Err(RemoteError::Damaged { .. }) => snapshot::take(&plan.archive, &state(plan)?)?.1,
        outcome => outcome?,
    };
    Ok(Present { unlocked, archive: Some(description) })
}

fn give(plan: &Plan) -> CommandResult<Description> {
    if let Some(mut client) = Client::connect(&plan.archive)? {
        client.save()?;
    }
    let (copy, description) = snapshot::take(&plan.archive, Path::new(TRAVEL))?;
    copy.persist(Path::new(TRAVEL).join(OUTGOING)).map_err(|error| cannot_hand_over(&error.error))?;
    Ok(description)
}

fn take(plan: &Plan, sent: &Sent, expected: &str) -> CommandResult<bool> {
    let expected: Option<State> = serde_json::from_str(expected)
        .map_err(|error| CommandError::new(Status::Usage, format!("this is no state: {error}")))?;
    let folder = state(plan)?;
    let incoming = Path::new(TRAVEL).join(INCOMING);
    let copy = snapshot::copy(&incoming, &folder)?;
    let description = require(copy.path(), sent)?;
    let taken = match expected {
        None => !plan.archive.exists() && adopt_file(&plan.archive, copy.as_file(), |_| Ok(false))?,
        Some(expected) => {
            let (before, present) = snapshot::take(&plan.archive, &folder)?;
            present.state == expected && copies::adopt_over(&plan.archive, &before, &copy, &folder)?
        }
    };
    std::fs::remove_file(incoming).map_err(|error| cannot_hand_over(&error))?;
    if taken {
        let version = remote::brought_by_hand(&description.sha256);
        Base::record(&folder, TRAVEL, vec![version], description, copy).map_err(|error| cannot_hand_over(&error))?;
    }
    Ok(taken)
}

fn join(plan: Plan, sent: &Sent) -> CommandResult<()> {
    require(&Path::new(TRAVEL).join(INCOMING), sent)?;
    if Client::connect(&plan.archive)?.is_none() {
        return Err(CommandError::locked(&plan.archive));
    }
    let remote = RemotePlan { place: RemotePlace::Directory(TRAVEL.into()), retention: Retention::All };
    let access = RemoteAccess::of(plan, remote, Watcher::Person)?;
    let _turn = access.turn()?;
    let outcome = take_over(&access, &Ways::default());
    std::fs::remove_file(Path::new(TRAVEL).join(INCOMING)).map_err(|error| cannot_hand_over(&error))?;
    outcome.map(drop)
}

/// What came in must be all that was sent.
fn require(file: &Path, sent: &Sent) -> CommandResult<Description> {
    let description = Description::of(file)?;
    if description.sha256.to_string() == sent.sent {
        return Ok(description);
    }
    Err(CommandError::new(Status::Container, "the archive did not come into the container whole")
        .hint("nothing was changed there; try again"))
}

fn enter(plan: &Plan, keeping: &Keeping, command: &[OsString]) -> CommandResult<ExitCode> {
    lease::hold(plan, "enter", keeping)?;
    let (program, arguments) = command.split_first().expect("clap asks for one");
    let mut command = Command::new(program);
    command.args(arguments);
    lease::run(command)
}

/// The terminal of a session is on another machine, and nothing here ends with it.
fn hang_up(session: &str) {
    let wanted = [HIDDEN, "enter", SESSION, session].map(str::as_bytes);
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if line.split(|byte| *byte == 0).skip(1).take(wanted.len()).eq(wanted)
            && let Some(pid) = Pid::from_raw(pid)
        {
            // It may have ended just now.
            let _ = kill_process_group(pid, Signal::HUP);
        }
    }
}

fn state(plan: &Plan) -> CommandResult<std::path::PathBuf> {
    VaultKey::of(&plan.archive).state_folder().map_err(|error| cannot_hand_over(&error))
}

fn cannot_hand_over(error: &std::io::Error) -> CommandError {
    CommandError::caused("the volume of the vault cannot be used", error)
}
