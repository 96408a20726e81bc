//! The agent's side of the socket to its keeper.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use parking_lot::Mutex;

use super::packets;
use super::protocol::{BridgeKind, Holder, KeeperMessage, KeeperRequest};

/// Why a vault is locked whose keeper ended.
pub const KEEPER_GONE: &str = "the keeper is gone";
/// Why a vault is locked that cannot be seen any more.
pub const MOUNT_LOST: &str = "a mount was taken away";

/// What the keeper says without being asked.
pub enum News {
    /// Why the vault is to be locked.
    Lock(&'static str),
    /// The synchronisation with this number ended, and how.
    SyncEnded(u64, String),
}

/// A fresh mount over something that stays as it is.
pub struct Bridged {
    /// Canonical place.
    pub dir: PathBuf,
    /// The FUSE descriptor.
    pub fuse: OwnedFd,
    /// What was made for it, outermost first.
    pub made: Vec<PathBuf>,
    /// The keeper's descriptor of what it covers.
    pub underneath: i32,
}

/// Asks the keeper, one request at a time.
pub struct KeeperLink {
    socket: Arc<OwnedFd>,
    answers: Mutex<Receiver<(KeeperMessage, Option<OwnedFd>)>>,
}

impl KeeperLink {
    /// Starts listening; `on_news` gets what the keeper says without being asked.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(socket: OwnedFd, on_news: impl Fn(News) + Send + 'static) -> io::Result<Self> {
        let socket = Arc::new(socket);
        let (sender, answers) = channel();
        let listening = socket.clone();
        std::thread::Builder::new().name("keeper".into()).spawn(move || listen(&listening, &sender, &on_news))?;
        Ok(Self { socket, answers: Mutex::new(answers) })
    }

    /// Mounts a folder and returns its canonical path with the FUSE descriptor.
    ///
    /// # Errors
    /// In words for the user.
    pub fn mount(&self, dir: PathBuf, read_only: bool, allow_other: bool) -> Result<(PathBuf, OwnedFd), String> {
        match self.ask(&KeeperRequest::Mount { dir, read_only, allow_other })? {
            (KeeperMessage::Mounted { dir }, Some(fuse)) => Ok((dir, fuse)),
            (KeeperMessage::Failed(reason), _) => Err(reason),
            _ => Err("the keeper gave no descriptor".to_owned()),
        }
    }

    /// The same over a place of the user's.
    ///
    /// # Errors
    /// In words for the user.
    pub fn bridge(&self, target: PathBuf, kind: BridgeKind, read_only: bool) -> Result<Bridged, String> {
        match self.ask(&KeeperRequest::Bridge { target, kind, read_only })? {
            (KeeperMessage::Bridged { dir, made, underneath }, Some(fuse)) => {
                Ok(Bridged { dir, fuse, made, underneath })
            }
            (KeeperMessage::Failed(reason), _) => Err(reason),
            _ => Err("the keeper gave no descriptor".to_owned()),
        }
    }

    /// Detaches a mount.
    ///
    /// # Errors
    /// The keeper is gone.
    pub fn unmount(&self, dir: PathBuf) -> Result<(), String> {
        self.ask(&KeeperRequest::Unmount { dir }).map(drop)
    }

    /// Has files removed after this process's end.
    ///
    /// # Errors
    /// The keeper is gone.
    pub fn remember(&self, files: Vec<PathBuf>) -> Result<(), String> {
        self.ask(&KeeperRequest::Remember { files }).map(drop)
    }

    /// Lists who holds something of the mounts.
    ///
    /// # Errors
    /// The keeper is gone.
    pub fn holders(&self) -> Result<Vec<Holder>, String> {
        match self.ask(&KeeperRequest::Holders)?.0 {
            KeeperMessage::Holders(holders) => Ok(holders),
            _ => Err("the keeper gave no list".to_owned()),
        }
    }

    /// Starts the process that synchronises; returns its process id, which its group has, too.
    ///
    /// # Errors
    /// In words for the user.
    pub fn start_sync(&self, number: u64) -> Result<u32, String> {
        match self.ask(&KeeperRequest::StartSync(number))?.0 {
            KeeperMessage::SyncStarted { pid } => Ok(pid),
            KeeperMessage::Failed(reason) => Err(reason),
            _ => Err("the keeper told no process".to_owned()),
        }
    }

    /// Ends it, when it runs.
    ///
    /// # Errors
    /// The keeper is gone.
    pub fn stop_sync(&self) -> Result<(), String> {
        self.ask(&KeeperRequest::StopSync).map(drop)
    }

    fn ask(&self, request: &KeeperRequest) -> Result<(KeeperMessage, Option<OwnedFd>), String> {
        let answers = self.answers.lock();
        packets::send(&*self.socket, request, None).map_err(|error| format!("the keeper is gone: {error}"))?;
        answers.recv().map_err(|_| "the keeper is gone".to_owned())
    }
}

fn listen(socket: &OwnedFd, answers: &Sender<(KeeperMessage, Option<OwnedFd>)>, on_news: &impl Fn(News)) {
    loop {
        match packets::receive::<KeeperMessage>(socket) {
            Ok(Some((KeeperMessage::MountLost, _))) => on_news(News::Lock(MOUNT_LOST)),
            Ok(Some((KeeperMessage::Terminate, _))) => on_news(News::Lock("the keeper was told to end")),
            Ok(Some((KeeperMessage::SyncEnded { number, how }, _))) => on_news(News::SyncEnded(number, how)),
            Ok(Some(answer)) => drop(answers.send(answer)),
            Ok(None) | Err(_) => return on_news(News::Lock(KEEPER_GONE)),
        }
    }
}
