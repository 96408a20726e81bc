//! The vault's own mount: made while the content is being read, which takes longer.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;

use super::link::KeeperLink;
use super::protocol::{Failure, Settings};
use super::server::NotePlace;

type Mounted = Result<(PathBuf, OwnedFd), String>;

/// A mount that is on its way, or can be.
pub(super) struct FirstMount<'a> {
    link: &'a Arc<KeeperLink>,
    settings: &'a Settings,
    note: &'a NotePlace,
    thread: Mutex<Option<JoinHandle<Mounted>>>,
}

impl<'a> FirstMount<'a> {
    pub fn new(link: &'a Arc<KeeperLink>, settings: &'a Settings, note: &'a NotePlace) -> Self {
        Self { link, settings, note, thread: Mutex::default() }
    }

    /// Begins. Who looks there waits until the vault is served.
    pub fn begin(&self, read_only: bool) {
        let mount = self.work(read_only);
        // Without a thread it is made later.
        let started = std::thread::Builder::new().name("mount".into()).spawn(mount);
        *self.thread.lock() = started.inspect_err(|error| tracing::debug!(%error, "it is mounted later")).ok();
    }

    /// Returns the canonical place with the FUSE descriptor.
    ///
    /// # Errors
    /// [`Failure::Mount`]: nothing is left then.
    pub fn finish(self, read_only: bool) -> Result<(PathBuf, OwnedFd), Failure> {
        let mounted = match self.end() {
            Some(mounted) => mounted,
            None => self.work(read_only)(),
        };
        mounted.map_err(|reason| {
            self.forget();
            Failure::Mount(reason)
        })
    }

    /// Takes it back where it was begun: there is nothing to be served.
    pub fn give_up(self) {
        let Some(mounted) = self.end() else { return };
        if let Ok((dir, fuse)) = mounted {
            // Whoever waits there already is answered with an error.
            drop(fuse);
            if let Err(error) = self.link.unmount(dir) {
                return tracing::error!(error, "the mount is left to the keeper");
            }
        }
        self.forget();
    }

    /// Notes the place down before: whoever is killed in between leaves a mount that the next command has to find.
    fn work(&self, read_only: bool) -> impl FnOnce() -> Mounted + use<> {
        let (link, dir, allow_other) = (self.link.clone(), self.settings.mount.clone(), self.settings.allow_other);
        let note = self.note.note(&self.settings.archive, vec![dir.clone()]);
        let file = self.note.file.clone();
        move || {
            if let Err(error) = note.write(&file) {
                tracing::warn!(%error, "it cannot be noted down where the vault is being mounted");
            }
            link.mount(dir, read_only, allow_other)
        }
    }

    fn end(&self) -> Option<Mounted> {
        let thread = self.thread.lock().take()?;
        Some(thread.join().unwrap_or_else(|_| Err("the thread that mounts it ended".to_owned())))
    }

    /// Nothing is there.
    fn forget(&self) {
        let _ = std::fs::remove_file(&self.note.file);
    }
}
