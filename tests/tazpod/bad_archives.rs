//! Archives that are damaged, or that an enemy who knows the passphrase has made: refused with the promised status, a clear
//! error and a hint, and nothing is touched.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod user;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use user::{PASSPHRASE, User, fixture};

/// Address space that opening any archive must do with, KiB: a bomb must be refused before it is unpacked.
const MEMORY: u32 = 1 << 20;

/// The name of each file in a folder with its content.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file() && path.extension().is_none_or(|extension| extension != "lock"))
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

/// Runs a command on `~/bad`, which must fail with a status, an error and a hint, and change nothing.
fn refuses(user: &User, expected: i32, command: &str, what: &str) {
    let before = files(&user.home);
    let (status, out, told) = user.shell(&format!("ulimit -v {MEMORY}; {command} --vault bad --passphrase-file pw"));
    assert_eq!(status, expected, "{command} {what}: {out}{told}");
    assert!(told.starts_with("Error: ") && told.contains("\nHint: "), "{command} {what}: {told}");
    assert!(!told.contains("panicked") && !told.contains(PASSPHRASE), "{command} {what}: {told}");
    assert!(out.is_empty(), "{command} {what}: {out}");
    assert!(files(&user.home) == before, "{command} {what}: a file was changed");
    assert!(!user.home.join("m").exists() && !user.is_mounted(), "{command} {what}: something is mounted");
    assert!(user.processes().is_empty(), "{command} {what}: a process is left");
}

/// Puts an archive at `~/bad`, owned by the user.
fn place(user: &User, content: &[u8]) {
    let mut child = user.command("umask 077; cat > bad").stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(content).unwrap();
    assert!(child.wait().unwrap().success());
}

const UNLOCK: &str = "tazpod unlock --mount m";
const OTHERS: [&str; 3] = ["tazpod export --output out", "tazpod import pw", "tazpod passwd --new-passphrase-file pw"];

#[test]
fn damage_anywhere_is_refused() {
    let user = User::new();
    let sound = std::fs::read(fixture("upstream-v1.tar.aes")).unwrap();
    // Salt, nonce and tag alone take 60 bytes; of what is longer, v1 cannot tell damage from a wrong passphrase.
    for length in [0, 1, 31, 32, 44, 59, 60, 61, sound.len() / 2, sound.len() - 16, sound.len() - 1] {
        place(&user, &sound[..length]);
        refuses(&user, if length < 60 { 5 } else { 3 }, UNLOCK, &format!("cut to {length} bytes"));
    }
    for at in [0, 31, 32, 43, 44, 60, sound.len() / 2, sound.len() - 16, sound.len() - 1] {
        let mut damaged = sound.clone();
        damaged[at] ^= 1;
        place(&user, &damaged);
        refuses(&user, 3, UNLOCK, &format!("with another byte at {at}"));
    }
    place(&user, &[&sound[..], b"x"].concat());
    refuses(&user, 3, UNLOCK, "with a byte more");
    OTHERS.iter().for_each(|command| refuses(&user, 3, command, "with a byte more"));
    place(&user, &sound[..59]);
    OTHERS.iter().for_each(|command| refuses(&user, 5, command, "cut short"));
    place(&user, &sound);
    user.shell_ok("tazpod unlock --vault bad --mount m --passphrase-file pw && tazpod lock --vault bad");
}

#[test]
fn hostile_archives_are_refused() {
    let user = User::new();
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tazpod/hostile_v1.py");
    let mut python = Command::new("python3")
        .arg(script)
        .arg(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(PASSPHRASE.as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success());
    let names = String::from_utf8(output.stdout).unwrap();
    for (index, name) in names.lines().enumerate() {
        place(&user, &std::fs::read(folder.path().join(name)).unwrap());
        refuses(&user, 5, UNLOCK, name);
        if !name.starts_with("bomb") {
            refuses(&user, 5, OTHERS[index % OTHERS.len()], name);
        }
    }
    assert!(names.lines().count() >= 37, "{names}");
}
