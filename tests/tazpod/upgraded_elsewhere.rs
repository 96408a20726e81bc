//! A vault of version 1 on several machines, one of which upgrades it: what the others take over, and what they refuse.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/moto.rs"]
#[expect(dead_code, reason = "each test program uses its part of it")]
mod moto;
#[expect(dead_code, reason = "each test program uses its part of it")]
mod remote_setup;
mod user;

use std::fs;
use std::path::PathBuf;

use remote_setup::{configure, second_machine, shared_folder};
use user::User;

const PULL: &str = "cd p && tazpod pull --passphrase-file ~/pw";
const SYNC: &str = "cd p && tazpod sync --passphrase-file ~/pw";

/// Two machines that had the same vault of version 1, and the folder where they meet.
struct Two {
    _folder: tempfile::TempDir,
    yaml: String,
    one: User,
    other: User,
}

impl Two {
    fn new() -> Self {
        Self::with("sync: false\n")
    }

    fn with(more: &str) -> Self {
        let (folder, mut yaml) = shared_folder();
        yaml.push_str(more);
        let one = User::with_vault_of("v1");
        configure(&one, &yaml);
        edit(&one, "echo 0 > both && echo 0 > one && echo 0 > other");
        one.shell_ok("cd p && tazpod setup-storage && tazpod push");
        let other = second_machine(&yaml);
        other.shell_ok("cd p && tazpod pull");
        Self { _folder: folder, yaml, one, other }
    }

    /// The first machine upgrades, goes on and pushes.
    fn upgrade(&self) {
        self.one.shell_ok("cd p && tazpod upgrade --passphrase-file ~/pw");
        edit(&self.one, "echo upgraded > one && echo upgraded > both");
        self.one.shell_ok("cd p && tazpod push");
    }

    fn assert_equal(&self) {
        assert_eq!(archive(&self.one), archive(&self.other));
        assert_eq!(look(&self.one), look(&self.other));
    }
}

/// Edits, and leaves it locked.
fn edit(user: &User, script: &str) {
    user.unlock();
    user.shell_ok(&format!("cd secrets && {script}"));
    user.lock();
}

/// All files with their content.
fn look(user: &User) -> String {
    user.unlock();
    let seen = user.shell_ok("cd secrets && find . -type f | sort | xargs -d '\\n' grep -H .");
    user.lock();
    seen
}

fn archive(user: &User) -> Vec<u8> {
    fs::read(user.archive()).unwrap()
}

fn kept(user: &User) -> PathBuf {
    user.archive().with_extension("aes.v1")
}

fn is_v2(bytes: &[u8]) -> bool {
    bytes.starts_with(b"TAZVAULT")
}

/// Runs what is refused with status 6, changes nothing and tells this.
fn refused(user: &User, command: &str, told: &[&str]) {
    let before = archive(user);
    let (status, _, text) = user.shell(command);
    assert!(status == 6 && told.iter().all(|told| text.contains(told)), "{command}: {status} {text}");
    assert!(archive(user) == before && !kept(user).exists(), "{command}");
}

#[test]
fn an_upgrade_is_taken_where_nothing_changed_here() {
    let two = Two::new();
    two.upgrade();
    let old = archive(&two.other);
    let (status, _, told) = two.other.shell("cd p && tazpod push");
    assert!(status == 0 && told.contains("tazpod pull"), "{status} {told}");
    two.other.shell_ok("echo wrong > wrong");
    assert_eq!(two.other.shell("cd p && tazpod pull --passphrase-file ~/wrong").0, 3);
    assert!(archive(&two.other) == old);
    let (status, _, told) = two.other.shell(PULL);
    assert!(status == 0 && told.contains("upgraded elsewhere") && told.contains("vault.tar.aes.v1"), "{status} {told}");
    assert_eq!(fs::read(kept(&two.other)).unwrap(), old);
    two.assert_equal();
    assert!(two.other.shell(SYNC).2.contains("Nothing to synchronise"));
    two.other.shell_ok("cd p && tazpod upgrade --remove-old --passphrase-file ~/pw");
    // From then on it is a vault as any other.
    edit(&two.other, "echo further > other");
    two.other.shell_ok(SYNC);
    two.one.shell_ok(SYNC);
    two.assert_equal();
}

#[test]
fn what_changed_here_is_merged_into_the_upgrade() {
    let two = Two::new();
    two.upgrade();
    edit(&two.other, "echo mine > other && echo mine > both && echo 1 > 'new file' && mkdir d && echo 2 > d/f");
    let old = archive(&two.other);
    assert_eq!(two.other.shell("cd p && tazpod push").0, 6);
    let (status, _, told) = two.other.shell(SYNC);
    assert!(status == 0 && told.contains("both: edited on both sides") && told.contains("Pushed"), "{status} {told}");
    assert_eq!(fs::read(kept(&two.other)).unwrap(), old);
    let before = two.other.shell_ok("cat .local/state/tazpod/*/before-*.tar.aes | sha256sum");
    assert_eq!(before, two.other.shell_ok("sha256sum < p/.tazpod/vault/vault.tar.aes.v1"));
    assert!(two.one.shell(SYNC).2.contains("Pulled"), "it just goes forward");
    two.assert_equal();
    let seen = look(&two.one);
    for line in ["./both:upgraded", "./one:upgraded", "./other:mine", "./new file:1", "./d/f:2"] {
        assert!(seen.contains(line), "{line} in {seen}");
    }
    let copy = seen.lines().find(|line| line.starts_with("./.tazpod-conflicts/")).unwrap();
    assert!(copy.ends_with("/both:mine"), "{seen}");
}

#[test]
fn a_passphrase_that_was_changed_with_the_upgrade_is_asked_for() {
    let two = Two::new();
    two.one.shell_ok("umask 077; echo 'quite another one' > new; cd p && tazpod upgrade --passphrase-file ~/pw");
    two.one.shell_ok("cd p && tazpod passwd --passphrase-file ~/pw --new-passphrase-file ~/new && tazpod push");
    edit(&two.other, "echo mine > other");
    two.other.shell_ok("umask 077; echo 'quite another one' > new");
    let old = archive(&two.other);
    for (flag, expected) in [("", 2), ("--remote-passphrase-file ~/pw", 3)] {
        let (status, _, told) = two.other.shell(&format!("{SYNC} {flag}"));
        assert_eq!(status, expected, "{flag}: {told}");
        assert!(archive(&two.other) == old);
    }
    let (status, _, told) = two.other.shell(&format!("{SYNC} --remote-passphrase-file ~/new"));
    assert!(status == 0 && told.contains("passphrase was changed elsewhere"), "{status} {told}");
    assert_eq!(two.other.shell("cd p && tazpod unlock --passphrase-file ~/pw").0, 3);
    two.other.shell_ok("cd p && tazpod unlock --passphrase-file ~/new");
    assert_eq!(two.other.shell_ok("cat secrets/other"), "mine\n");
}

#[test]
fn whenever_it_is_killed_the_one_or_the_other_is_there() {
    let two = Two::new();
    two.upgrade();
    edit(&two.other, "echo mine > other && head -c 300000 /dev/urandom > large && sha256sum < large > ~/sum");
    let (old, sum) = (archive(&two.other), two.other.shell_ok("cp -a p start && cp -a .local start-state && cat sum"));
    let rounds = std::env::var("TAZPOD_ROUNDS").map_or(8, |rounds| rounds.parse().unwrap());
    let mut found = [0, 0];
    for round in 0..rounds {
        let millis = round * 877 % 1000;
        two.other.shell(&format!("cd p && timeout -s KILL 0.{millis:03} tazpod pull --passphrase-file ~/pw"));
        let now = archive(&two.other);
        assert!(now == old || is_v2(&now), "after {millis} ms");
        assert!(now == old || fs::read(kept(&two.other)).unwrap() == old, "after {millis} ms");
        found[usize::from(now != old)] += 1;
        two.other.shell_ok(PULL);
        assert!(is_v2(&archive(&two.other)));
        two.other.unlock();
        let seen = two.other.shell_ok("sha256sum < secrets/large && cat secrets/one secrets/other");
        assert_eq!(seen, format!("{sum}upgraded\nmine\n"));
        two.other.lock();
        two.other.shell_ok("rm -rf p .local && cp -a start p && cp -a start-state .local");
    }
    assert!(found[0] > 0, "{found:?}");
}

#[test]
fn an_unlocked_vault_is_left_alone_and_locked_it_takes_the_upgrade() {
    let two = Two::new();
    two.upgrade();
    two.other.unlock();
    two.other.shell_ok("echo mine > secrets/other && cd p && tazpod save");
    for command in ["pull", "sync"] {
        refused(&two.other, &format!("cd p && tazpod {command}"), &["unlocked here", "lock it, then 'tazpod pull'"]);
    }
    assert_eq!(two.other.shell_ok("cat secrets/other secrets/one"), "mine\n0\n");
    two.other.lock();
    two.other.shell_ok(SYNC);
    two.one.shell_ok(SYNC);
    two.assert_equal();
}

#[test]
fn what_goes_on_on_its_own_tells_of_the_upgrade_and_lock_works() {
    let two = Two::with("sync: {quiet: 300ms, every: 1s}\n");
    two.upgrade();
    two.other.shell_ok("cd p && TAZPOD_SYNC=on tazpod unlock --passphrase-file ~/pw");
    two.other.shell_ok("echo mine > secrets/other && cd p && tazpod save");
    let mut sync = serde_json::Value::Null;
    for _ in 0..100 {
        sync = two.other.status()["sync"].clone();
        if sync["state"] == "stopped" {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let told = sync["reason"].as_str().unwrap_or_default();
    assert!(told.contains("upgraded to version 2 elsewhere") && told.contains("tazpod pull"), "{sync}");
    assert!(!is_v2(&archive(&two.other)));
    let (status, _, told) = two.other.shell("cd p && tazpod lock");
    assert!(status == 0 && told.contains("tazpod pull") && !two.other.is_mounted(), "{status} {told}");
    two.other.shell_ok(SYNC);
    assert!(two.one.shell(SYNC).0 == 0);
    two.assert_equal();
}

/// The other machines are to hear of it.
#[test]
fn an_upgrade_that_was_made_here_is_sent_on_its_own() {
    let two = Two::with("sync: {quiet: 300ms, every: 1s}\n");
    two.one.shell_ok("cd p && tazpod upgrade --passphrase-file ~/pw");
    two.one.shell_ok("cd p && TAZPOD_SYNC=on tazpod unlock --passphrase-file ~/pw");
    user::eventually("it is sent", || two.one.status()["sync"]["unpushed"] == false);
    two.one.shell_ok("cd p && tazpod lock");
    two.other.shell_ok(PULL);
    two.assert_equal();
}

#[test]
fn without_a_base_it_may_be_another_vault_and_is_refused() {
    let two = Two::new();
    two.upgrade();
    let third = User::with_vault_of("v1");
    configure(&third, &two.yaml);
    edit(&third, "echo third > third");
    for command in [PULL, SYNC] {
        refused(&third, command, &["never synchronised", "another vault"]);
    }
    assert_eq!(third.shell("cd p && tazpod push").0, 6);
    // Nor where what is here is an older archive that somebody put back.
    two.other.shell_ok(&format!("{PULL} && mv .tazpod/vault/vault.tar.aes.v1 .tazpod/vault/vault.tar.aes"));
    edit(&two.one, "echo further > one");
    two.one.shell_ok("cd p && tazpod push");
    refused(&two.other, PULL, &["last agreed on is of version 2"]);
}

#[test]
fn two_upgrades_made_apart_become_one_vault() {
    for unlocked in [false, true] {
        let two = Two::new();
        two.other.shell_ok("cd p && tazpod upgrade --passphrase-file ~/pw");
        edit(&two.other, "echo mine > other && echo mine > both && echo 1 > new");
        two.upgrade();
        if unlocked {
            two.other.unlock();
        }
        let old = archive(&two.other);
        let (status, _, told) = two.other.shell("cd p && tazpod push");
        assert!(status == 6 && told.contains("has not seen"), "{status} {told}");
        // The passphrase proves where it comes from, and is asked for or named.
        assert_eq!(two.other.shell(SYNC).0, 2);
        assert!(archive(&two.other) == old);
        let (status, _, told) = two.other.shell(&format!("{SYNC} --remote-passphrase-file ~/pw"));
        assert!(
            status == 0 && told.contains("both: edited on both sides") && told.contains("Pushed"),
            "{status} {told}"
        );
        assert!(told.contains("upgraded apart") && !told.contains("changed on both sides"), "{told}");
        let before = two.other.shell_ok("cat .local/state/tazpod/*/before-*.tar.aes | wc -c");
        assert_eq!(before.trim(), old.len().to_string());
        if unlocked {
            assert_eq!(two.other.shell_ok("cat secrets/one secrets/other"), "upgraded\nmine\n");
            two.other.lock();
        }
        assert!(two.one.shell(SYNC).2.contains("Pulled"), "it just goes forward");
        two.assert_equal();
        let seen = look(&two.one);
        for line in ["./both:upgraded", "./one:upgraded", "./other:mine", "./new:1"] {
            assert!(seen.contains(line), "{line} in {seen}");
        }
        assert!(seen.lines().any(|line| line.starts_with("./.tazpod-conflicts/") && line.ends_with("/both:mine")));
        assert!(two.other.shell(SYNC).2.contains("Nothing to synchronise"));
    }
}

/// That it was made of what both began with is known of an upgrade that was made here, and of nothing else.
#[test]
fn a_vault_of_version_2_that_is_no_upgrade_of_the_base_stays_another_vault() {
    let two = Two::new();
    two.upgrade();
    two.other.shell_ok("cd p && tazpod upgrade --passphrase-file ~/pw && rm ~/.local/state/tazpod/*/upgraded.json");
    let old = archive(&two.other);
    for command in ["push", "pull --accept-new-key", "sync --accept-new-key"] {
        let (status, _, told) = two.other.shell(&format!("cd p && tazpod {command} < /dev/null"));
        assert!(status == 6 && told.contains("another vault"), "{command}: {status} {told}");
    }
    assert!(archive(&two.other) == old);
}
