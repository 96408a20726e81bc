//! A vault whose passphrase costs more memory to try than a control group leaves: it is refused in words, not by the kernel's
//! ending the agent.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod user;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use user::{PASSPHRASE, User, eventually};
use vaultfs::crypto::{KdfCost, Passphrase, Suite};
use vaultfs::vault::{Machine, NewArchive, Vault};

const MIB: u64 = 1 << 20;

/// A control group of either version; it goes when its processes have gone.
struct Group(PathBuf);

impl Group {
    fn with_memory(limit: u64) -> Self {
        let is_v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let (root, name) = match is_v2 {
            true => ("/sys/fs/cgroup", "memory.max"),
            false => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        };
        let group = Self(Path::new(root).join(format!("tazpod-test-{}", std::process::id())));
        std::fs::create_dir(&group.0).unwrap();
        std::fs::write(group.0.join(name), limit.to_string()).unwrap();
        group
    }

    /// Runs a shell command of a user, and all that it starts, within the group.
    fn run(&self, user: &User, script: &str) -> Output {
        let mut command = user.terminal_command(&format!("read -r begin; {script}"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // The shell waits for its line: nothing has been started yet.
        std::fs::write(self.0.join("cgroup.procs"), child.id().to_string()).unwrap();
        writeln!(child.stdin.take().unwrap(), "begin").unwrap();
        child.wait_with_output().unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let procs = self.0.join("cgroup.procs");
        eventually("the group is empty", || std::fs::read_to_string(&procs).is_ok_and(|text| text.is_empty()));
        std::fs::remove_dir(&self.0).unwrap();
    }
}

fn costly_vault(user: &User) {
    let archive = user.home.join("costly.aes");
    let cost = KdfCost { memory_kib: 256 * 1024, passes: 1, lanes: 1 };
    let passphrase = Passphrase::new(zeroize::Zeroizing::new(PASSPHRASE.as_bytes().to_vec())).unwrap();
    let kind = NewArchive::V2 { suite: Suite::of_this_machine(), cost };
    Vault::create(&archive, &passphrase, kind, &Machine::default()).unwrap();
    std::os::unix::fs::chown(&archive, Some(id(user, "-u")), Some(id(user, "-g"))).unwrap();
}

fn id(user: &User, flag: &str) -> u32 {
    user.shell_ok(&format!("id {flag}")).trim().parse().unwrap()
}

#[test]
fn a_passphrase_that_costs_more_memory_than_there_is_is_refused_in_words() {
    assert!(rustix::process::geteuid().is_root(), "control groups are root's");
    let user = User::new();
    costly_vault(&user);
    let unlock = "tazpod unlock --vault ~/costly.aes --mount ~/m --passphrase-file ~/pw";
    {
        let group = Group::with_memory(96 * MIB);
        let Output { status, stderr, .. } = group.run(&user, &format!("mkdir m; {unlock}"));
        let told = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(1), "{told}");
        assert!(told.contains("the key derivation needs 256 MiB of memory, and there are"), "{told}");
        assert!(told.contains("Hint: end other programs, or raise the limit"), "{told}");
    }
    user.shell_ok(&format!("{unlock} && tazpod lock --vault ~/costly.aes"));
}
