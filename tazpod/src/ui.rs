//! What is shown and asked. Status goes to standard error, questions to the terminal itself, which may be another one than
//! the standard streams.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use zeroize::Zeroizing;

/// The longest line that is taken from a terminal, in bytes.
const LINE_MAX: usize = 4096;

/// Tells the user something.
pub fn say(text: impl AsRef<str>) {
    // Nobody reads it any more: nothing to be done.
    let _ = writeln!(io::stderr(), "{}", text.as_ref());
}

/// Tells the user something that needs attention.
pub fn warn(text: impl AsRef<str>) {
    say(format!("Warning: {}", text.as_ref()));
}

/// Writes a line of data to standard output.
///
/// # Errors
/// Nobody takes it.
pub fn print(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

/// The same for a secret, past the buffer of standard output, which nobody wipes.
///
/// # Errors
/// Nobody takes it.
pub fn print_secret(line: &[u8]) -> io::Result<()> {
    let mut output = unbuffered_output()?;
    output.write_all(line)?;
    output.write_all(b"\n")
}

/// Standard output past its buffer.
///
/// # Errors
/// Out of descriptors.
pub fn unbuffered_output() -> io::Result<File> {
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

/// Why a question got no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// There is nobody to be asked.
    #[error("there is no terminal to ask on")]
    NoTerminal,
    /// Ctrl-C, Ctrl-D, or a signal to end.
    #[error("interrupted")]
    Interrupted,
    /// The terminal fails.
    #[error("the terminal fails: {0}")]
    Io(#[from] io::Error),
}

/// Whether there is somebody to be asked.
pub fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}

/// Whether an answer is shown as it is typed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Echo {
    On,
    Off,
}

/// Asks for a line that is not shown. What was typed before the question does not count.
///
/// # Errors
/// See [`AskError`].
pub fn ask_secret(question: &str) -> Result<Zeroizing<Vec<u8>>, AskError> {
    ask_line(question, Echo::Off)
}

/// Asks for a line; an empty one means the default.
///
/// # Errors
/// See [`AskError`].
pub fn ask(question: &str, default: &str) -> Result<String, AskError> {
    let line = ask_line(&format!("{question} [{default}] "), Echo::On)?;
    let text = String::from_utf8_lossy(&line).trim().to_owned();
    Ok(if text.is_empty() { default.to_owned() } else { text })
}

/// Asks for a yes or a no; yes is the default.
///
/// # Errors
/// See [`AskError`].
pub fn agree(question: &str) -> Result<bool, AskError> {
    loop {
        match ask_line(&format!("{question} [Y/n] "), Echo::On)?.as_slice() {
            b"" | b"y" | b"Y" | b"yes" | b"Yes" => return Ok(true),
            b"n" | b"N" | b"no" | b"No" => return Ok(false),
            _ => say("Answer yes or no."),
        }
    }
}

/// Asks for a yes or a no; no is the default.
///
/// # Errors
/// See [`AskError`].
pub fn confirm(question: &str) -> Result<bool, AskError> {
    let line = ask_line(&format!("{question} [y/N] "), Echo::On)?;
    Ok(matches!(line.as_slice(), b"y" | b"Y" | b"yes" | b"Yes"))
}

/// Reads a line byte by byte without the terminal's own line editing: so Ctrl-C reaches us as a byte, and the terminal is
/// given back as it was whatever happens.
fn ask_line(question: &str, echo: Echo) -> Result<Zeroizing<Vec<u8>>, AskError> {
    let mut terminal = Terminal::open()?;
    terminal.show(question)?;
    // Room from the start: a vector that grows leaves copies behind.
    let mut line = Zeroizing::new(Vec::with_capacity(LINE_MAX));
    loop {
        match terminal.next_byte()? {
            b'\r' | b'\n' => break,
            0x03 => return Err(terminal.abandon()),
            0x04 if line.is_empty() => return Err(terminal.abandon()),
            0x7f | 0x08 => erase(&mut line, &mut terminal, echo)?,
            0x15 => {
                while !line.is_empty() {
                    erase(&mut line, &mut terminal, echo)?;
                }
            }
            byte if line.len() < LINE_MAX => {
                line.push(byte);
                if echo == Echo::On {
                    terminal.out.write_all(&[byte])?;
                }
            }
            _ => {}
        }
    }
    terminal.show("\r\n")?;
    Ok(line)
}

/// Takes the last character off, of however many bytes.
fn erase(line: &mut Vec<u8>, terminal: &mut Terminal, echo: Echo) -> io::Result<()> {
    let mut erased = false;
    while let Some(byte) = line.pop() {
        erased = true;
        if byte & 0xc0 != 0x80 {
            break;
        }
    }
    if erased && echo == Echo::On {
        terminal.out.write_all(b"\x08 \x08")?;
    }
    Ok(())
}

/// The controlling terminal, set to hand over single bytes, and given back when this goes.
struct Terminal {
    input: File,
    out: File,
    saved: Termios,
    signals: OwnedFd,
    registered: Vec<signal_hook::SigId>,
}

impl Terminal {
    fn open() -> Result<Self, AskError> {
        let input = OpenOptions::new().read(true).write(true).open("/dev/tty").map_err(|_| AskError::NoTerminal)?;
        let out = input.try_clone()?;
        let saved = tcgetattr(&input).map_err(io::Error::from)?;
        let (signals, raised) = UnixStream::pair()?;
        let mut registered = Vec::new();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            registered.push(signal_hook::low_level::pipe::register(signal, raised.try_clone()?)?);
        }
        let terminal = Self { input, out, saved, signals: signals.into(), registered };
        let mut quiet = terminal.saved.clone();
        quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        // Flush: what was typed before the question is thrown away.
        tcsetattr(&terminal.input, OptionalActions::Flush, &quiet).map_err(io::Error::from)?;
        Ok(terminal)
    }

    fn show(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    fn next_byte(&mut self) -> Result<u8, AskError> {
        loop {
            let mut watched = [PollFd::new(&self.input, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
            match poll(&mut watched, None) {
                Err(rustix::io::Errno::INTR) => continue,
                outcome => outcome.map_err(io::Error::from)?,
            };
            if !watched[1].revents().is_empty() {
                return Err(AskError::Interrupted);
            }
            let mut byte = [0];
            return match self.input.read(&mut byte) {
                Ok(1) => Ok(byte[0]),
                Ok(_) => Err(AskError::Interrupted),
                Err(error) => Err(error.into()),
            };
        }
    }

    /// Nobody needs to be told that the terminal is gone too.
    fn abandon(&mut self) -> AskError {
        let _ = self.show("\r\n");
        AskError::Interrupted
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Best effort: the terminal may be gone.
        let _ = tcsetattr(&self.input, OptionalActions::Now, &self.saved);
        for id in self.registered.drain(..) {
            signal_hook::low_level::unregister(id);
        }
    }
}

/// Names of files and programs are not trusted with a terminal.
pub fn printable(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect()
}

/// A size for people, in powers of 1024.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit < UNITS.len() - 1 {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 || value.fract() < 0.05 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// A span of time for people.
pub fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86400, seconds % 86400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb"), "a\u{fffd}[2Jb");
    }

    #[test]
    fn sizes_and_spans_read_well() {
        assert_eq!(
            [size(0), size(1023), size(1024), size(1536), size(256 << 20)],
            ["0 B", "1023 B", "1 KiB", "1.5 KiB", "256 MiB"]
        );
        assert_eq!([span(5), span(61), span(3700), span(90000)], ["5 s", "1 min", "1 h 1 min", "1 d 1 h"]);
    }
}
