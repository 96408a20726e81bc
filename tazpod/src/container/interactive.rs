//! A shell or a program inside a container: started through the engine, on the terminal where there is one, its exit status passed on.

use std::io::{Read, Write};
use std::time::Duration;

use bollard::exec::{ResizeExecOptions, StartExecOptions, StartExecResults};
use bollard::models::{ExecConfig, ExecInspectResponse};
use futures_util::StreamExt;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt;

use super::accounts::Accounts;
use super::endpoint::Endpoint;
use super::engine::Engine;
use super::error::{ContainerError, is_missing};
use super::feed::talk;
use super::greeting;
use super::guard::Guard;
use super::lifecycle::Found;
use super::session::{self, Answer, End, Output, Parts, Stream};
use super::terminal::{self, RawTerminal, Signals};

/// What is passed on of the environment.
const PASSED_ON: &[&str] = &["TERM", "LANG", "LC_ALL", "LC_CTYPE", "COLORTERM"];
/// Keys that leave a session behind: the engine holds back ctrl-p for its own ones, which shells use. Nobody types these.
const DETACH_KEYS: &str = "ctrl-^,ctrl-@,ctrl-^,ctrl-@,ctrl-^";
/// How often the end of a program is looked for after its output has ended.
const LOOKS: u32 = 250;
const LOOK_PAUSE: Duration = Duration::from_millis(20);
/// The exit status of what SIGKILL ends.
const KILLED: u8 = 137;

/// What is to be run.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The program with its arguments; empty: the user's shell.
    pub command: Vec<String>,
    /// Words before it: a program that starts it.
    pub started_by: Vec<String>,
    /// What tells it inside that nobody is there any more, where the engine is on another machine.
    pub hung_up_by: Vec<String>,
    /// The user; `None`: who works inside.
    pub user: Option<String>,
    /// The folder; `None`: the container's.
    pub workdir: Option<String>,
    /// `NAME=VALUE`
    pub environment: Vec<String>,
}

/// Runs it in a running container, and returns its exit status.
///
/// # Errors
/// [`ContainerError::Refused`].
pub fn run(engine: &Engine, found: &Found, request: &Request) -> Result<u8, ContainerError> {
    let is_terminal = RawTerminal::is_there();
    let command = match request.command.is_empty() {
        true => vec![shell(engine, found, request.user.as_deref())?],
        false => request.command.clone(),
    };
    let command = [request.started_by.clone(), command].concat();
    let size = terminal::size().filter(|_| is_terminal);
    let config = ExecConfig {
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        tty: Some(is_terminal),
        detach_keys: is_terminal.then(|| DETACH_KEYS.to_owned()),
        console_size: size.map(|(rows, columns)| vec![rows.into(), columns.into()]),
        env: Some(environment(request, is_terminal)),
        cmd: Some(command),
        user: request.user.clone(),
        working_dir: request.workdir.clone(),
        ..ExecConfig::default()
    };
    let exec = engine.wait("run a program inside", engine.docker.create_exec(&found.id, config))?.id;
    let session =
        Session { exec, container: found.id.clone(), user: found.user.clone(), hung_up_by: request.hung_up_by.clone() };
    let exec = &session.exec;
    let _guard = Guard::start(engine, &session);
    let mut stream = attach(engine, exec, is_terminal)?;
    let end = converse(engine, exec, &mut stream, is_terminal);
    match end.map_err(|error| ContainerError::Io("talk with the program inside".to_owned(), error))? {
        End::Closed => exit_status(engine, exec),
        End::Signal(signal) => {
            hang_up(engine, &session, if is_terminal { Signal::HUP.as_raw() } else { signal });
            Ok(u8::try_from(128 + signal).unwrap_or(u8::MAX))
        }
    }
}

fn converse(engine: &Engine, exec: &str, stream: &mut Stream, is_terminal: bool) -> std::io::Result<End> {
    let signals = Signals::new()?;
    let raw = is_terminal.then(RawTerminal::new).transpose()?;
    let mut output = if is_terminal { Output::Terminal } else { Output::Parted(Parts::default()) };
    let outcome = session::run(stream, &mut output, &signals, &mut || resize(engine, exec));
    drop(raw);
    outcome
}

/// A new window's size comes while the program is being started, too.
fn resize(engine: &Engine, exec: &str) -> Answer {
    let Some((height, width)) = terminal::size() else { return Answer::Done };
    match engine.ask(engine.docker.resize_exec(exec, ResizeExecOptions { height, width })) {
        Ok(()) => Answer::Done,
        Err(_) => match engine.ask(engine.docker.inspect_exec(exec)) {
            // Not started yet.
            Ok(found) if found.exit_code.is_none() => Answer::NotYet,
            _ => Answer::Done,
        },
    }
}

fn environment(request: &Request, is_terminal: bool) -> Vec<String> {
    let wanted = PASSED_ON.iter().filter(|name| is_terminal || !matches!(**name, "TERM" | "COLORTERM"));
    let mut environment: Vec<String> = wanted
        .filter_map(|name| Some(format!("{name}={}", std::env::var(name).ok().filter(|value| !value.is_empty())?)))
        .collect();
    environment.extend(request.environment.iter().cloned());
    environment
}

/// The user's login shell, else bash, else sh.
fn shell(engine: &Engine, found: &Found, user: Option<&str>) -> Result<String, ContainerError> {
    let user = user.unwrap_or(&found.user);
    let user = user.split(':').next().filter(|user| !user.is_empty()).unwrap_or("0");
    let passwd = engine.read_file(&found.id, "/etc/passwd")?.unwrap_or_default();
    let own = Accounts::parse(&passwd, "").find(user).map(|account| account.shell);
    let own = own.filter(|shell| !shell.is_empty() && !shell.ends_with("nologin") && !shell.ends_with("/false"));
    for shell in own.into_iter().chain(["/bin/bash".to_owned()]) {
        if engine.kind(&found.id, &shell)?.is_some() {
            return Ok(shell);
        }
    }
    Ok("/bin/sh".to_owned())
}

/// The exit status of a program that has ended, or is about to.
pub(super) fn exit_status(engine: &Engine, exec: &str) -> Result<u8, ContainerError> {
    for _ in 0..LOOKS {
        let found = match engine.ask(engine.docker.inspect_exec(exec)) {
            Ok(found) => found,
            // The container was removed, and everything in it was killed.
            Err(error) if is_missing(&error) => return Ok(KILLED),
            Err(error) => return Err(ContainerError::of("tell how the program inside ended", error)),
        };
        match (found.running, found.exit_code) {
            (Some(true), _) | (_, None) => std::thread::sleep(LOOK_PAUSE),
            (_, Some(code)) => return Ok(u8::try_from(code).unwrap_or(u8::MAX)),
        }
    }
    // It closed its output and goes on, as daemons do.
    Ok(0)
}

/// A program that was started inside.
pub(super) struct Session {
    pub(super) exec: String,
    pub(super) container: String,
    pub(super) user: String,
    pub(super) hung_up_by: Vec<String>,
}

/// Tells the program inside that nobody is there any more.
pub(super) fn hang_up(engine: &Engine, session: &Session, signal: i32) {
    if !engine.is_local() {
        if !session.hung_up_by.is_empty() {
            let told = talk(engine, &session.container, &session.user, session.hung_up_by.clone(), b"", |_| {});
            tracing::debug!(ok = told.is_ok(), "the program inside was told that nobody is there any more");
        }
        return;
    }
    let exec = &session.exec;
    if let (Some(pid), Some(signal)) = (running_pid(engine, exec), Signal::from_named_raw(signal)) {
        // Of another user (enter -u), perhaps: then it stays.
        let _ = kill_process_group(pid, signal);
    }
}

/// The number of a program on this machine, while it runs.
fn running_pid(engine: &Engine, exec: &str) -> Option<Pid> {
    for _ in 0..LOOKS {
        match Standing::of(&engine.ask(engine.docker.inspect_exec(exec)).ok()?) {
            Standing::Begins => std::thread::sleep(LOOK_PAUSE),
            Standing::Runs(pid) => return Some(pid),
            Standing::Ended => return None,
        }
    }
    None
}

/// How a program inside stands, in the engine's words.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    /// It is being started. Its output may be there already: the engine notes that it runs before it starts it, and its number after
    /// that.
    Begins,
    /// It runs, with this number on the engine's machine.
    Runs(Pid),
    /// It does not any more.
    Ended,
}

impl Standing {
    fn of(found: &ExecInspectResponse) -> Self {
        let pid = found.pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        match (found.running, found.exit_code, pid) {
            (Some(true), _, Some(pid)) => Self::Runs(pid),
            (Some(true), _, None) | (_, None, _) => Self::Begins,
            (_, Some(_), _) => Self::Ended,
        }
    }
}

/// Starts the program and takes over the connection. Not through bollard where that can be: it takes some bytes on a terminal for
/// headers, and a session would stand still at them.
fn attach(engine: &Engine, exec: &str, is_terminal: bool) -> Result<Stream, ContainerError> {
    let cannot = |error| ContainerError::Io("reach the program inside".to_owned(), error);
    let mut stream = match &engine.endpoint {
        Endpoint::Unix(socket) => Stream::Unix(std::os::unix::net::UnixStream::connect(socket).map_err(cannot)?),
        Endpoint::Tcp(address) => Stream::Tcp(std::net::TcpStream::connect(address).map_err(cannot)?),
        Endpoint::Tls(..) => return attach_over_tls(engine.clone_for_thread()?, exec.to_owned(), is_terminal),
    };
    let body = format!(r#"{{"Detach":false,"Tty":{is_terminal}}}"#);
    let head = format!(
        "POST /v{}/exec/{exec}/start HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\nConnection: Upgrade\r\n\
         Upgrade: tcp\r\nContent-Length: {}\r\n\r\n{body}",
        engine.docker.client_version(),
        body.len()
    );
    stream.write_all(head.as_bytes()).map_err(cannot)?;
    let head = greeting::read_head(&mut stream).map_err(cannot)?;
    let answer = head.lines().next().unwrap_or_default().to_owned();
    match answer.split(' ').nth(1) {
        Some("101" | "200") => Ok(stream),
        _ => {
            let mut reason = String::new();
            // The connection may end in the middle; what there is says enough.
            let _ = stream.take(4096).read_to_string(&mut reason);
            let message = serde_json::from_str::<serde_json::Value>(reason.trim()).ok();
            let message = message.and_then(|value| Some(value.get("message")?.as_str()?.to_owned()));
            Err(ContainerError::Refused { doing: "run a program inside".to_owned(), reason: message.unwrap_or(answer) })
        }
    }
}

/// Through bollard, which knows TLS, from a thread; the near end of a pair stands for the connection.
fn attach_over_tls(engine: Engine, exec: String, is_terminal: bool) -> Result<Stream, ContainerError> {
    let cannot = |error| ContainerError::Io("reach the program inside".to_owned(), error);
    let (near, far) = std::os::unix::net::UnixStream::pair().map_err(cannot)?;
    far.set_nonblocking(true).map_err(cannot)?;
    let options = StartExecOptions { tty: is_terminal, ..StartExecOptions::default() };
    let started = engine.wait("run a program inside", engine.docker.start_exec(&exec, Some(options)))?;
    let StartExecResults::Attached { mut output, mut input } = started else { return Ok(Stream::Unix(near)) };
    std::thread::spawn(move || {
        engine.ask(async {
            let Ok(far) = tokio::net::UnixStream::from_std(far) else { return };
            let (mut from, mut to) = far.into_split();
            let going_in = async {
                // The end of one is the end of the other, too.
                let _ = tokio::io::copy(&mut from, &mut input).await;
                let _ = input.shutdown().await;
                std::future::pending::<()>().await;
            };
            let coming_out = async {
                while let Some(Ok(piece)) = output.next().await {
                    let kind = if matches!(piece, bollard::container::LogOutput::StdErr { .. }) { 2 } else { 1 };
                    let bytes = piece.into_bytes();
                    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
                    let header = [&[kind, 0, 0, 0], length.as_slice()].concat();
                    let header = if is_terminal { &[] } else { header.as_slice() };
                    if to.write_all(header).await.is_err() || to.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
            };
            futures_util::future::select(std::pin::pin!(going_in), std::pin::pin!(coming_out)).await;
        });
    });
    Ok(Stream::Unix(near))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_has_no_number_yet_is_waited_for() {
        let standing = |running, exit_code, pid| {
            Standing::of(&ExecInspectResponse { running, exit_code, pid, ..ExecInspectResponse::default() })
        };
        assert_eq!(standing(Some(false), None, Some(0)), Standing::Begins);
        assert_eq!(standing(Some(true), None, Some(0)), Standing::Begins);
        assert_eq!(standing(Some(true), None, Some(42)), Standing::Runs(Pid::from_raw(42).unwrap()));
        assert_eq!(standing(Some(false), Some(0), Some(42)), Standing::Ended);
    }
}
