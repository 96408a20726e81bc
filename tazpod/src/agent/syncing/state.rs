//! What an agent knows of the synchronising of its vault, and how that changes. Knows no process and no thread.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::report::{SyncOff, SyncReport, SyncSettings, SyncState, SyncStatus};
use super::schedule::{Pace, Rest, Schedule};

/// Why something is not in the remote, when nothing was wrong.
pub const NO_TIME: &str = "there was no time for it";

/// All that is known.
pub struct State {
    /// What was asked for.
    pub settings: SyncSettings,
    schedule: Schedule,
    /// The commits of this session that were seen.
    seen: u64,
    /// The remote holds all up to this one.
    synced: Option<u64>,
    /// The process that is at it.
    pub running: Option<Running>,
    /// Processes that were started.
    started: u64,
    /// Locks that are under way: nothing is started.
    pub locks: u32,
    last_success: Option<u64>,
    /// What is wrong.
    pub reason: Option<String>,
}

/// How far the vault is. A commit counts that changes who can open it, and nothing of the tree.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Commits of this session.
    pub commits: u64,
    /// Whether something is not committed.
    pub dirty: bool,
}

/// A process that synchronises.
pub struct Running {
    /// Tells it from others.
    pub number: u64,
    /// When it was started.
    pub since: Duration,
    /// Whether it has said what came of it.
    pub reported: bool,
}

impl State {
    /// Begins with an archive that was just opened.
    pub fn new(settings: SyncSettings, now: Duration, progress: Progress) -> Self {
        Self {
            schedule: Schedule::new(settings.pace(), now),
            seen: progress.commits,
            synced: settings.pushed.then_some(progress.commits),
            running: None,
            started: 0,
            locks: 0,
            last_success: settings.last_success,
            reason: None,
            settings,
        }
    }

    /// Switches it on; tells whether it was on already.
    pub fn switch_on(&mut self, settings: SyncSettings, now: Duration) -> bool {
        let already = self.settings.off.is_none();
        if !already {
            self.begin_anew(settings, now);
        }
        already
    }

    /// A person has done something about the configuration, or about what was wrong.
    pub fn settle(&mut self, settings: SyncSettings, now: Duration) {
        if !matches!(self.settings.off, Some(SyncOff::Asked(_))) {
            self.begin_anew(settings, now);
        }
    }

    fn begin_anew(&mut self, settings: SyncSettings, now: Duration) {
        if settings.remote != self.settings.remote {
            self.synced = None;
        }
        self.schedule = Schedule::new(settings.pace(), now);
        self.reason = None;
        self.settings = settings;
    }

    /// Notes what was committed.
    pub fn saw(&mut self, progress: Progress, now: Duration) {
        if progress.commits > self.seen {
            self.seen = progress.commits;
            if self.is_unpushed(progress) {
                self.schedule.changed(now);
            }
        }
    }

    /// Whether a process is to be started now.
    pub fn is_due(&self, now: Duration) -> bool {
        self.settings.off.is_none() && self.locks == 0 && now >= self.schedule.due()
    }

    /// Whether a lock has one started.
    pub fn is_worth_a_try(&self, progress: Progress) -> bool {
        self.settings.off.is_none() && !self.schedule.is_stopped() && self.is_unpushed(progress)
    }

    /// A process is started; returns its number.
    pub fn begin(&mut self, now: Duration) -> u64 {
        self.started += 1;
        self.running = Some(Running { number: self.started, since: now, reported: false });
        self.started
    }

    /// How it stands.
    pub fn status(&self, progress: Progress) -> SyncStatus {
        let waits = self.settings.off.is_none() && self.running.is_none();
        SyncStatus {
            state: self.name(),
            reason: self.settings.off.as_ref().map(ToString::to_string).or_else(|| self.reason.clone()),
            remote: self.settings.remote.clone(),
            last_success: self.last_success,
            next_try: waits.then(|| seconds_of(self.schedule.due())),
            unpushed: self.settings.remote.as_ref().map(|_| self.is_unpushed(progress)),
            at_lock_millis: u64::try_from(self.settings.at_lock.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Why something is not in the remote, where it should be.
    pub fn unsent(&self, progress: Progress) -> Option<String> {
        let is_missing = self.settings.off.is_none() && self.is_unpushed(progress);
        is_missing.then(|| self.reason.clone().unwrap_or_else(|| NO_TIME.to_owned()))
    }

    /// Takes what came of a synchronisation.
    pub fn take(&mut self, report: SyncReport, now: Duration, progress: Progress) {
        tracing::debug!(?report, "a synchronisation ended");
        match report {
            SyncReport::Same { commit, remote } => {
                self.settings.off.take_if(|off| *off == SyncOff::NoRemote);
                if self.settings.remote.as_ref() != Some(&remote) {
                    (self.settings.remote, self.synced) = (Some(remote), None);
                }
                self.synced = self.synced.max(Some(commit));
                self.last_success = Some(seconds_of(now));
                self.worked(now, progress);
            }
            SyncReport::Fetched => self.worked(now, progress),
            SyncReport::Busy => self.schedule.busy(now),
            SyncReport::Off(off) => self.settings.off = Some(off),
            SyncReport::Failed(reason) => {
                self.schedule.failed(now, dice());
                self.fails(reason);
            }
            SyncReport::NeedsPerson(reason) => {
                self.schedule.stopped(now, dice());
                self.fails(reason);
            }
        }
    }

    fn worked(&mut self, now: Duration, progress: Progress) {
        let rest = if self.is_unpushed(progress) { Rest::Something } else { Rest::Nothing };
        self.schedule.succeeded(now, rest);
        if self.reason.take().is_some() {
            tracing::info!("the vault is synchronised again");
        }
    }

    /// Says so once, and not each time.
    fn fails(&mut self, reason: String) {
        if self.reason.as_ref() != Some(&reason) {
            tracing::warn!(reason, "the vault is not synchronised");
        }
        self.reason = Some(reason);
    }

    /// Whether the remote may not have all.
    pub fn is_unpushed(&self, progress: Progress) -> bool {
        progress.dirty || self.synced.is_none_or(|synced| progress.commits > synced)
    }

    fn name(&self) -> SyncState {
        match (&self.settings.off, &self.running, &self.reason) {
            (Some(_), ..) => SyncState::Off,
            (None, Some(_), _) => SyncState::Running,
            (None, None, None) => SyncState::Waiting,
            (None, None, Some(_)) if self.schedule.is_stopped() => SyncState::Stopped,
            (None, None, Some(_)) => SyncState::Failing,
        }
    }
}

impl SyncSettings {
    fn pace(&self) -> Pace {
        Pace { quiet: self.quiet, every: self.every }
    }
}

/// Time since the machine was started, sleep included: what is due while it sleeps is due when it wakes.
pub fn now() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.try_into().unwrap_or(0))
}

/// The time of day of a time of [`now`], in seconds since the epoch.
fn seconds_of(time: Duration) -> u64 {
    let today = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (today + time).saturating_sub(now()).as_secs()
}

/// From 0 to 1. Without randomness many machines may come back at once.
fn dice() -> f64 {
    f64::from(u32::from_le_bytes(vaultfs::crypto::random().unwrap_or_default())) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1000);

    fn committed(commits: u64) -> Progress {
        Progress { commits, dirty: false }
    }

    fn same(commit: u64) -> SyncReport {
        SyncReport::Same { commit, remote: "/stick".to_owned() }
    }

    fn state(pushed: bool) -> State {
        let seconds = Duration::from_secs;
        let settings = SyncSettings {
            off: None,
            remote: Some("/stick".to_owned()),
            quiet: seconds(10),
            every: seconds(300),
            at_lock: seconds(10),
            pushed,
            last_success: None,
        };
        State::new(settings, START, committed(5))
    }

    #[test]
    fn what_is_not_in_the_remote_is_known_to_the_commit() {
        let mut state = state(true);
        assert!(!state.is_unpushed(committed(5)) && state.is_unpushed(committed(6)));
        assert!(state.is_unpushed(Progress { commits: 5, dirty: true }), "not committed yet, and not there either");
        state.saw(committed(7), START);
        state.take(same(6), START, committed(7));
        assert!(state.is_unpushed(committed(7)));
        assert!(state.is_due(START + Duration::from_secs(10)), "what came meanwhile is not forgotten");
        state.take(same(7), START, committed(7));
        assert_eq!((state.is_unpushed(committed(7)), state.unsent(committed(7))), (false, None));
        state.take(same(6), START, committed(7));
        assert!(!state.is_unpushed(committed(7)), "an older report comes late");
        assert!(super::tests::state(false).is_unpushed(committed(5)), "an earlier session did not come so far");
    }

    #[test]
    fn a_lock_tries_what_may_work_and_tells_the_rest() {
        let mut state = state(false);
        assert!(state.is_worth_a_try(committed(5)));
        assert_eq!(state.unsent(committed(5)).as_deref(), Some(NO_TIME));
        state.take(SyncReport::Failed("no network".to_owned()), START, committed(5));
        assert!(state.is_worth_a_try(committed(5)), "perhaps now");
        assert_eq!(state.status(committed(5)).state, SyncState::Failing);
        state.take(SyncReport::NeedsPerson("other key".to_owned()), START, committed(5));
        assert!(!state.is_worth_a_try(committed(5)));
        assert_eq!(
            (state.status(committed(5)).state, state.unsent(committed(5)).as_deref()),
            (SyncState::Stopped, Some("other key"))
        );
        state.take(SyncReport::Fetched, START, committed(5));
        assert_eq!((state.status(committed(5)).state, state.status(committed(5)).reason), (SyncState::Waiting, None));
    }

    #[test]
    fn a_configuration_that_does_not_want_it_any_more_counts_until_it_is_switched_on() {
        let mut state = state(false);
        state.take(SyncReport::Off(SyncOff::Asked("sync: false".to_owned())), START, committed(5));
        state.settle(state.settings.clone(), START);
        let status = state.status(committed(5));
        assert_eq!(
            (status.state, status.reason.as_deref(), status.next_try),
            (SyncState::Off, Some("sync: false"), None)
        );
        assert!(
            !state.is_due(START * 2) && !state.is_worth_a_try(committed(5)) && state.unsent(committed(5)).is_none()
        );
        let on = super::tests::state(false).settings;
        assert!(!state.switch_on(on.clone(), START) && state.switch_on(on, START));
        assert!(state.is_due(START * 2));
    }

    #[test]
    fn nothing_is_started_while_a_lock_is_under_way() {
        let mut state = state(false);
        state.locks = 1;
        assert!(!state.is_due(START * 2) && state.is_worth_a_try(committed(5)));
        assert_eq!((state.begin(START), state.begin(START)), (1, 2));
        assert_eq!(state.status(committed(5)).state, SyncState::Running);
    }

    #[test]
    fn a_remote_that_comes_later_or_is_another_one_counts() {
        let mut state = state(true);
        state.settings.remote = None;
        state.take(SyncReport::Off(SyncOff::NoRemote), START, committed(5));
        assert_eq!((state.status(committed(5)).unpushed, state.is_due(START * 2)), (None, false));
        state.settle(super::tests::state(true).settings, START);
        assert!(state.is_due(START + Duration::from_secs(10)));
        state.take(same(4), START, committed(5));
        assert_eq!(state.status(committed(5)).unpushed, Some(true), "the older one says nothing of this one");
        assert_eq!(state.status(committed(5)).remote.as_deref(), Some("/stick"));
    }

    #[test]
    fn what_was_settled_is_tried_soon() {
        let mut state = state(false);
        state.take(SyncReport::NeedsPerson("nobody is signed in".to_owned()), START, committed(5));
        state.settle(super::tests::state(false).settings, START);
        assert_eq!((state.status(committed(5)).state, state.is_due(START)), (SyncState::Waiting, false));
        assert!(state.is_due(START + Duration::from_secs(10)));
    }
}
