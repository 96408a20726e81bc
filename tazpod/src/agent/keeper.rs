//! The keeper: a tiny process beside the agent that mounts and detaches, looks at other processes, and cleans up when the
//! agent ends, however it ends. It holds no secret and no copy of a FUSE descriptor. Its standard output is a file that
//! `unlock` locked: as long as the lock is held, the vault's socket and note belong to this keeper.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::covered::{self, Covered};
use super::fusermount::{self, MountOptions};
use super::mountinfo::MountEntry;
use super::protocol::{BridgeKind, KeeperMessage, KeeperRequest};
use super::syncing::SyncChild;
use super::{holders, mountinfo, packets, paths, sys};

/// How often the mounts are looked at when nothing was heard: a rename in another namespace raises no event.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };
/// How often, and how far apart, a mount is looked for before it is taken for lost.
const LOOKS: u32 = 3;
const LOOK_PAUSE: Duration = Duration::from_millis(30);
/// How often a mount that does not go is detached again.
const DETACH_TRIES: u32 = 20;
const DETACH_PAUSE: Duration = Duration::from_millis(100);
/// Has the agent's allocator (glibc's) hold little that was freed, from before its first thread on. Buffers of a MiB and more have mappings
/// of their own for good: they go back when they are freed, and are zero without being touched; left alone, it takes a large buffer that
/// was freed for a reason to keep the next ones in its heaps, where wiping one makes all of it resident. There are four heaps and not eight
/// for each processor, of whose pages most would be free. Threads keep two freed pieces of each size for themselves and not seven: after
/// much work those hold pages here and there in the heaps (a third above what the agent had before, measured), which nothing gives back;
/// with none at all a commit takes a tenth longer. Up to 2 MiB that are free at the end of a heap stay, until nothing is written any more:
/// what a commit takes would else come from the system each time, and go back.
/// <https://sourceware.org/glibc/manual/latest/html_node/Memory-Allocation-Tunables.html>
const ALLOCATOR: (&str, &str) = (
    "GLIBC_TUNABLES",
    "glibc.malloc.mmap_threshold=1048576:glibc.malloc.trim_threshold=2097152:glibc.malloc.arena_max=4:glibc.malloc.tcache_count=2",
);

/// Runs the keeper: standard input is the socket to `unlock`, which is passed on to the agent and never read here. `place` are the
/// flags that name the vault to a process that synchronises it: the agent says when, and nothing else of it.
pub fn main(level: &OsStr, place: Vec<OsString>) -> ExitCode {
    match run(level, place) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the keeper ends");
            ExitCode::FAILURE
        }
    }
}

fn run(level: &OsStr, place: Vec<OsString>) -> io::Result<()> {
    rustix::process::setsid()?;
    rustix::process::chdir("/")?;
    let signals = sys::ending_signals()?;
    let (ours, theirs) = packets::pair()?;
    let unlock = io::stdin().as_fd().try_clone_to_owned()?;
    sys::detach_stdin()?;
    let child = Command::new("/proc/self/exe")
        .env(ALLOCATOR.0, ALLOCATOR.1)
        .arg(super::AGENT)
        .arg(level)
        .arg(std::process::id().to_string())
        .stdin(theirs)
        .stdout(Stdio::from(unlock))
        .spawn()?;
    let mut keeper =
        Keeper { agent: child, socket: ours, mounts: Vec::new(), files: Vec::new(), signals, place, sync: None };
    keeper.serve();
    keeper.clean_up();
    Ok(())
}

struct OwnMount {
    id: u64,
    device: String,
    dir: PathBuf,
    lost: bool,
    /// What a bridge lies over, and what was made for it.
    covered: Option<Covered>,
}

impl OwnMount {
    fn new(entry: MountEntry, covered: Option<Covered>) -> Self {
        Self { id: entry.id, device: entry.device, dir: entry.dir, lost: false, covered }
    }

    /// Tells whether an entry is this mount, wherever it is. Ids are used again, at once and for anybody's mount.
    fn is(&self, entry: &MountEntry) -> bool {
        entry.id == self.id && entry.is_of(std::process::id())
    }

    fn is_in_place(&self, present: &[MountEntry]) -> bool {
        present.iter().any(|entry| self.is(entry) && entry.dir == self.dir)
    }
}

struct Keeper {
    agent: Child,
    socket: OwnedFd,
    mounts: Vec<OwnMount>,
    files: Vec<PathBuf>,
    signals: UnixStream,
    place: Vec<OsString>,
    sync: Option<SyncChild>,
}

impl Keeper {
    /// Serves the agent until it is gone.
    fn serve(&mut self) {
        let mountinfo = std::fs::File::open("/proc/self/mountinfo");
        loop {
            let mut watched = vec![PollFd::new(&self.socket, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
            if let Ok(mountinfo) = &mountinfo {
                watched.push(PollFd::new(mountinfo, PollFlags::PRI));
            }
            watched
                .extend(self.sync.iter().filter_map(SyncChild::watch).map(|ended| PollFd::new(ended, PollFlags::IN)));
            match poll(&mut watched, Some(&LOOK_EVERY)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => tracing::error!(%error, "the keeper cannot wait"),
            }
            let asked = !watched[0].revents().is_empty();
            let signalled = !watched[1].revents().is_empty();
            drop(watched);
            if signalled {
                self.drain_signals();
                self.tell(&KeeperMessage::Terminate);
            }
            if asked && !self.answer() {
                return;
            }
            self.look_for_lost();
            self.look_after_sync();
        }
    }

    /// Answers one request; false when the agent is gone.
    fn answer(&mut self) -> bool {
        let request = match packets::receive::<KeeperRequest>(&self.socket) {
            Ok(Some((request, _))) => request,
            Ok(None) => return false,
            Err(error) if error.raw_os_error().is_some() => return false,
            Err(error) => {
                tracing::error!(%error, "the agent said something unknown");
                return true;
            }
        };
        match request {
            KeeperRequest::Mount { dir, read_only, allow_other } => {
                self.mount(&dir, MountOptions { read_only, allow_other });
            }
            KeeperRequest::Bridge { target, kind, read_only } => self.bridge(&target, kind, read_only),
            KeeperRequest::Unmount { dir } => {
                self.mounts.iter().filter(|mount| mount.dir == dir).for_each(detach);
                self.mounts.retain(|mount| mount.dir != dir);
                self.tell(&KeeperMessage::Done);
            }
            KeeperRequest::Remember { files } => {
                self.files = files;
                self.tell(&KeeperMessage::Done);
            }
            KeeperRequest::StartSync(number) => match SyncChild::start(number, &self.place) {
                Ok(child) => {
                    let pid = child.pid();
                    self.sync = Some(child);
                    self.tell(&KeeperMessage::SyncStarted { pid });
                }
                Err(error) => self.tell(&KeeperMessage::Failed(format!("it cannot be started: {error}"))),
            },
            KeeperRequest::StopSync => {
                self.sync = None;
                self.tell(&KeeperMessage::Done);
            }
            KeeperRequest::Holders => {
                let devices: HashSet<String> = self.mounts.iter().map(|mount| mount.device.clone()).collect();
                let own = [Some(self.agent.id()), Some(std::process::id()), self.sync.as_ref().map(SyncChild::pid)];
                let found = holders::find(&devices, &own.into_iter().flatten().collect::<Vec<_>>());
                self.tell(&KeeperMessage::Holders(found));
            }
        }
        true
    }

    fn mount(&mut self, dir: &Path, options: MountOptions) {
        match fusermount::mount(dir, options) {
            Ok(mounted) => {
                self.mounts.push(OwnMount::new(mounted.entry, None));
                self.hand_over(&KeeperMessage::Mounted { dir: mounted.dir }, mounted.fuse);
            }
            Err(reason) => self.tell(&KeeperMessage::Failed(reason)),
        }
    }

    fn bridge(&mut self, target: &Path, kind: BridgeKind, read_only: bool) {
        let options = MountOptions { read_only, allow_other: false };
        let mounted = covered::prepare(target, kind).and_then(|covered| {
            let mounted = fusermount::mount_over(covered.place.clone(), options);
            mounted.inspect_err(|_| covered::remove_made(&covered.made)).map(|mounted| (mounted, covered))
        });
        match mounted {
            Ok((mounted, covered)) => {
                let (made, underneath) = (covered.made.clone(), covered.underneath.as_raw_fd());
                self.mounts.push(OwnMount::new(mounted.entry, Some(covered)));
                self.hand_over(&KeeperMessage::Bridged { dir: mounted.dir, made, underneath }, mounted.fuse);
            }
            Err(reason) => self.tell(&KeeperMessage::Failed(reason)),
        }
    }

    /// The keeper's copy of the descriptor is closed here: only the agent's keeps the mount alive.
    fn hand_over(&self, message: &KeeperMessage, fuse: OwnedFd) {
        if let Err(error) = packets::send(&self.socket, message, Some(fuse.as_fd())) {
            tracing::error!(%error, "the descriptor cannot be handed over");
        }
    }

    fn tell(&self, message: &KeeperMessage) {
        if let Err(error) = packets::send(&self.socket, message, None) {
            tracing::debug!(%error, "the agent does not listen");
        }
    }

    fn look_for_lost(&mut self) {
        if mark_lost(&mut self.mounts, mountinfo::read, LOOK_PAUSE) {
            tracing::info!("a mount is not where it was made any more");
            self.tell(&KeeperMessage::MountLost);
        }
    }

    /// Tells of the end of a synchronisation.
    fn look_after_sync(&mut self) {
        let Some((number, how)) = self.sync.as_mut().and_then(|sync| Some((sync.number(), sync.ended()?))) else {
            return;
        };
        self.sync = None;
        self.tell(&KeeperMessage::SyncEnded { number, how });
    }

    fn drain_signals(&self) {
        let mut buffer = [0; 64];
        if let Err(error) = rustix::io::read(&self.signals, &mut buffer) {
            tracing::debug!(%error, "the signals cannot be read");
        }
    }

    /// Waits for the end of the agent, then detaches what is left.
    fn clean_up(&mut self) {
        self.sync = None;
        let ended = self.agent.wait();
        self.mounts.iter().for_each(detach);
        paths::note_change();
        if self.mounts.iter().any(|mount| present_mount(mount).is_some()) {
            // The note stays for the next command, which tries again.
            return;
        }
        match ended {
            Ok(status) if status.success() => {}
            // The note stays and says that it was not locked in order.
            Ok(status) => return tracing::error!(%status, "the agent did not end in order"),
            Err(error) => return tracing::error!(%error, "the agent cannot be waited for"),
        }
        for file in &self.files {
            // Gone already, mostly with the runtime folder.
            let _ = std::fs::remove_file(file);
        }
    }
}

/// Marks the mounts that are not in their places any more; tells whether there are new ones. The list takes several system
/// calls to read, and one look may leave out what is there when others unmount meanwhile (Linux before 5.8 does): a vault is
/// not locked for that. A mount is lost that no look finds.
fn mark_lost(mounts: &mut [OwnMount], mut look: impl FnMut() -> io::Result<Vec<MountEntry>>, pause: Duration) -> bool {
    let mut missing: Vec<&mut OwnMount> = mounts.iter_mut().filter(|mount| !mount.lost).collect();
    for attempt in 0..LOOKS {
        if missing.is_empty() {
            return false;
        }
        if attempt > 0 {
            std::thread::sleep(pause);
        }
        // What cannot be read shows nothing.
        let Ok(present) = look() else { return false };
        missing.retain(|mount| !mount.is_in_place(&present));
    }
    missing.iter_mut().for_each(|mount| mount.lost = true);
    !missing.is_empty()
}

/// Detaches a mount wherever it is now, unless it is gone already, and removes what was made for it.
fn detach(mount: &OwnMount) {
    for attempt in 0..DETACH_TRIES {
        let Some(entry) = present_mount(mount) else {
            let made = mount.covered.as_ref().map(|covered| covered.made.as_slice());
            return covered::remove_made(made.unwrap_or_default());
        };
        if attempt > 0 {
            std::thread::sleep(DETACH_PAUSE);
        }
        if let Err(reason) = fusermount::unmount(&entry.dir) {
            tracing::warn!(%reason, "a mount does not go");
        }
    }
}

/// Looks more than once, too: a mount that is left out would stay.
fn present_mount(mount: &OwnMount) -> Option<MountEntry> {
    let look = |_| mountinfo::read().unwrap_or_default().into_iter().find(|entry| mount.is(entry));
    (0..LOOKS).find_map(look)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(id: u64) -> OwnMount {
        OwnMount { id, device: "0:45".to_owned(), dir: "/home/a/secrets".into(), lost: false, covered: None }
    }

    fn entry(id: u64, source: String) -> MountEntry {
        MountEntry {
            id,
            device: "0:45".to_owned(),
            dir: "/home/a/secrets".into(),
            fs_type: mountinfo::FS_TYPE.to_owned(),
            source,
        }
    }

    #[test]
    fn a_mount_that_got_the_id_of_ours_is_not_ours() {
        let (ours, pid) = (ours(57), std::process::id());
        assert!(ours.is(&entry(57, mountinfo::source_of(pid))));
        assert!(!ours.is(&entry(57, mountinfo::source_of(pid + 1))));
        assert!(!ours.is(&entry(58, mountinfo::source_of(pid))));
    }

    #[test]
    fn a_mount_is_lost_that_no_look_finds() {
        let source = mountinfo::source_of(std::process::id());
        let there = || Ok(vec![entry(57, source.clone())]);
        let unreadable = || Err(io::ErrorKind::PermissionDenied.into());
        let moved = || Ok(vec![MountEntry { dir: "/elsewhere".into(), ..entry(57, source.clone()) }]);
        let lost_after = |looks: &mut dyn Iterator<Item = io::Result<Vec<MountEntry>>>| {
            let mut mounts = [ours(57)];
            let any = mark_lost(&mut mounts, || looks.next().expect("a look too many"), Duration::ZERO);
            assert_eq!(any, mounts[0].lost);
            any
        };
        assert!(!lost_after(&mut [there()].into_iter()));
        assert!(!lost_after(&mut [Ok(vec![]), there()].into_iter()), "one look missed it");
        assert!(!lost_after(&mut [Ok(vec![]), moved(), there()].into_iter()));
        assert!(!lost_after(&mut [Ok(vec![]), unreadable()].into_iter()));
        assert!(lost_after(&mut [Ok(vec![]), Ok(vec![]), Ok(vec![])].into_iter()));
        assert!(lost_after(&mut [moved(), moved(), moved()].into_iter()));
    }

    #[test]
    fn of_several_mounts_only_the_missing_one_is_lost_and_told_once() {
        let present = || Ok(vec![entry(57, mountinfo::source_of(std::process::id()))]);
        let mut mounts = [ours(57), ours(58)];
        assert!(mark_lost(&mut mounts, present, Duration::ZERO));
        assert_eq!(mounts.each_ref().map(|mount| mount.lost), [false, true]);
        assert!(!mark_lost(&mut mounts, present, Duration::ZERO));
    }
}
