//! Starts the processes of an unlocked vault and waits until they serve it.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use vaultfs::vault::Secret;

use crate::signals::Caught;

use super::client::{AgentError, Client};
use super::frames;
use super::paths::VaultKey;
use super::protocol::{Failure, Ready, Settings, Status};
use super::secrets;
use super::stale::{self, Claim};

/// How long another start or end of the same vault's processes is waited for.
const PATIENCE: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What came of it.
pub enum Started {
    /// A fresh agent serves it.
    Fresh {
        /// What the user is told.
        notices: Vec<String>,
        /// Whether it can only be read.
        read_only: bool,
        /// Signals are held until all is done that belongs to the unlock.
        signals: Caught,
    },
    /// Somebody else unlocked it meanwhile.
    Already(Box<Status>),
}

/// How a vault stands when nobody is changing that.
pub enum Settled {
    /// An agent serves it.
    Unlocked(Client, Box<Status>),
    /// No process has it, and none gets it while the claim is held.
    Locked(Claim),
}

/// What an agent is taken for whose keeper was killed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Keeperless {
    /// It has the vault and can be talked to.
    Counts,
    /// It is about to save and end, which is waited for.
    Ends,
}

/// Unlocks a vault: returns when it is mounted and served. What a killed agent left is cleaned up first. Nothing is left
/// behind when it fails, nor when this process is interrupted or killed meanwhile. `place` are the flags by which another process
/// of this program finds the same vault, whatever folder it is started in.
///
/// # Errors
/// [`AgentError::Refused`] with what the agent says; [`AgentError::Interrupted`]; else what the system says.
pub fn start(settings: &Settings, secret: &Secret, log_level: &str, place: &[OsString]) -> Result<Started, AgentError> {
    let io_error = |operation| move |error| AgentError::Io(operation, error);
    let claim = match settle(&settings.archive, Keeperless::Ends)? {
        Settled::Locked(claim) => claim,
        Settled::Unlocked(_, status) => return Ok(Started::Already(status)),
    };
    claim.clean_up().map_err(Failure::Mount)?;
    stale::detach_if_dead(&settings.mount).map_err(Failure::Mount)?;
    let log =
        VaultKey::of(&settings.archive).state_folder().map_err(io_error("make the state folder"))?.join("agent.log");
    let mut options = OpenOptions::new();
    // Without a place for it there is no log.
    let log = options.create(true).write(true).truncate(true).mode(0o600).open(log);
    let log = log.or_else(|_| OpenOptions::new().write(true).open("/dev/null"));
    let signals = Caught::begin().map_err(io_error("watch for signals"))?;
    let (mut ours, theirs) = UnixStream::pair().map_err(io_error("make a socket"))?;
    let mut keeper = Command::new("/proc/self/exe")
        .args([super::KEEPER, log_level])
        .args(place)
        .stdin(OwnedFd::from(theirs))
        .stdout(claim.share().map_err(io_error("share the lock"))?)
        .stderr(log.map(Stdio::from).map_err(io_error("open the log"))?)
        .spawn()
        .map_err(io_error("start the keeper"))?;
    drop(claim);
    let error = match hand_over(&mut ours, settings, secret, &signals) {
        Ok(Ready::Unlocked { notices, read_only }) => return Ok(Started::Fresh { notices, read_only, signals }),
        Ok(Ready::Failed(failure)) => failure.into(),
        Err(error) => AgentError::Ended(error),
    };
    drop(ours);
    // What it mounted is gone when it has ended.
    keeper.wait().map_err(io_error("wait for the keeper"))?;
    Err(if signals.is_raised() { AgentError::Interrupted } else { error })
}

/// Tells whether a vault is unlocked; waits while it is just being unlocked or locked.
///
/// # Errors
/// [`Failure::InUse`], [`AgentError::NoKeeper`]: that does not come to an end. Else what the agent or the system says.
pub fn settle(archive: &Path, keeperless: Keeperless) -> Result<Settled, AgentError> {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some((client, status)) = Client::find(archive)? {
            if keeperless == Keeperless::Counts || !client.has_lost_keeper() {
                return Ok(Settled::Unlocked(client, Box::new(status)));
            }
            if Instant::now() > until {
                return Err(AgentError::NoKeeper { pid: status.agent_pid, reason: status.last_error });
            }
            std::thread::sleep(LOOK_AGAIN);
            continue;
        }
        match Claim::take(archive).map_err(|error| AgentError::Io("use the state folder", error))? {
            Some(claim) => return Ok(Settled::Locked(claim)),
            None if Instant::now() > until => return Err(Failure::InUse(archive.to_owned()).into()),
            None => std::thread::sleep(LOOK_AGAIN),
        }
    }
}

fn hand_over(stream: &mut UnixStream, settings: &Settings, secret: &Secret, signals: &Caught) -> io::Result<Ready> {
    frames::write(stream, settings)?;
    secrets::write(stream, secret)?;
    loop {
        let mut watched = [PollFd::new(&*stream, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
        match poll(&mut watched, None) {
            Err(rustix::io::Errno::INTR) => continue,
            outcome => outcome?,
        };
        if watched[0].revents().is_empty() {
            // The agent sees that nobody waits for it, and ends; or it was quicker, and says that it serves.
            stream.shutdown(Shutdown::Write)?;
        }
        return frames::read(stream);
    }
}
