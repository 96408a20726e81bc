//! The controlling terminal while something is asked on it, and what gives it back as it was: the end of the question, of the command,
//! or of the process by a signal.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Signal, kill_current_process_group};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use signal_hook::iterator::{Handle, Signals};

use crate::signals::{Caught, ENDING, Hold};

use super::AskError;

/// How the terminal was before a guard watched over it.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

fn before() -> MutexGuard<'static, Option<Termios>> {
    BEFORE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the terminal shows of what is typed while nothing is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shows {
    /// What it showed before.
    AsBefore,
    /// Nothing.
    Nothing,
}

/// The controlling terminal, given back when this goes.
pub(super) struct Terminal {
    file: File,
    saved: Termios,
    shows: Shows,
}

impl Terminal {
    pub(super) fn open(shows: Shows) -> Result<Self, AskError> {
        let file = OpenOptions::new().read(true).write(true).open("/dev/tty").map_err(|_| AskError::NoTerminal)?;
        let saved = tcgetattr(&file).map_err(io::Error::from)?;
        Ok(Self { file, saved, shows })
    }

    /// Has single bytes handed over, Ctrl-C among them, as long as keys are read.
    pub(super) fn read_keys(&mut self) -> Result<Keys<'_>, AskError> {
        let caught = Caught::begin()?;
        self.set_for_keys()?;
        Ok(Keys { terminal: self, caught })
    }

    fn set_for_keys(&self) -> io::Result<()> {
        let mut quiet = self.saved.clone();
        quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        // Flush: what was typed before the question is thrown away.
        Ok(tcsetattr(&self.file, OptionalActions::Flush, &quiet)?)
    }

    /// As it is while nothing is asked. Ctrl-Z does nothing then: whoever goes on at a shell would go on without echo.
    fn set_between_questions(&self) -> io::Result<()> {
        let mut state = self.saved.clone();
        if self.shows == Shows::Nothing {
            state.local_modes.remove(LocalModes::ECHO | LocalModes::ECHONL);
            state.special_codes[SpecialCodeIndex::VSUSP] = 0;
        }
        Ok(tcsetattr(&self.file, OptionalActions::Now, &state)?)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // What was typed blindly would be shown now, and a shell would take it for a command.
        let when = if self.shows == Shows::Nothing { OptionalActions::Flush } else { OptionalActions::Now };
        // Best effort: the terminal may be gone.
        let _ = tcsetattr(&self.file, when, &self.saved);
    }
}

/// What was typed.
pub(super) enum Key {
    Enter,
    /// Ctrl-C, Ctrl-\
    Interrupt,
    /// Ctrl-D
    EndOfFile,
    /// Ctrl-Z
    Suspend,
    /// Backspace
    Erase,
    /// Ctrl-U
    EraseLine,
    Byte(u8),
}

impl From<u8> for Key {
    fn from(byte: u8) -> Self {
        match byte {
            b'\r' | b'\n' => Self::Enter,
            0x03 | 0x1c => Self::Interrupt,
            0x04 => Self::EndOfFile,
            0x1a => Self::Suspend,
            0x7f | 0x08 => Self::Erase,
            0x15 => Self::EraseLine,
            byte => Self::Byte(byte),
        }
    }
}

/// The keys of a terminal, one by one.
pub(super) struct Keys<'a> {
    terminal: &'a mut Terminal,
    caught: Caught,
}

impl Keys<'_> {
    pub(super) fn show(&mut self, text: &str) -> io::Result<()> {
        self.show_bytes(text.as_bytes())
    }

    pub(super) fn show_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.terminal.file.write_all(bytes)?;
        self.terminal.file.flush()
    }

    pub(super) fn next(&mut self) -> Result<Key, AskError> {
        loop {
            let mut watched =
                [PollFd::new(&self.terminal.file, PollFlags::IN), PollFd::new(&self.caught, PollFlags::IN)];
            match poll(&mut watched, None) {
                Err(rustix::io::Errno::INTR) => continue,
                outcome => outcome.map_err(io::Error::from)?,
            };
            if !watched[1].revents().is_empty() {
                return Err(AskError::Interrupted);
            }
            let mut byte = [0];
            return match self.terminal.file.read(&mut byte) {
                Ok(1) => Ok(byte[0].into()),
                Ok(_) => Err(AskError::Interrupted),
                Err(error) => Err(error.into()),
            };
        }
    }

    /// Stops this process and those at the terminal with it, as Ctrl-Z does; returns when somebody has them go on.
    pub(super) fn suspend(&mut self) -> io::Result<()> {
        self.show("\r\n")?;
        let original = before().clone().unwrap_or_else(|| self.terminal.saved.clone());
        tcsetattr(&self.terminal.file, OptionalActions::Flush, &original)?;
        kill_current_process_group(Signal::TSTP)?;
        self.terminal.set_for_keys()
    }
}

impl Drop for Keys<'_> {
    fn drop(&mut self) {
        // Best effort, as for the terminal.
        let _ = self.terminal.set_between_questions();
    }
}

/// Gives a terminal back when a signal ends the process while nothing is asked. Where one watches already, a further one does nothing.
pub(super) struct Guard {
    thread: Option<(Handle, JoinHandle<()>)>,
    is_raised: Arc<AtomicBool>,
}

impl Guard {
    pub(super) fn start(terminal: &Terminal) -> io::Result<Self> {
        let mut before = before();
        if before.is_some() {
            return Ok(Self { thread: None, is_raised: Arc::default() });
        }
        let is_raised = Arc::<AtomicBool>::default();
        let (hold, file, mut signals) = (Hold::take()?, terminal.file.try_clone()?, Signals::new(ENDING)?);
        let (handle, saved, raised) = (signals.handle(), terminal.saved.clone(), is_raised.clone());
        let watch = move || {
            for signal in signals.forever() {
                // Best effort, as for the terminal.
                let _ = tcsetattr(&file, OptionalActions::Flush, &saved);
                raised.store(true, Ordering::SeqCst);
                hold.default_if_alone(signal);
            }
        };
        let thread = std::thread::Builder::new().name("terminal".into()).spawn(watch)?;
        *before = Some(terminal.saved.clone());
        Ok(Self { thread: Some((handle, thread)), is_raised })
    }

    /// Whether a signal came that did not end the process, since somebody else holds it.
    pub(super) fn is_raised(&self) -> bool {
        self.is_raised.load(Ordering::SeqCst)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some((handle, thread)) = self.thread.take() else { return };
        handle.close();
        // It does not panic.
        let _ = thread.join();
        *before() = None;
    }
}
