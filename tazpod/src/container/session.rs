//! The bytes between this process and one that runs in a container: standard input goes in, what comes out is written, until the
//! other side ends. One loop, no thread: nothing waits while there is something to show.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::SIGPIPE;

use super::terminal::Signals;

/// How often something is tried again that the engine was not ready for.
const AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
const BUFFER: usize = 32 * 1024;

/// The engine's end of a session.
pub(super) enum Stream {
    /// A socket of this machine, or the near end of a pair.
    Unix(UnixStream),
    /// To an engine elsewhere.
    Tcp(std::net::TcpStream),
}

impl Stream {
    fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.set_nonblocking(true),
            Self::Tcp(stream) => stream.set_nonblocking(true),
        }
    }

    /// Says that nothing more goes in, while what comes out is still read.
    fn finish(&self) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(buffer),
            Self::Tcp(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(bytes),
            Self::Tcp(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The other side closed it.
    Closed,
    /// A signal asked this process to end, or nobody takes what comes out (SIGPIPE).
    Signal(i32),
}

/// How what comes out is written.
pub(super) enum Output {
    /// As it is.
    Terminal,
    /// Parted into standard output and standard error.
    Parted(Parts),
}

/// Takes apart the engine's frames: a byte for the stream, three of nothing, four for the length (big-endian), the content.
#[derive(Default)]
pub(super) struct Parts {
    header: Vec<u8>,
    left: usize,
    is_error: bool,
}

impl Parts {
    fn write(&mut self, mut bytes: &[u8], out: &mut dyn Write, errors: &mut dyn Write) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.left == 0 {
                let (taken, rest) = bytes.split_at(bytes.len().min(8 - self.header.len()));
                self.header.extend_from_slice(taken);
                bytes = rest;
                if let [kind, _, _, _, a, b, c, d] = self.header[..] {
                    self.left = u32::from_be_bytes([a, b, c, d]) as usize;
                    self.is_error = kind >= 2;
                    self.header.clear();
                }
                continue;
            }
            let (content, rest) = bytes.split_at(bytes.len().min(self.left));
            match self.is_error {
                true => errors.write_all(content)?,
                false => out.write_all(content)?,
            }
            self.left -= content.len();
            bytes = rest;
        }
        out.flush().and_then(|()| errors.flush())
    }
}

/// What was asked of the engine beside the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It did it.
    Done,
    /// It is not ready yet.
    NotYet,
}

/// Passes bytes on until one side ends. `resize` tells the engine the window's size.
pub(super) fn run(
    stream: &mut Stream,
    output: &mut Output,
    signals: &Signals,
    resize: &mut dyn FnMut() -> Answer,
) -> io::Result<End> {
    stream.set_nonblocking()?;
    let is_terminal = matches!(output, Output::Terminal);
    let (mut input, mut pending, mut must_resize) = (Some(io::stdin()), Vec::new(), is_terminal);
    let mut buffer = vec![0; BUFFER];
    loop {
        let ready =
            wait(stream, input.as_ref().filter(|_| pending.is_empty()), signals, !pending.is_empty(), must_resize)?;
        if let Some(signal) = ready.signal {
            return Ok(End::Signal(signal));
        }
        if ready.resized {
            drain(&signals.resized);
            must_resize = is_terminal;
        }
        if ready.output {
            match stream.read(&mut buffer) {
                Ok(0) => return Ok(End::Closed),
                Ok(len) => match write_out(output, &buffer[..len]) {
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(End::Signal(SIGPIPE)),
                    outcome => outcome?,
                },
                Err(error) if is_temporary(&error) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(End::Closed),
                Err(error) => return Err(error),
            }
        }
        if ready.input {
            match rustix::io::read(io::stdin(), &mut buffer) {
                Ok(len) if len > 0 => pending.extend_from_slice(&buffer[..len]),
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                // Its end, or the terminal is gone.
                _ => {
                    input = None;
                    stream.finish().ok();
                }
            }
        }
        if !pending.is_empty() {
            send(stream, &mut pending)?;
        }
        if must_resize {
            must_resize = resize() == Answer::NotYet;
        }
    }
}

/// What something can be done with.
struct Ready {
    output: bool,
    input: bool,
    resized: bool,
    signal: Option<i32>,
}

fn wait(
    stream: &Stream,
    input: Option<&io::Stdin>,
    signals: &Signals,
    wants_to_send: bool,
    is_short: bool,
) -> io::Result<Ready> {
    let wanted = if wants_to_send { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
    let stream = stream.fd();
    let mut watched = vec![PollFd::from_borrowed_fd(stream, wanted), PollFd::new(&signals.resized, PollFlags::IN)];
    watched.extend(signals.ending.iter().map(|(_, socket)| PollFd::new(socket, PollFlags::IN)));
    watched.extend(input.map(|input| PollFd::new(input, PollFlags::IN)));
    match poll(&mut watched, is_short.then_some(&AGAIN)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let is_ready = |index: usize| watched.get(index).is_some_and(|fd: &PollFd| !fd.revents().is_empty());
    let can_read = watched[0].revents().intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR);
    let signal =
        signals.ending.iter().enumerate().find(|(index, _)| is_ready(index + 2)).map(|(_, (signal, _))| *signal);
    let input = input.is_some() && is_ready(signals.ending.len() + 2);
    Ok(Ready { output: can_read, input, resized: is_ready(1), signal })
}

fn write_out(output: &mut Output, bytes: &[u8]) -> io::Result<()> {
    let (mut out, mut errors) = (io::stdout().lock(), io::stderr().lock());
    match output {
        Output::Terminal => out.write_all(bytes).and_then(|()| out.flush()),
        Output::Parted(parts) => parts.write(bytes, &mut out, &mut errors),
    }
}

fn send(stream: &mut Stream, pending: &mut Vec<u8>) -> io::Result<()> {
    match stream.write(pending) {
        Ok(len) => {
            pending.drain(..len);
            Ok(())
        }
        Err(error) if is_temporary(&error) => Ok(()),
        // Nobody inside reads it any more.
        Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
            pending.clear();
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn drain(mut signals: &UnixStream) {
    let mut buffer = [0; 64];
    while matches!(signals.read(&mut buffer), Ok(len) if len > 0) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_parted_wherever_they_are_cut() {
        let mut bytes = Vec::new();
        for (kind, text) in [(1, "out"), (2, "err"), (1, ""), (1, "more\n")] {
            bytes.extend_from_slice(&[kind, 0, 0, 0, 0, 0, 0, u8::try_from(text.len()).unwrap()]);
            bytes.extend_from_slice(text.as_bytes());
        }
        for cut in 1..bytes.len() {
            let (mut parts, mut out, mut errors) = (Parts::default(), Vec::new(), Vec::new());
            for piece in bytes.chunks(cut) {
                parts.write(piece, &mut out, &mut errors).unwrap();
            }
            assert_eq!((out.as_slice(), errors.as_slice()), (b"outmore\n".as_slice(), b"err".as_slice()), "{cut}");
        }
    }
}
