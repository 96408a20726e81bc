//! What lock takes away, from whom, and what it leaves alone; and commands that cross each other.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod user;

use std::io::{BufRead, BufReader, Lines, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use user::{User, eventually};

/// Works in a folder, holds a file in it and has a shared and two private mappings of that, all pages of which it has read;
/// in the last it has changed the first page. What it can still get after a line on standard input is printed, the least
/// harmless last.
const HOLDER: &str = r#"
import ctypes, mmap, os, sys
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
os.chdir(sys.argv[1])
file = os.open("file", os.O_RDONLY)
clean = libc.mmap(None, 8192, mmap.PROT_READ, mmap.MAP_PRIVATE, file, 0)
copied = libc.mmap(None, 8192, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE, file, 0)
shared = libc.mmap(None, 8192, mmap.PROT_READ, mmap.MAP_SHARED, file, 0)
assert all(ctypes.string_at(pages, 8192) == b"s" * 8192 for pages in [clean, copied, shared])
ctypes.memset(copied, ord("c"), 1)
print("ready", flush=True)
sys.stdin.readline()
memory = os.open("/proc/self/mem", os.O_RDONLY)
for attempt in [
    lambda: os.open("file", os.O_RDONLY),
    lambda: os.stat("file"),
    lambda: os.listdir("."),
    lambda: os.open("new", os.O_WRONLY | os.O_CREAT),
    lambda: os.pread(file, 1, 0),
    lambda: os.pread(memory, 1, shared),
    lambda: os.pread(memory, 1, shared + 4096),
    lambda: os.pread(memory, 1, clean),
    lambda: os.pread(memory, 1, clean + 4096),
    lambda: os.pread(memory, 1, copied + 4096),
]:
    try:
        print("got", attempt(), flush=True)
    except OSError as error:
        print(error.errno, flush=True)
print("ls", os.waitstatus_to_exitcode(os.system("ls >/dev/null 2>&1")), flush=True)
print(ctypes.string_at(clean, 1), flush=True)
"#;

/// A process that holds something until it is told to try what it can.
struct Holder {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Holder {
    fn start(user: &User, folder: &str) -> Self {
        std::fs::write(user.home.parent().unwrap().join("holder.py"), HOLDER).unwrap();
        let script = format!("exec python3 ../holder.py {folder}");
        let mut child = user.command(&script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        Self { child, lines }
    }

    /// What it says when it tries, and the signal that ends it.
    fn tries(mut self) -> (Vec<String>, Option<i32>) {
        writeln!(self.child.stdin.take().unwrap()).unwrap();
        let told = self.lines.map(Result::unwrap).collect();
        let ended = self.child.wait().unwrap();
        // `setsid --wait` tells a signal as shells do.
        (told, ended.signal().or_else(|| ended.code().map(|code| code - 128)))
    }
}

#[test]
fn mappings_and_working_folders_of_both_mounts_are_cut_off() {
    let user = User::unlocked();
    user.shell_ok("mkdir secrets/sub && head -c 8192 /dev/zero | tr '\\0' s > secrets/sub/file");
    user.shell_ok("cd p && tazpod mount sub ~/second");
    let holders = ["secrets/sub", "second"].map(|folder| Holder::start(&user, folder));
    let (status, _, told) = user.shell("cd p && tazpod lock");
    assert_eq!(status, 1, "{told}");
    for held in ["/secrets/sub\n", "/secrets/sub/file\n", "/second\n", "/second/file\n"] {
        assert!(told.contains(held), "{held}: {told}");
    }
    user.shell_ok("cd p && tazpod lock --force");
    let (gone, fault) = (libc::ENOTCONN.to_string(), libc::EIO.to_string());
    let expected: Vec<&str> = [&gone; 5].into_iter().chain([&fault; 5]).map(String::as_str).chain(["ls 2"]).collect();
    for holder in holders {
        assert_eq!(holder.tries(), (expected.iter().map(|&line| line.to_owned()).collect(), Some(libc::SIGBUS)));
    }
    user.unlock();
    assert_eq!(user.shell_ok("head -c 1 secrets/sub/file; ls secrets/sub"), "sfile\n");
}

#[test]
fn who_saves_after_a_lock_gets_an_error_and_leaves_nothing_on_the_disk() {
    let user = User::unlocked();
    user.shell_ok("echo old > secrets/note && mkdir secrets/folder");
    // An editor that is still open, and keeps no file open.
    let mut editor = user
        .command("vim -Nes -n -u NONE -i NONE -c 'set backup' secrets/note")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut keys = editor.stdin.take().unwrap();
    keys.write_all(b"$s/.*/MARKER-5521/\nw started\n").unwrap();
    eventually("the editor has read it", || user.shell("grep -q MARKER started && rm started").0 == 0);
    user.lock();
    keys.write_all(b"w\nw!\nw! secrets/folder/other\nq!\n").unwrap();
    drop(keys);
    assert!(!editor.wait().unwrap().success(), "the editor says that it failed");
    for save in [
        "echo MARKER-5521 > secrets/note",
        "echo MARKER-5521 >> secrets/new",
        "mkdir -p secrets/folder/deeper",
        "echo MARKER-5521 > secrets/.tmp && mv secrets/.tmp secrets/note",
        "sed -i s/a/MARKER-5521/ secrets/note",
        "cp p/.tazpod/config.yaml secrets/",
        "ln -s /etc/passwd secrets/link",
    ] {
        assert_ne!(user.shell(save).0, 0, "{save}");
    }
    assert_eq!(user.shell_ok("find secrets -printf '%P %m\\n'"), " 500\n");
    let (status, found, _) = user.shell("grep -r MARKER-5521 .");
    assert_eq!(status, 1, "plaintext is on the disk: {found}");
    user.unlock();
    assert_eq!(user.shell_ok("cat secrets/note; ls -A secrets/folder"), "old\n");
}

#[test]
fn what_lay_under_the_mount_point_is_untouched() {
    let user = User::with_vault();
    user.shell_ok(
        "mkdir -p full/deep && cd full && echo under > file && ln file deep/hard && ln -s file link && chmod 640 file",
    );
    let look = "find full -printf '%P %y %m %n %s %T@ %C@ %l\\n' | sort; cat full/file";
    let before = user.shell_ok(look);
    for force in ["", "--force"] {
        let told = user.shell_ok("cd p && tazpod unlock --mount ~/full --passphrase-file ~/pw 2>&1");
        assert!(told.contains("full has 3 entries on the disk: out of sight"), "{told}");
        user.shell_ok(
            "cd full && test ! -e link && echo over > file && mkdir -p deep/x && chmod 700 deep && sync file",
        );
        user.shell_ok(&format!("cd p && tazpod lock {force}"));
        assert_eq!(user.shell_ok(look), before);
    }
}

/// A mount of a folder on itself that gives it a private parent; gone with the guard.
struct Private(PathBuf);

impl Private {
    fn new(folder: &Path) -> Self {
        let guard = Self(folder.to_owned());
        run(&["mount", "--bind"], &[folder, folder]);
        run(&["mount", "--make-private"], &[folder]);
        guard
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // It may be that it was never mounted.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).stderr(Stdio::null()).status();
    }
}

fn run(words: &[&str], paths: &[&Path]) {
    let status = Command::new(words[0]).args(&words[1..]).args(paths).status().unwrap();
    assert!(status.success(), "{words:?} {paths:?} (moving mounts needs root)");
}

#[test]
fn a_mount_that_is_moved_locks_within_seconds() {
    let user = User::with_vault();
    let _private = Private::new(&user.home);
    user.shell_ok("mkdir -p outer elsewhere");
    for round in 0..4 {
        user.shell_ok("cd p && tazpod unlock --mount ~/outer/m --passphrase-file ~/pw");
        user.shell_ok(&format!("cd p && echo {round} > ~/outer/m/file"));
        if round % 2 == 0 {
            user.shell_ok("mv outer moved");
        } else {
            run(&["mount", "--move"], &[&user.home.join("outer/m"), &user.home.join("elsewhere")]);
        }
        eventually("it is locked", || user.status()["state"] == "locked" && user.processes().is_empty());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.lines().any(|line| line.contains(user.home.to_str().unwrap()) && line.contains("vaultfs")));
        user.shell_ok("if [ -e moved ]; then mv moved outer; fi; test -z \"$(ls -A outer/m elsewhere | grep -v :)\"");
        user.shell_ok("cd p && tazpod unlock --mount ~/outer/m --passphrase-file ~/pw");
        assert_eq!(user.shell_ok("cat outer/m/file"), format!("{round}\n"));
        user.lock();
    }
}

#[test]
fn lock_waits_as_long_as_it_is_told() {
    let user = User::unlocked();
    let timed = |script: &str| {
        let started = Instant::now();
        (user.shell(script), started.elapsed())
    };
    let mut holder = user.command("exec sleep 2 > secrets/held").spawn().unwrap();
    eventually("it is held", || user.mount().join("held").exists() || user.shell("test -e secrets/held").0 == 0);
    let ((status, _, told), took) = timed("cd p && tazpod lock --wait 400ms");
    assert!(status == 1 && told.contains("secrets/held"), "{told}");
    assert!((Duration::from_millis(400)..Duration::from_millis(1900)).contains(&took), "{took:?}");
    user.shell_ok("echo still > secrets/unlocked");
    let ((status, _, told), took) = timed("cd p && tazpod lock --wait 60s");
    assert!(holder.try_wait().unwrap().is_some(), "the holder is waited for");
    assert_eq!(status, 0, "{told}");
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert!(!user.is_mounted());
}

#[test]
fn a_lock_by_force_overtakes_one_that_waits() {
    let user = User::unlocked();
    let mut holder = user.command("exec sleep 60 > secrets/held").spawn().unwrap();
    eventually("it is held", || user.shell("test -e secrets/held").0 == 0);
    let waiting = user.command("cd p && tazpod lock --wait 60s").stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    user.shell_ok("cd p && tazpod lock --force");
    let told = waiting.wait_with_output().unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(!user.is_mounted());
}

#[test]
fn commands_that_cross_each_other_all_end_well() {
    let user = User::with_vault();
    let start = |script: &str| {
        user.command(&format!("cd p && {script}")).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let end = |child: Child| {
        let output = child.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && !told.contains("Error") && !told.contains("Cleaned up"), "{told}");
        told
    };
    const UNLOCK: &str = "tazpod unlock --passphrase-file ~/pw";
    for round in 0..6 {
        let told = [UNLOCK; 3].map(start).map(end).concat();
        assert_eq!((told.matches("Unlocked at").count(), told.matches("Unlocked already").count()), (1, 2), "{told}");
        user.shell_ok(&format!("echo {round} > secrets/file"));
        let told = ["tazpod lock"; 3].map(start).map(end).concat();
        assert!(told.matches("Locked").count() == 3 && told.lines().any(|line| line == "Locked"), "{told}");
        assert!(!user.is_mounted() && user.processes().is_empty());
        // One of each, the second at several moments of the first.
        for (first, second) in [(UNLOCK, "tazpod lock"), ("tazpod lock", UNLOCK)] {
            let first = start(first);
            std::thread::sleep(Duration::from_millis(round * 20));
            let second = start(second);
            end(first);
            end(second);
            let is_unlocked = user.status()["state"] == "unlocked";
            assert_eq!((user.is_mounted(), user.processes().len()), (is_unlocked, if is_unlocked { 2 } else { 0 }));
        }
        user.lock();
    }
    user.unlock();
    assert_eq!(user.shell_ok("cat secrets/file"), "5\n");
}

/// Mounts and unmounts of somebody else, until the guard goes: they take the ids of mounts that are just gone.
struct MountStorm {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl MountStorm {
    fn start(folder: PathBuf) -> Self {
        std::fs::create_dir(&folder).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                run(&["mount", "-t", "tmpfs", "storm"], &[&folder]);
                run(&["umount", "--lazy"], &[&folder]);
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for MountStorm {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

#[test]
fn vaults_of_one_user_leave_each_other_alone() {
    let user = User::new();
    let _storm = MountStorm::start(user.home.with_file_name("storm"));
    let rounds = &|name: &str| {
        let vault = format!("--vault {name}/vault");
        user.shell_ok(&format!("mkdir {name} && tazpod init {vault} --yes --passphrase-file pw"));
        for round in 0..8 {
            user.shell_ok(&format!("tazpod unlock {vault} --mount m-{name} --passphrase-file pw"));
            user.shell_ok(&format!("echo {round} > m-{name}/file && sleep 0.05"));
            user.shell_ok(&format!("tazpod status {vault} --check && cat m-{name}/file"));
            user.shell_ok(&format!("tazpod lock {vault}"));
        }
    };
    std::thread::scope(|scope| {
        for name in ["one", "two", "three", "four"] {
            scope.spawn(move || rounds(name));
        }
    });
}

#[test]
fn a_configuration_that_is_wrong_keeps_nobody_from_locking() {
    let user = User::unlocked();
    user.shell_ok("cp p/.tazpod/config.yaml right");
    let wrong =
        ["vault: [", "vault: {size: enormous}", "vault: {file: elsewhere}", "remote: 5", "vault: {commit: now}"];
    for text in wrong {
        user.shell_ok(&format!("echo '{text}' > p/.tazpod/config.yaml"));
        let (status, _, told) = user.shell("cd p && tazpod lock");
        assert!(status == 0 && told.contains("Warning: ") && told.ends_with("Locked\n"), "{text}: {status} {told}");
        assert!(told.contains("config.yaml") || told.contains("vault.size"), "{text}: {told}");
        assert!(!user.is_mounted());
        let (status, _, told) = user.shell("cd p && tazpod lock");
        assert!(status == 2 && told.contains("Error: "), "nothing is unlocked: {text}: {status} {told}");
        user.shell_ok("cp right p/.tazpod/config.yaml");
        user.unlock();
    }
    user.shell_ok("echo 'vault: [' > p/.tazpod/config.yaml && cd p && tazpod lock --after 500ms");
    eventually("it locks at its time", || !user.is_mounted());
    // Also a vault whose archive or mount the configuration alone names.
    user.shell_ok("cp right p/.tazpod/config.yaml && cp p/.tazpod/vault/vault.tar.aes p/other");
    user.shell_ok("cd p && echo 'vault: {file: other, mount: ~/m}' > .tazpod/config.yaml && tazpod trust --yes");
    user.shell_ok(
        "cd p && tazpod unlock --passphrase-file ~/pw && echo 'vault: [' > .tazpod/config.yaml && tazpod lock",
    );
    assert!(!user.is_mounted());
}

#[test]
fn a_place_that_another_vault_has_is_told_with_what_to_do() {
    let user = User::unlocked();
    user.shell_ok("mkdir q && cd q && tazpod init --yes --passphrase-file ~/pw");
    // Before anybody types a passphrase.
    let (status, _, told) = user.shell("cd q && tazpod unlock");
    let first = user.archive().display().to_string();
    assert!(status == 1 && told.contains(&format!("is where the vault {first} is mounted already")), "{status} {told}");
    assert!(told.contains(&format!("'tazpod lock --vault {first}'")) && told.contains("--mount DIR"), "{told}");
    user.shell_ok("cd q && tazpod unlock --mount ~/m --passphrase-file ~/pw");
    let (status, _, told) = user.shell("cd q && tazpod mount . ~/secrets");
    assert!(status == 1 && told.contains(&first), "{told}");
    user.shell_ok(&format!(
        "cd q && tazpod lock && tazpod lock --vault {first} && tazpod unlock --passphrase-file ~/pw"
    ));
}

#[test]
fn no_mount_covers_what_the_vault_needs_or_lies_in_it() {
    let user = User::unlocked();
    user.shell_ok("mkdir secrets/d");
    for (command, reason) in [
        ("tazpod mount . ~", "would be covered by the mount at"),
        ("tazpod mount . ~/.local", "would be covered by the mount at"),
        ("tazpod mount . ~/p/.tazpod", "would be covered by the mount at"),
        ("tazpod mount . ~/secrets/d", "lies in the vault itself"),
        ("tazpod lock && tazpod unlock --mount ~/.local", "would be covered by the mount at"),
        ("tazpod unlock --mount ~/.config", "would be covered by the mount at"),
    ] {
        let (status, _, told) = user.shell(&format!("cd p && {command}"));
        assert!(status == 2 && told.contains(reason), "{command}: {status} {told}");
    }
    assert!(!user.is_mounted());
    // A home that no shell wrote out.
    user.shell_ok("cd p && tazpod unlock --mount '~/elsewhere' --passphrase-file ~/pw");
    assert!(user.is_mounted_at("elsewhere"));
}

#[test]
fn who_locks_in_another_folder_is_told_what_is_unlocked() {
    let user = User::unlocked();
    let (status, _, told) = user.shell("cd secrets && tazpod lock");
    let archive = user.archive().display().to_string();
    assert!(status == 2 && told.contains("'tazpod lock --all'") && told.contains(&archive), "{status} {told}");
    user.shell_ok("tazpod lock --all");
    assert!(!user.shell("tazpod lock").2.contains("--all"));
}
