//! When a vault locks by itself: a state machine that is told of leases, of file operations and of the time, and says whether it
//! is due. Knows no clock, no thread and no vault. Times count from any fixed moment, suspension included.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long a lock that was refused rests before it is tried again, at first and at most.
const RETRY_MIN: Duration = Duration::from_secs(2);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// What locks a vault besides its user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// The end of the last lease.
    pub last_lease: bool,
    /// How long after that.
    pub grace: Duration,
    /// No file operation for so long.
    pub idle: Option<Duration>,
    /// Waking up from suspension.
    pub suspend: bool,
}

impl Default for Rules {
    /// Nothing does.
    fn default() -> Self {
        Self { last_lease: false, grace: Duration::ZERO, idle: None, suspend: false }
    }
}

/// What the end of a lease means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaseEnd {
    /// The vault may lock when it was the last.
    MayLock,
    /// It stays unlocked (`--keep-unlocked`).
    KeepsUnlocked,
}

/// Somebody who needs the vault.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LeaseInfo {
    /// What it is, for people: `shell`, `run`.
    pub what: String,
    /// Who asked for it; 0: it cannot be seen from here.
    pub pid: i32,
    /// What its end means.
    pub end: LeaseEnd,
}

/// Why a vault is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// The last lease ended.
    LastLease,
    /// `lock --after`
    Time,
    /// No file operations.
    Idle,
    /// The machine was suspended.
    Suspend,
}

impl Reason {
    /// Tells it to people.
    pub fn words(self) -> &'static str {
        match self {
            Self::LastLease => "the last shell ended",
            Self::Time => "'lock --after' was asked for",
            Self::Idle => "nothing used it",
            Self::Suspend => "the machine was suspended",
        }
    }
}

/// The state of one unlocked vault.
pub struct AutoLock {
    rules: Rules,
    leases: BTreeMap<u64, LeaseInfo>,
    next_lease: u64,
    /// End of the time that the last lease left.
    grace_until: Option<Duration>,
    /// What `lock --after` set.
    after: Option<Duration>,
    active_at: Duration,
    was_suspended: bool,
    refused: Option<Refused>,
}

/// A lock that did not work.
struct Refused {
    why: String,
    again_at: Duration,
    pause: Duration,
}

impl AutoLock {
    /// Starts with no lease: then none that ends is the last.
    pub fn new(rules: Rules, now: Duration) -> Self {
        Self {
            rules,
            leases: BTreeMap::new(),
            next_lease: 0,
            grace_until: None,
            after: None,
            active_at: now,
            was_suspended: false,
            refused: None,
        }
    }

    /// Counts a lease; gives its number. What the end of another began is over.
    pub fn begin(&mut self, lease: LeaseInfo, now: Duration) -> u64 {
        self.grace_until = None;
        self.forget_refusal(now);
        self.next_lease += 1;
        self.leases.insert(self.next_lease, lease);
        self.next_lease
    }

    /// Ends a lease.
    pub fn end(&mut self, number: u64, now: Duration) {
        let Some(ended) = self.leases.remove(&number) else { return };
        if self.leases.is_empty() && self.rules.last_lease && ended.end == LeaseEnd::MayLock {
            self.grace_until = Some(now.saturating_add(self.rules.grace));
        }
    }

    /// To be told when files were used.
    pub fn was_active(&mut self, now: Duration) {
        self.active_at = now;
        self.forget_refusal(now);
    }

    /// To be told when the machine wakes up.
    pub fn woke_up(&mut self) {
        self.was_suspended = self.rules.suspend;
    }

    /// Sets or takes back the time of `lock --after`.
    pub fn lock_after(&mut self, delay: Option<Duration>, now: Duration) {
        self.after = delay.map(|delay| now.saturating_add(delay));
        self.forget_refusal(now);
    }

    /// Why the vault has to be locked now, if it has.
    pub fn due(&self, now: Duration) -> Option<Reason> {
        let (at, reason) = self.first()?;
        let rests = self.refused.as_ref().is_some_and(|refused| now < refused.again_at);
        (at <= now && !rests).then_some(reason)
    }

    /// When [`AutoLock::due`] has to be asked again, unless something happens before.
    pub fn next(&self) -> Option<Duration> {
        let (at, _) = self.first()?;
        Some(self.refused.as_ref().map_or(at, |refused| at.max(refused.again_at)))
    }

    /// When and why the vault will lock as things stand, for people.
    pub fn outlook(&self) -> Option<(Duration, Reason)> {
        self.first()
    }

    /// Notes that a lock did not work. Nothing is given up for it: it is tried again, more and more rarely.
    pub fn was_refused(&mut self, why: String, now: Duration) {
        let pause = self.refused.as_ref().map_or(RETRY_MIN, |before| RETRY_MAX.min(before.pause * 2));
        self.refused = Some(Refused { why, again_at: now.saturating_add(pause), pause });
    }

    /// Why the last lock did not work, as long as it is still due.
    pub fn refusal(&self) -> Option<&str> {
        self.refused.as_ref().map(|refused| refused.why.as_str())
    }

    /// All leases.
    pub fn leases(&self) -> impl Iterator<Item = &LeaseInfo> {
        self.leases.values()
    }

    /// What counts.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// What is not due any more begins anew when it is due again.
    fn forget_refusal(&mut self, now: Duration) {
        if self.first().is_none_or(|(at, _)| at > now) {
            self.refused = None;
        }
    }

    fn first(&self) -> Option<(Duration, Reason)> {
        let idle = self.rules.idle.map(|idle| self.active_at.saturating_add(idle));
        let suspended = self.was_suspended.then_some(Duration::ZERO);
        let all = [
            (suspended, Reason::Suspend),
            (self.grace_until, Reason::LastLease),
            (self.after, Reason::Time),
            (idle, Reason::Idle),
        ];
        all.into_iter().filter_map(|(at, reason)| Some((at?, reason))).min_by_key(|(at, _)| *at)
    }
}

/// Notices suspension: the clock that counts it runs ahead of the one that does not.
pub struct SuspensionWatch {
    ahead: Duration,
}

/// What both clocks may differ by without suspension, being read one after the other.
const CLOCKS_APART: Duration = Duration::from_millis(500);

impl SuspensionWatch {
    /// Starts from both clocks as they are.
    pub fn new(with_suspension: Duration, without: Duration) -> Self {
        Self { ahead: with_suspension.saturating_sub(without) }
    }

    /// Tells whether the machine was suspended since the last look.
    pub fn look(&mut self, with_suspension: Duration, without: Duration) -> bool {
        let ahead = with_suspension.saturating_sub(without);
        let slept = ahead > self.ahead + CLOCKS_APART;
        self.ahead = ahead;
        slept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn machine(rules: Rules) -> AutoLock {
        AutoLock::new(rules, secs(100))
    }

    fn last_lease() -> Rules {
        Rules { last_lease: true, grace: secs(10), ..Rules::default() }
    }

    fn lease(end: LeaseEnd) -> LeaseInfo {
        LeaseInfo { what: "shell".to_owned(), pid: 1, end }
    }

    #[test]
    fn without_a_lease_and_without_rules_nothing_is_ever_due() {
        let auto_lock = machine(last_lease());
        assert_eq!((auto_lock.due(HOUR * 1000), auto_lock.next()), (None, None));
    }

    #[test]
    fn the_last_lease_locks_after_its_grace_and_a_new_one_cancels_that() {
        let mut auto_lock = machine(last_lease());
        let (one, other) = (
            auto_lock.begin(lease(LeaseEnd::MayLock), secs(150)),
            auto_lock.begin(lease(LeaseEnd::MayLock), secs(150)),
        );
        auto_lock.end(one, secs(200));
        assert_eq!(auto_lock.due(HOUR), None, "another one is left");
        auto_lock.end(other, secs(300));
        assert_eq!((auto_lock.due(secs(309)), auto_lock.next()), (None, Some(secs(310))));
        assert_eq!(auto_lock.due(secs(310)), Some(Reason::LastLease));
        let again = auto_lock.begin(lease(LeaseEnd::MayLock), secs(150));
        assert_eq!((auto_lock.due(HOUR), auto_lock.next()), (None, None));
        auto_lock.end(again, secs(400));
        auto_lock.end(again, secs(500));
        assert_eq!(auto_lock.next(), Some(secs(410)), "a lease ends once");
    }

    #[test]
    fn the_last_one_decides_whether_the_vault_stays_unlocked() {
        for (first, last, locks) in
            [(LeaseEnd::KeepsUnlocked, LeaseEnd::MayLock, true), (LeaseEnd::MayLock, LeaseEnd::KeepsUnlocked, false)]
        {
            let mut auto_lock = machine(last_lease());
            let (first, last) = (auto_lock.begin(lease(first), secs(150)), auto_lock.begin(lease(last), secs(150)));
            auto_lock.end(first, secs(200));
            auto_lock.end(last, secs(200));
            assert_eq!(auto_lock.due(HOUR).is_some(), locks);
        }
        let mut auto_lock = machine(Rules { last_lease: false, ..last_lease() });
        let only = auto_lock.begin(lease(LeaseEnd::MayLock), secs(150));
        auto_lock.end(only, secs(200));
        assert_eq!(auto_lock.due(HOUR), None, "the rule is off");
    }

    #[test]
    fn use_puts_off_the_idle_lock_and_leases_do_not() {
        let mut auto_lock = machine(Rules { idle: Some(secs(60)), ..Rules::default() });
        auto_lock.begin(lease(LeaseEnd::MayLock), secs(150));
        assert_eq!(auto_lock.next(), Some(secs(160)));
        auto_lock.was_active(secs(150));
        assert_eq!((auto_lock.due(secs(209)), auto_lock.due(secs(210))), (None, Some(Reason::Idle)));
    }

    #[test]
    fn a_time_that_was_set_counts_until_it_is_taken_back() {
        let mut auto_lock = machine(last_lease());
        auto_lock.lock_after(Some(HOUR), secs(100));
        auto_lock.begin(lease(LeaseEnd::KeepsUnlocked), secs(150));
        assert_eq!(auto_lock.due(HOUR + secs(100)), Some(Reason::Time));
        auto_lock.lock_after(Some(secs(5)), secs(100));
        assert_eq!(auto_lock.outlook(), Some((secs(105), Reason::Time)), "the newer one counts");
        auto_lock.lock_after(None, secs(104));
        assert_eq!(auto_lock.next(), None);
        auto_lock.lock_after(Some(Duration::MAX), secs(100));
        assert_eq!(auto_lock.due(HOUR), None, "nothing overflows");
    }

    #[test]
    fn what_is_refused_is_tried_again_more_and_more_rarely() {
        let mut auto_lock = machine(last_lease());
        let only = auto_lock.begin(lease(LeaseEnd::MayLock), secs(150));
        auto_lock.end(only, secs(200));
        let (mut now, mut pauses) = (secs(210), Vec::new());
        for _ in 0..6 {
            assert_eq!(auto_lock.due(now), Some(Reason::LastLease));
            auto_lock.was_refused("files are open".to_owned(), now);
            assert_eq!((auto_lock.due(now), auto_lock.refusal()), (None, Some("files are open")));
            let next = auto_lock.next().unwrap();
            pauses.push((next - now).as_secs());
            now = next;
        }
        assert_eq!(pauses, [2, 4, 8, 16, 30, 30]);
        auto_lock.begin(lease(LeaseEnd::MayLock), secs(150));
        assert_eq!((auto_lock.refusal(), auto_lock.next()), (None, None), "nothing is due any more");
    }

    #[test]
    fn waking_up_locks_only_where_that_is_asked_for() {
        for suspend in [true, false] {
            let mut auto_lock = machine(Rules { suspend, ..Rules::default() });
            auto_lock.woke_up();
            assert_eq!(auto_lock.due(secs(100)), suspend.then_some(Reason::Suspend));
        }
    }

    #[test]
    fn suspension_is_what_sets_the_clocks_apart() {
        let mut watch = SuspensionWatch::new(secs(1000), secs(900));
        assert!(!watch.look(secs(1010), secs(910)));
        assert!(!watch.look(secs(1020) + Duration::from_millis(20), secs(920)), "read one after the other");
        assert!(watch.look(secs(1090), secs(930)));
        assert!(!watch.look(secs(1100), secs(940)), "told once");
    }
}
