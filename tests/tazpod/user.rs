//! An ordinary user with an empty home who runs the program. Everything is locked and removed when the guard goes.
#![expect(dead_code, reason = "each test program uses its part of it")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/waiting.rs"]
mod waiting;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

pub const PASSPHRASE: &str = "correct horse battery staple";

/// Formats of archives that `tazpod init` makes, the default first; what is proved of a vault is proved of each.
pub const FORMATS: &[&str] = &["v2", "v1"];

/// The account that `scripts/test` makes; used when the tests run as root.
pub const ACCOUNT: &str = "tazpod-test";

/// A user with a home of their own.
pub struct User {
    pub home: PathBuf,
    account: String,
    _folder: tempfile::TempDir,
}

impl User {
    /// Makes an empty home with the passphrase in `~/pw`.
    pub fn new() -> Self {
        Self::new_as(ACCOUNT)
    }

    /// The same for another account, by its name or number; of it only the numbers are used.
    pub fn new_as(account: &str) -> Self {
        let name = Command::new("id").args(["-nu", account]).output().unwrap();
        let name = String::from_utf8(name.stdout).unwrap();
        let account = if account == ACCOUNT { ACCOUNT } else { name.trim() };
        let folder = tempfile::Builder::new().prefix("tazpod-").tempdir_in("/tmp").unwrap();
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::copy(env!("CARGO_BIN_EXE_tazpod"), folder.path().join("tazpod")).unwrap();
        let home = folder.path().join("home");
        std::fs::create_dir(&home).unwrap();
        if rustix::process::geteuid().is_root() {
            let status = Command::new("chown").arg(format!("{account}:")).arg(&home).status().unwrap();
            assert!(status.success(), "the user {account} is made by scripts/test");
        }
        let user = Self { home, account: account.to_owned(), _folder: folder };
        user.shell_ok(&format!("umask 077; printf '%s\\n' '{PASSPHRASE}' > pw"));
        user
    }

    /// With a project in `~/p` and an empty vault.
    pub fn with_vault() -> Self {
        Self::with_vault_of(FORMATS[0])
    }

    /// The same with one of [`FORMATS`].
    pub fn with_vault_of(format: &str) -> Self {
        let user = Self::new();
        user.shell_ok(&format!("mkdir p && cd p && tazpod init --yes --passphrase-file ~/pw{}", init_flag(format)));
        user
    }

    /// With a project in `~/p` whose vault is unlocked at `~/secrets`.
    pub fn unlocked() -> Self {
        let user = Self::with_vault();
        user.unlock();
        user
    }

    pub fn unlock(&self) {
        self.shell_ok("cd p && tazpod unlock --passphrase-file ~/pw");
    }

    pub fn lock(&self) {
        self.shell_ok("cd p && tazpod lock");
    }

    pub fn mount(&self) -> PathBuf {
        self.home.join("secrets")
    }

    pub fn archive(&self) -> PathBuf {
        self.home.join("p/.tazpod/vault/vault.tar.aes")
    }

    /// A shell command of this user, with a clean environment and no terminal.
    pub fn command(&self, script: &str) -> Command {
        self.command_with(&["setsid", "--wait", "bash", "-c", script])
    }

    /// The same on the terminal that it is given.
    pub fn terminal_command(&self, script: &str) -> Command {
        self.command_with(&["bash", "-c", script])
    }

    fn command_with(&self, arguments: &[&str]) -> Command {
        let root = rustix::process::geteuid().is_root();
        let mut command = Command::new(if root { "setpriv" } else { "env" });
        if root {
            let gid = Command::new("id").args(["-g", &self.account]).output().unwrap().stdout;
            let gid = String::from_utf8(gid).unwrap();
            command.args(["--reuid", &self.account, "--regid", gid.trim(), "--init-groups", "--", "env"]);
        }
        let bin = self.home.parent().unwrap().display().to_string();
        command
            .arg("-i")
            .arg(format!("PATH={bin}:{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap()))
            .arg(format!("HOME={}", self.home.display()))
            .arg("LANG=C.UTF-8")
            // Where the tests run, an instance's role may be had.
            .arg("AWS_EC2_METADATA_DISABLED=true")
            // What is tested by hand is not crossed by what goes on on its own.
            .arg("TAZPOD_SYNC=off")
            .args(arguments)
            .current_dir(&self.home)
            .stdin(Stdio::null());
        command
    }

    /// Runs a shell command; returns status, standard output and standard error.
    pub fn shell(&self, script: &str) -> (i32, String, String) {
        let Output { status, stdout, stderr } = self.command(script).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (status.code().unwrap_or(-1), text(stdout), text(stderr))
    }

    /// Runs a shell command that must succeed; returns its standard output.
    pub fn shell_ok(&self, script: &str) -> String {
        let (status, out, err) = self.shell(script);
        assert_eq!(status, 0, "{script}\n{out}{err}");
        out
    }

    pub fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.shell_ok("cd p && tazpod status --json")).unwrap()
    }

    pub fn agent(&self) -> i32 {
        i32::try_from(self.status()["agent_pid"].as_i64().unwrap()).unwrap()
    }

    /// The processes that run this user's copy of the program. Needs root: an agent cannot be looked into.
    pub fn processes(&self) -> Vec<i32> {
        let program = self.home.with_file_name("tazpod");
        let pids =
            std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
        pids.filter(|pid| std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == program)).collect()
    }

    /// Whether something is mounted on a folder below the home.
    pub fn is_mounted_at(&self, name: &str) -> bool {
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        text.contains(&format!(" {} ", self.home.join(name).display()))
    }

    pub fn is_mounted(&self) -> bool {
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        text.contains(&self.home.display().to_string())
    }
}

/// What `tazpod init` is told to make an archive of a format.
pub fn init_flag(format: &str) -> String {
    format!(" --format {format}")
}

impl Drop for User {
    fn drop(&mut self) {
        self.shell("tazpod lock --all --force --discard; fusermount3 -u -z secrets");
        // The folder that lies under the mount point may not be writable.
        self.shell("chmod -R u+rwx .");
        self.unmount_all();
    }
}

impl User {
    /// Small disks and the like: the home is removed next.
    fn unmount_all(&self) {
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let places = text.lines().rev().filter_map(|line| line.split(' ').nth(4));
        for place in places.filter(|place| Path::new(place).starts_with(&self.home)) {
            // Where it cannot be taken away it stays, as the folder does.
            drop(Command::new("umount").args(["-l", place]).stderr(Stdio::null()).status());
        }
    }
}

/// Waits up to ten seconds for something to become true.
pub fn eventually(what: &str, holds: impl FnMut() -> bool) {
    waiting::within(Duration::from_secs(10), what, holds);
}

pub fn signal(pid: i32, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
}

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/v1").join(name)
}
