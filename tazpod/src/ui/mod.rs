//! What is shown and asked. Status goes to standard error, questions to the terminal itself, which may be another one than
//! the standard streams.

mod asking;
mod terminal;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

pub use asking::{AskError, SecretPrompt, agree, ask, confirm, has_terminal};

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

/// A number of things for people: `1 entry`, `2 entries`.
pub fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
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
    fn one_thing_is_not_several() {
        assert_eq!([0, 1, 2].map(|number| count(number, "entry", "entries")), ["0 entries", "1 entry", "2 entries"]);
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
