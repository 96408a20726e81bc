//! What only archives of version 2 have: upgrade, compaction, keys that stay or go, and a machine that notices a rollback.

mod user;

use std::io::Write;

use rustix::process::Signal;
use user::{User, eventually, signal};

fn with_vault() -> User {
    let user = User::with_vault_of("v2");
    user.unlock();
    user
}

fn lock(user: &User) {
    user.shell_ok("cd p && tazpod lock");
}

#[test]
fn an_upgrade_keeps_everything_and_the_old_archive() {
    let user = User::with_vault_of("v1");
    user.unlock();
    user.shell_ok("cd secrets && mkdir d && echo 1 > d/a && ln d/a d/b && ln -s a d/l && chmod 640 d/a");
    let refused = user.shell("cd p && tazpod upgrade --passphrase-file ~/pw");
    assert!(refused.0 == 1 && refused.2.contains("tazpod lock"), "{refused:?}");
    let listed = user.shell_ok("cd secrets && find . -mindepth 1 -printf '%p %y %m %s %n %T@\\n' | sort");
    lock(&user);
    let old = std::fs::read(user.archive()).unwrap();
    assert_eq!(user.shell("cd p && echo wrong > ~/w && tazpod upgrade --passphrase-file ~/w").0, 3);
    assert_eq!(std::fs::read(user.archive()).unwrap(), old);
    user.shell_ok("cd p && tazpod upgrade --passphrase-file ~/pw");
    assert_eq!(std::fs::read(user.archive().with_extension("aes.v1")).unwrap(), old);
    user.unlock();
    assert_eq!(user.status()["format"], "v2");
    assert_eq!(user.shell_ok("cd secrets && find . -mindepth 1 -printf '%p %y %m %s %n %T@\\n' | sort"), listed);
    lock(&user);
    let again = user.shell("cd p && tazpod upgrade --passphrase-file ~/pw");
    assert!(again.0 == 1 && again.2.contains("version 2 already"), "{again:?}");
    // The way back is one, and has to be accepted.
    user.shell_ok("cd p/.tazpod/vault && mv vault.tar.aes.v1 vault.tar.aes");
    assert_eq!(user.shell("cd p && tazpod unlock --passphrase-file ~/pw").0, 6);
    user.shell_ok("cd p && tazpod unlock --accept-rollback --passphrase-file ~/pw");
    assert_eq!(user.shell_ok("cat secrets/d/b"), "1\n");
}

#[test]
fn a_commit_costs_what_changed_and_compacting_drops_what_is_gone() {
    let user = with_vault();
    user.shell_ok("head -c 3M /dev/urandom > secrets/large && cd p && tazpod save");
    let before = std::fs::metadata(user.archive()).unwrap().len();
    user.shell_ok("printf x | dd of=secrets/large bs=1 seek=1000000 conv=notrunc status=none && cd p && tazpod save");
    let grown = std::fs::metadata(user.archive()).unwrap().len() - before;
    assert!((1..100_000).contains(&grown), "{grown} bytes for one that changed");
    user.shell_ok("rm secrets/large && echo kept > secrets/small && cd p && tazpod compact");
    assert!(std::fs::metadata(user.archive()).unwrap().len() < 100_000);
    lock(&user);
    user.shell_ok("cd p && tazpod compact --passphrase-file ~/pw");
    user.unlock();
    assert_eq!(user.shell_ok("ls secrets; cat secrets/small"), "small\nkept\n");
}

#[test]
fn an_older_copy_put_back_is_noticed() {
    let user = with_vault();
    user.shell_ok("echo 1 > secrets/file && cd p && tazpod save && cp .tazpod/vault/vault.tar.aes ~/older");
    user.shell_ok("echo 2 > secrets/file && cd p && tazpod lock && cp .tazpod/vault/vault.tar.aes ~/newer");
    let (older, newer) = (user.home.join("older"), user.home.join("newer"));
    std::fs::write(user.archive(), std::fs::read(&older).unwrap()).unwrap();
    for command in ["unlock", "export --output ~/x", "compact"] {
        let (status, _, told) = user.shell(&format!("cd p && tazpod {command} --passphrase-file ~/pw"));
        assert!(status == 6 && told.contains("rolled back") && told.contains("Hint:"), "{command}: {status} {told}");
        assert_eq!(std::fs::read(user.archive()).unwrap(), std::fs::read(&older).unwrap(), "{command}");
    }
    std::fs::write(user.archive(), std::fs::read(&newer).unwrap()).unwrap();
    user.unlock();
    assert_eq!(user.shell_ok("cat secrets/file"), "2\n");
    lock(&user);
    std::fs::write(user.archive(), std::fs::read(&older).unwrap()).unwrap();
    let (status, _, told) = user.shell("cd p && tazpod unlock --accept-rollback --passphrase-file ~/pw");
    assert!(status == 0 && told.contains("accepted"), "{told}");
    assert_eq!(user.shell_ok("cat secrets/file"), "1\n");
    lock(&user);
    // Accepted once for all; what was newer is now the strange one.
    user.unlock();
    lock(&user);
    std::fs::write(user.archive(), std::fs::read(&newer).unwrap()).unwrap();
    assert_eq!(user.shell("cd p && tazpod unlock --passphrase-file ~/pw").0, 6);
}

#[test]
fn a_key_that_was_changed_elsewhere_is_asked_about() {
    let user = with_vault();
    user.shell_ok("echo 1 > secrets/file; umask 077; echo 'another passphrase' > pw2");
    lock(&user);
    // Another machine: the same archive, with a state of its own.
    user.shell_ok("cp p/.tazpod/vault/vault.tar.aes elsewhere");
    let there = "XDG_STATE_HOME=$HOME/there tazpod";
    let passwd = "--passphrase-file ~/pw --new-passphrase-file ~/pw2";
    user.shell_ok(&format!("{there} passwd --keep-key --vault elsewhere {passwd} && cp elsewhere kept"));
    user.shell_ok(&format!(
        "cp p/.tazpod/vault/vault.tar.aes elsewhere && rm -r there && {there} passwd --vault elsewhere {passwd}"
    ));
    // The same key under another passphrase follows from what this machine knows.
    user.shell_ok("cp kept p/.tazpod/vault/vault.tar.aes && cd p && tazpod unlock --passphrase-file ~/pw2");
    assert_eq!(user.shell_ok("cat secrets/file"), "1\n");
    lock(&user);
    user.shell_ok("cp elsewhere p/.tazpod/vault/vault.tar.aes");
    assert_eq!(user.shell("cd p && tazpod unlock --passphrase-file ~/pw").0, 3, "the old passphrase");
    let (status, _, told) = user.shell("cd p && tazpod unlock --passphrase-file ~/pw2");
    assert!(status == 6 && told.contains("--accept-new-key"), "{status} {told}");
    // It does not follow from what was taken above, either: that is a question of its own.
    let (status, _, told) = user.shell("cd p && tazpod unlock --accept-new-key --passphrase-file ~/pw2");
    assert!(status == 6 && told.contains("--accept-rollback"), "{status} {told}");
    user.shell_ok("cd p && tazpod unlock --accept-new-key --accept-rollback --passphrase-file ~/pw2");
    assert_eq!(user.shell_ok("cat secrets/file"), "1\n");
}

#[test]
fn a_write_that_was_cut_off_is_kept_aside_and_told() {
    let user = with_vault();
    user.shell_ok("echo 1 > secrets/file && cd p && tazpod save");
    signal(user.agent(), Signal::KILL);
    eventually("the keeper cleans up", || !user.is_mounted());
    let whole = std::fs::read(user.archive()).unwrap();
    let torn = [b"TSEG\x02\0\0\0", &[7; 300][..]].concat();
    std::fs::OpenOptions::new().append(true).open(user.archive()).unwrap().write_all(&torn).unwrap();
    let (status, _, told) = user.shell("cd p && tazpod unlock --passphrase-file ~/pw");
    assert!(status == 0 && told.contains("cut off") && told.contains("(308 B)"), "{status} {told}");
    assert_eq!(user.shell_ok("cat secrets/file"), "1\n");
    let kept = user.shell_ok("cat p/.tazpod/vault/*.torn-* | wc -c");
    assert_eq!((kept.trim(), std::fs::read(user.archive()).unwrap()), ("308", whole));
    lock(&user);
    // A flip in what was acknowledged is damage, and nothing is changed.
    let mut damaged = std::fs::read(user.archive()).unwrap();
    let last = damaged.len() - 100;
    damaged[last] ^= 1;
    std::fs::write(user.archive(), &damaged).unwrap();
    let (status, _, told) = user.shell("cd p && tazpod unlock --passphrase-file ~/pw");
    assert!(status == 5 && told.contains("damaged at byte"), "{status} {told}");
    assert_eq!(std::fs::read(user.archive()).unwrap(), damaged);
}
