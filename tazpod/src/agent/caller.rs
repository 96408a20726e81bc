//! The command that waits for its vault to be unlocked. When it is gone, nobody wants the vault any more.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, poll};

use crate::signals::is_readable;

/// The agent's side of the socket to it, on which it says nothing more.
pub(super) struct Caller {
    socket: UnixStream,
    /// Whether this process may end in the middle of what it does.
    may_end: Arc<Mutex<bool>>,
}

impl Caller {
    /// Begins to watch for its end.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn watch(socket: &UnixStream) -> io::Result<Self> {
        let caller = Self { socket: socket.try_clone()?, may_end: Arc::default() };
        let (socket, may_end) = (socket.try_clone()?, caller.may_end.clone());
        std::thread::Builder::new().name("caller".into()).spawn(move || {
            // Whatever else it is: nobody waits.
            while let Err(rustix::io::Errno::INTR) = poll(&mut [PollFd::new(&socket, PollFlags::IN)], None) {}
            if *may_end.lock() {
                tracing::info!("nobody waits for the unlock");
                std::process::exit(1);
            }
        })?;
        Ok(caller)
    }

    /// Does what takes a while and leaves nothing behind, up to [`Caller::must_wait`]; this process ends when the caller does
    /// meanwhile, and so if it did before.
    pub(super) fn while_it_waits<T>(&self, work: impl FnOnce() -> T) -> T {
        *self.may_end.lock() = true;
        if is_gone(&self.socket) {
            std::process::exit(1);
        }
        let done = work();
        *self.may_end.lock() = false;
        done
    }

    /// From here on it does not: something would be left behind.
    pub(super) fn must_wait(&self) {
        *self.may_end.lock() = false;
    }
}

/// Whether it does not wait any more.
pub(super) fn is_gone(socket: &UnixStream) -> bool {
    is_readable(socket)
}
