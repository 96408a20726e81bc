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

/// The state of the terminal that `stty -a` tells at the end.
fn assert_given_back(mut session: rexpect::session::PtySession) {
    let terminal = session.exp_eof().unwrap();
    assert!(terminal.contains(" echo ") && terminal.contains(" icanon "), "the terminal stays changed: {terminal}");
    assert!(terminal.contains("susp = ^Z"), "{terminal}");
}

#[test]
fn what_is_typed_while_a_passphrase_is_being_tried_is_not_shown_and_does_not_count() {
    let user = User::with_vault();
    let mut session = on_terminal(&user, "exec < /dev/tty; stty echo; cd p; tazpod unlock; echo status $?; stty -a");
    session.exp_string("Passphrase for").unwrap();
    std::thread::sleep(Duration::from_millis(200));
    session.send_line("wrong").unwrap();
    std::thread::sleep(Duration::from_millis(20));
    session.send_line("typed too early").unwrap();
    let mut shown = session.exp_string("Passphrase for").unwrap();
    std::thread::sleep(Duration::from_millis(200));
    session.send_line(PASSPHRASE).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    session.send_line("typed again").unwrap();
    shown += &session.exp_string("status 0").unwrap();
    assert!(!shown.contains("typed") && !shown.contains(PASSPHRASE), "{shown}");
    assert_given_back(session);
}

#[test]
fn ctrl_c_during_an_unlock_leaves_the_vault_locked_or_it_is_told_that_it_is_unlocked() {
    let user = User::with_vault();
    let mut ends = std::collections::BTreeMap::new();
    for round in 0..14 {
        let script = "trap : INT; exec < /dev/tty; stty echo; cd p; tazpod unlock; echo status $?; stty -a";
        let mut session = on_terminal(&user, script);
        session.exp_string("Passphrase for").unwrap();
        std::thread::sleep(Duration::from_millis(200));
        session.send_line(PASSPHRASE).unwrap();
        std::thread::sleep(Duration::from_millis(50 * round));
        session.send_control('c').unwrap();
        let told = session.exp_string("status ").unwrap();
        let status = session.read_line().unwrap();
        match status.trim() {
            "130" => assert!(user.processes().is_empty() && !user.is_mounted(), "round {round}: {told}"),
            "0" => {
                assert!(told.contains("Unlocked at"), "round {round}: {told}");
                user.shell_ok("cd p && tazpod status --check && tazpod lock");
            }
            other => panic!("round {round}: {other}: {told}"),
        }
        *ends.entry((status, told.contains("interrupted: the vault stays locked"))).or_insert(0) += 1;
        assert_given_back(session);
    }
    assert!(ends.keys().any(|(_, is_told)| *is_told), "no round was interrupted in time: {ends:?}");
    user.unlock();
}

#[test]
fn the_terminal_is_given_back_however_a_try_ends() {
    let user = User::with_vault();
    // Within the program itself; nothing in the clear stays behind either.
    for (typed, command) in [
        ("wrong", "tazpod export --output ~/e.tar"),
        (PASSPHRASE, "tazpod export --output ~/e.tar"),
        ("wrong", "tazpod log"),
    ] {
        let script = format!("trap : INT; exec < /dev/tty; stty echo; cd p; {command}; echo status $?; stty -a");
        let mut session = on_terminal(&user, &script);
        session.exp_string("Passphrase for").unwrap();
        std::thread::sleep(Duration::from_millis(200));
        session.send_line(typed).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        session.send_control('c').unwrap();
        session.exp_string("status 130").unwrap();
        assert_given_back(session);
        assert!(!user.home.join("e.tar").exists(), "{typed}");
    }

    let mut session = on_terminal(&user, "exec < /dev/tty; stty echo; cd p; tazpod unlock; echo status $?; stty -a");
    session.exp_string("Passphrase for").unwrap();
    std::thread::sleep(Duration::from_millis(200));
    session.send_line(PASSPHRASE).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let is_unlock = |pid: &i32| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap().ends_with(b"unlock\0");
    let unlock = user.processes().into_iter().find(is_unlock).unwrap();
    user::signal(unlock, rustix::process::Signal::TERM);
    session.exp_string("status 130").unwrap();
    assert_given_back(session);
    assert!(user.processes().is_empty() && !user.is_mounted());
}

#[test]
fn ctrl_z_at_the_question_gives_the_terminal_back_until_it_goes_on() {
    let user = User::with_vault();
    let script = "set -m; exec < /dev/tty; stty echo; cd p; tazpod unlock; echo stopped $?; stty -a; fg; echo status $?; stty -a";
    let mut session = on_terminal(&user, script);
    session.exp_string("Passphrase for").unwrap();
    std::thread::sleep(Duration::from_millis(200));
    session.send("half of it").unwrap();
    session.send_control('z').unwrap();
    session.exp_string("stopped 148").unwrap();
    let terminal = session.exp_string("Passphrase for").unwrap();
    assert!(terminal.contains(" echo ") && terminal.contains(" icanon "), "{terminal}");
    std::thread::sleep(Duration::from_millis(200));
    session.send_line(PASSPHRASE).unwrap();
    session.exp_string("status 0").unwrap();
    assert_given_back(session);
}
