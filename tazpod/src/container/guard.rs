//! A process beside a session that outlives it when that is killed, and tells the program inside that nobody is there any more. The
//! engine does not: it only stops passing bytes on.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitCode, Stdio};

use rustix::process::Signal;

use super::engine::{Engine, Patience};
use super::interactive::{Session, hang_up};

/// Argument that makes the program a guard.
const GUARD: &str = "__hangup";

/// Runs a guard, when the arguments ask for one. To be called before anything else reads them.
pub fn run_hidden_process(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    if arguments.nth(1)? != GUARD {
        return None;
    }
    let mut words = arguments.map(|word| word.into_string().unwrap_or_default());
    let (exec, container, user) = (words.next()?, words.next()?, words.next()?);
    let session = Session { exec, container, user, hung_up_by: words.collect() };
    // So that what ends the session's terminal does not end it.
    let _ = rustix::process::setsid();
    // A byte says that the session ended in order; its end without one that it was killed.
    if matches!(std::io::stdin().read(&mut [0]), Ok(0))
        && let Ok(engine) = Engine::connect(Patience::Usual)
    {
        hang_up(&engine, &session, Signal::HUP.as_raw());
    }
    Some(ExitCode::SUCCESS)
}

/// A guard of a session that lives.
pub(super) struct Guard(Child);

impl Guard {
    /// Starts one; without it a session goes on as well.
    pub(super) fn start(engine: &Engine, session: &Session) -> Option<Self> {
        if !engine.is_local() && session.hung_up_by.is_empty() {
            return None;
        }
        let started = Command::new("/proc/self/exe")
            .args([GUARD, &session.exec, &session.container, &session.user])
            .args(&session.hung_up_by)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        started.inspect_err(|error| tracing::debug!(%error, "nobody guards this session")).ok().map(Self)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(mut pipe) = self.0.stdin.take() {
            // Somebody ended it.
            let _ = pipe.write_all(b".");
        }
        let _ = self.0.wait();
    }
}
