//! The terminal of an interactive shell: raw while the shell has it, given back as it was however this ends.

use std::io::{self, IsTerminal};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use signal_hook::SigId;
use signal_hook::consts::SIGWINCH;

use crate::signals::{ENDING, Hold};

/// The state of the terminal before it was raw, for a panic: that ends the process without dropping anything.
static SAVED: Mutex<Option<Termios>> = Mutex::new(None);

/// A raw terminal on standard input.
pub(super) struct RawTerminal(());

impl RawTerminal {
    /// Whether there is a terminal to talk through.
    pub(super) fn is_there() -> bool {
        io::stdin().is_terminal() && io::stdout().is_terminal()
    }

    /// Makes it raw.
    pub(super) fn new() -> io::Result<Self> {
        let saved = tcgetattr(io::stdin())?;
        let mut raw = saved.clone();
        raw.make_raw();
        *SAVED.lock().unwrap_or_else(PoisonError::into_inner) = Some(saved);
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            told(panic);
        }));
        let terminal = Self(());
        tcsetattr(io::stdin(), OptionalActions::Drain, &raw)?;
        Ok(terminal)
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        give_back();
    }
}

fn give_back() {
    if let Some(saved) = SAVED.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // The terminal may be gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &saved);
    }
}

/// Rows and columns; `None` where nobody knows.
pub(super) fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(io::stdout()).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// Signals that mean something to a session, each on a socket of its own.
pub(super) struct Signals {
    /// The window has another size.
    pub(super) resized: UnixStream,
    /// Signals that ask to end.
    pub(super) ending: Vec<(i32, UnixStream)>,
    registered: Vec<SigId>,
    _hold: Hold,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        let hold = Hold::take()?;
        let mut registered = Vec::new();
        let mut watch = |signal| {
            let (ours, raised) = UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            registered.push(signal_hook::low_level::pipe::register(signal, raised)?);
            Ok::<_, io::Error>(ours)
        };
        let resized = watch(SIGWINCH)?;
        let ending = ENDING.into_iter().map(|signal| Ok((signal, watch(signal)?)));
        let ending = ending.collect::<io::Result<_>>()?;
        Ok(Self { resized, ending, registered, _hold: hold })
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.registered.drain(..) {
            signal_hook::low_level::unregister(id);
        }
    }
}
