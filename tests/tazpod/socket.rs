//! Clients of the agent's socket that do not behave: too many, silent, slow, talking nonsense.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod user;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use user::{User, eventually};

fn socket(user: &User) -> PathBuf {
    let listed = user.shell_ok("ls ~/.local/state/tazpod/run/*.sock");
    PathBuf::from(listed.trim())
}

/// Opens connections as the user and says something on each, until it is dropped.
struct Crowd(Child);

impl Crowd {
    fn start(user: &User, count: usize, says: &str) -> Self {
        let script = format!(
            "import socket, sys
held = []
for _ in range({count}):
    held.append(socket.socket(socket.AF_UNIX))
    held[-1].connect('{}')
    held[-1].sendall({says})
print('ready', flush=True)
sys.stdin.read()",
            socket(user).display()
        );
        let mut child = user
            .command(&format!("exec python3 -c \"{script}\""))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0; 6];
        child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
        Self(child)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A whole request.
const ASKS: &str = "b'\\x08\\x00\\x00\\x00\\x22Status\\x22'";

#[test]
fn a_vault_whose_agent_has_too_many_clients_is_not_called_locked() {
    let user = User::unlocked();
    let crowd = Crowd::start(&user, 70, ASKS);
    let (status, _, told) = user.shell("cd p && tazpod lock");
    assert!(status == 1 && told.contains("does not answer"), "{status}: {told}");
    assert!(user.is_mounted());
    drop(crowd);
    eventually("there is room again", || user.shell("cd p && tazpod status --check").0 == 0);
    user.shell_ok("cd p && tazpod lock");
    assert!(!user.is_mounted());
}

/// Asks how the vault stands, and again after each line on standard input.
const PATIENT: &str = r#"exec python3 -c "
import socket, struct, sys
client = socket.socket(socket.AF_UNIX); client.connect(sys.argv[1])
def frame():
    length, = struct.unpack('<I', client.recv(4, socket.MSG_WAITALL))
    return client.recv(length, socket.MSG_WAITALL)
frame()
while True:
    client.sendall(b'\x08\x00\x00\x00\x22Status\x22')
    print('ready' if b'archive' in frame() else 'other', flush=True)
    if not sys.stdin.readline(): break" "#;

#[test]
fn clients_that_ask_for_nothing_make_room_and_one_that_has_asked_stays() {
    let user = User::unlocked();
    let command = format!("{PATIENT} {}", socket(&user).display());
    let mut patient = user.command(&command).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let answered = |patient: &mut Child| {
        let mut line = [0; 6];
        patient.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
        assert_eq!(&line, b"ready\n");
    };
    answered(&mut patient);
    // Some say nothing, some only begin.
    let crowds = ["b''", "b'\\x08\\x00\\x00\\x00\\x22St'"].map(|says| Crowd::start(&user, 50, says));
    user.shell_ok("cd p && tazpod status --check && echo 1 > ~/secrets/file && tazpod save");
    writeln!(patient.stdin.as_mut().unwrap()).unwrap();
    answered(&mut patient);
    user.shell_ok("cd p && tazpod lock");
    assert!(!user.is_mounted());
    drop(patient.stdin.take());
    patient.wait().unwrap();
    drop(crowds);
}

#[test]
fn clients_that_are_slow_or_talk_nonsense_harm_nobody() {
    let user = User::unlocked();
    user.shell_ok("echo kept > secrets/file");
    // The beginning of a frame; one that declares 4 GiB; no JSON; JSON that is no request; deeply nested.
    let slow = ["b'\\x05\\x00'", "b'\\x00\\x10\\x00\\x00half'"];
    let nonsense = [
        "b'\\xff' * 4096",
        "b'\\x04\\x00\\x00\\x00null'",
        "b'\\x02\\x00\\x00\\x00{}'",
        "b'\\x00\\x00\\x01\\x00' + b'[' * 65536",
    ];
    let crowds: Vec<Crowd> = slow.iter().chain(&nonsense).map(|says| Crowd::start(&user, 9, says)).collect();
    user.shell_ok("cd p && tazpod status && tazpod save && cat ~/secrets/file");
    // An import that stops in the middle does not keep the vault from being locked, nor does it leave half of itself.
    let import = r#"exec python3 -c "
import socket, struct, sys
client = socket.socket(socket.AF_UNIX); client.connect(sys.argv[1])
request = b'{\"Import\": {\"into\": [], \"replace\": false}}'
client.sendall(struct.pack('<I', len(request)) + request + struct.pack('<I', 65536) + b'x' * 1000)
print('ready', flush=True); sys.stdin.read()" "#;
    let mut stopped = user
        .command(&format!("{import} {}", socket(&user).display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    stopped.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
    user.shell_ok("cd p && echo 1 > ~/secrets/more && tazpod save && tazpod lock");
    assert!(!user.is_mounted() && user.processes().is_empty());
    stopped.kill().unwrap();
    stopped.wait().unwrap();
    drop(crowds);
    user.unlock();
    assert_eq!(user.shell_ok("cd secrets; cat file; ls"), "kept\nfile\nmore\n");
}

#[test]
fn root_is_no_client_either() {
    let user = User::unlocked();
    let mut stream = UnixStream::connect(socket(&user)).unwrap();
    let mut greeting = Vec::new();
    // The peer's user is checked: it hangs up without a word.
    drop(stream.write_all(b"hello"));
    drop(stream.read_to_end(&mut greeting));
    assert!(greeting.is_empty(), "{}", String::from_utf8_lossy(&greeting));
    assert_eq!(user.status()["state"], "unlocked");
}
