//! Signals that ask the program to end. Whoever has to give something back first holds them, and watches for them as fits; while nobody
//! does, they end the program as they always do. (The library that catches them leaves them caught, and so without effect, for good.)

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

/// Those that ask to end.
pub const ENDING: [i32; 4] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];

static HOLDERS: Mutex<usize> = Mutex::new(0);
/// Whether the default action counts.
static UNHELD: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| Arc::new(AtomicBool::new(true)));
/// The handlers that do it, registered once.
static DEFAULTS: LazyLock<Result<(), io::ErrorKind>> = LazyLock::new(|| {
    for signal in ENDING {
        signal_hook::flag::register_conditional_default(signal, UNHELD.clone()).map_err(|error| error.kind())?;
    }
    Ok(())
});

/// While it lives, the signals do nothing by themselves.
#[derive(Debug)]
pub struct Hold(());

impl Hold {
    /// Holds them.
    ///
    /// # Errors
    /// The system refuses.
    pub fn take() -> io::Result<Self> {
        let mut holders = HOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
        *holders += 1;
        UNHELD.store(false, Ordering::SeqCst);
        let hold = Self(());
        drop(holders);
        // Dropping the hold takes the lock.
        (*DEFAULTS).map(|()| hold).map_err(Into::into)
    }

    /// Does what a signal does by default, unless somebody else holds them too.
    pub fn default_if_alone(&self, signal: i32) {
        let is_alone = *HOLDERS.lock().unwrap_or_else(PoisonError::into_inner) == 1;
        if is_alone && let Err(error) = signal_hook::low_level::emulate_default_handler(signal) {
            tracing::error!(%error, signal, "a signal does nothing");
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut holders = HOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
        *holders -= 1;
        UNHELD.store(*holders == 0, Ordering::SeqCst);
    }
}

/// Signals that are held, each of which makes this readable.
#[derive(Debug)]
pub struct Caught {
    raised: UnixStream,
    registered: Vec<SigId>,
    _hold: Hold,
}

impl Caught {
    /// Begins to watch for them.
    ///
    /// # Errors
    /// The system refuses.
    pub fn begin() -> io::Result<Self> {
        let (raised, raise) = UnixStream::pair()?;
        let mut caught = Self { raised, registered: Vec::new(), _hold: Hold::take()? };
        for signal in ENDING {
            caught.registered.push(signal_hook::low_level::pipe::register(signal, raise.try_clone()?)?);
        }
        Ok(caught)
    }

    /// Whether one came.
    pub fn is_raised(&self) -> bool {
        is_readable(&self.raised)
    }
}

/// Whether a read would not wait: something came, or the end.
pub fn is_readable(descriptor: impl AsFd) -> bool {
    poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

impl AsFd for Caught {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.raised.as_fd()
    }
}

impl Drop for Caught {
    fn drop(&mut self) {
        for id in self.registered.drain(..) {
            signal_hook::low_level::unregister(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_somebody_watches_for_ends_nobody() {
        let caught = Caught::begin().unwrap();
        assert!(!caught.is_raised());
        signal_hook::low_level::raise(SIGHUP).unwrap();
        assert!(caught.is_raised() && caught.is_raised(), "it is not forgotten");
        let further = Caught::begin().unwrap();
        assert!(!further.is_raised(), "one that came before does not count");
        drop(caught);
        signal_hook::low_level::raise(SIGHUP).unwrap();
        assert!(further.is_raised());
        drop(further);
        assert!(UNHELD.load(Ordering::SeqCst));
    }
}
