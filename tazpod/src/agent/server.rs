//! Answers clients: a thread a connection, each request whole before the next.

use std::io::{self, Read};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use vaultfs::entry::EntryPath;
use vaultfs::fuse::{Access, MountId, Mounts, View};
use vaultfs::tree::NodeType;
use vaultfs::vault::{OnExisting, Vault};

use super::bridges::BridgeStatus;
use super::conflicts;
use super::connections::{Connections, Place};
use super::failure::causes;
use super::frames::{self, FrameReader, FrameWriter};
use super::leases::AutoLocker;
use super::link::{KEEPER_GONE, KeeperLink, MOUNT_LOST};
use super::lock::LockState;
use super::paths::{NotedEnd, UnlockedNote};
use super::process::{Event, SOCKET_GONE};
use super::protocol::{
    Answer, Failure, Hello, LastSync, LockMode, MountRequest, MountStatus, PROTOCOL, Request, Status,
};
use super::syncing::{SyncSettings, Syncing};

/// How long the end waits for clients that still have to be told.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long until a lock that was not asked for by a client is tried again.
const LOCK_AGAIN: Duration = Duration::from_secs(2);
/// How long a lock waits whose reason may be that everything is being killed. A process that is killed while it tells the
/// kernel to drop an entry never ends when somebody waits for an answer of its in the same folder: the kernel waits for that
/// somebody, with the FUSE descriptor still open (seen with Linux 6.18).
const KILLED_TOO: Duration = Duration::from_millis(300);
/// How long a lock that a signal asked for has what is not in the remote sent: at the end of the machine's day there is little time.
const SIGNAL_SYNC: Duration = Duration::from_secs(3);

/// A mount of ours.
pub struct OwnView {
    /// Of the library.
    pub id: MountId,
    /// Canonical mount point.
    pub dir: PathBuf,
    /// Path within the vault.
    pub subtree: Vec<u8>,
    /// Whether it can only be read.
    pub read_only: bool,
    /// What was made for it, outermost first.
    pub made: Vec<PathBuf>,
}

/// Where it is written down that the vault is unlocked, and for which project.
pub struct NotePlace {
    /// The file.
    pub file: PathBuf,
    /// The project's folder.
    pub project: Option<PathBuf>,
    /// The keeper beside this process.
    pub keeper_pid: u32,
}

impl NotePlace {
    /// Makes the note of an archive, to be written there.
    pub(super) fn note(&self, archive: &Path, mounts: Vec<PathBuf>) -> UnlockedNote {
        let (project, keeper_pid) = (self.project.clone(), self.keeper_pid);
        UnlockedNote { archive: archive.to_owned(), mounts, made: Vec::new(), project, keeper_pid, end: NotedEnd::None }
    }
}

/// An unlocked vault with its mounts.
pub struct Server {
    pub(super) vault: Vault,
    pub(super) mounts: Arc<Mounts>,
    pub(super) keeper: Arc<KeeperLink>,
    pub(super) syncing: Arc<Syncing>,
    pub(super) views: Mutex<Vec<OwnView>>,
    pub(super) lock_state: Mutex<LockState>,
    pub(super) events: Sender<Event>,
    pub(super) note: NotePlace,
    pub(super) bridges: Mutex<Vec<BridgeStatus>>,
    /// Places that are just being mounted.
    pub(super) coming: Mutex<Vec<PathBuf>>,
    pub(super) auto_lock: AutoLocker,
    /// Requests whose answer is not yet on its way.
    answering: AtomicUsize,
    connections: Arc<Connections>,
    pub(super) read_only: bool,
    started: Instant,
}

impl Server {
    pub(super) fn new(
        vault: Vault,
        mounts: Arc<Mounts>,
        keeper: Arc<KeeperLink>,
        syncing: Arc<Syncing>,
        view: OwnView,
        note: NotePlace,
        events: Sender<Event>,
    ) -> Arc<Self> {
        let read_only = view.read_only;
        Arc::new(Self {
            vault,
            mounts,
            keeper,
            syncing,
            views: Mutex::new(vec![view]),
            lock_state: Mutex::new(LockState::Unlocked),
            events,
            note,
            bridges: Mutex::default(),
            coming: Mutex::default(),
            auto_lock: AutoLocker::default(),
            answering: AtomicUsize::new(0),
            connections: Arc::default(),
            read_only,
            started: Instant::now(),
        })
    }

    /// Makes the socket and answers on it from a thread of its own. Whatever is at its path is stale: we hold the
    /// archive's lock.
    pub(super) fn listen(self: &Arc<Self>, socket: &Path) -> io::Result<()> {
        match std::fs::remove_file(socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(socket)?;
        let server = self.clone();
        std::thread::Builder::new().name("listen".into()).spawn(move || server.accept_all(&listener))?;
        Ok(())
    }

    /// Returns when the vault is locked, whoever asked for it.
    pub(super) fn wait_for_end(&self, ended: &Receiver<Event>) {
        if let Ok(Event::Lock(reason)) = ended.recv() {
            tracing::info!(reason, "the vault is to be locked");
            if reason == KEEPER_GONE {
                std::thread::sleep(KILLED_TOO);
            }
            // Nothing that is not in the archive is given up: it is tried until it works.
            let mut patience = match reason {
                // Nobody could start it, or it could not come here.
                KEEPER_GONE | MOUNT_LOST | SOCKET_GONE => Duration::ZERO,
                _ => self.syncing.patience_at_lock().min(SIGNAL_SYNC),
            };
            while let Err(error) = self.lock(LockMode::Force, patience) {
                patience = Duration::ZERO;
                tracing::error!(%error, "the vault cannot be locked yet");
                std::thread::sleep(LOCK_AGAIN);
            }
            if reason == KEEPER_GONE {
                self.note_end_without_keeper();
            }
        }
        let patience = Instant::now() + FAREWELL;
        while self.answering.load(Ordering::SeqCst) > 0 && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn accept_all(self: &Arc<Self>, listener: &UnixListener) {
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                // Out of descriptors, perhaps: they come back.
                std::thread::sleep(Duration::from_millis(100));
                continue;
            };
            if !is_same_user(&stream) {
                continue;
            }
            self.connections.wait_for_room();
            let Ok(place) = self.connections.enter(&stream) else { continue };
            let server = self.clone();
            let spawned = std::thread::Builder::new().name("client".into()).spawn(move || {
                if let Err(error) = server.converse(stream, place) {
                    tracing::debug!(%error, "a client is gone");
                }
            });
            if let Err(error) = spawned {
                tracing::warn!(%error, "a client cannot be served");
            }
        }
    }

    fn converse(&self, mut stream: UnixStream, place: Place) -> io::Result<()> {
        let hello = Hello {
            protocol: PROTOCOL,
            version: vaultfs::VERSION.to_owned(),
            agent_pid: std::process::id(),
            keeper_pid: self.note.keeper_pid,
        };
        frames::write(&mut stream, &hello)?;
        while let Some(request) = frames::read_bytes(&mut stream)? {
            let request: Request = serde_json::from_slice(&request)?;
            place.has_asked();
            if let Request::Lease(lease) = request {
                return self.hold_lease(lease, stream, place);
            }
            self.answering.fetch_add(1, Ordering::SeqCst);
            let outcome = self.answer(request, &mut stream);
            self.answering.fetch_sub(1, Ordering::SeqCst);
            outcome?;
        }
        Ok(())
    }

    fn answer(&self, request: Request, stream: &mut UnixStream) -> io::Result<()> {
        let outcome = match request {
            Request::Status => Ok(Answer::Status(Box::new(self.status()))),
            Request::Save => self.save_all(),
            Request::Lock(mode, last) => {
                let (patience, skipped) = match last {
                    LastSync::Try => (self.syncing.patience_at_lock(), None),
                    LastSync::Skip => (Duration::ZERO, Some("as was asked".to_owned())),
                };
                let unsent = || self.syncing.unsent().map(|reason| skipped.unwrap_or(reason));
                let outcome = self.lock(mode, patience).map(|()| Answer::Locked { unsent: unsent() });
                let locked = outcome.is_ok();
                let told = frames::write(stream, &outcome.unwrap_or_else(Answer::Failed));
                // Also when the client is gone: nothing is served any more.
                if locked {
                    self.events.send(Event::Locked).ok();
                }
                return told;
            }
            Request::ChangeKeys(request) => self.change_keys(request, stream)?,
            Request::Recipients => self.recipients(),
            Request::Compact => self.vault.compact().map_err(|error| Failure::from(&error)).map(|()| Answer::Done),
            Request::Export => return self.export(stream),
            Request::Import { into, replace } => {
                let mut input = FrameReader::new(stream.try_clone()?);
                let outcome = self.import(&mut input, &into, replace);
                input.drain()?;
                outcome.map(Answer::Imported)
            }
            Request::Log { path } => return self.log(path, stream),
            Request::Show { number, path } => return self.show(number, &path, stream),
            Request::Restore { number, path, to } => {
                self.restore(number, &path, to.as_deref()).map(|restored| Answer::Restored(Box::new(restored)))
            }
            Request::Check => return self.check(stream),
            Request::Join(request) => self.join(&request, stream)?.map(Answer::Joined),
            Request::NoteShared(files) => self.note_shared(files).map(Answer::NotAncestors),
            Request::Synchronise(settings) => self.synchronise(settings),
            Request::Settle(settings) => {
                self.syncing.settle(settings);
                Ok(Answer::Done)
            }
            Request::NoteSync(number, report) => {
                self.syncing.take_report(number, report);
                Ok(Answer::Done)
            }
            Request::Mount(request) => self.mount(&request).map(|()| Answer::Done),
            Request::Unmount { dir } => self.unmount(&dir).map(|()| Answer::Done),
            Request::Bridges(requests) => Ok(Answer::Bridges(self.make_bridges(&requests))),
            Request::LockAfter(delay) => {
                self.auto_lock.lock_after(delay);
                Ok(Answer::Done)
            }
            Request::Lease(_) => Err(Failure::Other("a lease takes a connection of its own".to_owned())),
        };
        frames::write(stream, &outcome.unwrap_or_else(Answer::Failed))
    }

    fn status(&self) -> Status {
        let (usage, commit) = (self.vault.tree().usage(), self.vault.committer().status());
        let bridges = self.bridges();
        let views = self.views.lock();
        let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Status {
            archive: self.vault.archive().clone(),
            format: self.vault.format().name().to_owned(),
            mounts: views.iter().map(mount_status).collect(),
            bridges,
            auto_lock: self.auto_lock.status(),
            used_bytes: usage.used,
            size_limit_bytes: usage.limit,
            entries: usage.entries,
            entry_limit: usage.entry_limit,
            dirty: commit.dirty,
            last_commit: commit.last_commit.map(seconds),
            last_error: commit.last_error.map(|error| causes(Some(&*error)).join(": ")),
            commits: commit.commits,
            archive_bytes: commit.archive_bytes,
            read_only: self.read_only,
            sync: self.syncing.status(),
            conflicts: conflicts::status(self.vault.tree()),
            open_handles: self.mounts.open_handles(),
            secret_memory: self.vault.tree().seal_memory_kind().name().to_owned(),
            agent_pid: std::process::id(),
            keeper_pid: self.note.keeper_pid,
            uptime_secs: self.started.elapsed().as_secs(),
            version: vaultfs::VERSION.to_owned(),
        }
    }

    pub(super) fn save(&self) -> Result<(), Failure> {
        self.vault.committer().commit().map_err(|error| match Failure::from(&*error) {
            changed @ Failure::ChangedElsewhere(_) => changed,
            _ => Failure::NotCommitted(causes(Some(&*error)).join(": ")),
        })
    }

    /// Tells how far it is: a later commit is not known to be in a copy of the archive that is taken now.
    fn save_all(&self) -> Result<Answer, Failure> {
        self.save()?;
        Ok(Answer::Saved(self.vault.committer().status().commits))
    }

    fn synchronise(&self, settings: SyncSettings) -> Result<Answer, Failure> {
        if self.read_only {
            return Err(Failure::Other("the vault is read-only".to_owned()));
        }
        Ok(Answer::Synchronises { already: self.syncing.switch_on(settings) })
    }

    fn export(&self, stream: &mut UnixStream) -> io::Result<()> {
        frames::write(stream, &Answer::Stream)?;
        let mut writer = FrameWriter::new(stream.try_clone()?);
        let outcome = self.vault.export(&mut writer);
        writer.finish()?;
        let answer = match outcome {
            Ok(()) => Answer::Done,
            Err(error) => Answer::Failed(Failure::from(&error)),
        };
        frames::write(stream, &answer)
    }

    fn import(&self, input: &mut dyn Read, into: &[u8], replace: bool) -> Result<u64, Failure> {
        if self.read_only {
            return Err(Failure::Other("the vault is read-only".to_owned()));
        }
        let into = entry_path(into)?;
        let existing = if replace { OnExisting::Replace } else { OnExisting::Refuse };
        let outcome = self.vault.import(input, &into, existing).map_err(|error| Failure::from(&error));
        self.mounts.invalidate_all();
        let count = outcome?;
        self.save()?;
        Ok(count)
    }

    fn mount(&self, request: &MountRequest) -> Result<(), Failure> {
        let subtree = entry_path(&request.subtree)?;
        let root = self.vault.tree().resolve(&subtree).map_err(|error| {
            Failure::Mount(format!("{} in the vault: {error}", String::from_utf8_lossy(&request.subtree)))
        })?;
        let read_only = request.read_only || self.read_only;
        let access = if read_only { Access::ReadOnly } else { Access::ReadWrite };
        let lock_state = self.lock_state.lock();
        if *lock_state == LockState::Locked {
            return Err(Failure::Mount("the vault is being locked".to_owned()));
        }
        if root.node_type != NodeType::Folder {
            return Err(Failure::Mount(format!("{} is no folder", String::from_utf8_lossy(&request.subtree))));
        }
        self.noting(vec![request.dir.clone()], || {
            let (dir, fuse) = self.keeper.mount(request.dir.clone(), read_only, false).map_err(Failure::Mount)?;
            let view = View { root: root.ino, access, hidden: Vec::new() };
            let id = match self.mounts.serve(fuse, view) {
                Ok(id) => id,
                Err(error) => {
                    self.keeper.unmount(dir).map_err(Failure::Mount)?;
                    return Err(Failure::Mount(error.to_string()));
                }
            };
            let subtree = request.subtree.clone();
            self.views.lock().push(OwnView { id, dir, subtree, read_only, made: Vec::new() });
            Ok(())
        })
    }

    /// Writes down places before something is mounted there, and how it stands afterwards: whoever is killed in between leaves a mount
    /// that the next command has to find.
    pub(super) fn noting<T>(&self, places: Vec<PathBuf>, mount: impl FnOnce() -> T) -> T {
        self.coming.lock().extend(places.iter().cloned());
        self.update_note();
        let outcome = mount();
        let mut coming = self.coming.lock();
        for place in &places {
            let at = coming.iter().position(|known| known == place).expect("it was put there");
            coming.swap_remove(at);
        }
        drop(coming);
        self.update_note();
        outcome
    }

    /// A path to what a descriptor of the keeper's leads to, for this user's other processes.
    pub(super) fn in_keeper(&self, descriptor: i32) -> PathBuf {
        format!("/proc/{}/fd/{descriptor}", self.note.keeper_pid).into()
    }

    fn unmount(&self, dir: &Path) -> Result<(), Failure> {
        let id = {
            let views = self.views.lock();
            match views.iter().position(|view| view.dir == dir) {
                Some(0) => return Err(Failure::Mount("this is the vault's own mount: lock it instead".to_owned())),
                Some(index) => views[index].id,
                None => return Err(Failure::Mount(format!("{} is no mount of this vault", dir.display()))),
            }
        };
        self.mounts.invalidate(id);
        self.keeper.unmount(dir.to_owned()).map_err(Failure::Mount)?;
        self.views.lock().retain(|view| view.id != id);
        self.update_note();
        Ok(())
    }

    /// Writes down where the vault is unlocked, for commands that come when the agent cannot tell any more.
    pub(super) fn write_note(&self) -> io::Result<()> {
        self.present_note().write(&self.note.file)
    }

    fn present_note(&self) -> UnlockedNote {
        let views = self.views.lock();
        let mounts = views.iter().map(|view| view.dir.clone()).chain(self.coming.lock().clone()).collect();
        let made = views.iter().flat_map(|view| view.made.clone()).collect();
        UnlockedNote { made, ..self.note.note(self.vault.archive(), mounts) }
    }

    /// So that whoever takes the mounts away can tell that nothing is lost.
    fn note_end_without_keeper(&self) {
        let note = UnlockedNote { end: NotedEnd::SavedWithoutKeeper, ..self.present_note() };
        if let Err(error) = note.write(&self.note.file) {
            tracing::warn!(%error, "the end without a keeper cannot be noted down");
        }
    }

    /// The same after a change: the mounts stand as they are, also where it cannot be written down.
    pub(super) fn update_note(&self) {
        if let Err(error) = self.write_note() {
            tracing::warn!(%error, "the note on where the vault is unlocked cannot be written");
        }
    }
}

pub(super) fn entry_path(bytes: &[u8]) -> Result<EntryPath, Failure> {
    EntryPath::parse(bytes).map_err(|error| {
        Failure::Other(format!("{} is no path within the vault: {error}", String::from_utf8_lossy(bytes)))
    })
}

fn mount_status(view: &OwnView) -> MountStatus {
    let subtree = String::from_utf8_lossy(&view.subtree).into_owned();
    MountStatus { dir: view.dir.clone(), subtree, read_only: view.read_only }
}

fn is_same_user(stream: &UnixStream) -> bool {
    rustix::net::sockopt::socket_peercred(stream).is_ok_and(|peer| peer.uid == rustix::process::geteuid())
}
