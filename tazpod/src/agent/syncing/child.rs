//! The keeper's side: the process that synchronises. It gets no secret and no descriptor; its environment is that of `unlock`.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

/// Command that makes the program synchronise.
pub const SYNC: &str = "__sync";
/// How long the end of a killed process is waited for: one that waits for a dead network share does not end.
const REAP: Duration = Duration::from_secs(1);
const REAP_AGAIN: Duration = Duration::from_millis(2);

/// The process, in a group of its own with all that it starts. Dropping it ends them.
pub struct SyncChild {
    number: u64,
    child: Child,
    /// Readable when it has ended, on a kernel that can tell.
    ended: Option<OwnedFd>,
}

impl SyncChild {
    /// Starts it. `place` are the flags that name vault and project.
    ///
    /// # Errors
    /// There is no room for a process.
    pub fn start(number: u64, place: &[OsString]) -> io::Result<Self> {
        let child = Command::new("/proc/self/exe")
            .arg0("tazpod")
            .arg(SYNC)
            .args(["--number", &number.to_string(), "--keeper", &std::process::id().to_string()])
            .args(place)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let pid = pid(&child);
        Ok(Self { number, child, ended: pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) })
    }

    /// The number that it was started with.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What is readable when it has ended.
    pub fn watch(&self) -> Option<&OwnedFd> {
        self.ended.as_ref()
    }

    /// How it ended; `None` while it runs.
    pub fn ended(&mut self) -> Option<String> {
        match self.child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(status.to_string()),
            Err(error) => Some(error.to_string()),
        }
    }
}

impl Drop for SyncChild {
    fn drop(&mut self) {
        let until = Instant::now() + REAP;
        while self.ended().is_none() {
            // It may just have ended by itself.
            let _ = pid(&self.child).map(|pid| kill_process_group(pid, Signal::KILL));
            if Instant::now() >= until {
                return tracing::warn!("the synchronisation does not end");
            }
            std::thread::sleep(REAP_AGAIN);
        }
    }
}

fn pid(child: &Child) -> Option<Pid> {
    Pid::from_raw(child.id().try_into().ok()?)
}
