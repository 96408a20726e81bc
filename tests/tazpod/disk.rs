//! Disks under the archive that are full or fail, through the program as an ordinary user. Needs root for small disks.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod user;

use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use user::{FORMATS, User, eventually};

/// `EXT4_IOC_SHUTDOWN`, and its mode that writes nothing more, not even the journal.
const EXT4_IOC_SHUTDOWN: libc::Ioctl = 0x8004_587d_u32 as libc::Ioctl;
const NO_LOG_FLUSH: u32 = 2;

/// An ext4 of a few mebibytes in a file, mounted on a folder of the user; taken away at the end.
struct SmallDisk {
    images: tempfile::TempDir,
    dir: PathBuf,
}

impl SmallDisk {
    fn new(user: &User, name: &str) -> Self {
        let disk = Self { images: tempfile::tempdir().unwrap(), dir: user.home.join(name) };
        std::fs::File::create(disk.image()).unwrap().set_len(4 << 20).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(disk.image()));
        user.shell_ok(&format!("mkdir -p {name}"));
        disk.mount();
        run(Command::new("chown").arg(format!("{0}:{0}", user::ACCOUNT)).arg(&disk.dir));
        disk
    }

    fn image(&self) -> PathBuf {
        self.images.path().join("disk")
    }

    fn mount(&self) {
        run(Command::new("mount").args(["-o", "loop"]).arg(self.image()).arg(&self.dir));
    }

    /// Leaves no room at all, not even the rest of a block group.
    fn fill(&self) -> PathBuf {
        let filler = self.dir.join("filler");
        let mut file = std::fs::File::create(&filler).unwrap();
        while file.write_all(&[7; 1024]).is_ok() {}
        drop(file.sync_all());
        filler
    }

    /// From here on every access fails with EIO, as on a disk that was pulled out.
    fn fail(&self) {
        let folder = std::fs::File::open(&self.dir).unwrap();
        // SAFETY: the call reads one u32.
        let status = unsafe { libc::ioctl(folder.as_raw_fd(), EXT4_IOC_SHUTDOWN, &NO_LOG_FLUSH) };
        assert_eq!(status, 0, "{}", std::io::Error::last_os_error());
    }

    fn unmount(&self) -> bool {
        Command::new("umount").arg(&self.dir).stderr(Stdio::null()).status().unwrap().success()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if !self.unmount() {
            // Its user may have done so already.
            drop(Command::new("umount").arg("-l").arg(&self.dir).stderr(Stdio::null()).status());
        }
    }
}

fn run(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status} (these tests run as root)");
}

/// A user whose project lies on a small disk, with an unlocked vault that holds `old`.
fn on_small_disk(format: &str) -> (SmallDisk, User) {
    let user = User::new();
    let disk = SmallDisk::new(&user, "p");
    user.shell_ok(&format!("cd p && tazpod init --yes --passphrase-file ~/pw{}", user::init_flag(format)));
    user.unlock();
    user.shell_ok("head -c 50000 /dev/urandom > secrets/old; cp secrets/old old; cd p && tazpod save");
    (disk, user)
}

/// Runs a call of Python on an open file and returns its errno, 0 when it worked.
fn errno_of(user: &User, path: &str, call: &str) -> i32 {
    let script = format!(
        "import os\nfd = os.open('{path}', os.O_RDONLY)\ntry:\n    os.{call}(fd)\n    print(0)\nexcept OSError as error:\n    print(error.errno)"
    );
    user.shell_ok(&format!("python3 -c \"{script}\"")).trim().parse().unwrap()
}

/// What must hold while changes cannot be committed: callers get the error, memory keeps all, nothing is lost unasked.
fn refuses_to_lose_anything(user: &User, errno: i32, words: &str) {
    user.shell_ok("echo must not be lost > secrets/new; mkdir secrets/folder");
    for (path, call) in [("secrets/new", "fsync"), ("secrets/new", "fdatasync"), ("secrets", "fsync")] {
        assert_eq!(errno_of(user, path, call), errno, "{call} of {path}");
    }
    assert_eq!(user.shell_ok("cat secrets/new"), "must not be lost\n");
    user.shell_ok("cmp secrets/old old");
    let (status, _, told) = user.shell("cd p && tazpod save");
    assert!(status == 1 && told.contains(words), "{told}");
    let status = user.status();
    assert!(status["dirty"] == true && status["last_error"].as_str().unwrap().contains(words), "{status}");
    let shown = user.shell_ok("cd p && tazpod status");
    assert!(shown.contains("not all saved yet") && shown.contains(words), "{shown}");
    for lock in ["lock", "lock --force", "lock --wait 1s", "lock --all"] {
        let (status, _, told) = user.shell(&format!("cd p && tazpod {lock}"));
        assert_eq!(status, 1, "{lock}: {told}");
        assert!(told.contains("cannot be written to the archive") && told.contains(words), "{lock}: {told}");
        assert!(lock != "lock --force" || told.contains("--discard"), "{told}");
        assert_eq!(user.shell_ok("cat secrets/new"), "must not be lost\n", "after {lock}");
    }
}

/// A copy of the archive opens elsewhere, with what was saved and nothing else.
fn copy_is_whole(user: &User, archive: &Path) {
    std::fs::copy(archive, user.home.join("copy.aes")).unwrap();
    run(Command::new("chown").arg(user::ACCOUNT).arg(user.home.join("copy.aes")));
    user.shell_ok("tazpod unlock --vault copy.aes --mount other --passphrase-file pw && cmp other/old old");
    assert_eq!(user.shell_ok("ls other"), "old\n");
    user.shell_ok("tazpod lock --vault copy.aes --mount other && rm copy.aes");
}

#[test]
fn a_full_disk_is_told_loses_nothing_and_is_recovered_from() {
    for format in FORMATS {
        let (disk, user) = on_small_disk(format);
        let before = std::fs::read(user.archive()).unwrap();
        let filler = disk.fill();
        refuses_to_lose_anything(&user, libc::ENOSPC, "No space left");
        assert_eq!(std::fs::read(user.archive()).unwrap(), before, "the old archive stays as it was");
        copy_is_whole(&user, &user.archive());

        std::fs::remove_file(&filler).unwrap();
        eventually("it commits by itself", || user.status()["dirty"] == false);
        assert!(user.status()["last_error"].is_null());
        assert_eq!(errno_of(&user, "secrets/new", "fsync"), 0);
        user.shell_ok("cd p && tazpod lock");
        user.unlock();
        assert_eq!(user.shell_ok("cat secrets/new; cmp secrets/old old"), "must not be lost\n");

        disk.fill();
        user.shell_ok("echo to be discarded > secrets/new");
        assert_eq!(errno_of(&user, "secrets/new", "fsync"), libc::ENOSPC);
        user.shell_ok("cd p && tazpod lock --force --discard");
        assert!(!user.is_mounted_at("secrets"));
        // A full disk keeps nobody from reading.
        user.unlock();
        assert_eq!(user.shell_ok("cat secrets/new"), "must not be lost\n");
        user.shell_ok("cd p && tazpod lock");
    }
}

#[test]
fn a_disk_that_fails_is_told_and_loses_nothing_that_was_saved() {
    for format in FORMATS {
        let (disk, user) = on_small_disk(format);
        disk.fail();
        // The project cannot be read any more: the vault is named, and the archive is the one that was opened.
        let user_of_vault = |arguments: &str| user.shell(&format!("tazpod {arguments}"));
        user.shell_ok("echo must not be lost > secrets/new");
        assert_eq!(errno_of(&user, "secrets/new", "fsync"), libc::EIO);
        assert_eq!(errno_of(&user, "secrets", "fsync"), libc::EIO);
        assert_eq!(user.shell_ok("cat secrets/new; cmp secrets/old old"), "must not be lost\n");
        let (_, shown, told) = user_of_vault("status");
        assert!(shown.contains("not all saved yet") && shown.contains("Input/output error"), "{shown}{told}");
        for lock in ["lock --all", "lock --all --force"] {
            let (status, _, told) = user_of_vault(lock);
            assert!(status == 1 && told.contains("Input/output error"), "{lock}: {status} {told}");
        }
        assert_eq!(user.shell_ok("cat secrets/new"), "must not be lost\n");
        let (status, _, told) = user_of_vault("lock --all --force --discard");
        assert_eq!(status, 0, "{told}");
        eventually("all is let go", || disk.unmount());
        disk.mount();
        copy_is_whole(&user, &user.archive());
        user.unlock();
        user.shell_ok("cmp secrets/old old && echo 1 > secrets/new && cd p && tazpod lock");
    }
}

#[test]
fn a_full_disk_under_state_and_log_breaks_nothing() {
    let user = User::new();
    let disk = SmallDisk::new(&user, ".local");
    user.shell_ok("mkdir p && cd p && tazpod init --yes --passphrase-file ~/pw");
    user.unlock();
    disk.fill();
    user.shell_ok("echo 1 > secrets/file; mkdir secrets/.aws .aws; sync secrets/file");
    user.shell_ok("cd p && tazpod mount .aws ~/.aws && tazpod unmount ~/.aws && tazpod status && tazpod lock");
    // What cannot be noted down cannot be cleaned up later: that is told, and nothing stays behind.
    let (status, _, told) = user.shell("cd p && tazpod --debug unlock --passphrase-file ~/pw");
    assert!(status == 0 || told.contains("No space left"), "{told}");
    if status == 0 {
        assert_eq!(user.shell_ok("cat secrets/file"), "1\n");
        user.shell_ok("cd p && tazpod lock");
    }
    eventually("nothing stays behind", || !user.is_mounted_at("secrets") && user.processes().is_empty());
}

#[test]
fn an_archive_that_does_not_fit_is_not_fetched() {
    let user = User::new();
    let disk = SmallDisk::new(&user, "p");
    user.shell_ok(
        "cd p && tazpod init --yes --no-vault && mkdir ~/stick && head -c 6000000 /dev/urandom > ~/stick/vault.tar.aes",
    );
    std::fs::write(disk.dir.join(".tazpod/config.yaml"), "remote: {path: ~/stick}\n").unwrap();
    user.shell_ok("cd p && tazpod trust --yes");
    let (status, _, told) = user.shell("cd p && tazpod pull");
    assert!(status == 7 && told.contains("there is no room") && told.contains("make room"), "{status} {told}");
    assert_eq!(user.shell_ok("ls -A p/.tazpod/vault"), "");
    user.shell_ok("head -c 1000000 /dev/urandom > stick/vault.tar.aes; cd p && tazpod pull");
}

#[test]
fn a_full_or_failing_stick_keeps_what_was_pushed_before() {
    let user = User::with_vault_of("v2");
    let stick = SmallDisk::new(&user, "stick");
    std::fs::write(user.home.join("p/.tazpod/config.yaml"), "remote: {path: ~/stick/vault}\n").unwrap();
    user.shell_ok("cd p && tazpod trust --yes && tazpod setup-storage && tazpod push");
    let pushed = std::fs::read(user.archive()).unwrap();
    let there = || {
        let fetched = user.shell("rm -f fetched; cd p && tazpod pull --output ../fetched");
        (fetched.0, std::fs::read(user.home.join("fetched")).unwrap_or_default())
    };
    user.unlock();
    user.shell_ok("head -c 200k /dev/urandom > secrets/file && cd p && tazpod save");
    let filler = stick.fill();
    let (status, _, told) = user.shell("cd p && tazpod push");
    assert!(status == 7 && told.contains("No space left") && told.contains("Hint:"), "{status} {told}");
    assert_eq!(there(), (0, pushed.clone()));
    assert_eq!(user.shell_ok("ls -A stick/vault | grep -c tmp || true"), "0\n", "nothing half done stays");
    std::fs::remove_file(filler).unwrap();
    user.shell_ok("cd p && tazpod push");
    let pushed = std::fs::read(user.archive()).unwrap();
    assert_eq!(there(), (0, pushed.clone()));
    user.shell_ok("echo more > secrets/more");
    stick.fail();
    let (status, _, told) = user.shell("cd p && tazpod push");
    assert!(status == 7 && told.contains("Input/output error"), "{status} {told}");
    assert!(stick.unmount());
    stick.mount();
    assert_eq!(there(), (0, pushed));
    user.shell_ok("cd p && tazpod push");
    assert_eq!(there(), (0, std::fs::read(user.archive()).unwrap()));
}
