//! A folder of tmpfs and a mounted vault, which must look the same after each step.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use vaultfs::fuse::{Access, Mounts, View};
use vaultfs::vault::Vault;

use super::look::{Time, Tree, of_open};
use super::operations::{Op, apply};
use crate::mount_support::{Mounted, OPTIONS, eventually, mount_fuse};
use crate::vault_support::archive_format::Format;
use crate::vault_support::{Scratch, SmallDisk, open, scratch_of};

pub struct Pair {
    real: PathBuf,
    real_held: Vec<OwnedFd>,
    vault_held: Vec<OwnedFd>,
    /// Dropped in this order.
    serving: Option<Serving>,
    point: PathBuf,
    scratch: Scratch,
    _disk: SmallDisk,
}

/// A vault that is mounted.
struct Serving {
    point: Mounted,
    mounts: std::sync::Arc<Mounts>,
    vault: Vault,
}

impl Pair {
    pub fn new(format: Format) -> Self {
        // Both sides then make what they are told to.
        rustix::process::umask(rustix::fs::Mode::empty());
        let disk = SmallDisk::tmpfs("64m");
        let scratch = scratch_of(format);
        let real = disk.path().join("root");
        std::fs::create_dir(&real).unwrap();
        std::fs::set_permissions(&real, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        let point = scratch.folder.path().join("mount");
        std::fs::create_dir(&point).unwrap();
        let mut pair =
            Self { real, real_held: Vec::new(), vault_held: Vec::new(), serving: None, point, scratch, _disk: disk };
        pair.serve();
        pair
    }

    /// Does an operation on both sides; fails when they differ.
    pub fn step(&mut self, operation: Op) {
        let real = apply(&self.real, &mut self.real_held, operation);
        let vault = apply(&self.point, &mut self.vault_held, operation);
        assert_eq!(vault, real, "{operation:?} ends on the vault (left) not as on tmpfs");
        let held = |held: &[OwnedFd]| held.iter().map(of_open).collect::<Vec<_>>();
        assert_eq!(held(&self.vault_held), held(&self.real_held), "what is open differs after {operation:?}");
        if let Op::Reopen = operation {
            self.reopen();
        }
        self.compare(operation);
    }

    fn compare(&self, operation: Op) {
        let (mut real, mut vault) = (Tree::of(&self.real), Tree::of(&self.point));
        for (path, look) in &real.looks {
            let found = vault.looks.get(path);
            assert!(found == Some(look), "{path} after {operation:?}:\nvault {found:?}\ntmpfs {look:?}");
        }
        assert_eq!(vault.looks.len(), real.looks.len(), "the vault holds more after {operation:?}");
        // An archive need not keep when the root was changed.
        real.times.remove("");
        vault.times.remove("");
        let order = |times: &Tree| {
            let mut order: Vec<(Time, String)> = times.times.iter().map(|(path, time)| (*time, path.clone())).collect();
            order.sort();
            order
        };
        // tmpfs has a coarser clock: what it tells apart, the vault must too, and in the same order.
        let mut latest: Option<(Time, &String)> = None;
        for group in order(&real).chunk_by(|one, other| one.0 == other.0) {
            let times = group.iter().map(|(_, path)| (vault.times[path], vault.times.get_key_value(path).unwrap().0));
            let times: Vec<_> = times.collect();
            let (least, most) = (times.iter().min().unwrap(), times.iter().max().unwrap());
            if let Some(before) = latest {
                assert!(before.0 <= least.0, "{} was changed after {}: {operation:?}", before.1, least.1);
            }
            latest = Some(*most);
        }
    }

    fn serve(&mut self) {
        let vault = open(&self.scratch.archive);
        let mounts = Mounts::new(vault.tree().clone(), vault.committer(), OPTIONS);
        let fuse = mount_fuse(&self.point);
        let id = vaultfs::fuse::MountId(0);
        let mut point = Mounted { path: self.point.clone(), id };
        point.id = mounts.serve(fuse, View::whole(Access::ReadWrite)).unwrap();
        self.serving = Some(Serving { point, mounts, vault });
    }

    fn reopen(&mut self) {
        self.real_held.clear();
        self.vault_held.clear();
        let Serving { point, mounts, vault } = self.serving.take().unwrap();
        drop(point);
        eventually("the mount is gone", || mounts.served().is_empty());
        vault.close().map_err(|(_, error)| error).unwrap();
        self.serve();
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.real_held.clear();
        self.vault_held.clear();
        if let Some(Serving { point, mounts, vault }) = self.serving.take() {
            drop(point);
            let begun = std::time::Instant::now();
            while !mounts.served().is_empty() && begun.elapsed() < Duration::from_secs(5) {
                std::thread::sleep(Duration::from_millis(5));
            }
            drop(vault);
        }
    }
}
