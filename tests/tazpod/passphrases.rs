//! Where passphrases come from, and the exit statuses that scripts rely on.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod user;

use std::time::Duration;

use user::{PASSPHRASE, User, eventually};

#[test]
fn each_source_of_a_passphrase_unlocks() {
    let user = User::with_vault();
    for unlock in [
        "tazpod unlock --passphrase-file ~/pw",
        "tazpod unlock --passphrase-fd 7 7< ~/pw",
        "cat ~/pw | tazpod unlock --passphrase-fd 0",
        "tazpod unlock --passphrase-command 'cat ~/pw'",
        "TAZPOD_PASSPHRASE_FILE=~/pw tazpod unlock",
    ] {
        user.shell_ok(&format!("cd p && {unlock} && tazpod status --check && tazpod lock"));
    }
}

#[test]
fn exit_statuses_are_as_promised_and_nothing_is_changed() {
    let user = User::with_vault();
    let before = std::fs::read(user.archive()).unwrap();
    for (expected, script) in [
        (2, "cd / && tazpod unlock"),
        (2, "cd p && tazpod nonsense"),
        (2, "cd p && tazpod unlock"),
        (2, "cd p && tazpod unlock --passphrase-fd 9"),
        (2, "cd p && printf 'a\\nb\\n' > ~/two && tazpod unlock --passphrase-file ~/two"),
        (1, "cd p && tazpod unlock --passphrase-file ~/missing"),
        (1, "cd p && tazpod unlock --passphrase-command false"),
        (3, "cd p && echo wrong > ~/wrong && tazpod unlock --passphrase-file ~/wrong"),
        (3, "cd p && : > ~/empty && tazpod unlock --passphrase-file ~/empty"),
        (3, "cd p && tazpod passwd --passphrase-file ~/wrong --new-passphrase-file ~/pw"),
        (3, "cd p && tazpod export --passphrase-file ~/wrong | cat; exit ${PIPESTATUS[0]}"),
        (4, "cd p && tazpod save"),
        (4, "cd p && tazpod status --check"),
        (1, "tazpod unlock --vault missing --mount m --passphrase-file pw"),
        (
            5,
            "head -c 40 p/.tazpod/vault/vault.tar.aes > cut && tazpod unlock --vault cut --mount m --passphrase-file pw",
        ),
        (1, "cd p && tazpod init --yes --passphrase-file ~/pw"),
        (2, "cd p && tazpod unlock --mount .. --passphrase-file ~/pw"),
        (2, "mkdir -p q/.tazpod && echo 'vault: {mount: ~/.ssh}' > q/.tazpod/config.yaml && cd q && tazpod unlock"),
    ] {
        let (status, out, err) = user.shell(script);
        assert_eq!(status, expected, "{script}\n{out}{err}");
        assert!(err.contains("Error: ") || err.contains("error: ") || script.contains("--check"), "{script}: {err}");
        assert!(!err.contains("panicked") && !err.contains(PASSPHRASE), "{script}: {err}");
    }
    assert_eq!(std::fs::read(user.archive()).unwrap(), before);
    assert!(!user.is_mounted());
}

#[test]
fn the_passphrase_changes_locked_and_unlocked() {
    let user = User::with_vault();
    user.shell_ok("umask 077; echo 'one more passphrase' > pw2; echo 'the third of them' > pw3");
    user.shell_ok("cd p && tazpod passwd --passphrase-file ~/pw --new-passphrase-file ~/pw2");
    assert_eq!(user.shell("cd p && tazpod unlock --passphrase-file ~/pw").0, 3);
    user.shell_ok("cd p && tazpod unlock --passphrase-file ~/pw2 && echo kept > ~/secrets/file");
    user.shell_ok("cd p && tazpod passwd --passphrase-file ~/pw2 --new-passphrase-file ~/pw3 && tazpod lock");
    assert_eq!(user.shell("cd p && tazpod unlock --passphrase-file ~/pw2").0, 3);
    assert_eq!(user.shell_ok("cd p && tazpod unlock --passphrase-file ~/pw3 && cat ~/secrets/file"), "kept\n");
}

/// Starts a command on a pseudo-terminal of its own.
fn on_terminal(user: &User, script: &str) -> rexpect::session::PtySession {
    rexpect::session::spawn_command(user.terminal_command(script), Some(10_000)).unwrap()
}

#[test]
fn the_terminal_is_asked_three_times_and_what_was_typed_ahead_does_not_count() {
    let user = User::with_vault();
    let mut session = on_terminal(&user, "exec < /dev/tty; stty echo; cd p; sleep 1; tazpod unlock; echo status $?");
    session.send("typed ahead").unwrap();
    session.flush().unwrap();
    session.exp_string("Passphrase for").unwrap();
    std::thread::sleep(Duration::from_millis(200));
    session.send_line(PASSPHRASE).unwrap();
    let shown = session.exp_string("status 0").unwrap();
    assert!(!shown.contains(PASSPHRASE), "the passphrase is shown: {shown}");
    eventually("it is unlocked", || user.is_mounted());
    user.shell_ok("cd p && tazpod lock");

    let mut session = on_terminal(&user, "exec < /dev/tty; stty echo; cd p; tazpod unlock; echo status $?; stty -a");
    for _ in 0..3 {
        session.exp_string("Passphrase for").unwrap();
        std::thread::sleep(Duration::from_millis(200));
        session.send_line("wrong").unwrap();
    }
    session.exp_string("status 3").unwrap();
    let terminal = session.exp_eof().unwrap();
    assert!(terminal.contains(" echo ") && terminal.contains(" icanon "), "the terminal stays changed: {terminal}");

    let mut session = on_terminal(&user, "exec < /dev/tty; stty echo; cd p; tazpod unlock; echo status $?; stty -a");
    session.exp_string("Passphrase for").unwrap();
    std::thread::sleep(Duration::from_millis(200));
    session.send_control('c').unwrap();
    session.exp_string("status 130").unwrap();
    assert!(session.exp_eof().unwrap().contains(" echo "));
    assert!(!user.is_mounted());
}
