//! A scratch vault mounted by root through mount(2), for the tests of the FUSE layer. Every mount is detached when its
//! guard goes, also when a test fails.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/waiting.rs"]
mod waiting;

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags};
use vaultfs::crypto::Passphrase;
use vaultfs::entry::EntryPath;
use vaultfs::fuse::{Access, CloseMode, MountId, Mounts, ServeOptions, View, Visitors};
use vaultfs::tree::{Ino, Owner, Tree};
use vaultfs::vault::{Machine, NewArchive, Vault, VaultOptions};

pub const OPTIONS: ServeOptions = ServeOptions { threads: 4, close: CloseMode::Relaxed, visitors: Visitors::Everybody };

/// A vault with its mounts. Fields are dropped in this order.
pub struct Fixture {
    pub points: Vec<Mounted>,
    pub mounts: Arc<Mounts>,
    pub vault: Vault,
    pub folder: tempfile::TempDir,
}

/// A mount that is detached when this goes.
pub struct Mounted {
    pub path: PathBuf,
    pub id: MountId,
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // It may be gone already: some tests take it away.
        let _ = rustix::mount::unmount(&self.path, UnmountFlags::DETACH);
    }
}

impl Fixture {
    /// A new vault of 64 MiB with nothing mounted.
    pub fn new(options: ServeOptions) -> Self {
        Self::of_kind(NewArchive::V1, options)
    }

    /// The same with an archive of a given version.
    pub fn of_kind(kind: NewArchive, options: ServeOptions) -> Self {
        assert!(rustix::process::geteuid().is_root(), "these tests mount, and need root");
        let folder = tempfile::tempdir().unwrap();
        // Other users look in too.
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let archive = folder.path().join("vault.tar.aes");
        Vault::create(&archive, &passphrase(), kind, &Machine::default()).unwrap();
        let vault = open_vault(&archive);
        let mounts = Mounts::new(vault.tree().clone(), vault.committer(), options);
        Self { points: Vec::new(), mounts, vault, folder }
    }

    /// A new vault with one mount of all of it.
    pub fn mounted() -> Self {
        let mut fixture = Self::new(OPTIONS);
        fixture.mount("whole", View::whole(Access::ReadWrite));
        fixture
    }

    /// Mounts a view in a new folder; returns the mount point.
    pub fn mount(&mut self, name: &str, view: View) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        let fuse = mount_fuse(&path);
        // Guarded before it is served, so that it goes when that fails.
        self.points.push(Mounted { path: path.clone(), id: MountId(0) });
        let id = self.mounts.serve(fuse, view).unwrap();
        self.points.last_mut().unwrap().id = id;
        path
    }

    /// Mounts a folder of the vault as a view of its own.
    pub fn mount_subtree(&mut self, name: &str, folder: &str, access: Access) -> PathBuf {
        let root = self.ino(folder);
        self.mount(name, View { root, access, hidden: Vec::new() })
    }

    pub fn tree(&self) -> &Tree {
        self.vault.tree()
    }

    pub fn ino(&self, path: &str) -> Ino {
        self.tree().resolve(&EntryPath::parse(path.as_bytes()).unwrap()).unwrap().ino
    }

    pub fn whole(&self) -> &Path {
        &self.points[0].path
    }

    /// What the tree holds of a file, past every kernel.
    pub fn content(&self, path: &str) -> Vec<u8> {
        content(self.tree(), path).unwrap()
    }

    /// Opens a copy of the archive as it is on the disk now: what is in it would be there after a loss of power.
    pub fn archived(&self) -> Vault {
        let copy = self.folder.path().join("copy.tar.aes");
        std::fs::copy(self.vault.archive(), &copy).unwrap();
        open_vault(&copy)
    }

    /// Takes the mounts away, closes the vault and opens it again.
    pub fn reopened(self) -> (Vault, tempfile::TempDir) {
        let Self { points, mounts, vault, folder } = self;
        drop(points);
        eventually("the mounts are gone", || mounts.served().is_empty());
        let archive = vault.archive().clone();
        vault.close().map_err(|(_, error)| error).unwrap();
        (open_vault(&archive), folder)
    }
}

fn passphrase() -> Passphrase {
    Passphrase::new(zeroize::Zeroizing::new(b"correct horse".to_vec())).unwrap()
}

fn open_vault(archive: &Path) -> Vault {
    let owner = Owner { uid: 0, gid: 0 };
    let options = VaultOptions::new(owner, 64 << 20, Duration::from_secs(1));
    Vault::open(archive, passphrase(), &options).unwrap().0
}

/// What a tree holds of a file; `None` when there is none of that name.
pub fn content(tree: &Tree, path: &str) -> Option<Vec<u8>> {
    let stat = tree.resolve(&EntryPath::parse(path.as_bytes()).unwrap()).ok()?;
    let mut content = vec![0; stat.size as usize];
    assert_eq!(tree.read(stat.ino, 0, &mut content).unwrap(), content.len());
    Some(content)
}

/// Mounts a FUSE descriptor as root, as a keeper would through fusermount3.
pub fn mount_fuse(point: &Path) -> OwnedFd {
    let fuse = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let data = format!("fd={},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other", fuse.as_raw_fd());
    let data = CString::new(data).unwrap();
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("vaultfs-test", point, "fuse.vaultfs", flags, Some(data.as_c_str())).unwrap();
    fuse
}

/// Waits for something that another thread does.
pub fn eventually(what: &str, holds: impl FnMut() -> bool) {
    waiting::within(Duration::from_secs(10), what, holds);
}
