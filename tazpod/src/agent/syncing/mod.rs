//! Synchronising on its own: decides when, has the keeper start the process that does it, and keeps what came of it. The agent
//! itself knows no remote and reaches no network.
//!
//! The state's lock is not held while the keeper is asked.

mod child;
mod report;
mod schedule;
mod state;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use vaultfs::fuse::{Mounts, Uncounted};
use vaultfs::vault::{Committer, Vault};

pub use child::{SYNC, SyncChild};
pub use report::{ConflictStatus, SyncOff, SyncReport, SyncSettings, SyncState, SyncStatus};
use state::{NO_TIME, Progress, State, now};

use super::link::KeeperLink;
use super::sys;

/// How often it is looked for commits, at the least and at the most.
const LOOK: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How long a process may take. A large archive over a bad connection takes long.
const RUN_MAX: Duration = Duration::from_secs(3 * 3600);
/// How long a lock waits for a process that has nothing of this vault to send.
const NOTHING_TO_SEND: Duration = Duration::from_secs(2);

/// What is wrong with a process that said nothing itself.
const NOTHING: &str = "the synchronisation came to nothing";

/// What the thread is told.
pub enum Signal {
    /// The process with this number ended, and how.
    Ended(u64, String),
    /// Look again whether something is to be done.
    Look,
}

/// All about the synchronising of one unlocked vault.
pub struct Syncing {
    keeper: Arc<KeeperLink>,
    mounts: Arc<Mounts>,
    committer: Committer,
    signals: Sender<Signal>,
    state: Mutex<State>,
    /// Told when a process has ended.
    ended: Condvar,
}

impl Syncing {
    /// Starts the thread. `signals` are those whose sender is given, for the keeper's news.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(
        vault: &Vault,
        (keeper, mounts): (Arc<KeeperLink>, Arc<Mounts>),
        settings: SyncSettings,
        (signals, received): (Sender<Signal>, Receiver<Signal>),
    ) -> io::Result<Arc<Self>> {
        let committer = vault.committer();
        let state = Mutex::new(State::new(settings, now(), progress(&committer)));
        let syncing = Arc::new(Self { keeper, mounts, committer, signals, state, ended: Condvar::new() });
        let thread = syncing.clone();
        std::thread::Builder::new().name("sync".into()).spawn(move || thread.run(&received))?;
        Ok(syncing)
    }

    /// A channel for [`Syncing::start`].
    pub fn signals() -> (Sender<Signal>, Receiver<Signal>) {
        channel()
    }

    /// Switches it on; tells whether it was on already.
    pub fn switch_on(&self, settings: SyncSettings) -> bool {
        let already = self.state.lock().switch_on(settings, now());
        self.look_again();
        already
    }

    /// Tries again what needed a person, unless somebody wants it off.
    pub fn settle(&self, settings: SyncSettings) {
        self.state.lock().settle(settings, now());
        self.look_again();
    }

    /// Takes what came of a synchronisation; `number` is that of the process that was started here.
    pub fn take_report(&self, number: Option<u64>, report: SyncReport) {
        let mut state = self.state.lock();
        if let Some(running) = state.running.as_mut().filter(|running| Some(running.number) == number) {
            running.reported = true;
        }
        state.take(report, now(), self.progress());
        drop(state);
        self.look_again();
    }

    /// How it stands.
    pub fn status(&self) -> SyncStatus {
        self.state.lock().status(self.progress())
    }

    /// Before a lock: has what is not in the remote sent, but waits no longer than `patience`. Nothing runs afterwards, and nothing
    /// is started before [`Syncing::lock_failed`].
    pub fn finish(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let nothing_to_send = Instant::now() + patience.min(NOTHING_TO_SEND);
        let mut state = self.state.lock();
        state.locks += 1;
        let mut tried = false;
        loop {
            while let Some(number) = state.running.as_ref().map(|running| running.number) {
                let unpushed = state.is_unpushed(self.progress());
                let until = if unpushed { until } else { nothing_to_send };
                if self.ended.wait_until(&mut state, until).timed_out() && Instant::now() >= until {
                    drop(state);
                    return self.stop(number, NO_TIME);
                }
            }
            if tried || Instant::now() >= until || !state.is_worth_a_try(self.progress()) {
                return;
            }
            tried = true;
            self.begin(state);
            state = self.state.lock();
        }
    }

    /// How long a lock waits that a person asked for.
    pub fn patience_at_lock(&self) -> Duration {
        self.state.lock().settings.at_lock
    }

    /// The vault stays unlocked after all.
    pub fn lock_failed(&self) {
        self.state.lock().locks -= 1;
        self.look_again();
    }

    /// Why something is not in the remote, where it should be.
    pub fn unsent(&self) -> Option<String> {
        self.state.lock().unsent(self.progress())
    }

    fn run(&self, signals: &Receiver<Signal>) {
        loop {
            match signals.recv_timeout(self.pause()) {
                Ok(Signal::Ended(number, how)) => self.process_ended(number, format!("{NOTHING}: {how}")),
                Ok(Signal::Look) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.look();
        }
    }

    fn pause(&self) -> Duration {
        let state = self.state.lock();
        match state.settings.off {
            None => (state.settings.quiet / 4).clamp(LOOK.0, LOOK.1),
            // Until it is switched on.
            Some(_) => Duration::from_secs(3600),
        }
    }

    fn progress(&self) -> Progress {
        progress(&self.committer)
    }

    fn look_again(&self) {
        // The thread ends with the process.
        let _ = self.signals.send(Signal::Look);
    }

    /// Notices commits, and starts what is due.
    fn look(&self) {
        let now = now();
        let mut state = self.state.lock();
        state.saw(self.progress(), now);
        match &state.running {
            Some(running) if now > running.since + RUN_MAX => {
                let number = running.number;
                drop(state);
                self.stop(number, "the synchronisation did not come to an end");
            }
            None if state.is_due(now) => self.begin(state),
            _ => {}
        }
    }

    fn begin(&self, mut state: MutexGuard<'_, State>) {
        let number = state.begin(now());
        // It reads credentials in the vault, which is no use of the vault. Until it is known who it is, nobody's request counts.
        self.mounts.count_without(Uncounted::Everybody);
        drop(state);
        match self.keeper.start_sync(number) {
            Ok(pid) => self.leave_out(number, pid),
            Err(reason) => self.process_ended(number, format!("{NOTHING}: {reason}")),
        }
    }

    fn leave_out(&self, number: u64, pid: u32) {
        let state = self.state.lock();
        // It may have ended before it was known.
        if state.running.as_ref().is_some_and(|running| running.number == number) {
            let group = i32::try_from(pid).unwrap_or_default();
            self.mounts.count_without(Uncounted::Group { group, group_of: sys::group_of });
        }
    }

    /// Ends the process, of which nothing is left afterwards.
    fn stop(&self, number: u64, why: &str) {
        if let Err(reason) = self.keeper.stop_sync() {
            tracing::warn!(reason, "the synchronisation cannot be ended");
        }
        // That it was ended says less than what was wrong before.
        let before = self.state.lock().reason.clone();
        self.process_ended(number, before.unwrap_or_else(|| why.to_owned()));
    }

    /// `why` counts where it said nothing itself.
    fn process_ended(&self, number: u64, why: String) {
        let mut state = self.state.lock();
        let Some(running) = state.running.take_if(|running| running.number == number) else { return };
        self.mounts.count_without(Uncounted::Nobody);
        if !running.reported {
            state.take(SyncReport::Failed(why), now(), self.progress());
        }
        drop(state);
        self.ended.notify_all();
    }
}

fn progress(committer: &Committer) -> Progress {
    let status = committer.status();
    Progress { commits: status.commits, dirty: status.dirty }
}
