//! When a vault is synchronised on its own. Pure: clock and dice are the caller's. Times count from any beginning, on a clock that
//! goes on while the machine sleeps.

use std::time::Duration;

/// How soon after a failure it is tried again.
const AGAIN_FIRST: Duration = Duration::from_secs(10);
/// How long it waits at the most after many failures, and how often it looks whether what needs a person was settled.
const AGAIN_MAX: Duration = Duration::from_secs(30 * 60);
/// A change does not make a failing remote be asked more often than this.
const AFTER_FAILURE: Duration = Duration::from_secs(30);

/// How often is usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How long after the last change.
    pub quiet: Duration,
    /// How long after the last time, without a change.
    pub every: Duration,
}

/// When it is due.
#[derive(Clone, Debug)]
pub struct Schedule {
    pace: Pace,
    /// When it is due without a change.
    regular: Duration,
    /// The last change that may not be in the remote.
    changed: Option<Duration>,
    trouble: Trouble,
}

/// How the last time went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    None,
    /// It may pass by itself.
    Failing {
        times: u32,
        ended: Duration,
        again: Duration,
    },
    /// A person has to do something.
    Stopped {
        again: Duration,
    },
}

impl Schedule {
    /// Begins: what other machines did meanwhile is soon looked for.
    pub fn new(pace: Pace, now: Duration) -> Self {
        Self { pace, regular: now + pace.quiet.min(pace.every), changed: None, trouble: Trouble::None }
    }

    /// Something was committed that is not in the remote.
    pub fn changed(&mut self, now: Duration) {
        self.changed = Some(now);
    }

    /// It worked; `rest`: something was committed since that is not in the remote.
    pub fn succeeded(&mut self, now: Duration, rest: Rest) {
        self.trouble = Trouble::None;
        self.regular = now + self.pace.every;
        if rest == Rest::Nothing {
            self.changed = None;
        }
    }

    /// Somebody else is at it.
    pub fn busy(&mut self, now: Duration) {
        let later = now + self.pace.quiet.max(AGAIN_FIRST).min(self.pace.every);
        match &mut self.trouble {
            Trouble::None => (self.regular, self.changed) = (later, None),
            Trouble::Failing { again, .. } | Trouble::Stopped { again } => *again = later,
        }
    }

    /// It failed in a way that may pass; `dice` is a random number from 0 to 1, so that many machines do not come back at once.
    pub fn failed(&mut self, now: Duration, dice: f64) {
        let times = match self.trouble {
            Trouble::Failing { times, .. } => times.saturating_add(1),
            _ => 1,
        };
        let wait = AGAIN_FIRST.min(self.pace.every).saturating_mul(1 << (times - 1).min(16)).min(AGAIN_MAX);
        self.trouble = Trouble::Failing { times, ended: now, again: now + spread(wait, dice) };
    }

    /// It failed in a way that a person has to settle: changes do not make it due.
    pub fn stopped(&mut self, now: Duration, dice: f64) {
        self.trouble = Trouble::Stopped { again: now + spread(AGAIN_MAX, dice) };
    }

    /// Whether it waits for a person.
    pub fn is_stopped(&self) -> bool {
        matches!(self.trouble, Trouble::Stopped { .. })
    }

    /// When it is due.
    pub fn due(&self) -> Duration {
        match (self.trouble, self.changed) {
            (Trouble::None, None) => self.regular,
            (Trouble::None, Some(at)) => self.regular.min(at + self.pace.quiet),
            (Trouble::Failing { ended, again, .. }, Some(at)) if at > ended => {
                again.min((at + self.pace.quiet).max(ended + AFTER_FAILURE))
            }
            (Trouble::Failing { again, .. } | Trouble::Stopped { again }, _) => again,
        }
    }
}

/// What is left after a time that worked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// All is in the remote.
    Nothing,
    /// Something was committed since.
    Something,
}

/// From the half to the whole.
fn spread(wait: Duration, dice: f64) -> Duration {
    wait.mul_f64(0.5 + dice.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { quiet: Duration::from_secs(10), every: Duration::from_secs(300) };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn it_is_due_after_quiet_and_every_few_minutes() {
        let mut schedule = Schedule::new(PACE, at(1000));
        assert_eq!(schedule.due(), at(1010), "the work of others");
        schedule.succeeded(at(1012), Rest::Nothing);
        assert_eq!(schedule.due(), at(1312));
        schedule.changed(at(1020));
        assert_eq!(schedule.due(), at(1030));
        schedule.changed(at(1029));
        assert_eq!(schedule.due(), at(1039), "changes go on");
        schedule.succeeded(at(1040), Rest::Something);
        assert_eq!(schedule.due(), at(1039), "what came meanwhile");
        schedule.succeeded(at(1050), Rest::Nothing);
        assert_eq!(schedule.due(), at(1350));
    }

    #[test]
    fn changes_that_never_end_do_not_put_it_off_for_ever() {
        let mut schedule = Schedule::new(PACE, at(0));
        schedule.succeeded(at(10), Rest::Nothing);
        (11..400).for_each(|now| schedule.changed(at(now)));
        assert_eq!(schedule.due(), at(310));
    }

    #[test]
    fn failures_wait_longer_and_longer_and_never_too_long() {
        let (mut least, mut most) = (Schedule::new(PACE, at(0)), Schedule::new(PACE, at(0)));
        let mut waits = Vec::new();
        for _ in 0..40 {
            least.failed(at(100), 0.0);
            most.failed(at(100), 1.0);
            waits.push(((least.due() - at(100)).as_secs(), (most.due() - at(100)).as_secs()));
        }
        assert_eq!(waits[..3], [(5, 10), (10, 20), (20, 40)]);
        assert_eq!(waits[39], (900, 1800));
        least.succeeded(at(200), Rest::Nothing);
        least.failed(at(300), 1.0);
        assert_eq!(least.due(), at(310), "from the beginning");
        let mut often = Schedule::new(Pace { quiet: at(0), every: at(1) }, at(0));
        often.failed(at(0), 1.0);
        assert_eq!(often.due(), at(1));
    }

    #[test]
    fn a_change_tries_a_failing_remote_sooner_but_not_at_once() {
        let mut schedule = Schedule::new(PACE, at(0));
        schedule.changed(at(50));
        (0..8).for_each(|_| schedule.failed(at(100), 1.0));
        assert_eq!(schedule.due(), at(1380), "the change was tried already");
        schedule.changed(at(101));
        assert_eq!(schedule.due(), at(130));
        schedule.changed(at(125));
        assert_eq!(schedule.due(), at(135));
    }

    #[test]
    fn what_needs_a_person_waits_for_one() {
        let mut schedule = Schedule::new(PACE, at(0));
        schedule.stopped(at(100), 1.0);
        schedule.changed(at(110));
        assert!(schedule.is_stopped());
        assert_eq!(schedule.due(), at(1900));
        schedule.succeeded(at(200), Rest::Something);
        assert!(!schedule.is_stopped());
        assert_eq!(schedule.due(), at(120));
    }

    #[test]
    fn somebody_else_is_waited_for() {
        let mut schedule = Schedule::new(PACE, at(0));
        schedule.changed(at(50));
        schedule.busy(at(60));
        assert_eq!(schedule.due(), at(70));
        schedule.failed(at(70), 1.0);
        schedule.busy(at(90));
        assert_eq!(schedule.due(), at(100));
    }
}
