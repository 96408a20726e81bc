//! When a vault locks by itself: shells and programs that need it, however they end; idleness; a set time.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod user;

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use user::{User, eventually, signal};

/// Shorter than any test would like to wait.
const GRACE: &str = "auto_lock: {grace: 1s}";

fn user_with(lines: &str) -> User {
    let user = User::with_vault();
    user.shell_ok(&format!("cd p && echo '{lines}' >> .tazpod/config.yaml && tazpod trust --yes"));
    user.unlock();
    user
}

impl User {
    /// A shell of `tazpod shell` that waits for what it is told.
    fn begin(&self, flags: &str) -> Child {
        let before = self.leases().len();
        let script = format!("cd p && export SHELL=/bin/sh && exec tazpod shell {flags}");
        let shell = self.command(&script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        eventually("it has its lease", || self.leases().len() == before + 1);
        shell
    }

    fn leases(&self) -> Vec<Value> {
        self.status()["auto_lock"]["leases"].as_array().cloned().unwrap_or_default()
    }

    fn is_locked(&self) -> bool {
        self.status()["state"] == "locked"
    }

    /// Fails when the vault locks within a time.
    fn stays_unlocked(&self, time: Duration, why: &str) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            assert!(!self.is_locked(), "{why}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn locks(&self, why: &str) {
        eventually(why, || self.is_locked() && !self.is_mounted());
    }
}

/// Ends a shell as its user does.
fn exit(mut shell: Child, status: i32) {
    writeln!(shell.stdin.take().unwrap(), "exit {status}").unwrap();
    assert_eq!(shell.wait().unwrap().code(), Some(status));
}

const PAST_GRACE: Duration = Duration::from_millis(2500);

#[test]
fn the_end_of_the_last_shell_locks_and_that_of_another_does_not() {
    let user = user_with(GRACE);
    user.stays_unlocked(PAST_GRACE, "nobody took a lease");
    let (one, other) = (user.begin(""), user.begin(""));
    let shown = user.shell_ok("cd p && tazpod status");
    assert_eq!(shown.matches("shell (pid ").count(), 2, "{shown}");
    exit(one, 3);
    user.stays_unlocked(PAST_GRACE, "another is there");
    user.shell_ok("echo MARKER-saved > secrets/file");
    exit(other, 0);
    user.locks("the last one ended");
    user.unlock();
    assert_eq!(user.shell_ok("cat secrets/file"), "MARKER-saved\n");
}

#[test]
fn a_shell_that_comes_in_the_grace_period_keeps_the_vault_unlocked() {
    let user = user_with("auto_lock: {grace: 5s}");
    exit(user.begin(""), 0);
    let outlook = user.status()["auto_lock"].clone();
    assert_eq!(outlook["reason"], "LastLease");
    assert!(outlook["locks_in_secs"].as_u64().unwrap() <= 5, "{outlook}");
    let next = user.begin("");
    user.stays_unlocked(Duration::from_millis(5500), "a new one came");
    exit(next, 0);
    user.locks("it ended too");
}

#[test]
fn a_shell_that_is_killed_has_ended() {
    let user = user_with(GRACE);
    for whom in ["the program", "the shell"] {
        let mut shell = user.begin("");
        let holder = i32::try_from(user.leases()[0]["pid"].as_i64().unwrap()).unwrap();
        let children = std::fs::read_to_string(format!("/proc/{holder}/task/{holder}/children")).unwrap();
        let child: i32 = children.split_whitespace().next().unwrap().parse().unwrap();
        signal(if whom == "the shell" { child } else { holder }, Signal::KILL);
        user.locks(whom);
        shell.stdin.take();
        let ended = shell.wait().unwrap();
        assert!(ended.code() == Some(137) || ended.signal() == Some(9), "{ended:?}");
        user.unlock();
    }
}

/// Runs a command at a terminal of its own, which closes when a line comes.
const TERMINAL: &str = "import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execvp('bash', ['bash', '-c', sys.argv[1]])
sys.stdin.readline()
os.close(terminal)
os.waitpid(pid, 0)";

#[test]
fn a_terminal_that_is_closed_ends_what_runs_in_it() {
    let user = user_with(GRACE);
    std::fs::write(user.home.join("terminal.py"), TERMINAL).unwrap();
    for command in ["tazpod shell", "tazpod run -- sleep 60"] {
        let script = format!("exec python3 terminal.py 'cd p && export SHELL=/bin/bash && exec {command}'");
        let mut terminal = user.command(&script).stdin(Stdio::piped()).spawn().unwrap();
        eventually("it has its lease", || user.leases().len() == 1);
        writeln!(terminal.stdin.take().unwrap()).unwrap();
        assert!(terminal.wait().unwrap().success());
        user.locks(command);
        user.unlock();
    }
}

#[test]
fn who_asks_for_it_keeps_the_vault_unlocked() {
    let user = user_with(GRACE);
    exit(user.begin("--keep-unlocked"), 0);
    user.shell_ok("cd p && tazpod run --keep-unlocked -- true");
    user.stays_unlocked(PAST_GRACE, "the last one said so");
    user.shell_ok("cd p && tazpod run -- true");
    user.locks("the last one did not");
    let user = user_with("auto_lock: {last_shell: false}");
    exit(user.begin(""), 0);
    assert_eq!(user.status()["auto_lock"]["reason"], Value::Null);
}

#[test]
fn a_lock_that_is_refused_is_told_tried_again_and_loses_nothing() {
    let user = user_with("auto_lock: {grace: 0s}");
    let mut holder = user.command("exec sleep 60 > secrets/held").spawn().unwrap();
    eventually("it is held", || user.status()["open_handles"] == 1);
    user.shell_ok("cd p && tazpod run -- sh -c 'echo MARKER-held > ~/secrets/other'");
    eventually("the refusal is told", || {
        user.status()["auto_lock"]["refused"].as_str().is_some_and(|text| text.contains("secrets/held"))
    });
    assert!(user.shell_ok("cd p && tazpod status").contains("refused  "));
    user.stays_unlocked(Duration::from_millis(500), "a file is open");
    holder.kill().unwrap();
    holder.wait().unwrap();
    user.locks("nobody holds anything any more");
    user.unlock();
    assert_eq!(user.shell_ok("cat secrets/other"), "MARKER-held\n");
}

#[test]
fn a_vault_that_nobody_uses_locks() {
    let user = user_with("auto_lock: {idle: 4s}");
    let shell = user.begin("");
    let until = Instant::now() + Duration::from_secs(6);
    while Instant::now() < until {
        user.shell_ok("echo use > secrets/file");
        std::thread::sleep(Duration::from_millis(200));
    }
    user.locks("idle, though a shell is there");
    exit(shell, 0);
}

#[test]
fn a_time_can_be_set_and_taken_back() {
    let user = User::unlocked();
    let told = user.shell("cd p && tazpod lock --after 5s").2;
    assert!(told.contains("Locks in 5 s"), "{told}");
    assert_eq!(user.status()["auto_lock"]["reason"], "Time");
    assert!(user.shell_ok("cd p && tazpod status").contains("locks    in "));
    user.shell_ok("cd p && tazpod lock --after cancel");
    user.stays_unlocked(Duration::from_millis(5500), "it was taken back");
    user.shell_ok("cd p && tazpod lock --after 500ms");
    user.locks("the time has come");
    let (status, _, told) = user.shell("cd p && tazpod lock --after 1s");
    assert_eq!(status, 4, "{told}");
    assert_eq!(user.shell("cd p && tazpod lock --after soon").0, 2);
}

#[test]
fn many_shells_keep_nobody_from_the_vault() {
    let user = user_with(GRACE);
    let script = "cd p && for i in $(seq 80); do tazpod run -- sleep 4 & done; wait";
    let mut shells = user.command(script).spawn().unwrap();
    eventually("all have their leases", || user.leases().len() == 80);
    user.shell_ok("cd p && tazpod save && echo x > ~/secrets/file");
    assert!(shells.wait().unwrap().success());
    user.locks("all have ended");
}

#[test]
fn a_file_that_was_not_trusted_only_locks_earlier() {
    let user = User::with_vault();
    user.shell_ok("cd p && grep -v mount .tazpod/config.yaml > c; mv c .tazpod/config.yaml; tazpod trust --yes");
    user.shell_ok("cd p && echo 'auto_lock: {last_shell: false, grace: 1h, idle: 1h}' >> .tazpod/config.yaml");
    let (status, _, told) = user.shell("cd p && tazpod unlock --passphrase-file ~/pw");
    assert!(status == 0 && told.contains("auto_lock.last_shell, auto_lock.grace would lock later"), "{told}");
    let rules = user.status()["auto_lock"]["rules"].clone();
    assert_eq!((&rules["last_lease"], &rules["grace"]["secs"]), (&Value::Bool(true), &Value::from(10)));
    assert_eq!(rules["idle"]["secs"], 3600, "what makes it earlier counts");
}

#[test]
fn shells_and_programs_need_an_unlocked_vault() {
    let user = User::with_vault();
    for command in ["tazpod shell", "tazpod run -- true"] {
        let (status, _, told) = user.shell(&format!("cd p && {command}"));
        assert!(status == 4 && told.contains("tazpod unlock"), "{told}");
    }
}
