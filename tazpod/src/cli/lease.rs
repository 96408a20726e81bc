//! A program that runs with a lease on the unlocked vault: it gets the signals that are meant for it, and its end is this one's.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use signal_hook::consts::{SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::origin::WithOrigin;
use signal_hook::low_level::siginfo::Cause;

use crate::agent::auto_lock::LeaseEnd;
use crate::agent::client::{AgentError, Client, Lease};
use crate::config::Plan;
use crate::error::{CommandError, CommandResult};
use crate::signals::Hold;

use super::{automatic, inside, unlock};

/// Signals that the program gets; those that cannot be caught do what they do.
const PASSED_ON: [i32; 7] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGALRM, SIGUSR1, SIGUSR2];
/// Those that a terminal sends to all who are in its foreground.
const OF_KEYS: [i32; 2] = [SIGINT, SIGQUIT];

/// How often a locked vault is looked for again.
const UNLOCK_PAUSE: Duration = Duration::from_millis(500);

/// Whether the vault may lock when the program ends and nobody else needs it.
#[derive(clap::Args)]
pub struct Keeping {
    /// Leaves the vault unlocked when this was the last to need it.
    #[arg(long)]
    keep_unlocked: bool,
}

impl Keeping {
    /// The flag that says so to the program inside.
    pub fn flag(&self) -> Option<&'static str> {
        self.keep_unlocked.then_some("--keep-unlocked")
    }

    fn end(&self) -> LeaseEnd {
        if self.keep_unlocked { LeaseEnd::KeepsUnlocked } else { LeaseEnd::MayLock }
    }
}

/// Tells whoever begins a shell what merges put aside in the vault.
pub fn tell_conflicts(plan: &Plan) -> CommandResult {
    if let Some((_, status)) = Client::find(&plan.archive)? {
        automatic::tell_conflicts(&status);
    }
    Ok(())
}

/// Takes a lease on the plan's vault, which must be unlocked.
pub fn take(plan: &Plan, what: &str, keeping: &Keeping) -> CommandResult<Lease> {
    match take_if_unlocked(&plan.archive, what, keeping.end())? {
        Some(lease) => Ok(lease),
        None => {
            unlock::clean_up(plan)?;
            Err(inside::locked_error(plan))
        }
    }
}

/// The same for as long as this process lives, whether the vault is unlocked now, later, or again.
pub fn hold(plan: &Plan, what: &'static str, keeping: &Keeping) -> CommandResult {
    let (archive, end) = (plan.archive.clone(), keeping.end());
    let mut lease = take_if_unlocked(&archive, what, end)?;
    let keep = move || -> ! {
        loop {
            if let Some(lease) = lease.take() {
                lease.wait_for_end();
            }
            std::thread::sleep(UNLOCK_PAUSE);
            // An agent that gives none now may give one later.
            lease = take_if_unlocked(&archive, what, end).unwrap_or_default();
        }
    };
    let started = std::thread::Builder::new().name("lease".into()).spawn(keep);
    started.map(drop).map_err(|error| CommandError::caused("no lease can be kept", &error))
}

/// Nothing where it is locked, or was just being locked.
fn take_if_unlocked(archive: &Path, what: &str, end: LeaseEnd) -> Result<Option<Lease>, AgentError> {
    let Some(client) = Client::connect(archive)? else { return Ok(None) };
    match client.lease(what, end) {
        Ok(lease) => Ok(Some(lease)),
        Err(error) if AgentError::is_hang_up(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Runs a program and waits for its end, which is told as shells do.
pub fn run(mut command: Command) -> CommandResult<ExitCode> {
    let system = |error| CommandError::caused("signals cannot be passed on", &error);
    // Before the program starts: none of its signals ends this process instead.
    let _hold = Hold::take().map_err(system)?;
    let signals = SignalsInfo::<WithOrigin>::new(PASSED_ON).map_err(system)?;
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return not_started(command.get_program(), &error),
    };
    let process = pidfd(&child).map_err(system)?;
    std::thread::Builder::new().name("signals".into()).spawn(move || pass_on(signals, &process)).map_err(system)?;
    let ended = child.wait().map_err(|error| CommandError::caused("the program cannot be waited for", &error))?;
    Ok(ExitCode::from(code(ended)))
}

/// What Ctrl-C and its like raise comes from the kernel, and the program at the same terminal has got it already.
fn pass_on(mut signals: SignalsInfo<WithOrigin>, process: &OwnedFd) {
    for origin in &mut signals {
        if OF_KEYS.contains(&origin.signal) && matches!(origin.cause, Cause::Kernel) {
            continue;
        }
        let Some(signal) = Signal::from_named_raw(origin.signal) else { continue };
        // It may have ended just now.
        let _ = pidfd_send_signal(process, signal);
    }
}

fn pidfd(child: &Child) -> std::io::Result<OwnedFd> {
    let pid = Pid::from_child(child);
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

fn code(ended: ExitStatus) -> u8 {
    let code = ended.code().or_else(|| ended.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// 127 and 126, as env(1) and shells have it.
fn not_started(program: &OsStr, error: &std::io::Error) -> CommandResult<ExitCode> {
    let code = if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 };
    let told = CommandError::caused(format!("{} cannot be run", program.display()), error);
    crate::ui::say(told.to_string().trim_end());
    Ok(ExitCode::from(code))
}
