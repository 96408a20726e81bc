//! Work that is done beside something else, and waited for no longer than it is worth.

use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long a command that only tells how things stand waits for an engine in all.
const PATIENCE: Duration = Duration::from_secs(1);

/// Work that was begun.
pub struct Beside<T> {
    outcome: Receiver<T>,
    until: Instant,
}

impl<T: Send + 'static> Beside<T> {
    /// Begins it.
    pub fn begin(work: impl FnOnce() -> T + Send + 'static) -> Self {
        let (sender, outcome) = channel();
        // Without a thread there is no answer, and after a while nobody waits for one.
        let started = std::thread::Builder::new().name("beside".into()).spawn(move || sender.send(work()));
        started.inspect_err(|error| tracing::debug!(%error, "nothing is done beside")).ok();
        Self { outcome, until: Instant::now() + PATIENCE }
    }

    /// Its outcome; `None`: it takes too long.
    pub fn wait(self) -> Option<T> {
        self.outcome.recv_timeout(self.until.saturating_duration_since(Instant::now())).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_too_long_is_not_waited_for() {
        assert_eq!(Beside::begin(|| 7).wait(), Some(7));
        let begun = Instant::now();
        assert_eq!(Beside::begin(|| std::thread::sleep(PATIENCE * 100)).wait(), None);
        assert!(begun.elapsed() < PATIENCE * 10, "{:?}", begun.elapsed());
    }
}
