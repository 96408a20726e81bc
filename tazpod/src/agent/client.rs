//! The way to a running agent. Knows the protocol and the sockets, not what the user is told.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use vaultfs::crypto::Passphrase;
use vaultfs::vault::{Rekey, Secret};

use crate::signals::is_readable;

use super::auto_lock::LeaseEnd;
use super::bridges::{BridgeRequest, BridgeStatus};
use super::frames::{self, FrameReader, FrameWriter};
use super::leases::LeaseRequest;
use super::past::{Checked, Commit, Progress, Restored};
use super::paths::VaultKey;
use super::protocol::{
    Answer, Failure, Hello, JoinRequest, Joined, KeyRequest, LastSync, LockMode, MountRequest, PROTOCOL,
    RecipientEntry, Request, Status,
};
use super::syncing::{SyncReport, SyncSettings};
use super::{fusermount, mountinfo, secrets};

/// How long a keeper may take to detach after its agent's end.
const DETACH: Duration = Duration::from_secs(10);
/// How long an agent may take to greet, and to tell how it stands.
const GREETING: Duration = Duration::from_secs(10);

/// Why a talk with an agent came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The agent says no.
    #[error(transparent)]
    Refused(#[from] Failure),
    /// The agent or its connection ended in the middle.
    #[error("the agent of the vault ended unexpectedly")]
    Ended(#[source] io::Error),
    /// Ctrl-C, or another signal to end, while the vault was being unlocked: it is locked.
    #[error("interrupted: the vault stays locked")]
    Interrupted,
    /// The keeper was killed, and the agent cannot save and end.
    #[error(
        "the vault is being locked since its keeper was killed, and its agent (pid {pid}) does not come to an end{}",
        because(.reason.as_deref())
    )]
    NoKeeper {
        /// The agent.
        pid: u32,
        /// Why it could not save.
        reason: Option<String>,
    },
    /// It is there and says nothing: stopped, or stuck.
    #[error("the agent of the vault does not answer")]
    Silent,
    /// An agent of another release serves the vault.
    #[error("the vault was unlocked by version {0} of this program, which speaks another protocol")]
    OtherRelease(String, u32),
    /// Locked, but something is left that could not be taken away.
    #[error("the vault is locked, but {} could not be unmounted", .0.display())]
    StillMounted(PathBuf),
    /// The local side of a transfer failed: the input of an import, the output of an export.
    #[error("the data cannot be passed on")]
    Transfer(#[source] io::Error),
    /// The system refused something.
    #[error("cannot {0}")]
    Io(&'static str, #[source] io::Error),
}

impl AgentError {
    /// Whether the agent closed the connection, as it does when it ends.
    pub fn is_hang_up(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        matches!(self, Self::Ended(error) if matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof))
    }
}

fn because(reason: Option<&str>) -> String {
    reason.map_or_else(String::new, |reason| format!(": {reason}"))
}

/// A connection to the agent of one unlocked vault.
pub struct Client {
    hello: Hello,
    stream: UnixStream,
}

/// The need of an unlocked vault; ends with it, and with its process, however that ends.
pub struct Lease {
    stream: UnixStream,
}

impl Lease {
    /// Waits until the vault is locked, or its agent is gone.
    pub fn wait_for_end(mut self) {
        // The agent says nothing on it any more.
        while matches!(self.stream.read(&mut [0]), Ok(len) if len > 0) {}
    }
}

impl Client {
    /// Connects to the agent of an archive (canonical path); `None`: it is locked.
    ///
    /// # Errors
    /// [`AgentError::OtherRelease`], [`AgentError::Ended`]: the agent does not greet. Else what the system says.
    pub fn connect(archive: &Path) -> Result<Option<Self>, AgentError> {
        let socket =
            VaultKey::of(archive).socket().map_err(|error| AgentError::Io("find the socket's folder", error))?;
        let mut stream = match UnixStream::connect(socket) {
            Ok(stream) => stream,
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => return Ok(None),
                _ => return Err(AgentError::Io("connect to the agent", error)),
            },
        };
        let hello: Hello = match read_soon(&mut stream) {
            Ok(hello) => hello,
            // It ended between our connection and its greeting.
            Err(error) if error.is_hang_up() => return Ok(None),
            Err(error) => return Err(error),
        };
        if hello.protocol != PROTOCOL {
            return Err(AgentError::OtherRelease(hello.version, hello.agent_pid));
        }
        Ok(Some(Self { hello, stream }))
    }

    /// Connects and asks how the vault stands; `None`: it is locked, or its agent was just ending.
    ///
    /// # Errors
    /// As for [`Client::connect`].
    pub fn find(archive: &Path) -> Result<Option<(Self, Status)>, AgentError> {
        let Some(mut client) = Self::connect(archive)? else { return Ok(None) };
        match client.status() {
            Ok(status) => Ok(Some((client, status))),
            Err(error) if error.is_hang_up() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn status(&mut self) -> Result<Status, AgentError> {
        self.send(&Request::Status)?;
        match read_soon(&mut self.stream)? {
            Answer::Status(status) => Ok(*status),
            _ => Err(unexpected()),
        }
    }

    /// Whether the keeper is gone, so that the agent is about to save and end.
    pub fn has_lost_keeper(&self) -> bool {
        process(self.hello.keeper_pid).is_none_or(is_readable)
    }

    /// Commits now; returns the commit of the session up to which all is in the archive.
    ///
    /// # Errors
    /// [`Failure::NotCommitted`], [`Failure::ChangedElsewhere`].
    pub fn save(&mut self) -> Result<u64, AgentError> {
        match self.ask(&Request::Save)? {
            Answer::Saved(commit) => Ok(commit),
            _ => Err(unexpected()),
        }
    }

    /// Commits and locks; returns when the processes have ended and the mounts are gone, of which `status` tells. It tells why
    /// something is not in the remote, where it should be.
    ///
    /// # Errors
    /// [`Failure::Busy`], [`Failure::NotCommitted`]: still unlocked. [`AgentError::StillMounted`]: locked.
    pub fn lock(mut self, status: &Status, mode: LockMode, last: LastSync) -> Result<Option<String>, AgentError> {
        let keeper = process(self.hello.keeper_pid);
        let Answer::Locked { unsent } = self.ask(&Request::Lock(mode, last))? else { return Err(unexpected()) };
        if let Some(keeper) = keeper {
            wait_for_end(&keeper, DETACH);
        }
        match status.mounts.iter().map(|mount| &mount.dir).find(|dir| is_left(dir, self.hello.keeper_pid)) {
            None => {}
            // The keeper was killed, or cannot do it.
            Some(dir) => fusermount::unmount(dir).map_err(|_| AgentError::StillMounted(dir.clone()))?,
        }
        Ok(unsent)
    }

    /// Writes the archive under another passphrase.
    ///
    /// # Errors
    /// [`Failure::WrongPassphrase`], [`Failure::WrongIdentity`], and those of a commit.
    pub fn change_passphrase(&mut self, proof: &Secret, new: &Passphrase, rekey: Rekey) -> Result<(), AgentError> {
        self.send(&Request::ChangeKeys(KeyRequest::ChangePassphrase { keep_key: rekey == Rekey::KeepMaster }))?;
        secrets::write(&mut self.stream, proof).map_err(AgentError::Ended)?;
        secrets::write_passphrase(&mut self.stream, new).map_err(AgentError::Ended)?;
        self.receive().and_then(done)
    }

    /// Adds or removes a recipient, for whoever proves that they can open the vault.
    ///
    /// # Errors
    /// [`Failure::WrongPassphrase`], [`Failure::WrongIdentity`], [`Failure::PassphraseNeeded`], [`Failure::Version1`], and
    /// those of a commit.
    pub fn change_recipients(&mut self, proof: &Secret, request: KeyRequest) -> Result<(), AgentError> {
        self.send(&Request::ChangeKeys(request))?;
        secrets::write(&mut self.stream, proof).map_err(AgentError::Ended)?;
        self.receive().and_then(done)
    }

    /// Tells the recipients.
    ///
    /// # Errors
    /// [`Failure::Version1`].
    pub fn recipients(&mut self) -> Result<Vec<RecipientEntry>, AgentError> {
        match self.ask(&Request::Recipients)? {
            Answer::Recipients(recipients) => Ok(recipients),
            other => done(other).and(Err(unexpected())),
        }
    }

    /// Writes the archive anew, without what was deleted.
    ///
    /// # Errors
    /// Those of a commit.
    pub fn compact(&mut self) -> Result<(), AgentError> {
        self.ask(&Request::Compact).and_then(done)
    }

    /// Writes everything as a plain tar.
    ///
    /// # Errors
    /// See [`AgentError`]; what was written is not complete then.
    pub fn export(&mut self, output: &mut dyn Write) -> Result<(), AgentError> {
        match self.ask(&Request::Export)? {
            Answer::Stream => {}
            other => return done(other),
        }
        self.copy_stream(output)?;
        self.receive().and_then(done)
    }

    /// Tells of the commits, the oldest first; of those that touched a path, when one is given.
    ///
    /// # Errors
    /// [`Failure::NoHistory`]; see [`AgentError`].
    pub fn log(&mut self, path: Option<Vec<u8>>, take: &mut dyn FnMut(Commit)) -> Result<(), AgentError> {
        match self.ask(&Request::Log { path })? {
            Answer::Stream => {}
            other => return done(other),
        }
        self.each_line(take)?;
        self.receive().and_then(done)
    }

    /// Writes what was at a path after a commit: a file's content, or a folder's names as a whole to `listing`.
    ///
    /// # Errors
    /// [`Failure::NoHistory`], [`Failure::NotInHistory`]; see [`AgentError`].
    pub fn show(
        &mut self,
        number: u64,
        path: Vec<u8>,
        content: &mut dyn Write,
        listing: &mut Vec<u8>,
    ) -> Result<(), AgentError> {
        match self.ask(&Request::Show { number, path })? {
            Answer::Stream => self.copy_stream(content)?,
            Answer::Listing => self.copy_stream(listing)?,
            other => return done(other),
        }
        self.receive().and_then(done)
    }

    /// Puts back what was at a path after a commit.
    ///
    /// # Errors
    /// [`Failure::NoHistory`], [`Failure::NotInHistory`], and those of a commit.
    pub fn restore(&mut self, number: u64, path: Vec<u8>, to: Option<Vec<u8>>) -> Result<Restored, AgentError> {
        match self.ask(&Request::Restore { number, path, to })? {
            Answer::Restored(restored) => Ok(*restored),
            other => done(other).and(Err(unexpected())),
        }
    }

    /// Verifies the archive.
    ///
    /// # Errors
    /// [`Failure::NoHistory`]; see [`AgentError`].
    pub fn check(&mut self, tell: &mut dyn FnMut(Progress)) -> Result<Checked, AgentError> {
        match self.ask(&Request::Check)? {
            Answer::Stream => {}
            other => return done(other).and(Err(unexpected())),
        }
        self.each_line(tell)?;
        match self.receive()? {
            Answer::Checked(checked) => Ok(*checked),
            other => done(other).and(Err(unexpected())),
        }
    }

    fn copy_stream(&mut self, output: &mut dyn Write) -> Result<(), AgentError> {
        let mut input = FrameReader::new(&mut self.stream);
        let mut buffer = zeroize::Zeroizing::new(vec![0; 64 * 1024]);
        loop {
            match input.read(&mut buffer).map_err(AgentError::Ended)? {
                0 => return Ok(()),
                len => output.write_all(&buffer[..len]).map_err(AgentError::Transfer)?,
            }
        }
    }

    /// Reads lines of JSON up to the end of a stream of frames.
    fn each_line<T: serde::de::DeserializeOwned>(&mut self, take: &mut dyn FnMut(T)) -> Result<(), AgentError> {
        let input = FrameReader::new(&mut self.stream);
        for value in serde_json::Deserializer::from_reader(io::BufReader::new(input)).into_iter() {
            take(value.map_err(|error| AgentError::Ended(error.into()))?);
        }
        Ok(())
    }

    /// Adds the entries of a plain tar below `into` (a path within the vault, empty for the root); returns how many.
    ///
    /// # Errors
    /// Nothing was changed, unless it is [`Failure::NotCommitted`].
    pub fn import(&mut self, input: &mut dyn Read, into: Vec<u8>, replace: bool) -> Result<u64, AgentError> {
        self.send(&Request::Import { into, replace })?;
        let mut output = FrameWriter::new(&mut self.stream);
        let mut buffer = zeroize::Zeroizing::new(vec![0; 64 * 1024]);
        loop {
            // Dropping the connection in the middle makes the agent forget what it got.
            match input.read(&mut buffer).map_err(AgentError::Transfer)? {
                0 => break,
                len => output.write_all(&buffer[..len]).map_err(AgentError::Ended)?,
            }
        }
        output.finish().map_err(AgentError::Ended)?;
        match self.receive()? {
            Answer::Imported(count) => Ok(count),
            other => done(other).and(Err(unexpected())),
        }
    }

    /// Joins the vault with another copy of its archive; with keys, one that is under another key.
    ///
    /// # Errors
    /// [`Failure::OtherKey`], [`Failure::RemoteRolledBack`], [`Failure::NoCommonState`], and those of a commit.
    pub fn join(
        &mut self,
        theirs: String,
        base: Option<String>,
        keys: Option<(&Secret, &Secret)>,
    ) -> Result<Joined, AgentError> {
        self.send(&Request::Join(JoinRequest { theirs, base, with_keys: keys.is_some() }))?;
        if let Some((proof, theirs)) = keys {
            secrets::write(&mut self.stream, proof).map_err(AgentError::Ended)?;
            secrets::write(&mut self.stream, theirs).map_err(AgentError::Ended)?;
        }
        match self.receive()? {
            Answer::Joined(joined) => Ok(joined),
            other => done(other).and(Err(unexpected())),
        }
    }

    /// Tells that other machines may know the heads of some archives in the state folder; returns those that the vault does not
    /// descend from.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn note_shared(&mut self, files: Vec<String>) -> Result<Vec<String>, AgentError> {
        match self.ask(&Request::NoteShared(files))? {
            Answer::NotAncestors(files) => Ok(files),
            _ => Err(unexpected()),
        }
    }

    /// Has the vault synchronised on its own; tells whether it was before.
    ///
    /// # Errors
    /// [`Failure::Other`]: the vault is read-only.
    pub fn synchronise(&mut self, settings: SyncSettings) -> Result<bool, AgentError> {
        match self.ask(&Request::Synchronise(settings))? {
            Answer::Synchronises { already } => Ok(already),
            _ => Err(unexpected()),
        }
    }

    /// Has tried again what needed a person, unless somebody wants it off.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn settle(&mut self, settings: SyncSettings) -> Result<(), AgentError> {
        self.ask(&Request::Settle(settings)).and_then(done)
    }

    /// Tells what came of a synchronisation; with its number, of one that was started on its own.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn note_sync(&mut self, number: Option<u64>, report: SyncReport) -> Result<(), AgentError> {
        self.ask(&Request::NoteSync(number, report)).and_then(done)
    }

    /// Mounts a further view.
    ///
    /// # Errors
    /// [`Failure::Mount`].
    pub fn mount(&mut self, request: MountRequest) -> Result<(), AgentError> {
        self.ask(&Request::Mount(request)).and_then(done)
    }

    /// Takes a further view away.
    ///
    /// # Errors
    /// [`Failure::Mount`]: nothing of this vault is mounted there.
    pub fn unmount(&mut self, dir: PathBuf) -> Result<(), AgentError> {
        self.ask(&Request::Unmount { dir }).and_then(done)
    }

    /// Makes bridges; tells what became of each.
    ///
    /// # Errors
    /// Those of the connection: a bridge that cannot be made is told in the answer.
    pub fn make_bridges(&mut self, requests: Vec<BridgeRequest>) -> Result<Vec<BridgeStatus>, AgentError> {
        match self.ask(&Request::Bridges(requests))? {
            Answer::Bridges(bridges) => Ok(bridges),
            other => done(other).and(Err(unexpected())),
        }
    }

    /// Has the vault locked after a time, or not any more.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn lock_after(&mut self, delay: Option<Duration>) -> Result<(), AgentError> {
        self.ask(&Request::LockAfter(delay)).and_then(done)
    }

    /// Makes the connection a lease: the vault does not lock for want of shells while it lives. `what` is shown to people.
    ///
    /// # Errors
    /// The vault is being locked, or has too many. Those of the connection.
    pub fn lease(mut self, what: &str, end: LeaseEnd) -> Result<Lease, AgentError> {
        self.ask(&Request::Lease(LeaseRequest { what: what.to_owned(), end })).and_then(done)?;
        Ok(Lease { stream: self.stream })
    }

    fn ask(&mut self, request: &Request) -> Result<Answer, AgentError> {
        self.send(request)?;
        self.receive()
    }

    fn send(&mut self, request: &Request) -> Result<(), AgentError> {
        frames::write(&mut self.stream, request).map_err(AgentError::Ended)
    }

    fn receive(&mut self) -> Result<Answer, AgentError> {
        match frames::read(&mut self.stream).map_err(AgentError::Ended)? {
            Answer::Failed(failure) => Err(failure.into()),
            answer => Ok(answer),
        }
    }
}

/// Reads what an agent says without having to work for it.
fn read_soon<T: serde::de::DeserializeOwned>(stream: &mut UnixStream) -> Result<T, AgentError> {
    stream.set_read_timeout(Some(GREETING)).map_err(AgentError::Ended)?;
    let message = frames::read(stream).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => AgentError::Silent,
        _ => AgentError::Ended(error),
    })?;
    stream.set_read_timeout(None).map_err(AgentError::Ended)?;
    Ok(message)
}

fn done(answer: Answer) -> Result<(), AgentError> {
    match answer {
        Answer::Done => Ok(()),
        _ => Err(unexpected()),
    }
}

fn unexpected() -> AgentError {
    AgentError::Ended(io::Error::new(io::ErrorKind::InvalidData, "its answer does not fit the question"))
}

/// Whether a keeper's mount is still there; one that the next keeper made is none of this lock's business.
fn is_left(dir: &Path, keeper_pid: u32) -> bool {
    mountinfo::at(dir).ok().flatten().is_some_and(|mount| mount.is_of(keeper_pid))
}

/// A descriptor of a process that keeps meaning this one when its number is used again.
fn process(pid: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(pid.try_into().ok()?)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

fn wait_for_end(process: &OwnedFd, patience: Duration) {
    let until = Instant::now() + patience;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            _ => return,
        }
    }
}
