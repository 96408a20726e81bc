//! Many programs at once on an unlocked vault, as the ordinary user: each knows what it must find afterwards, also after a
//! lock, and the agent holds no more than before. `TAZPOD_CLIENTS_SECONDS` sets how long they work.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "user.rs"]
mod user;

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use user::User;

const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/tazpod/client.py");

/// Kinds of work (see client.py), with how many do it.
type Crowd = &'static [(&'static str, usize)];

const ONE_MOUNT: Crowd = &[("storm", 8), ("model", 8), ("git", 4), ("database", 4), ("mapped", 4), ("xattr", 4)];
/// Databases and mappings want one mount only (docs/SEMANTICS.md).
const TWO_MOUNTS: Crowd = &[("storm", 11), ("model", 11), ("git", 5), ("xattr", 5)];

/// How much more memory the agent may hold afterwards, in per cent.
const TOLERANCE: u64 = 10;

fn seconds() -> u64 {
    std::env::var("TAZPOD_CLIENTS_SECONDS").map_or(10, |text| text.parse().unwrap())
}

/// A program, and where it works.
struct Client {
    kind: &'static str,
    /// Below the folder that all work in.
    name: String,
    folder: String,
}

impl Client {
    /// The same folder may be reached in several ways; the clients take turns.
    fn crowd(kinds: Crowd, folders: &[&str]) -> Vec<Self> {
        let kinds = kinds.iter().flat_map(|&(kind, count)| std::iter::repeat_n(kind, count));
        kinds
            .enumerate()
            .map(|(index, kind)| {
                let name = format!("{kind}-{index}");
                let folder = folders[index % folders.len()].to_owned();
                Self { kind, name, folder }
            })
            .collect()
    }

    fn start(&self, user: &User, seed: usize) -> Child {
        let Self { kind, name, folder } = self;
        let seconds = seconds();
        let script = format!("exec python3 ~/client.py work {kind} {folder}/{name} {seed} {seconds} > ~/{name}.json");
        user.command(&script).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn check(&self, user: &User, folder: &str) {
        let Self { kind, name, .. } = self;
        user.shell_ok(&format!("python3 ~/client.py check {kind} {folder}/{name} < ~/{name}.json"));
    }
}

/// Lets them all work at once; fails when one of them does.
fn run(user: &User, clients: &[Client]) {
    let begun = Instant::now();
    let running: Vec<_> = clients.iter().enumerate().map(|(seed, client)| (client, client.start(user, seed))).collect();
    for (client, child) in running {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}: {}", client.name, String::from_utf8_lossy(&output.stderr));
    }
    println!("{} clients worked for {:?}", clients.len(), begun.elapsed());
}

/// What the agent holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    descriptors: usize,
    threads: usize,
    resident_kib: u64,
}

impl Held {
    fn by(pid: i32) -> Self {
        let count = |what: &str| std::fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().count();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        let resident_kib = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        Self { descriptors: count("fd"), threads: count("task"), resident_kib }
    }

    /// No more than before, of memory little more.
    fn is_back(self, before: Self) -> bool {
        self.descriptors <= before.descriptors
            && self.threads <= before.threads
            && self.resident_kib * 100 <= before.resident_kib * (100 + TOLERANCE)
    }
}

/// Waits until the agent holds what it held before, and nothing of the vault's size is taken.
fn expect_back(user: &User, before: Held) {
    let begun = Instant::now();
    let mut now = Held::by(user.agent());
    while !now.is_back(before) || taken(user) > 8 {
        let held = format!("the agent held {before:?}, and now {now:?}; {} blocks are taken", taken(user));
        assert!(begun.elapsed() < Duration::from_secs(30), "{held}");
        std::thread::sleep(Duration::from_millis(200));
        now = Held::by(user.agent());
    }
    println!("the agent held {before:?}, and {now:?} after {:?}", begun.elapsed());
}

/// Blocks of the vault that are taken, as statfs tells them.
fn taken(user: &User) -> u64 {
    let told = user.shell_ok("stat -f -c '%b %f' secrets");
    let (all, free) = told.trim().split_once(' ').unwrap();
    all.parse::<u64>().unwrap() - free.parse::<u64>().unwrap()
}

/// Everything was done once, and what was written is gone again: code is loaded and buffers are there.
fn warm_up(user: &User, folder: &str) -> Held {
    let kinds = ["storm", "model", "git", "xattr"];
    let work = kinds.map(|kind| format!("python3 ~/client.py work {kind} {folder}/{kind} 1 2 > /dev/null &")).concat();
    let write =
        format!("for i in 1 2 3 4; do head -c 1M /dev/urandom > {folder}/$i & done; wait; cat {folder}/? > /dev/null");
    user.shell_ok(&format!("{work} {write}; cd p && tazpod save && rm -rf ~/{folder}/* && tazpod save && sleep 5"));
    Held::by(user.agent())
}

/// Everything goes, and with it what the agent held for it; then the archive is put back as it was and unlocked.
fn empty_and_restore(user: &User, folder: &str, before: Held) {
    user.shell_ok("cd p && tazpod save && cp .tazpod/vault/vault.tar.aes ~/kept");
    println!("with all of it: {:?}", Held::by(user.agent()));
    user.shell_ok(&format!("rm -rf ~/{folder}/*"));
    if user.shell("mountpoint -q second").0 == 0 {
        // What its kernel cache knows lives on, although it was removed through the other mount.
        user.shell_ok("cd p && tazpod unmount ~/second");
    }
    user.shell_ok("cd p && tazpod save");
    expect_back(user, before);
    user.shell_ok("cd p && tazpod lock && cp ~/kept .tazpod/vault/vault.tar.aes");
    assert!(!user.is_mounted());
    user.shell_ok("cd p && tazpod unlock --accept-rollback --passphrase-file ~/pw");
}

#[test]
fn many_programs_at_once_each_find_their_own() {
    let user = User::unlocked();
    std::fs::copy(CLIENT, user.home.join("client.py")).unwrap();
    let before = warm_up(&user, "secrets");
    let clients = Client::crowd(ONE_MOUNT, &["secrets"]);
    run(&user, &clients);
    let check = || clients.iter().for_each(|client| client.check(&user, "secrets"));
    check();
    user.shell_ok("cd p && tazpod lock");
    assert!(!user.is_mounted());
    user.unlock();
    check();
    empty_and_restore(&user, "secrets", before);
    check();
}

#[test]
fn many_programs_on_two_mounts_of_one_vault_each_find_their_own() {
    let user = User::unlocked();
    user.shell_ok("mkdir secrets/shared second && cd p && tazpod mount shared ~/second");
    std::fs::copy(CLIENT, user.home.join("client.py")).unwrap();
    let before = warm_up(&user, "second");
    let clients = Client::crowd(TWO_MOUNTS, &["secrets/shared", "second"]);
    run(&user, &clients);
    // Through the mount that they did not use, too.
    let check = |folder: &str| clients.iter().for_each(|client| client.check(&user, folder));
    check("secrets/shared");
    check("second");
    empty_and_restore(&user, "secrets/shared", before);
    check("secrets/shared");
}
