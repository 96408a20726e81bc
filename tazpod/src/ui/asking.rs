//! Questions on the terminal: lines that are shown as they are typed, and lines that are not.

use std::fs::File;
use std::io;

use zeroize::Zeroizing;

use super::say;
use super::terminal::{Guard, Key, Shows, Terminal};

/// The longest line that is taken from a terminal, in bytes.
const LINE_MAX: usize = 4096;

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

/// Asks for lines that are not shown. Nothing that is typed is shown either until this goes, so that a line which comes too early, while
/// the one before is being tried, is not; and it is thrown away.
pub struct SecretPrompt {
    terminal: Terminal,
    // After the terminal: it is given back while its guard lives.
    guard: Guard,
}

impl SecretPrompt {
    /// Takes the terminal.
    ///
    /// # Errors
    /// See [`AskError`].
    pub fn open() -> Result<Self, AskError> {
        let terminal = Terminal::open(Shows::Nothing)?;
        let guard = Guard::start(&terminal)?;
        Ok(Self { terminal, guard })
    }

    /// Asks for a line. What was typed before the question does not count.
    ///
    /// # Errors
    /// See [`AskError`].
    pub fn ask(&mut self, question: &str) -> Result<Zeroizing<Vec<u8>>, AskError> {
        if self.guard.is_raised() {
            return Err(AskError::Interrupted);
        }
        ask_line(&mut self.terminal, question, Echo::Off)
    }
}

/// Asks for a line; an empty one means the default.
///
/// # Errors
/// See [`AskError`].
pub fn ask(question: &str, default: &str) -> Result<String, AskError> {
    let line = ask_shown(&format!("{question} [{default}] "))?;
    let text = String::from_utf8_lossy(&line).trim().to_owned();
    Ok(if text.is_empty() { default.to_owned() } else { text })
}

/// Asks for a yes or a no; yes is the default.
///
/// # Errors
/// See [`AskError`].
pub fn agree(question: &str) -> Result<bool, AskError> {
    loop {
        match ask_shown(&format!("{question} [Y/n] "))?.as_slice() {
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
    let line = ask_shown(&format!("{question} [y/N] "))?;
    Ok(matches!(line.as_slice(), b"y" | b"Y" | b"yes" | b"Yes"))
}

fn ask_shown(question: &str) -> Result<Zeroizing<Vec<u8>>, AskError> {
    ask_line(&mut Terminal::open(Shows::AsBefore)?, question, Echo::On)
}

/// Reads a line byte by byte without the terminal's own line editing: so Ctrl-C reaches us as a byte, and the terminal is
/// given back as it was whatever happens.
fn ask_line(terminal: &mut Terminal, question: &str, echo: Echo) -> Result<Zeroizing<Vec<u8>>, AskError> {
    let mut keys = terminal.read_keys()?;
    keys.show(question)?;
    // Room from the start: a vector that grows leaves copies behind.
    let mut line = Zeroizing::new(Vec::with_capacity(LINE_MAX));
    loop {
        match keys.next()? {
            Key::Enter => break,
            Key::EndOfFile if !line.is_empty() => {}
            // Nobody needs to be told that the terminal is gone too.
            Key::Interrupt | Key::EndOfFile => {
                let _ = keys.show("\r\n");
                return Err(AskError::Interrupted);
            }
            Key::Suspend => {
                line.clear();
                keys.suspend()?;
                keys.show(question)?;
            }
            Key::Erase => erase(&mut line, &mut |text| keys.show(text), echo)?,
            Key::EraseLine => {
                while !line.is_empty() {
                    erase(&mut line, &mut |text| keys.show(text), echo)?;
                }
            }
            Key::Byte(byte) if line.len() < LINE_MAX => {
                line.push(byte);
                if echo == Echo::On {
                    keys.show_bytes(&[byte])?;
                }
            }
            Key::Byte(_) => {}
        }
    }
    keys.show("\r\n")?;
    Ok(line)
}

/// Takes the last character off, of however many bytes.
fn erase(line: &mut Vec<u8>, show: &mut dyn FnMut(&str) -> io::Result<()>, echo: Echo) -> io::Result<()> {
    let mut erased = false;
    while let Some(byte) = line.pop() {
        erased = true;
        if byte & 0xc0 != 0x80 {
            break;
        }
    }
    if erased && echo == Echo::On {
        show("\x08 \x08")?;
    }
    Ok(())
}
