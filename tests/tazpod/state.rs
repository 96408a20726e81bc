//! A state folder that is not ours, read-only or full: it is told what is lost by that, and the vault opens. Needs root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod user;

use std::path::PathBuf;
use std::process::Command;

use user::{User, eventually};

/// What has no place in the state folder goes below this one.
const ELSEWHERE: &str = "export TMPDIR=$HOME/elsewhere; mkdir -p $TMPDIR;";
const WARNING: &str = "cannot note down what it knows of the archive";

/// A small file system on `~/.local/state`.
struct StateDisk {
    dir: PathBuf,
}

impl StateDisk {
    fn new(user: &User, options: &str) -> Self {
        user.shell_ok("mkdir -p .local/state");
        let dir = user.home.join(".local/state");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&dir));
        run(Command::new("chown").arg(format!("{0}:{0}", user::ACCOUNT)).arg(&dir));
        Self { dir }
    }

    fn remount(&self, options: &str) {
        run(Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.dir));
    }
}

impl Drop for StateDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.dir).status());
    }
}

fn run(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status} (these tests run as root)");
}

/// Runs something in the project; returns status and what was told.
fn told(user: &User, script: &str) -> (i32, String) {
    let (status, _, told) = user.shell(&format!("{ELSEWHERE} cd p && {script}"));
    (status, told)
}

fn lock(user: &User) {
    let (status, told) = told(user, "tazpod lock");
    assert_eq!(status, 0, "{told}");
    eventually("nothing stays behind", || !user.is_mounted_at("secrets") && user.processes().is_empty());
}

/// The whole way round, with the warning.
fn works_with_a_warning(user: &User) {
    for round in ["1", "2"] {
        let (status, said) = told(user, "tazpod unlock --passphrase-file ~/pw");
        assert!(status == 0 && said.contains(WARNING), "{status} {said}");
        let (status, said) = told(user, &format!("echo {round} >> ~/secrets/file; tazpod save && tazpod status"));
        assert_eq!(status, 0, "{said}");
        lock(user);
    }
    let (status, said) = told(user, "tazpod export --passphrase-file ~/pw --output ~/out && tazpod lock --all");
    assert_eq!(status, 0, "{said}");
    assert_eq!(user.shell_ok("tar -xOf out file; rm out"), "1\n2\n");
}

#[test]
fn a_state_folder_of_somebody_else_keeps_nobody_out() {
    let user = User::new();
    run(Command::new("mkdir").args(["-p", "-m", "755"]).arg(user.home.join(".local/state/tazpod")));
    let (status, said) = {
        let init = "tazpod init --yes --passphrase-file ~/pw";
        user.shell_ok("mkdir p");
        told(&user, init)
    };
    assert_eq!(status, 0, "{said}");
    works_with_a_warning(&user);
    run(Command::new("rm").arg("-r").arg(user.home.join(".local")));
}

#[test]
fn a_full_state_folder_keeps_nobody_out() {
    let user = User::new();
    // The root of the file system takes the only inode.
    let disk = StateDisk::new(&user, "size=64k,nr_inodes=1");
    user.shell_ok("mkdir p");
    let (status, said) = told(&user, "tazpod init --yes --passphrase-file ~/pw");
    assert_eq!(status, 0, "{said}");
    works_with_a_warning(&user);
    drop(disk);
}

#[test]
fn a_read_only_state_folder_keeps_nobody_out_and_what_it_knows_still_counts() {
    let user = User::new();
    let disk = StateDisk::new(&user, "size=1m");
    user.shell_ok(
        "mkdir p && cd p && tazpod init --yes --passphrase-file ~/pw && cp .tazpod/vault/vault.tar.aes ~/older",
    );
    let (status, said) = told(&user, "tazpod unlock --passphrase-file ~/pw && touch ~/secrets/new");
    assert!(status == 0 && !said.contains(WARNING), "{said}");
    lock(&user);
    user.shell_ok("rm -f out");
    disk.remount("ro");
    works_with_a_warning(&user);
    // What was seen before is older than the archive now, and newer than this copy.
    let newer = std::fs::read(user.archive()).unwrap();
    std::fs::copy(user.home.join("older"), user.archive()).unwrap();
    let (status, said) = told(&user, "tazpod unlock --passphrase-file ~/pw");
    assert!(status == 6 && said.contains("rolled back"), "{status} {said}");
    std::fs::write(user.archive(), newer).unwrap();
    disk.remount("rw");
    let (status, said) = told(&user, "tazpod unlock --passphrase-file ~/pw");
    assert!(status == 0 && !said.contains(WARNING), "{said}");
    lock(&user);
}

#[test]
fn a_witness_that_is_damaged_is_one_that_is_not_there() {
    let user = User::with_vault_of("v2");
    user.unlock();
    user.shell_ok("echo 1 > secrets/file; cd p && tazpod lock; ls ~/.local/state/tazpod/*/head");
    for damage in
        ["printf x > $head", ": > $head", "rm $head", "rm $head; mkdir $head", "rm $head; ln -s /etc/passwd $head"]
    {
        user.shell_ok(&format!("head=$(echo ~/.local/state/tazpod/*/head); {damage}"));
        user.unlock();
        assert_eq!(user.shell_ok("cat secrets/file"), "1\n", "{damage}");
        user.lock();
    }
    assert!(std::fs::metadata("/etc/passwd").unwrap().len() > 0);
}

#[test]
fn read_only_media_with_a_state_folder_that_cannot_be_written() {
    let user = User::with_vault_of("v2");
    user.unlock();
    user.shell_ok("echo 1 > secrets/file; cd p && tazpod lock");
    let home = user.home.clone();
    let bind = |arguments: &[&str], place: &str| {
        run(Command::new("mount").args(arguments).arg(home.join(place)).arg(home.join(place)));
        run(Command::new("mount").args(["-o", "remount,bind,ro"]).arg(home.join(place)));
    };
    bind(&["--bind"], "p");
    bind(&["--bind"], ".local/state");
    let outcome = told(&user, "tazpod unlock --passphrase-file ~/pw");
    let read = user.shell("cat secrets/file; echo 2 > secrets/other");
    let locked = told(&user, "tazpod lock");
    for place in ["p", ".local/state"] {
        run(Command::new("umount").arg("-l").arg(home.join(place)));
    }
    assert!(outcome.0 == 0 && outcome.1.contains(WARNING) && outcome.1.contains("read-only"), "{outcome:?}");
    assert!(read.0 != 0 && read.1 == "1\n", "{read:?}");
    assert_eq!(locked.0, 0, "{}", locked.1);
}

#[test]
fn an_archive_that_may_not_be_written_is_unlocked_to_be_read() {
    for (format, guard, lift) in [
        ("v2", "chmod 444 p/.tazpod/vault/vault.tar.aes", "chmod 600 p/.tazpod/vault/vault.tar.aes"),
        ("v1", "chmod 444 p/.tazpod/vault/vault.tar.aes", "chmod 600 p/.tazpod/vault/vault.tar.aes"),
        ("v2", "chmod 555 p/.tazpod/vault", "chmod 700 p/.tazpod/vault"),
        ("v1", "chmod 555 p/.tazpod/vault", "chmod 700 p/.tazpod/vault"),
    ] {
        let user = User::with_vault_of(format);
        let told = |script: &str| {
            let (status, _, told) = user.shell(&format!("cd p && {script}"));
            (status, told)
        };
        user.unlock();
        user.shell_ok("echo content > secrets/file");
        user.lock();
        user.shell_ok(guard);
        let before = std::fs::read(user.archive()).unwrap();
        let (status, words) = told("tazpod unlock --passphrase-file ~/pw");
        assert!(status == 0 && words.contains(", read-only"), "{format}, {guard}: {status} {words}");
        assert!(words.contains("the archive cannot be written: the vault is read-only"), "{words}");
        assert_eq!(user.shell_ok("cat secrets/file"), "content\n");
        let (status, words) = told("echo changed > ~/secrets/file");
        assert!(status != 0 && words.contains("Read-only file system"), "{words}");
        assert!(user.status()["read_only"].as_bool().unwrap());
        user.lock();
        let (status, words) = told("echo x > ~/x && tazpod import ~/x --passphrase-file ~/pw");
        assert!(status == 1 && words.contains("cannot be written"), "{format}, {guard}: {status} {words}");
        assert_eq!(std::fs::read(user.archive()).unwrap(), before);
        user.shell_ok(lift);
        user.unlock();
        user.shell_ok("echo changed > secrets/file");
        user.lock();
    }
}
