//! Recipients, recovery keys and identities as a user has them: made, listed, tried, used when the passphrase is lost, taken away.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod user;

use std::time::Duration;

use serde_json::Value;
use user::{PASSPHRASE, User, eventually};

const PW: &str = "--passphrase-file ~/pw";

/// With keys in the home: age, ssh and rsa are open, locked is encrypted with the passphrase in `keypw`.
fn with_keys() -> User {
    let user = User::with_vault_of("v2");
    user.shell_ok(
        "umask 077; age-keygen -o agekey 2>/dev/null && ssh-keygen -q -t ed25519 -N '' -C user@laptop -f ssh
         ssh-keygen -q -t rsa -b 2048 -N '' -C '' -f rsa
         echo 'passphrase of the key' > keypw; ssh-keygen -q -t ed25519 -N \"$(cat keypw)\" -C locked -f locked
         age-keygen -o other 2>/dev/null; echo 'one more passphrase' > pw2",
    );
    user
}

/// Runs a command in the project that must fail with a status and tell something.
fn refused(user: &User, status: i32, command: &str, words: &[&str]) {
    let (found, out, err) = user.shell(&format!("cd p && {command}"));
    assert_eq!(found, status, "{command}\n{out}{err}");
    assert!(words.iter().all(|word| err.contains(word)) && !err.contains("panicked"), "{command}: {err}");
}

fn recipients(user: &User) -> Value {
    serde_json::from_str(&user.shell_ok("cd p && tazpod recipient list --json")).unwrap()
}

fn labels(user: &User) -> Vec<String> {
    let list = recipients(user);
    list["recipients"].as_array().unwrap().iter().map(|entry| entry["label"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_recovery_key_opens_the_vault_when_the_passphrase_is_lost() {
    let user = with_keys();
    let made = user.shell(&format!("cd p && umask 077 && tazpod recovery new {PW} > ~/printed"));
    assert!(made.0 == 0 && made.2.contains("write it down"), "{made:?}");
    let printed = user.shell_ok("cat printed");
    assert!(printed.starts_with("AGE-SECRET-KEY-1") && printed.lines().count() == 1, "{printed}");
    assert!(!made.2.contains(printed.trim()));
    assert_eq!(labels(&user), ["recovery"]);
    refused(&user, 1, &format!("tazpod recovery new {PW}"), &["recovery", "already"]);
    let before = std::fs::read(user.archive()).unwrap();
    let (status, out, err) = user.shell("cd p && tazpod recovery test --identity-fd 5 5< ~/printed");
    assert!(status == 0 && out.is_empty() && err.contains("'recovery'"), "{err}");
    refused(&user, 3, "tazpod recovery test --identity ~/other", &["recovery (age1", "Hint:"]);
    assert_eq!(std::fs::read(user.archive()).unwrap(), before);
    user.unlock();
    user.shell_ok("echo kept > secrets/file; cd p && tazpod recovery test --identity ~/printed && tazpod lock");
    // The passphrase is lost from here on.
    user.shell_ok("cd p && tazpod unlock --identity ~/printed && cat ~/secrets/file && tazpod lock");
    user.shell_ok("cd p && tazpod passwd --identity ~/printed --new-passphrase-file ~/pw2");
    refused(&user, 3, &format!("tazpod unlock {PW}"), &["wrong"]);
    user.shell_ok("cd p && tazpod unlock --passphrase-file ~/pw2");
    // Unlocked, it goes through the agent; the key stays what it was.
    user.shell_ok("cd p && tazpod passwd --identity ~/printed --new-passphrase-file ~/pw && tazpod lock");
    assert_eq!(user.shell_ok(&format!("cd p && tazpod unlock {PW} && cat ~/secrets/file")), "kept\n");
    user.shell_ok(
        "cd p && tazpod lock && tazpod export --identity ~/printed | tar -t && tazpod compact --identity ~/printed",
    );
    user.shell_ok("cd p && tazpod recovery test --identity ~/printed");
}

#[test]
fn a_recovery_key_goes_into_a_file_and_never_over_one() {
    let user = with_keys();
    user.shell_ok(&format!("cd p && tazpod recovery new --output ~/key --label paper {PW}"));
    assert_eq!(user.shell_ok("stat -c %a key; grep -vc '^#' key"), "600\n1\n");
    // Another program makes the same recipient of it.
    let public = user.shell_ok("age-keygen -y key");
    assert_eq!(recipients(&user)["recipients"][0]["recipient"], public.trim());
    let before = std::fs::read(user.archive()).unwrap();
    let key = user.shell_ok("cat key");
    refused(&user, 1, &format!("tazpod recovery new --output ~/key --label again {PW}"), &["cannot write"]);
    assert_eq!(user.shell_ok("cat key"), key);
    // Where the key does not come to open anything, no file is left.
    refused(&user, 1, &format!("tazpod recovery new --output ~/key2 --label paper {PW}"), &["already"]);
    refused(&user, 3, "tazpod recovery new --output ~/key2 --label more --passphrase-file ~/pw2", &["wrong"]);
    assert_eq!(user.shell("test -e key2").0, 1);
    assert_eq!(std::fs::read(user.archive()).unwrap(), before);
}

#[test]
fn age_and_ssh_keys_open_the_vault_locked_and_unlocked() {
    let user = with_keys();
    user.shell_ok(&format!("cd p && tazpod recipient add \"$(age-keygen -y ~/agekey)\" --label laptop {PW}"));
    user.shell_ok(&format!("cd p && tazpod recipient add ~/ssh.pub {PW} && tazpod recipient add ~/rsa.pub {PW}"));
    user.unlock();
    user.shell_ok(&format!("echo 1 > secrets/file; cd p && tazpod recipient add ~/locked.pub {PW} --label 'my key'"));
    assert_eq!(labels(&user), ["laptop", "user@laptop", "rsa", "my key"]);
    assert_eq!(recipients(&user)["verified"], true);
    user.lock();
    assert_eq!(labels(&user), ["laptop", "user@laptop", "rsa", "my key"]);
    assert_eq!(recipients(&user)["verified"], false);
    for flags in ["--identity ~/agekey", "--identity ~/ssh", "--identity-fd 3 3< ~/rsa"] {
        let script = format!("cd p && tazpod unlock {flags} && cat ~/secrets/file && tazpod lock");
        assert_eq!(user.shell_ok(&script), "1\n", "{flags}");
    }
    let locked = "tazpod unlock --identity ~/locked";
    user.shell_ok(&format!("cd p && {locked} --passphrase-file ~/keypw && tazpod lock"));
    refused(&user, 3, &format!("{locked} {PW}"), &["passphrase of the private key is wrong"]);
    // The vault's own passphrase from the environment is none for a key.
    refused(&user, 2, &format!("export TAZPOD_PASSPHRASE_FILE=~/pw; {locked}"), &["no terminal"]);
    refused(&user, 2, &format!("tazpod unlock --identity ~/ssh {PW}"), &["not encrypted"]);
    refused(&user, 3, "tazpod unlock --identity ~/other", &["laptop (age1", "user@laptop", "rsa", "my key"]);
    refused(&user, 2, "tazpod unlock --identity ~/ssh.pub", &["public key"]);
    refused(&user, 1, "tazpod unlock --identity ~/missing", &["cannot be read"]);
    refused(&user, 2, "echo AGE-PLUGIN-YUBIKEY-1QQQ > ~/p1; tazpod unlock --identity ~/p1", &["age-plugin-yubikey"]);
    for (wrong, word) in [("age1yubikey1qq", "age-plugin-yubikey"), ("~/ssh", "secret key"), ("~/nothing", "neither")] {
        refused(&user, 2, &format!("tazpod recipient add {wrong} {PW}"), &[word]);
    }
    refused(&user, 1, &format!("tazpod recipient add ~/ssh.pub --label x {PW}"), &["already"]);
}

#[test]
fn who_was_removed_opens_old_copies_only() {
    let user = with_keys();
    for add in ["~/ssh.pub", "\"$(age-keygen -y ~/agekey)\" --label laptop"] {
        user.shell_ok(&format!("cd p && tazpod recipient add {add} {PW}"));
    }
    user.unlock();
    user.shell_ok("echo old > secrets/file; cd p && tazpod save && cp .tazpod/vault/vault.tar.aes ~/before");
    refused(&user, 2, "tazpod recipient remove laptop --identity ~/ssh", &["wrapped for the passphrase", "passwd"]);
    refused(&user, 1, &format!("tazpod recipient remove nobody {PW}"), &["nobody"]);
    let removed = user.shell(&format!("cd p && tazpod recipient remove laptop {PW}"));
    assert!(removed.0 == 0 && removed.2.contains("made before still open"), "{removed:?}");
    user.shell_ok("echo new > secrets/file; cd p && tazpod lock");
    refused(&user, 3, "tazpod unlock --identity ~/agekey", &["user@laptop"]);
    let elsewhere = "XDG_STATE_HOME=$HOME/there tazpod";
    let copy = user.shell(&format!("{elsewhere} export --vault before --identity agekey | tar -xO file"));
    assert!(copy.1 == "old\n" && copy.2.contains("cannot tell who made"), "{copy:?}");
    // Here the old copy is another key's, and its header is none for the new archive.
    let now = std::fs::read(user.archive()).unwrap();
    let before = std::fs::read(user.home.join("before")).unwrap();
    std::fs::write(user.archive(), &before).unwrap();
    refused(&user, 6, "tazpod unlock --identity ~/agekey", &["another master key"]);
    let length = |archive: &[u8]| u32::from_le_bytes(archive[12..16].try_into().unwrap()) as usize;
    std::fs::write(user.archive(), [&before[..length(&before)], &now[length(&now)..]].concat()).unwrap();
    refused(&user, 6, "tazpod unlock --identity ~/agekey", &[]);
    std::fs::write(user.archive(), &now).unwrap();
    // By its public key, locked; the passphrase alone is left.
    user.shell_ok(&format!("cd p && tazpod recipient remove \"$(cat ~/ssh.pub)\" {PW}"));
    assert_eq!(labels(&user), [""; 0]);
    assert_eq!(user.shell_ok(&format!("cd p && tazpod unlock {PW} && cat ~/secrets/file")), "new\n");
}

#[test]
fn a_key_made_elsewhere_is_asked_about_and_commits_made_here_are_not_given_up() {
    let user = with_keys();
    user.shell_ok(&format!("cd p && tazpod recipient add ~/ssh.pub {PW}"));
    user.unlock();
    user.shell_ok("echo 1 > secrets/file; cd p && tazpod lock; cp .tazpod/vault/vault.tar.aes ~/elsewhere");
    user.shell_ok(
        "XDG_STATE_HOME=$HOME/there tazpod passwd --vault elsewhere --identity ssh --new-passphrase-file pw2",
    );
    user.unlock();
    user.shell_ok("echo 2 > secrets/local; cd p && tazpod lock; cp .tazpod/vault/vault.tar.aes ~/local");
    user.shell_ok("cp elsewhere p/.tazpod/vault/vault.tar.aes");
    // The identity opens both; that does not make the new key one to be taken silently.
    refused(&user, 6, "tazpod unlock --identity ~/ssh", &["--accept-new-key"]);
    refused(&user, 3, &format!("tazpod unlock {PW}"), &["wrong, or the archive's header was changed"]);
    refused(&user, 6, "tazpod unlock --accept-new-key --passphrase-file ~/pw2", &["rolled back", "Hint:"]);
    user.shell_ok("cp local p/.tazpod/vault/vault.tar.aes");
    assert_eq!(user.shell_ok("cd p && tazpod unlock --identity ~/ssh && cat ~/secrets/local"), "2\n");
    user.lock();
    user.shell_ok("cp elsewhere p/.tazpod/vault/vault.tar.aes");
    let both = "tazpod unlock --accept-new-key --accept-rollback --passphrase-file ~/pw2";
    assert_eq!(user.shell_ok(&format!("cd p && {both} && cat ~/secrets/file; ls ~/secrets")), "1\nfile\n");
}

#[test]
fn a_vault_of_version_1_names_the_upgrade() {
    let user = User::with_vault_of("v1");
    user.shell_ok("umask 077; age-keygen -o agekey 2>/dev/null");
    let before = std::fs::read(user.archive()).unwrap();
    for _ in 0..2 {
        for command in [
            format!("recipient add \"$(age-keygen -y ~/agekey)\" {PW}"),
            format!("recipient remove x {PW}"),
            "recipient list".to_owned(),
            format!("recovery new {PW}"),
            format!("recovery new --output ~/key {PW}"),
            "recovery test --identity ~/agekey".to_owned(),
            "passwd --identity ~/agekey --new-passphrase-file ~/pw".to_owned(),
        ] {
            refused(&user, 1, &format!("tazpod {command}"), &["version 1", "tazpod upgrade"]);
        }
        if !user.is_mounted() {
            refused(&user, 1, "tazpod unlock --identity ~/agekey", &["version 1", "tazpod upgrade"]);
            user.unlock();
        }
    }
    user.lock();
    assert_eq!(user.shell("test -e key").0, 1);
    assert_eq!(std::fs::read(user.archive()).unwrap(), before);
}

#[test]
fn a_terminal_is_asked_for_recovery_keys_and_passphrases_of_keys_unseen() {
    let user = with_keys();
    user.shell_ok(&format!(
        "cd p && tazpod recovery new --output ~/key {PW} && tazpod recipient add ~/locked.pub {PW}"
    ));
    let key = user.shell_ok("grep -v '^#' key").trim().to_owned();
    let other = user.shell_ok("grep -v '^#' other").trim().to_owned();
    let asked = |script: &str, question: &str, answers: &[&str], end: &str| {
        let script = format!("exec < /dev/tty; stty echo; cd p; {script}; echo status $?");
        let mut session = rexpect::session::spawn_command(user.terminal_command(&script), Some(20_000)).unwrap();
        for answer in answers {
            session.exp_string(question).unwrap();
            std::thread::sleep(Duration::from_millis(200));
            session.send_line(answer).unwrap();
        }
        let shown = session.exp_string(end).unwrap();
        assert!(answers.iter().all(|answer| !shown.contains(answer)), "{shown}");
    };
    // As written down in groups, in small letters; then misspelt, and of somebody else.
    let groups = key.to_lowercase().as_bytes().chunks(6).map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ");
    asked("tazpod recovery test", "Recovery key: ", &[&groups], "status 0");
    asked("tazpod recovery test", "Recovery key: ", &["AGE-SECRET-KEY-1QQ", &other, &key], "status 0");
    asked("tazpod recovery test", "Recovery key: ", &["wrong-qzk", "wrong-kvz", "wrong-vqz"], "status 3");
    asked("tazpod unlock --recovery-key", "Recovery key: ", &[&other, &key], "status 0");
    eventually("it is unlocked", || user.is_mounted());
    user.lock();
    let question = "Passphrase of the private key";
    let keypw = user.shell_ok("cat keypw").trim().to_owned();
    asked("tazpod unlock --identity ~/locked", question, &[PASSPHRASE, &keypw], "status 0");
    eventually("it is unlocked", || user.is_mounted());
}
