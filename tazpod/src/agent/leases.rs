//! Leases of clients, and the thread that locks the vault when its [`AutoLock`] says so. A lease is a connection: the kernel closes
//! it when its process ends, however that ends.
//!
//! Lock order: a lock by itself and the begin of a lease take turns; the state is held for moments only, within a turn or without.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::auto_lock::{AutoLock, LeaseEnd, LeaseInfo, Reason, Rules, SuspensionWatch};
use super::connections::Place;
use super::frames;
use super::lock::LockState;
use super::process::Event;
use super::protocol::{Answer, Failure, LockMode};
use super::server::Server;

/// Leases at a time; each has a thread.
const LEASES_MAX: usize = 256;
/// The longest sleep while a time is waited for: sleeping does not count suspension.
const SLEEP_MAX: Duration = Duration::from_secs(10);
/// How often suspension and file operations are looked for where a rule needs it.
const LOOK_MAX: Duration = Duration::from_secs(2);
const LOOK_MIN: Duration = Duration::from_millis(50);

/// What a client asks for that needs the vault for as long as it lives.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LeaseRequest {
    /// What it is, for people.
    pub what: String,
    /// What its end means.
    pub end: LeaseEnd,
}

/// When the vault locks by itself. The names are those of `tazpod status --json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AutoLockStatus {
    /// Who needs the vault.
    pub leases: Vec<LeaseInfo>,
    /// Seconds until it locks as things stand; 0: it is due.
    pub locks_in_secs: Option<u64>,
    /// Why it will.
    pub reason: Option<Reason>,
    /// Why it could not be locked so far.
    pub refused: Option<String>,
    /// What counts.
    pub rules: Rules,
}

/// The state with what it takes to wait for it.
pub struct AutoLocker {
    turn: Mutex<()>,
    state: Mutex<AutoLock>,
    changed: Condvar,
}

impl Default for AutoLocker {
    /// Without any rule.
    fn default() -> Self {
        Self {
            turn: Mutex::default(),
            state: Mutex::new(AutoLock::new(Rules::default(), now())),
            changed: Condvar::new(),
        }
    }
}

impl AutoLocker {
    /// Sets or takes back a time at which the vault is locked.
    pub fn lock_after(&self, delay: Option<Duration>) {
        self.state.lock().lock_after(delay, now());
        self.changed.notify_all();
    }

    /// Tells how it stands.
    pub fn status(&self) -> AutoLockStatus {
        let (now, state) = (now(), self.state.lock());
        let outlook = state.outlook();
        AutoLockStatus {
            refused: state.refusal().map(str::to_owned),
            leases: state.leases().cloned().collect(),
            locks_in_secs: outlook.map(|(at, _)| at.saturating_sub(now).as_secs()),
            reason: outlook.map(|(_, reason)| reason),
            rules: state.rules().clone(),
        }
    }

    fn begin(&self, lease: LeaseInfo) -> Result<Held<'_>, Failure> {
        let mut state = self.state.lock();
        if state.leases().count() >= LEASES_MAX {
            return Err(Failure::Other(format!("the vault has {LEASES_MAX} shells already")));
        }
        let number = state.begin(lease, now());
        drop(state);
        self.changed.notify_all();
        Ok(Held { locker: self, number })
    }
}

/// A lease, which ends with it.
struct Held<'a> {
    locker: &'a AutoLocker,
    number: u64,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.locker.state.lock().end(self.number, now());
        self.locker.changed.notify_all();
    }
}

impl Server {
    /// Sets the rules and starts to watch them.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn start_auto_lock(self: &Arc<Self>, rules: Rules) -> io::Result<()> {
        *self.auto_lock.state.lock() = AutoLock::new(rules, now());
        let server = self.clone();
        std::thread::Builder::new().name("auto-lock".into()).spawn(move || server.watch_auto_lock())?;
        Ok(())
    }

    /// Makes a connection a lease; returns when it ends. It takes no room from those that ask for something.
    pub(super) fn hold_lease(&self, request: LeaseRequest, mut stream: UnixStream, place: Place) -> io::Result<()> {
        let held = {
            // A lock that is under way comes first; after it, this process answers nobody.
            let _turn = self.auto_lock.turn.lock();
            let is_locked = *self.lock_state.lock() == LockState::Locked;
            let pid = rustix::net::sockopt::socket_peercred(&stream).map_or(0, |peer| peer.pid.as_raw_pid());
            let lease = LeaseInfo { what: request.what, pid, end: request.end };
            match is_locked {
                true => Err(Failure::Other("the vault is being locked".to_owned())),
                false => self.auto_lock.begin(lease),
            }
        };
        drop(place);
        let _held = match held {
            Ok(held) => held,
            Err(failure) => return frames::write(&mut stream, &Answer::Failed(failure)),
        };
        frames::write(&mut stream, &Answer::Done)?;
        let mut ignored = [0; 64];
        while stream.read(&mut ignored)? > 0 {}
        Ok(())
    }

    fn watch_auto_lock(&self) {
        let (mut requests, mut suspension) = (self.mounts.requests(), SuspensionWatch::new(now(), awake()));
        loop {
            let mut state = self.auto_lock.state.lock();
            if suspension.look(now(), awake()) {
                state.woke_up();
            }
            let seen = std::mem::replace(&mut requests, self.mounts.requests());
            if seen != requests {
                state.was_active(now());
            }
            match state.due(now()) {
                Some(reason) => {
                    drop(state);
                    if self.lock_by_itself(reason) {
                        return;
                    }
                }
                None => {
                    let pause = pause(&state);
                    match pause {
                        Some(pause) => drop(self.auto_lock.changed.wait_for(&mut state, pause)),
                        None => self.auto_lock.changed.wait(&mut state),
                    }
                }
            }
        }
    }

    /// Locks as a user would who gives nothing up; tells whether it worked.
    fn lock_by_itself(&self, reason: Reason) -> bool {
        let _turn = self.auto_lock.turn.lock();
        if self.auto_lock.state.lock().due(now()).is_none() {
            return false;
        }
        match self.lock(LockMode::Refuse, self.syncing.patience_at_lock()) {
            Ok(()) => {
                tracing::info!(reason = reason.words(), "the vault locked by itself");
                self.events.send(Event::Locked).ok();
                true
            }
            Err(failure) => {
                tracing::info!(reason = reason.words(), %failure, "the vault cannot be locked yet");
                self.auto_lock.state.lock().was_refused(words(&failure), now());
                false
            }
        }
    }
}

/// How long until something can be due that nobody tells of.
fn pause(state: &AutoLock) -> Option<Duration> {
    let until_due = state.next().map(|at| at.saturating_sub(now()).clamp(LOOK_MIN, SLEEP_MAX));
    let rules = state.rules();
    let idle = rules.idle.map(|idle| (idle / 8).clamp(LOOK_MIN, LOOK_MAX));
    let suspend = rules.suspend.then_some(LOOK_MAX);
    [until_due, idle, suspend].into_iter().flatten().min()
}

/// What the user is told, with the programs that are in the way.
fn words(failure: &Failure) -> String {
    match failure {
        Failure::Busy(holders) => {
            let named =
                holders.iter().map(|holder| format!("{} (pid {}): {}", holder.command, holder.pid, holder.path));
            format!("{failure}: {}", named.collect::<Vec<_>>().join("; "))
        }
        _ => failure.to_string(),
    }
}

/// Time since the machine started, suspension included.
fn now() -> Duration {
    read(ClockId::Boottime)
}

/// The same without suspension.
fn awake() -> Duration {
    read(ClockId::Monotonic)
}

fn read(clock: ClockId) -> Duration {
    // Both are never negative.
    Duration::try_from(clock_gettime(clock)).unwrap_or_default()
}
