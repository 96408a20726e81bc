//! The life of an agent: takes the secret, confines itself, opens the vault, serves it, ends when it is locked.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use vaultfs::crypto::{CryptoError, MEMORY_TOLD_IN};
use vaultfs::format::ReadWarning;
use vaultfs::format::v2::MachineId;
use vaultfs::fuse::{Access, CloseMode, Mounts, ServeOptions, View, Visitors};
use vaultfs::vault::{Acceptance, ArchiveFormat, Machine, OpenReport, Secret, Vault};

use super::caller::{self, Caller};
use super::first_mount::FirstMount;
use super::link::{KeeperLink, News};
use super::paths::VaultKey;
use super::protocol::{Failure, Ready, Settings};
use super::server::{NotePlace, OwnView, Server};
use super::syncing::{Signal, SyncOff, Syncing};
use super::{confine, frames, machine, memory, notice, secrets, sys};

/// Worker threads a mount: enough that a few slow calls do not hold up the others, and few receive buffers.
const THREADS: usize = 4;
/// How often the socket is looked for: it vanishes at logout, with the runtime folder.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Why a vault is locked whose user is gone.
pub const SOCKET_GONE: &str = "the socket vanished";

/// What ends an agent.
pub enum Event {
    /// Commit and lock.
    Lock(&'static str),
    /// It is locked: nothing is left to be done.
    Locked,
}

/// Runs the agent: standard input is the socket to the keeper, standard output the one to `unlock`.
pub fn main(keeper_pid: u32) -> ExitCode {
    let outcome = prepare().and_then(|(keeper, mut unlock)| {
        let settings: Settings = frames::read(&mut unlock)?;
        let secret = secrets::read(&mut unlock)?;
        Ok((keeper, unlock, settings, secret))
    });
    let (keeper, mut unlock, settings, secret) = match outcome {
        Ok(parts) => parts,
        Err(error) => {
            tracing::error!(%error, "the agent cannot start");
            return ExitCode::FAILURE;
        }
    };
    let served = open_and_serve((keeper, keeper_pid), &unlock, settings, secret);
    match served {
        Ok((server, ended, ready)) => {
            if !tell(&mut unlock, &ready) {
                server.events.send(Event::Lock("nobody waits for the unlock")).ok();
            }
            drop(unlock);
            server.wait_for_end(&ended);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            tell(&mut unlock, &Ready::Failed(failure));
            ExitCode::FAILURE
        }
    }
}

/// Tells the command that waits what came of it, if it still does.
fn tell(unlock: &mut UnixStream, ready: &Ready) -> bool {
    !caller::is_gone(unlock) && frames::write(unlock, ready).is_ok()
}

/// Takes both sockets out of the standard streams and makes the process hard to look into.
fn prepare() -> io::Result<(OwnedFd, UnixStream)> {
    sys::harden()?;
    let keeper = io::stdin().as_fd().try_clone_to_owned()?;
    let unlock = io::stdout().as_fd().try_clone_to_owned()?;
    sys::detach_stdin()?;
    sys::detach_stdout()?;
    Ok((keeper, unlock.into()))
}

fn open_and_serve(
    (keeper, keeper_pid): (OwnedFd, u32),
    unlock: &UnixStream,
    settings: Settings,
    secret: Result<Secret, CryptoError>,
) -> Result<(Arc<Server>, Receiver<Event>, Ready), Failure> {
    let io_failure = |error: io::Error| Failure::Other(error.to_string());
    let key = VaultKey::of(&settings.archive);
    let socket = key.socket().map_err(io_failure)?;
    let note = key.note().map_err(io_failure)?;
    let witness = machine::witness(&settings.archive).ok();
    let witness = witness.as_deref().and_then(Path::parent);
    confine_to(&[settings.archive.parent(), socket.parent(), note.parent(), witness])?;

    let secret = secret.map_err(|error| Failure::Other(error.to_string()))?;
    let caller = Caller::watch(unlock).map_err(io_failure)?;
    let (events, ended) = channel();
    let signals = Syncing::signals();
    let link = start_link(keeper, events.clone(), signals.0.clone()).map_err(io_failure)?;
    link.remember(vec![socket.clone(), note.clone()]).map_err(Failure::Other)?;
    let note = NotePlace { file: note, project: settings.project.clone(), keeper_pid };
    let coming = FirstMount::new(&link, &settings, &note);
    let opened = caller.while_it_waits(|| {
        open(&settings, secret, &|read_only| {
            caller.must_wait();
            coming.begin(settings.read_only || read_only);
        })
    });
    let (vault, report) = match opened {
        Ok(opened) => opened,
        Err(failure) => {
            coming.give_up();
            return Err(failure);
        }
    };
    let read_only = settings.read_only || report.read_only;
    let (dir, fuse) = coming.finish(read_only)?;
    watch_signals(events.clone()).map_err(io_failure)?;
    let options = ServeOptions {
        threads: THREADS,
        close: if settings.strict_close { CloseMode::Strict } else { CloseMode::Relaxed },
        visitors: if settings.allow_other { Visitors::Everybody } else { Visitors::Owner },
    };
    let mounts = Mounts::new(vault.tree().clone(), vault.committer(), options);
    let access = if read_only { Access::ReadOnly } else { Access::ReadWrite };
    let id = mounts.serve(fuse, View::whole(access)).map_err(|error| Failure::Mount(error.to_string()))?;
    let view = OwnView { id, dir, subtree: Vec::new(), read_only, made: Vec::new() };
    let mut notices = notices(&report, &vault);
    tracing::info!(version = vaultfs::VERSION, format = vault.format().name(), read_only, "the vault is unlocked");
    let (tree, committer) = (vault.tree().clone(), vault.committer());
    let mut sync = settings.sync;
    if read_only {
        sync.off = Some(SyncOff::Asked("the vault is read-only".to_owned()));
    }
    let syncing = Syncing::start(&vault, (link.clone(), mounts.clone()), sync, signals).map_err(io_failure)?;
    let server = Server::new(vault, mounts, link, syncing, view, note, events.clone());
    if let Err(error) = server.write_note() {
        notices.push(format!(
            "it cannot be noted down where the vault is unlocked ({error}): should its processes be killed, the mount stays until \
             'fusermount3 -u -z' takes it away"
        ));
    }
    server.start_auto_lock(settings.auto_lock).map_err(io_failure)?;
    server.listen(&socket).map_err(io_failure)?;
    watch_socket(socket, events).map_err(io_failure)?;
    memory::watch(tree, committer).map_err(io_failure)?;
    Ok((server, ended, Ready::Unlocked { notices, read_only }))
}

fn confine_to(folders: &[Option<&Path>]) -> Result<(), Failure> {
    let folders: Vec<&Path> = folders.iter().flatten().copied().collect();
    match confine::confine(&folders, &MEMORY_TOLD_IN) {
        Ok(true) => {}
        Ok(false) => tracing::warn!("this kernel has no Landlock: the agent is not confined"),
        Err(reason) => return Err(Failure::Other(format!("the agent cannot be confined: {reason}"))),
    }
    Ok(())
}

/// `fits` is told when the secret is known to open the archive, and whether that can only be read.
fn open(settings: &Settings, secret: Secret, fits: &dyn Fn(bool)) -> Result<(Vault, OpenReport), Failure> {
    let machine = Machine { id: MachineId(settings.machine_id), host: settings.host.clone() };
    let acceptance = Acceptance { rollback: settings.accept_rollback, new_master: settings.accept_new_key };
    let options = machine::vault_options(
        &settings.archive,
        settings.size_limit_bytes,
        settings.commit_delay,
        machine,
        acceptance,
    );
    let (vault, mut report) =
        Vault::open_telling(&settings.archive, secret, &options, fits).map_err(|error| Failure::from(&error))?;
    if let (ArchiveFormat::V2, Err(error)) = (vault.format(), machine::witness(&settings.archive)) {
        report.warnings.push(ReadWarning::NoWitness { reason: error.to_string() });
    }
    Ok((vault, report))
}

fn start_link(keeper: OwnedFd, events: Sender<Event>, sync: Sender<Signal>) -> io::Result<Arc<KeeperLink>> {
    let link = KeeperLink::start(keeper, move |news| {
        // Nobody receives any more when the agent is ending already.
        match news {
            News::Lock(reason) => drop(events.send(Event::Lock(reason))),
            News::SyncEnded(number, how) => drop(sync.send(Signal::Ended(number, how))),
        }
    })?;
    Ok(Arc::new(link))
}

/// SIGTERM and its kin mean: save and lock.
fn watch_signals(events: Sender<Event>) -> io::Result<()> {
    let mut signals = sys::ending_signals()?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        let mut byte = [0];
        while signals.read_exact(&mut byte).is_ok() && events.send(Event::Lock("a signal came")).is_ok() {}
    })?;
    Ok(())
}

fn watch_socket(socket: std::path::PathBuf, events: Sender<Event>) -> io::Result<()> {
    std::thread::Builder::new().name("socket-watch".into()).spawn(move || {
        loop {
            std::thread::sleep(LOOK_EVERY);
            if !socket.exists() && events.send(Event::Lock(SOCKET_GONE)).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

fn notices(report: &OpenReport, vault: &Vault) -> Vec<String> {
    let mut notices: Vec<String> = report.warnings.iter().map(notice::words).collect();
    if report.read_only {
        notices.push("the archive cannot be written: the vault is read-only".to_owned());
    }
    let memory = vault.tree().seal_memory_kind();
    if memory == vaultfs::crypto::SecretMemoryKind::Ordinary {
        let text =
            "keys lie in ordinary memory, which may be swapped to disk: raise the limit of locked memory (ulimit -l)";
        notices.push(text.to_owned());
    }
    notices
}
