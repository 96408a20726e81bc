//! Searches all memory of agent and keeper, as root, for what should not be there; and tries to get a core of them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod user;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

use memchr::memmem;
use rustix::process::Signal;
use user::{FORMATS, PASSPHRASE, User, eventually, signal};

/// Bytes of memory that are looked at together.
const PIECE: usize = 1 << 20;

/// Something to be searched for.
struct Needle {
    name: String,
    bytes: Vec<u8>,
}

fn needle(name: &str, bytes: impl Into<Vec<u8>>) -> Needle {
    Needle { name: name.to_owned(), bytes: bytes.into() }
}

/// One readable mapping of a process.
struct Mapping {
    start: u64,
    end: u64,
    line: String,
    /// `MADV_DONTDUMP`: secret memory where there is no `memfd_secret`.
    never_dumped: bool,
}

fn mappings(pid: i32) -> Vec<Mapping> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let mut found: Vec<Mapping> = Vec::new();
    for line in text.lines() {
        let first = line.split(' ').next().unwrap();
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            found.last_mut().unwrap().never_dumped = flags.split(' ').any(|flag| flag == "dd");
        } else if let Some((start, end)) = first.split_once('-') {
            let [start, end] = [start, end].map(|hex| u64::from_str_radix(hex, 16).unwrap());
            found.push(Mapping { start, end, line: line.to_owned(), never_dumped: false });
        }
    }
    // Those in brackets are the kernel's.
    found.retain(|mapping| {
        let readable = mapping.line.split(' ').nth(1).unwrap().starts_with('r');
        readable && !mapping.line.contains("[vvar") && !mapping.line.contains("[vsyscall]")
    });
    found
}

/// Where the needles lie in the memory of a process.
fn traces(pid: i32, needles: &[Needle], kind: &str) -> Vec<String> {
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let longest = needles.iter().map(|needle| needle.bytes.len()).max().unwrap();
    let mut found = Vec::new();
    let mut buffer = vec![0; PIECE + longest];
    let mut looked_at = 0;
    for mapping in mappings(pid) {
        if mapping.never_dumped && kind != "memfd_secret" {
            continue; // where the secrets may be, when the kernel has nothing better
        }
        let mut at = mapping.start;
        while at < mapping.end {
            let len = buffer.len().min((mapping.end - at) as usize);
            if let Err(error) = memory.read_exact_at(&mut buffer[..len], at) {
                let gone = !mappings(pid).iter().any(|now| now.line == mapping.line);
                assert!(gone || mapping.line.contains("secretmem"), "{error} at {at:x} of {}", mapping.line);
                break;
            }
            for needle in needles {
                if let Some(offset) = memmem::find(&buffer[..len], &needle.bytes) {
                    found.push(format!("{} at {:x} of {}", needle.name, at + offset as u64, mapping.line));
                }
            }
            looked_at += len;
            at += PIECE as u64;
        }
    }
    assert!(looked_at > 1 << 16, "process {pid} has hardly any memory: {looked_at} bytes");
    found
}

/// Letters that occur nowhere else.
fn marker(seed: u32) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    let mut letters = String::new();
    for _ in 0..48 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        letters.push(char::from(b'a' + (state >> 27) as u8 % 26));
    }
    letters
}

/// The key that the archive is encrypted with now, derived by another implementation.
fn key_of(archive: &Path, passphrase: &str) -> Vec<u8> {
    let script = "import hashlib, sys
salt = open(sys.argv[1], 'rb').read(32)
sys.stdout.buffer.write(hashlib.pbkdf2_hmac('sha256', sys.argv[2].encode(), salt, 100000))";
    let output = Command::new("python3").args(["-c", script]).arg(archive).arg(passphrase).output().unwrap();
    assert_eq!(output.stdout.len(), 32, "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// An unlocked vault whose processes are searched.
struct Searched {
    user: User,
    passphrases: Vec<String>,
    contents: Vec<String>,
}

impl Searched {
    fn look(&self, when: &str) {
        eventually("all is committed", || self.user.status()["dirty"] == false);
        let mut needles: Vec<Needle> =
            self.contents.iter().map(|content| needle("content", content.as_bytes())).collect();
        for passphrase in &self.passphrases {
            needles.push(needle("a passphrase", passphrase.as_bytes()));
        }
        let key = key_of(&self.user.archive(), self.passphrases.last().unwrap());
        // Ciphers spill halves.
        needles.extend(key.chunks(16).map(|half| needle("the key", half)));
        let status = self.user.status();
        let kind = status["secret_memory"].as_str().unwrap();
        for process in ["agent_pid", "keeper_pid"] {
            let pid = i32::try_from(status[process].as_i64().unwrap()).unwrap();
            let found = traces(pid, &needles, kind);
            assert!(found.is_empty(), "{when}, in the {process}:\n{}", found.join("\n"));
        }
    }

    fn content(&mut self) -> String {
        let marker = marker(self.contents.len() as u32 + 1);
        self.contents.push(marker.clone());
        marker
    }
}

#[test]
fn the_search_finds_what_is_there() {
    assert!(rustix::process::geteuid().is_root(), "looking into the agent's memory needs root");
    let planted = marker(77);
    let mut child = Command::new("sh").args(["-c", "read planted; read end"]).stdin(Stdio::piped()).spawn().unwrap();
    writeln!(child.stdin.as_mut().unwrap(), "{planted}").unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let needles = [needle("planted", planted.as_bytes())];
    eventually("the child has read it", || !traces(pid, &needles, "memfd_secret").is_empty());
    child.kill().unwrap();
    child.wait().unwrap();

    let user = User::unlocked();
    let socket = user.home.join(".local/state/tazpod/run");
    let needles = [needle("socket", socket.as_os_str().as_encoded_bytes())];
    assert!(!traces(user.agent(), &needles, "memfd_secret").is_empty(), "the agent knows its socket");
    assert!(traces(user.agent(), &[needle("planted", marker(78))], "memfd_secret").is_empty());
}

#[test]
fn no_content_passphrase_or_key_stays_in_memory() {
    for format in FORMATS {
        let user = User::with_vault_of(format);
        let mut searched = Searched { user, passphrases: vec![PASSPHRASE.to_owned()], contents: Vec::new() };
        searched.user.unlock();
        fill(&mut searched);
        searched.look("after writes of all kinds");

        searched.user.shell_ok("cd p && tazpod lock");
        searched.user.unlock();
        searched.look("right after unlock");
        searched
            .user
            .shell_ok("cat secrets/* secrets/d/* > /dev/null; dd if=secrets/large iflag=direct of=/dev/null bs=64k");
        searched.look("after reads");

        let (status, _, told) = searched.user.shell("cd p && exec 7< ~/secrets/small && tazpod lock");
        assert_eq!(status, 1, "{told}");
        searched.look("after a lock that was refused");
        searched.user.shell_ok("cd p && tazpod export --output ~/e.tar && tazpod import ~/e.tar --into copy");
        searched.look("after export and import");
        assert_eq!(searched.user.shell("cd p && tazpod import ~/e.tar --into copy").0, 1);
        searched.look("after an import that was refused");

        let other = marker(999);
        searched.user.shell_ok(&format!("umask 077; echo {other} > pw2"));
        searched.user.shell_ok("cd p && tazpod passwd --passphrase-file ~/pw --new-passphrase-file ~/pw2");
        searched.passphrases.push(other);
        searched.look("after a change of the passphrase");
        assert_eq!(
            searched.user.shell("cd p && tazpod passwd --passphrase-file ~/pw --new-passphrase-file ~/pw2").0,
            3
        );
        searched.look("after a change that was refused");
    }
}

/// What is secret about the identities in a home, and the master that they open: made of their files by other programs.
const SECRETS_OF_IDENTITIES: &str = r#"
import base64, subprocess, sys
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
import read_v2
home, archive = sys.argv[2:]

def decode(bech32):
    values = ['qpzry9x8gf2tvdw0s3jn54khce6mua7l'.index(char) for char in bech32.lower().rsplit('1', 1)[1][:-6]]
    bits = ''.join(f'{value:05b}' for value in values)
    return bytes(int(bits[at:at + 8], 2) for at in range(0, 256, 8))

line = [line for line in open(home + '/agekey').read().split() if line.startswith('AGE-SECRET-KEY-1')][0]
scalar = decode(line)
text = ''.join(open(home + '/ssh').read().splitlines()[1:-1])
blob = base64.b64decode(text)
public = base64.b64decode(open(home + '/ssh.pub').read().split()[1])[-32:]
seed = blob[blob.rindex(public) - 32:blob.rindex(public)]
assert Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw() == public
recipient = subprocess.run(['age-keygen', '-y', home + '/agekey'], capture_output=True, check=True).stdout.decode().strip()
assert X25519PrivateKey.from_private_bytes(scalar).public_key().public_bytes_raw() == decode(recipient)
master = read_v2.read_header(open(archive, 'rb').read(), read_v2.IdentityFile(home + '/agekey')).master
for secret in [line.encode(), text[100:160].encode(), scalar[:16], scalar[16:], seed[:16], seed[16:], master[:16], master[16:]]:
    print(secret.hex())
"#;

fn secrets_of_identities(user: &User) -> Vec<Needle> {
    let readers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vaultfs");
    let output = Command::new("python3")
        .args(["-c", SECRETS_OF_IDENTITIES])
        .args([&readers, &user.home, &user.archive()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let byte = |line: &str, at: usize| u8::from_str_radix(&line[at..at + 2], 16).unwrap();
    let bytes = |line: &str| (0..line.len()).step_by(2).map(|at| byte(line, at)).collect::<Vec<_>>();
    let names = ["age key", "SSH key", "scalar", "scalar", "seed", "seed", "master", "master"];
    let text = String::from_utf8(output.stdout).unwrap();
    let needles: Vec<_> = text.lines().zip(names).map(|(line, name)| needle(name, bytes(line))).collect();
    assert_eq!(needles.len(), names.len());
    needles
}

#[test]
fn nothing_of_an_identity_stays_in_memory() {
    let user = User::with_vault_of("v2");
    user.shell_ok(
        "umask 077; age-keygen -o agekey 2>/dev/null; echo 'passphrase of the key' > keypw
         ssh-keygen -q -t ed25519 -N '' -f ssh && cp ssh locked
         ssh-keygen -q -p -P '' -N \"$(cat keypw)\" -f locked && cp ssh.pub locked.pub; age-keygen -o other 2>/dev/null
         cd p && tazpod recipient add \"$(age-keygen -y ~/agekey)\" --passphrase-file ~/pw
         tazpod recipient add ~/ssh.pub --passphrase-file ~/pw",
    );
    let look = |when: &str| {
        let mut needles = secrets_of_identities(&user);
        needles.extend([needle("a passphrase", "passphrase of the key"), needle("a passphrase", PASSPHRASE)]);
        let status = user.status();
        for process in ["agent_pid", "keeper_pid"] {
            let pid = i32::try_from(status[process].as_i64().unwrap()).unwrap();
            let found = traces(pid, &needles, status["secret_memory"].as_str().unwrap());
            assert!(found.is_empty(), "{when}, in the {process}:\n{}", found.join("\n"));
        }
    };
    for flags in ["~/agekey", "~/ssh", "~/locked --passphrase-file ~/keypw"] {
        user.shell_ok(&format!("cd p && tazpod unlock --identity {flags}"));
        look(&format!("unlocked with {flags}"));
        let new = "--new-passphrase-file ~/pw";
        user.shell_ok(&format!("cd p && tazpod passwd --identity {flags} {new}"));
        user.shell_ok("cd p && tazpod recipient add \"$(age-keygen -y ~/other)\" --label other --identity ~/ssh");
        look("after a new passphrase and a recipient");
        user.shell_ok("cd p && tazpod recipient remove other --passphrase-file ~/pw");
        assert_eq!(user.shell(&format!("cd p && tazpod passwd --identity ~/other {new}")).0, 3);
        look("after a recipient was removed");
        user.lock();
    }
}

/// Writes content in every way that has buffers of its own.
fn fill(searched: &mut Searched) {
    let (small, large, appended, mapped) =
        (searched.content(), searched.content(), searched.content(), searched.content());
    searched.user.shell_ok(&format!("echo {small} > secrets/small; mkdir secrets/d; cp secrets/small secrets/d/copy"));
    // 300 KiB of it in large requests, then one that is shorter than they are.
    searched.user.shell_ok(&format!("yes {large} | head -c 300k > secrets/large; echo {appended} >> secrets/small"));
    searched.user.shell_ok(&format!(
        r#"python3 -c '
import mmap, os
file = open("secrets/d/mapped", "w+b")
file.truncate(8192)
shared = mmap.mmap(file.fileno(), 8192)
shared[5000:5048] = b"{mapped}"
shared.flush()
os.fsync(file.fileno())
'"#
    ));
    searched.user.shell_ok("cp secrets/large secrets/d/large; truncate -s 100000 secrets/d/large; sync secrets/large");
}

/// Sets where cores go; sets it back when it goes.
struct CorePattern(String);

impl CorePattern {
    const FILE: &str = "/proc/sys/kernel/core_pattern";

    fn set(pattern: &str) -> Self {
        let before = Self(std::fs::read_to_string(Self::FILE).unwrap());
        std::fs::write(Self::FILE, pattern).unwrap();
        before
    }
}

impl Drop for CorePattern {
    fn drop(&mut self) {
        std::fs::write(Self::FILE, &self.0).unwrap();
    }
}

#[test]
fn no_signal_leaves_a_core() {
    let cores = tempfile::tempdir().unwrap();
    std::fs::set_permissions(cores.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let _pattern = CorePattern::set(&format!("{}/core.%p", cores.path().display()));
    let user = User::with_vault();
    let core_of = |pid: i32| cores.path().join(format!("core.{pid}")).exists();
    for number in [Signal::SEGV, Signal::ABORT, Signal::QUIT] {
        let mut control =
            user.command("ulimit -c unlimited; echo $$; exec sleep 9").stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(control.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let control_pid = line.trim().parse().unwrap();
        user.shell_ok("ulimit -c unlimited; cd p && tazpod unlock --passphrase-file ~/pw");
        let agent = user.agent();
        signal(control_pid, number);
        control.wait().unwrap();
        eventually("the agent ends", || {
            // Once is not enough: the runtime's handler of SIGSEGV takes the first to be a page fault that comes again.
            let there = Path::new(&format!("/proc/{agent}")).exists();
            if there {
                signal(agent, number);
            }
            !there
        });
        assert!(core_of(control_pid), "the control leaves a core of {number:?}");
        assert!(!core_of(agent), "the agent leaves a core of {number:?}");
        eventually("the keeper cleans up", || !user.is_mounted());
    }
}
